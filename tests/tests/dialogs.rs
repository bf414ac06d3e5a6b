//! Plays every dialog of `tests/dialogs` against a real daemon. Lines that begin with `#:` set its configuration.

use std::path::Path;

use mta_lab::dialog::{parse, play};
use mta_lab::lab::Plan;

#[test]
fn every_dialog_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dialogs");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the folder").flatten().map(|it| it.path()).collect();
    files.sort();
    assert!(files.len() > 5, "the dialogs are there");
    let mut wrong = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).expect("a dialog");
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dialog = parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut plan = Plan::new();
        for setting in text.lines().filter_map(|line| line.strip_prefix("#:")) {
            let (key, value) = setting.split_once('=').expect("key = value");
            plan.set(key.trim(), value.trim());
        }
        let lab = plan.start().expect("a laboratory");
        if let Err(error) = play(&dialog, lab.daemon().address()) {
            wrong.push(format!("{name}, {error}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
