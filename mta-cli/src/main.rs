//! `mta-cli`: the daemon, the administrator's tool, and `sendmail`, `mailq` and `newaliases` by name.

fn main() {}
