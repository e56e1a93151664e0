//! Guessing which name a mistyped one means.

/// Returns the known name that `typed` most likely means: one that differs only in case, blanks, `_` and
/// `-`, or in at most one letter in three. The first one on a tie.
pub(crate) fn nearest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |name: &str| -> String {
        name.chars()
            .filter(|c| !matches!(c, ' ' | '_' | '-'))
            .flat_map(char::to_lowercase)
            .collect()
    };
    // Computing the distance takes time proportional to the product of the lengths, and names come from
    // files.
    const LONGEST: usize = 100;
    if typed.len() > LONGEST {
        return None;
    }
    let wanted = plain(typed);
    let close = |name: &&'a str| name.len() <= LONGEST;
    let distance = |name: &'a str| {
        let other = plain(name);
        let most = wanted.chars().count().min(other.chars().count()) / 3;
        let distance = strsim::osa_distance(&wanted, &other);
        (distance <= most).then_some((distance, name))
    };
    let candidates = known.into_iter().filter(close).filter_map(distance);
    candidates.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_recognised_and_other_names_are_not() {
        let known = ["Offence", "Severity", "Action class", "Clips", "Url"];
        for (typed, meant) in [
            ("Offense", Some("Offence")),
            ("offence", Some("Offence")),
            ("Action Class", Some("Action class")),
            ("action_class", Some("Action class")),
            ("Sevreity", Some("Severity")),
            ("clips", Some("Clips")),
            ("Clip", Some("Clips")),
            ("URL", Some("Url")),
            ("Url2", Some("Url")),
            ("Referee", None),
            ("UrlLocal", None),
            ("Id", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), ["x"]), None);
    }
}
