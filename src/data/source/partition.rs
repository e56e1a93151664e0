//! Makes splits for actions that have none, by shares or as folds for cross-validation. Each class
//! is distributed over the parts in proportion to the shares, groups stay together, and a seed
//! determines the result.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How splits are made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Partition {
    /// Shares of train, valid and optionally test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
    /// Seed that determines which action is in which split.
    pub seed: u64,
    /// The fold that is held out for validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
}

/// Shares of the splits train, valid and optionally test, written as `0.8,0.1,0.1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Shares(pub Vec<f64>);

/// One of several folds, written as `2/5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    /// Number of the fold, counted from 1.
    pub number: usize,
    /// Number of folds.
    pub of: usize,
}

impl FromStr for Shares {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be the shares of train, valid and test, e.g. 0.8,0.1,0.1".to_owned();
        let shares: Vec<f64> = text
            .split(',')
            .map(|share| share.trim().parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        if !(2..=3).contains(&shares.len()) || shares.iter().any(|s| !s.is_finite() || *s < 0.0) {
            return Err(wrong());
        }
        let sum: f64 = shares.iter().sum();
        if (sum - 1.0).abs() > 1e-6 {
            return Err(format!("its shares add up to {}, not 1", (sum * 1e6).round() / 1e6));
        }
        if shares[..2].contains(&0.0) {
            return Err("train and valid need a share above 0".to_owned());
        }
        Ok(Self(shares))
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<String> = self.0.iter().map(f64::to_string).collect();
        f.write_str(&shares.join(","))
    }
}

