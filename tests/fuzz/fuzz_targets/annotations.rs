//! Reads arbitrary bytes as the `annotations.json` of a split with labels and of one without.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use polyview::data::annotations::{ANNOTATIONS, read_split};
use polyview::data::layout::SplitDir;
use polyview::schema::Schema;

struct Bench {
    schema: Schema,
    dir: PathBuf,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let dir = PathBuf::from(format!("/dev/shm/polyview-fuzz-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("create a folder in /dev/shm");
    Bench { schema: Schema::mvfoul().expect("the built-in schema"), dir }
});

fuzz_target!(init: polyview::guard(), |bytes: &[u8]| {
    let Bench { schema, dir } = &*BENCH;
    fs::write(dir.join(ANNOTATIONS), bytes).expect("write to /dev/shm");
    for (name, labelled) in [("train", true), ("challenge", false)] {
        let found = SplitDir { name: name.to_owned(), dir: dir.clone(), labelled };
        let split = match read_split(&found, schema) {
            Ok(split) => split,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        for problem in &split.problems {
            assert!(!problem.to_string().is_empty());
        }
        for action in &split.actions {
            assert_eq!(action.labels.is_some(), labelled);
            assert!(!action.views.is_empty());
            for (task, label) in schema.tasks.iter().zip(action.labels.iter().flatten()) {
                assert!(*label < task.classes.len());
            }
        }
        let left_out = split.left_out.iter().flat_map(|left| &left.views);
        for view in split.actions.iter().flat_map(|action| &action.views).chain(left_out) {
            // No annotation may point outside the split's folder.
            let inside = view.path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
            assert!(inside && split.clip(view).starts_with(dir), "{:?}", view.path);
        }
    }
});
