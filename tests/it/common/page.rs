//! Requirements on every page.

/// Asserts that tags are closed in order, ids are unique, and nothing is loaded from elsewhere.
pub fn sound(page: &str) {
    const VOID: [&str; 4] = ["meta", "link", "img", "!doctype"];
    let body =
        page.replace(page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap(), "");
    let mut open = Vec::new();
    for tag in body.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        let name = tag.split([' ', '\n', '/']).find(|part| !part.is_empty()).unwrap();
        let outside_of_values: String = tag.split('"').step_by(2).collect();
        assert!(!outside_of_values.contains(" on"), "an event handler: {tag}");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "at {tag}");
        } else if !VOID.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let mut ids: Vec<&str> =
        page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
    for word in ["<script", "http:", "https:", "url(", "@import", "NaN", "inf\""] {
        assert!(!page.contains(word), "{word}");
    }
    for source in page.split("src=\"").chain(page.split("href=\"")).skip(1) {
        assert!(source.starts_with("data:") || source.starts_with("<!doctype"), "{source:.80}");
    }
}
