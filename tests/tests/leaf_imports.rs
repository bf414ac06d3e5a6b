//! Who may import whom, by cargo's own account: the rules of the workspace's first page, checked.

use std::collections::{BTreeMap, BTreeSet};

/// Crates of the workspace that each crate of the workspace may use.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("mta-smtp", &[]),
    ("mta-dane", &[]),
    ("mta-queue", &["mta-smtp"]),
    ("mta-core", &["mta-smtp", "mta-dane", "mta-queue"]),
    ("mta-cli", &["mta-core", "mta-queue"]),
];
/// Crates that do input or output, keep time or run tasks: the leaves use none of them, however indirectly.
const IO_CRATES: [&str; 16] = [
    "async-io",
    "async-net",
    "async-fs",
    "async-process",
    "blocking",
    "hickory-net",
    "hickory-resolver",
    "mio",
    "polling",
    "rusqlite",
    "smol",
    "socket2",
    "tokio",
    "libsqlite3-sys",
    "nix",
    "mta-lab",
];

/// For each package of the build: the names of the packages it uses, tests left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = mta_lab::cargo::metadata();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| (package["id"].as_str().expect("an id"), package["name"].as_str().expect("a name")))
        .collect();
    let mut result: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().expect("nodes") {
        let used = result.entry(names[node["id"].as_str().expect("an id")].to_owned()).or_default();
        for dependency in node["deps"].as_array().expect("dependencies") {
            let kinds = dependency["dep_kinds"].as_array().expect("kinds");
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                used.insert(names[dependency["pkg"].as_str().expect("an id")].to_owned());
            }
        }
    }
    result
}

/// Everything a package uses, directly and indirectly.
fn all_used(by: &str, dependencies: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![by.to_owned()];
    while let Some(package) = open.pop() {
        for used in dependencies.get(&package).into_iter().flatten() {
            if found.insert(used.clone()) {
                open.push(used.clone());
            }
        }
    }
    found
}

#[test]
fn each_crate_uses_only_what_it_may_of_the_workspace() {
    let dependencies = dependencies();
    for (name, allowed) in ALLOWED {
        let used = &dependencies[name];
        let wrong: Vec<&String> =
            used.iter().filter(|it| it.starts_with("mta-") && !allowed.contains(&it.as_str())).collect();
        assert!(wrong.is_empty(), "{name} uses {wrong:?}");
    }
    // The check would notice: the laboratory does use what the leaves may not.
    assert!(dependencies["mta-lab"].contains("mta-core"));
}

#[test]
fn the_leaves_do_no_input_or_output() {
    let dependencies = dependencies();
    for leaf in ["mta-smtp", "mta-dane"] {
        let used = all_used(leaf, &dependencies);
        let wrong: Vec<&&str> = IO_CRATES.iter().filter(|it| used.contains(**it)).collect();
        assert!(wrong.is_empty(), "{leaf} uses {wrong:?}");
    }
    assert!(all_used("mta-core", &dependencies).contains("async-io"), "the check would notice");
}

#[test]
fn only_the_queue_knows_sql_and_only_mail_auth_brings_tokio() {
    let dependencies = dependencies();
    for (name, used) in &dependencies {
        if name.starts_with("mta-") && name != "mta-queue" {
            assert!(!used.contains("rusqlite"), "{name} uses rusqlite");
        }
    }
    assert!(dependencies["mta-queue"].contains("rusqlite"), "the check would notice");
    for (name, used) in &dependencies {
        let brings =
            ["hickory-net", "hickory-resolver", "mail-auth", "tokio-rustls"].contains(&name.as_str());
        assert!(brings || !used.contains("tokio"), "{name} uses tokio");
    }
    assert!(all_used("mail-auth", &dependencies).contains("tokio"), "the check would notice");
    // It is linked and not run: one folder names the library that brings it, and nothing makes a runtime.
    let sources = mta_lab::cargo::sources("mta-core");
    let naming = |word: &str| -> Vec<&str> {
        let named = sources.iter().filter(|(_, text)| text.contains(word));
        named.map(|(path, _)| path.as_str()).collect()
    };
    assert_eq!(naming("mail_auth::"), ["auth/library.rs"]);
    assert!(naming("tokio::").is_empty() && naming("TokioRuntimeProvider") == ["auth/library.rs"]);
}
