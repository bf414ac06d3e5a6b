//! `MATRIX.md` links rules to tests; this keeps the links alive.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::path::Path;

/// Every test named in the matrix exists, and every test that names a row in its own name is in the matrix.
#[test]
fn matrix_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let matrix = std::fs::read_to_string(root.join("MATRIX.md")).unwrap();
    let mut tests = Vec::new();
    let folders =
        ["tests", "src/validator/tests"].map(|folder| std::fs::read_dir(root.join(folder)).unwrap());
    for entry in folders.into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut after_marker = false;
            for line in text.lines().map(str::trim) {
                if let Some(rest) = line.strip_prefix("fn ")
                    && after_marker
                {
                    tests.push(rest.split('(').next().unwrap().to_owned());
                }
                after_marker = line == "#[test]";
            }
        }
    }
    assert!(tests.len() > 50, "{tests:?}");
    let rows = matrix.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let quoted = rows.flat_map(|line| line.split('`').skip(1).step_by(2));
    // Quoted words that are code, not tests: "2 0 0", "dns", "client_config", "HostPolicy::sni".
    let code = ["dns", "client_config", "HostPolicy::sni"];
    let named: Vec<&str> = quoted.filter(|word| !word.contains(' ') && !code.contains(word)).collect();
    let missing: Vec<&&str> = named.iter().filter(|name| !tests.iter().any(|test| test == *name)).collect();
    assert!(missing.is_empty(), "named in MATRIX.md, but no test: {missing:?}");
    let is_row = |name: &str| {
        let mut bytes = name.bytes();
        matches!((bytes.next(), bytes.next()), (Some(b'a'..=b'k'), Some(b'0'..=b'9')))
    };
    let absent: Vec<&String> =
        tests.iter().filter(|name| is_row(name) && !named.contains(&name.as_str())).collect();
    assert!(absent.is_empty(), "tests of a row that MATRIX.md does not name: {absent:?}");
}
