//! `HOSTILE.md` links each kind of hostile input to its tests; this keeps the links alive.

use std::collections::HashSet;
use std::path::Path;

/// The names of all tests below a folder.
fn tests(folder: &Path, names: &mut HashSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            tests(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("source");
            // Properties in a macro look the same; documentation and further attributes may stand between.
            for after in text.split("#[test]").skip(1) {
                let name = after.split("fn ").nth(1).and_then(|rest| rest.split('(').next());
                names.extend(name.map(str::to_owned));
            }
        }
    }
}

#[test]
fn every_row_names_tests_that_exist() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut there = HashSet::new();
    for member in ["mta-smtp", "mta-dane", "mta-queue", "mta-core", "mta-cli", "tests"] {
        tests(&own.join("..").join(member), &mut there);
    }
    assert!(there.len() > 800, "{}", there.len());
    assert!(!there.contains("framed") && !there.contains("site"), "functions that are no tests");
    let table = std::fs::read_to_string(own.join("HOSTILE.md")).expect("the table");
    let mut rows = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| row")) {
        let name = row.split('|').nth(1).unwrap_or_default().trim();
        let tests = row.split('|').nth(4).unwrap_or_default();
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test: {row}");
        let missing: Vec<&&str> = named.iter().filter(|name| !there.contains(**name)).collect();
        assert!(missing.is_empty(), "{name} names no test: {missing:?}");
        rows.push(name);
    }
    let expected = [("I", 19), ("A", 8), ("S", 5), ("R", 3)];
    let expected: Vec<String> = expected
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |n| format!("{letter}{n}")))
        .collect();
    assert_eq!(rows, expected);
}