impl FromStr for Fold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text
            .split_once('/')
            .and_then(|(number, of)| Some((number.trim().parse().ok()?, of.trim().parse().ok()?)));
        match numbers {
            Some((number, of)) if (2..=100).contains(&of) && (1..=of).contains(&number) => {
                Ok(Self { number, of })
            }
            _ => Err("must be the number of a fold and the number of folds, e.g. 2/5".to_owned()),
        }
    }
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// Implements serde's traits by way of the text form.
macro_rules! as_text {
    ($($name:ty),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
as_text!(Shares, Fold);

/// An action to be assigned to a part.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    /// Group of the action; actions of the same group are assigned to the same part.
    pub group: &'a str,
    /// Classes of the action in all tasks, numbered consecutively over the tasks.
    pub classes: Vec<usize>,
}

/// Assigns actions to parts and returns the part of each action. Each part gets its share of each
/// class as closely as groups and other tasks allow, and not more than its share of all actions.
/// All shares must be above 0. (After Sechidis, Tsoumakas & Vlahavas 2011, "On the stratification
/// of multi-label data".)
pub(super) fn deal(items: &[Item<'_>], shares: &[f64], seed: u64) -> Vec<usize> {
    let classes = items.iter().flat_map(|item| &item.classes).map(|class| class + 1).max();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut positions: HashMap<&str, usize> = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let position = *positions.entry(item.group).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[position].push(index);
    }
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut sizes = vec![0_usize; classes.unwrap_or(0)];
    items.iter().flat_map(|item| &item.classes).for_each(|&class| sizes[class] += 1);
    // Large groups come first, while there is room for them; then the rarest classes, which are the
    // hardest to distribute. The sort is stable, so the seed determines the order among equals.
    let rarest = |group: &Vec<usize>| {
        group.iter().flat_map(|&index| &items[index].classes).map(|&class| sizes[class]).min()
    };
    groups.sort_by_key(|group| (std::cmp::Reverse(group.len()), rarest(group)));
    let room: Vec<usize> =
        shares.iter().map(|share| (share * items.len() as f64 - 1e-9).ceil() as usize).collect();
    let mut taken = vec![0_usize; shares.len()];
    let mut of_class = vec![vec![0_usize; sizes.len()]; shares.len()];
    let (mut dealt, mut dealt_total) = (vec![0_usize; sizes.len()], 0);
    let mut parts = vec![0; items.len()];
    for group in groups {
        let classes: Vec<usize> =
            group.iter().flat_map(|&index| &items[index].classes).copied().collect();
        classes.iter().for_each(|&class| dealt[class] += 1);
        dealt_total += group.len();
        // Deficit of a part relative to its share of each class of the group and of all actions. If
        // a class has fewer actions than there are parts, some parts get none of it; which ones
        // depends on the room left by the previous classes.
        let behind = |part: usize| -> f64 {
            let deficit = |dealt: usize, has: usize| shares[part] * dealt as f64 - has as f64;
            let of = |&class: &usize| deficit(dealt[class], of_class[part][class]);
            let all = deficit(dealt_total, taken[part]);
            classes.iter().map(of).sum::<f64>() + group.len() as f64 * all
        };
        // The training part gets the first action of each class: a class that is only in other
        // parts would be useless.
        let rank = |part: usize| {
            let is_new = classes.iter().any(|&class| of_class[part][class] == 0);
            if shares[part] > 0.5 && is_new { f64::INFINITY } else { behind(part) }
        };
        let fits = |part: &usize| taken[*part] + group.len() <= room[*part];
        let mut open: Vec<usize> = (0..shares.len()).filter(fits).collect();
        if open.is_empty() {
            open.extend(0..shares.len());
        }
        let best = open.into_iter().rev().max_by(|a, b| rank(*a).total_cmp(&rank(*b)));
        let best = best.expect("there is a part");
        taken[best] += group.len();
        classes.iter().for_each(|&class| of_class[best][class] += 1);
        group.into_iter().for_each(|index| parts[index] = best);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(strata: &[usize], groups: &[String]) -> Vec<usize> {
        let items: Vec<Item<'_>> = strata
            .iter()
            .zip(groups)
            .map(|(&class, group)| Item { group, classes: vec![class] })
            .collect();
        deal(&items, &[0.8, 0.1, 0.1], 3)
    }

    fn names(count: usize, size: usize) -> Vec<String> {
        (0..count).map(|index| (index / size).to_string()).collect()
    }

    #[test]
    fn classes_are_distributed_by_the_shares() {
        let strata = [vec![0; 60], vec![1; 30], vec![2; 10]].concat();
        let parts = items(&strata, &names(100, 1));
        for (class, size) in [(0, 60.0), (1, 30.0), (2, 10.0)] {
            for (part, share) in [0.8, 0.1, 0.1].into_iter().enumerate() {
                let both = |(s, p): (&usize, &usize)| *s == class && *p == part;
                let count = strata.iter().zip(&parts).filter(|pair| both(*pair)).count();
                let wanted: f64 = share * size;
                assert!((count as f64 - wanted).abs() <= 1.0, "{class} {part}: {count}");
            }
        }
        assert_eq!(parts, items(&strata, &names(100, 1)));
        let other = deal(
            &strata.iter().map(|&n| Item { group: "a", classes: vec![n] }).collect::<Vec<_>>(),
            &[0.5, 0.5],
            1,
        );
        assert!(other.iter().all(|part| *part == other[0]), "a group is in one part");
    }

    #[test]
    fn rare_classes_do_not_distort_the_shares_of_the_others() {
        // Two common classes, twelve classes with three actions, three with two, and two with one.
        let mut strata = [vec![0; 50], vec![1; 30]].concat();
        for (class, size) in (2..).zip([vec![3; 12], vec![2; 3], vec![1; 2]].concat()) {
            strata.extend(vec![class; size]);
        }
        let parts = items(&strata, &names(strata.len(), 1));
        let count = |class: usize, part: usize| {
            strata.iter().zip(&parts).filter(|pair| pair == &(&class, &part)).count()
        };
        for (class, size) in [(0, 50.0), (1, 30.0)] {
            for (part, share) in [0.8, 0.1, 0.1].into_iter().enumerate() {
                let found = count(class, part) as f64;
                assert!((found - share * size).abs() <= 1.5, "{class} {part}: {found}");
            }
        }
        let all = |part: usize| parts.iter().filter(|p| **p == part).count();
        assert!(all(1).abs_diff(12) <= 1 && all(2).abs_diff(12) <= 1, "{} {}", all(1), all(2));
        for class in 0..strata.iter().max().unwrap() + 1 {
            assert!(count(class, 0) > 0, "class {class} is not in training");
        }
        let held_out = (2..14).filter(|class| count(*class, 0) < 3).count();
        assert!((4..=10).contains(&held_out), "{held_out} of 12 classes of 3 are held out");
    }

    #[test]
    fn many_rare_classes_do_not_empty_the_training_part() {
        // Three actions of each class.
        let strata: Vec<usize> = (0..300).map(|index| index % 100).collect();
        let parts = items(&strata, &names(300, 1));
        let count = |part: usize| parts.iter().filter(|p| **p == part).count();
        assert_eq!([count(0), count(1), count(2)], [240, 30, 30]);
    }

    #[test]
    fn groups_stay_together_and_parts_have_their_shares() {
        let strata: Vec<usize> = (0..120).map(|index| index / 4 % 3).collect();
        let groups = names(120, 4);
        let parts = items(&strata, &groups);
        for group in parts.chunks(4) {
            assert!(group.iter().all(|part| *part == group[0]));
        }
        let count = |part: usize| parts.iter().filter(|p| **p == part).count();
        assert_eq!([count(0), count(1), count(2)], [96, 12, 12]);
    }

    #[test]
    fn shares_and_folds_are_validated() {
        let shares = |text: &str| text.parse::<Shares>();
        assert_eq!(shares("0.7, 0.3").unwrap().to_string(), "0.7,0.3");
        for bad in ["0.5", "0.5,0.6", "1,0", "a,b", "0.5,0.5,0,0", "-0.5,1.5", "", "nan,1"] {
            assert!(shares(bad).is_err(), "{bad}");
        }
        assert_eq!("2/5".parse::<Fold>().unwrap(), Fold { number: 2, of: 5 });
        for bad in ["0/5", "6/5", "1/1", "2", "2/5/6", "a/5", "1/101"] {
            assert!(bad.parse::<Fold>().is_err(), "{bad}");
        }
    }
}
