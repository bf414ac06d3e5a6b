//! Every crate we ship has a licence that lets it be shipped with ours, by cargo's own account.

use std::collections::BTreeSet;

/// Licences that may be combined with MIT OR Apache-2.0, as in deny.toml.
const ALLOWED: [&str; 10] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether a licence expression can be fulfilled with what is allowed: `OR` gives a choice, `AND` does not.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.trim();
    if let Some((left, right)) = split_outside_brackets(expression, " OR ") {
        return is_allowed(left) || is_allowed(right);
    }
    if let Some((left, right)) = split_outside_brackets(expression, " AND ") {
        return is_allowed(left) && is_allowed(right);
    }
    if let Some(inner) = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        return is_allowed(inner);
    }
    // Some old manifests write a slash for OR.
    expression.split('/').any(|licence| ALLOWED.contains(&licence.trim()))
}

fn split_outside_brackets<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    text.match_indices(separator).map(|(at, _)| at).find_map(|at| {
        let before = &text[..at];
        let is_outside = before.matches('(').count() == before.matches(')').count();
        is_outside.then(|| (before, &text[at + separator.len()..]))
    })
}

#[test]
fn expressions_are_read_right() {
    for (expression, expected) in [
        ("MIT OR Apache-2.0", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("Apache-2.0 AND ISC", true),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("(MIT AND GPL-3.0) OR (ISC AND GPL-2.0)", false),
        ("Apache-2.0 WITH LLVM-exception OR Apache-2.0", true),
        ("Unlicense/MIT", true),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression), expected, "{expression}");
    }
}

#[test]
fn every_licence_is_allowed() {
    let metadata = mta_lab::cargo::metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100, "cargo metadata lists every dependency");
    let wrong: BTreeSet<String> = packages
        .iter()
        .filter(|package| !is_allowed(package["license"].as_str().unwrap_or_default()))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
