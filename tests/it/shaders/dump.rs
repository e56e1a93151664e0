//! Writes the texts to files, for compilers that are run by hand.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use polyview::kernels::web::browser_text;
use polyview::shaders::shader_texts;

/// Environment variable that names a folder to write each text to, as `NAME.wgsl`, and in its form for
/// browsers as `browser/NAME.wgsl`.
const FOLDER: &str = "POLYVIEW_DUMP_SHADERS";

#[test]
fn every_text_has_a_file_name_of_its_own() {
    let mut names = BTreeSet::new();
    let folder = std::env::var_os(FOLDER).map(PathBuf::from);
    for text in shader_texts() {
        let name = text.name;
        let safe = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        assert!(name.len() < 200 && name.chars().all(safe), "{name}");
        if let Some(folder) = &folder {
            fs::create_dir_all(folder.join("browser")).unwrap();
            let file = format!("{name}.wgsl");
            fs::write(folder.join(&file), &text.source).unwrap();
            fs::write(folder.join("browser").join(&file), &*browser_text(&text.source)).unwrap();
        }
        assert!(names.insert(name.to_lowercase()), "{name} names two variants");
    }
}
