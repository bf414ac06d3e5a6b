//! `MATRIX.md` links every row of the requirement matrix to the tests that prove it; this keeps the links alive: no row is
//! missing, every named test exists somewhere in the workspace, and one of them at least says in its own name or
//! documentation which row it is for.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The sections of the matrix and how many rows each has; H has a row H1a beside.
const SECTIONS: [(char, u32); 13] = [
    ('A', 15),
    ('B', 18),
    ('C', 11),
    ('D', 10),
    ('E', 12),
    ('F', 11),
    ('G', 8),
    ('H', 11),
    ('I', 11),
    ('J', 9),
    ('K', 4),
    ('L', 12),
    ('M', 7),
];

/// Rows that no test proves yet. A row leaves this list with its test; nothing is added.
const OPEN: [&str; 3] = ["J8", "L9", "M5"];

/// A test of the workspace: the words of its name and documentation in upper case.
struct Test {
    file: PathBuf,
    words: Vec<String>,
}

/// All rows there are.
fn all_rows() -> Vec<String> {
    let numbered = |(letter, count): (char, u32)| (1..=count).map(move |number| format!("{letter}{number}"));
    SECTIONS.into_iter().flat_map(numbered).chain(["H1a".to_owned()]).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_uppercase)
}

/// Every `#[test]` function of the workspace by its name.
fn tests() -> BTreeMap<String, Test> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for member in ["mta-smtp", "mta-dane", "mta-queue", "mta-core", "mta-cli", "tests"] {
        ["src", "tests"].iter().for_each(|folder| sources(&root.join(member).join(folder), &mut files));
    }
    let mut tests = BTreeMap::new();
    for file in files {
        let (mut documentation, mut is_test) = (Vec::new(), false);
        for line in std::fs::read_to_string(&file).unwrap().lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("///") {
                documentation.extend(words(text));
            } else if line.starts_with("#[") {
                is_test |= line == "#[test]";
            } else {
                if let Some(rest) = line.strip_prefix("fn ")
                    && is_test
                {
                    let name = rest.split('(').next().unwrap().to_owned();
                    let words = words(&name).chain(documentation.drain(..)).collect();
                    tests.insert(name, Test { file: file.clone(), words });
                }
                (documentation, is_test) = (Vec::new(), false);
            }
        }
    }
    assert!(tests.len() > 300, "{} tests in the whole workspace?", tests.len());
    tests
}

/// The table: row ids and the names of tests, line by line.
fn table() -> Vec<(Vec<String>, Vec<String>)> {
    let matrix = Path::new(env!("CARGO_MANIFEST_DIR")).join("MATRIX.md");
    let text = std::fs::read_to_string(matrix).unwrap();
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ids: Vec<String> = cells[1].split(' ').map(str::to_owned).collect();
        if cells[1] == "row" {
            continue;
        }
        // Quoted words that are code, not tests, hold a space, a colon or a dot.
        let quoted = cells[4].split('`').skip(1).step_by(2);
        let names = quoted.filter(|word| !word.contains([' ', ':', '.'])).map(str::to_owned);
        lines.push((ids, names.collect()));
    }
    lines
}

/// No row is missing or there twice, and none is without a test but those listed as open.
#[test]
fn every_row_is_in_the_matrix() {
    let table = table();
    let there: Vec<&String> = table.iter().flat_map(|(ids, _)| ids).collect();
    let all = all_rows();
    let missing: Vec<&String> = all.iter().filter(|row| !there.contains(row)).collect();
    assert!(missing.is_empty(), "rows that MATRIX.md lacks: {missing:?}");
    let wrong: Vec<_> = there
        .iter()
        .filter(|row| !all.contains(row) || there.iter().filter(|r| r == row).count() > 1)
        .collect();
    assert!(wrong.is_empty(), "rows that do not exist or stand there twice: {wrong:?}");
    let bare =
        |row: &&str| table.iter().any(|(ids, names)| ids.iter().any(|id| id == row) && names.is_empty());
    let untested: Vec<&str> = all.iter().map(String::as_str).filter(|row| bare(row)).collect();
    let unexpected: Vec<_> = untested.iter().filter(|row| !OPEN.contains(row)).collect();
    assert!(unexpected.is_empty(), "rows without a test: {unexpected:?}");
    let done: Vec<_> = OPEN.iter().filter(|row| !untested.contains(row)).collect();
    assert!(done.is_empty(), "these rows have their test now, take them from OPEN: {done:?}");
}

/// Every test named in the matrix exists, and for each row one of them says that it is for it.
#[test]
fn matrix_names_tests_that_exist() {
    let tests = tests();
    for (ids, names) in table() {
        let missing: Vec<&String> = names.iter().filter(|name| !tests.contains_key(*name)).collect();
        assert!(missing.is_empty(), "{ids:?}: named in MATRIX.md, but no test: {missing:?}");
        for id in ids.iter().filter(|_| !names.is_empty()) {
            let says = |test: &Test| test.words.contains(&id.to_ascii_uppercase());
            let silent: Vec<_> = names.iter().map(|name| (name, &tests[name].file)).collect();
            assert!(
                names.iter().any(|name| says(&tests[name])),
                "{id}: none of its tests says so in its name or documentation: {silent:?}"
            );
        }
    }
}

/// Every test of this crate that has a row in its name is in the matrix.
#[test]
fn tests_of_a_row_are_in_the_matrix() {
    let named: Vec<String> = table().into_iter().flat_map(|(_, names)| names).collect();
    let rows: Vec<String> = all_rows().iter().map(|row| row.to_ascii_lowercase()).collect();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of_a_row = |name: &str| rows.iter().any(|row| name.starts_with(&format!("{row}_")));
    let absent: Vec<_> = tests()
        .into_iter()
        .filter(|(name, test)| test.file.starts_with(here) && of_a_row(name) && !named.contains(name))
        .map(|(name, _)| name)
        .collect();
    assert!(absent.is_empty(), "tests of a row that MATRIX.md does not name: {absent:?}");
}
