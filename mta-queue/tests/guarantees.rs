//! `GUARANTEES.md` links each guarantee to its tests; this keeps the links alive.

use std::collections::HashSet;
use std::path::Path;

/// The names of all tests below a directory.
fn tests(directory: &Path, names: &mut HashSet<String>) {
    for entry in std::fs::read_dir(directory).expect("directory").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            tests(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("source");
            let mut after_marker = false;
            for line in text.lines().map(str::trim) {
                if let Some(rest) = line.strip_prefix("fn ")
                    && after_marker
                {
                    names.extend(rest.split('(').next().map(str::to_owned));
                }
                after_marker = line == "#[test]" || after_marker && line.starts_with("#[");
            }
            // Properties are functions in a macro.
            let properties = text.split("#[test]\n        fn ").skip(1);
            names.extend(properties.filter_map(|rest| rest.split('(').next()).map(str::to_owned));
        }
    }
}

#[test]
fn every_guarantee_names_tests_that_exist() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut there = HashSet::new();
    for member in ["mta-smtp", "mta-dane", "mta-queue", "mta-core", "mta-cli", "tests"] {
        tests(&own.join("..").join(member), &mut there);
    }
    assert!(there.len() > 300, "{}", there.len());
    let table = std::fs::read_to_string(own.join("GUARANTEES.md")).expect("the table");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| G")).collect();
    for (n, row) in (1..=16).zip(&rows) {
        assert!(row.starts_with(&format!("| G{n} |")), "{row}");
        let named: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test: {row}");
        let missing: Vec<&&str> = named.iter().filter(|name| !there.contains(**name)).collect();
        assert!(missing.is_empty(), "G{n} names no test: {missing:?}");
    }
    assert_eq!(rows.len(), 16);
}
