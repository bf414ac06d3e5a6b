//! Reading the files: the main one, then `conf.d/*.toml` beside it, each checked key by key against the table.
//!
//! All errors of all files are gathered before anything is refused, so that one run shows everything there is to mend.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors, Origin, nearest};
use super::table::{self, OptionSpec, quoted_part};
use super::{Config, check, value};

/// Loads `path` and what lies in `conf.d` beside it.
pub(super) fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let mut loader =
        Loader { config: table::defaults(), errors: Vec::new(), file: PathBuf::new(), text: String::new() };
    let files = loader.files(path);
    for file in files {
        loader.read(file);
    }
    if loader.errors.is_empty() {
        loader.errors = check::errors(&loader.config);
    }
    if loader.errors.is_empty() { Ok(loader.config) } else { Err(ConfigErrors(loader.errors)) }
}

/// Reads one text as if it were the only file; for tests and for the example.
#[cfg(test)]
pub(super) fn load_text(file: &str, text: &str) -> Result<Config, ConfigErrors> {
    let mut loader =
        Loader { config: table::defaults(), errors: Vec::new(), file: PathBuf::new(), text: String::new() };
    loader.parse(PathBuf::from(file), text.to_owned());
    if loader.errors.is_empty() {
        loader.errors = check::errors(&loader.config);
    }
    if loader.errors.is_empty() { Ok(loader.config) } else { Err(ConfigErrors(loader.errors)) }
}

/// What is being read, and what was found so far.
struct Loader {
    config: Config,
    errors: Vec<ConfigError>,
    /// The file in hand.
    file: PathBuf,
    /// Its text, for line numbers.
    text: String,
}

/// Where in the tree of tables the walk is.
#[derive(Clone)]
struct Place {
    /// The key as the table of options has it: `domain.*`.
    pattern: String,
    /// The key as the file has it: `domain."example.org"`.
    shown: String,
    /// What the star stands for; empty outside such tables.
    instance: String,
}

impl Place {
    /// The place of `key` below this one.
    fn child(&self, key: &str) -> Self {
        let join =
            |base: &str, part: &str| if base.is_empty() { part.to_owned() } else { format!("{base}.{part}") };
        Self {
            pattern: join(&self.pattern, key),
            shown: join(&self.shown, &quoted_part(key)),
            instance: self.instance.clone(),
        }
    }

    /// The place of the table for `name`, a name that the administrator chose.
    fn of_instance(&self, name: &str) -> Self {
        let shown = format!("{}.{}", self.shown, quoted_part(name));
        Self { pattern: format!("{}.*", self.pattern), shown, instance: name.to_owned() }
    }
}

impl Loader {
    /// The files to read, in order: `path`, then `conf.d/*.toml` beside it by name.
    fn files(&mut self, path: &Path) -> Vec<PathBuf> {
        let mut files = vec![path.to_owned()];
        let dir = path.parent().unwrap_or_else(|| Path::new(".")).join("conf.d");
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return files,
            Err(e) => {
                self.unreadable(dir, &e);
                return files;
            }
        };
        let mut more: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .filter(|p| p.extension().is_some_and(|x| x == "toml"))
            .filter(|p| p.file_name().is_some_and(|n| !n.as_encoded_bytes().starts_with(b".")))
            .collect();
        more.sort();
        files.extend(more);
        files
    }

    /// Reads and parses one file.
    fn read(&mut self, file: PathBuf) {
        match std::fs::read_to_string(&file) {
            Ok(text) => self.parse(file, text),
            Err(e) => self.unreadable(file, &e),
        }
    }

    /// Notes a file that cannot be read.
    fn unreadable(&mut self, file: PathBuf, error: &std::io::Error) {
        self.errors.push(ConfigError {
            origin: None,
            key: String::new(),
            found: format!("{}: cannot be read: {error}", file.display()),
            expected: "expected a TOML file that this user can read".to_owned(),
        });
    }

    /// Parses the text of one file and sets what it says.
    fn parse(&mut self, file: PathBuf, text: String) {
        self.file = file;
        self.text = text.clone();
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            let found = format!("not valid TOML: {}", one_line(error.message()));
            self.error(at, "", found, "expected key = value lines and [section] headers".to_owned());
        }
        if errors.is_empty() {
            let top = Place { pattern: String::new(), shown: String::new(), instance: String::new() };
            self.table(&top, table.get_ref());
        }
    }

    /// Walks one table of the file.
    fn table(&mut self, place: &Place, table: &DeTable<'_>) {
        let named = is_named(&place.pattern);
        for (key, value) in table {
            let name = key.get_ref();
            if named {
                self.instance(place, name, key.span().start, value);
            } else {
                self.entry(&place.child(name), name, key.span().start, value);
            }
        }
    }

    /// One `[domain."name"]` or `[destination."name"]`.
    fn instance(&mut self, place: &Place, name: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        let inner = place.of_instance(name);
        let Some(table) = value.get_ref().as_table() else {
            let expected = format!("expected a table [{}]", inner.shown);
            return self.error(at, &inner.shown, format!("found {}", value::show(value.get_ref())), expected);
        };
        match table::instance_name(&mut self.config, &place.pattern, name) {
            Ok(canonical) => {
                let inner = place.of_instance(&canonical);
                self.origin(&inner.shown, at);
                self.table(&inner, table);
            }
            Err(why) => {
                let found = format!("found {name:?} ({why})");
                self.error(
                    at,
                    &inner.shown,
                    found,
                    "expected a domain name such as \"example.org\"".to_owned(),
                );
            }
        }
    }

    /// One key that is an option, a table of options, or unknown.
    fn entry(&mut self, place: &Place, name: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        if let Some(spec) = table::all().iter().find(|spec| spec.key == place.pattern) {
            return self.set(spec, place, at, value);
        }
        let prefix = format!("{}.", place.pattern);
        if !table::all().iter().any(|spec| spec.key.starts_with(&prefix)) {
            return self.error(
                at,
                &place.shown,
                "unknown option".to_owned(),
                suggestion(&place.pattern, name),
            );
        }
        match value.get_ref().as_table() {
            Some(table) => self.table(place, table),
            None => {
                let found = format!("found {}", value::show(value.get_ref()));
                self.error(at, &place.shown, found, format!("expected a table [{}]", place.shown));
            }
        }
    }

    /// Sets an option.
    fn set(&mut self, spec: &OptionSpec, place: &Place, at: usize, value: &Spanned<DeValue<'_>>) {
        match spec.set(&mut self.config, &place.instance, value) {
            Ok(()) => self.origin(&place.shown, at),
            Err(problem) => {
                self.error(
                    problem.span.start,
                    &place.shown,
                    problem.found,
                    format!("expected {}", spec.expected()),
                );
            }
        }
    }

    /// Remembers where `key` was set.
    fn origin(&mut self, key: &str, at: usize) {
        let origin = Origin { file: self.file.clone(), line: self.line(at) };
        self.config.origins.0.insert(key.to_owned(), origin);
    }

    /// Notes an error at a byte position of the file.
    fn error(&mut self, at: usize, key: &str, found: String, expected: String) {
        let origin = Some(Origin { file: self.file.clone(), line: self.line(at) });
        self.errors.push(ConfigError { origin, key: key.to_owned(), found, expected });
    }

    /// The line of a byte position, from 1.
    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|b| *b == b'\n').count()
    }
}

/// Whether the keys of the table `pattern` are names that the administrator chooses.
fn is_named(pattern: &str) -> bool {
    let prefix = format!("{pattern}.*.");
    !pattern.is_empty() && table::all().iter().any(|spec| spec.key.starts_with(&prefix))
}

/// The parser's message on one line.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What may have been meant by an unknown key: a neighbour, the same name elsewhere, or the nearest of all.
fn suggestion(pattern: &str, name: &str) -> String {
    let base = pattern.strip_suffix(name).unwrap_or("");
    let siblings = table::all().iter().filter_map(|spec| spec.key.strip_prefix(base)?.split('.').next());
    let near = nearest(name, siblings)
        .map(|near| format!("{base}{near}"))
        .or_else(|| table::all().iter().find(|spec| spec.name() == name).map(|spec| spec.key.to_owned()))
        .or_else(|| nearest(pattern, table::all().iter().map(|spec| spec.key)).map(str::to_owned));
    match near {
        Some(near) => format!("did you mean {near}?"),
        None => "`mta-cli config show --defaults` lists every option".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// One wrong text and exactly what is said of it.
    const WRONG: &[(&str, &str)] = &[
        (
            "hostname = 5",
            "t.toml:1: hostname: found the integer 5; expected a name such as \"mail.example.org\"",
        ),
        (
            "\n\nhostname = \"a b\"",
            "t.toml:3: hostname: found \"a b\" (only letters, digits, hyphens and dots (an IDN in its xn-- \
             form)); expected a name such as \"mail.example.org\"",
        ),
        ("hostnam = \"a.example\"", "t.toml:1: hostnam: unknown option; did you mean hostname?"),
        (
            "[smtp]\nmesage_size_limit = \"1MB\"",
            "t.toml:2: smtp.mesage_size_limit: unknown option; did you mean smtp.message_size_limit?",
        ),
        (
            "message_size_limit = \"1MB\"",
            "t.toml:1: message_size_limit: unknown option; did you mean smtp.message_size_limit?",
        ),
        ("[stmp]\nlisten = []", "t.toml:1: stmp: unknown option; did you mean smtp?"),
        (
            "frobnicate = 1",
            "t.toml:1: frobnicate: unknown option; `mta-cli config show --defaults` lists every option",
        ),
        (
            "[domain.\"example.org\"]\nmailbox = [\"a\"]",
            "t.toml:2: domain.\"example.org\".mailbox: unknown option; did you mean domain.*.mailboxes?",
        ),
        ("smtp = 3", "t.toml:1: smtp: found the integer 3; expected a table [smtp]"),
        (
            "domain.\"example.org\" = true",
            "t.toml:1: domain.\"example.org\": found true; expected a table [domain.\"example.org\"]",
        ),
        (
            "[domain.\"exa mple\"]",
            "t.toml:1: domain.\"exa mple\": found \"exa mple\" (only letters, digits, hyphens and dots (an \
             IDN in its xn-- form)); expected a domain name such as \"example.org\"",
        ),
        (
            "[smtp]\nlisten = [\n  \"127.0.0.1:25\",\n  \"localhost\",\n]",
            "t.toml:4: smtp.listen: found \"localhost\"; expected a list, each entry an address and port \
             such as \"192.0.2.1:53\" or \"[2001:db8::1]:53\"",
        ),
        (
            "[smtp]\nmax_recipients = 5",
            "t.toml:2: smtp.max_recipients: found the integer 5; expected an integer, from 100 to 100000",
        ),
        (
            "[smtp]\ncommand_timeout = 300",
            "t.toml:2: smtp.command_timeout: found the integer 300; expected a duration such as \"30s\", \
             \"5m\", \"1h30m\" or \"4d\", from \"1s\" to \"1d\"",
        ),
        (
            "[smtp]\nrelay_networks = [\"192.0.2.1/24\"]",
            "t.toml:2: smtp.relay_networks: found \"192.0.2.1/24\" (bits are set behind the prefix); \
             expected a list, each entry a network such as \"192.0.2.0/24\" or \"2001:db8::/32\"",
        ),
        (
            "[dns]\nmode = \"yes\"",
            "t.toml:2: dns.mode: found \"yes\"; expected one of \"auto\", \"trust-ad\"",
        ),
        (
            "[dns]\nmode = \"trust-ad\"\nservers = [\"192.0.2.1\"]",
            "t.toml:3: dns.servers: found 192.0.2.1:53 with dns.mode = \"trust-ad\"; expected loopback \
             addresses only, or dns.mode = \"auto\"",
        ),
        (
            "[tls]\ncertificate_file = \"/c.pem\"",
            "t.toml:2: tls.certificate_file: set without tls.key_file; expected both or neither",
        ),
        (
            "[destination.\"example.net\"]\ndane = \"off\"\nuntil = \"2027-01-01\"",
            "t.toml:2: destination.\"example.net\".dane: found \"off\" without reason; expected \
             destination.\"example.net\".reason too: an exception has an end and a reason",
        ),
        (
            "[destination.\"example.net\"]\nnext_hop = \"a:99999\"",
            "t.toml:2: destination.\"example.net\".next_hop: found \"a:99999\" (the port is 1 to 65535); \
             expected a host such as \"mx.example.org\" or \"mx.example.org:2525\"",
        ),
        (
            "[relay]\nhost = \"r.example\"\nuser = \"u\"",
            "t.toml:3: relay.user: set without a secret; expected relay.secret_file or \
             relay.secret_credential too",
        ),
        (
            "[relay]\nhost = \"r.example\"\ntls = \"never\"\nuser = \"u\"\nsecret_file = \"/s\"",
            "t.toml:3: relay.tls: found \"never\" together with relay.user; expected \"starttls\" or \
             \"implicit\": a secret needs verified TLS",
        ),
        ("[relay]\nport = 25", "t.toml:2: relay.port: set without relay.host; expected relay.host too"),
        (
            "[domain.\"example.org\"]\nmailboxes = [\"../etc\"]",
            "t.toml:2: domain.\"example.org\".mailboxes: found \"../etc\" (a mailbox name is made of \
             letters, digits and !#$%&'*+-=?^_`{|}~. and does not begin with a dot); expected a list, each \
             entry a local-part such as \"alice\"",
        ),
        (
            "[domain.\"example.org\"]\nmaildir = \"/mail/{user}\"",
            "t.toml:2: domain.\"example.org\".maildir: found \"/mail/{user}\" with an unknown name in \
             braces; expected only {state_dir}, {domain} and {mailbox}",
        ),
        (
            "[domain.\"example.org\"]\nmaildir = \"mail/{mailbox}\"",
            "t.toml:2: domain.\"example.org\".maildir: found \"mail/{mailbox}\"; expected an absolute path, \
             or one that begins with {state_dir}, with {mailbox} in it",
        ),
        (
            "[outbound]\nipv4 = false\nipv6 = false",
            "t.toml:2: outbound.ipv4: found false with outbound.ipv6 = false; expected one of the two to be \
             true",
        ),
        (
            "[queue]\nretry = []",
            "t.toml:2: queue.retry: found an empty list; expected at least one duration such as \"5m\"",
        ),
        (
            "[log]\nlevel = \"\\u001b[31m\\n\"",
            "t.toml:2: log.level: found \"\\u{1b}[31m\\n\"; expected one of \"error\", \"warn\", \"info\", \
             \"debug\", \"trace\"",
        ),
    ];

    #[test]
    fn each_error_names_file_line_key_what_was_found_and_what_was_expected() {
        for (text, expected) in WRONG {
            match load_text("t.toml", text) {
                Ok(_) => panic!("accepted: {text}"),
                Err(errors) => assert_eq!(errors.to_string(), *expected, "{text}"),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in proptest::prelude::any::<String>()) {
            let _ = load_text("t.toml", &text);
        }

        #[test]
        fn no_value_panics(key in 0..table::all().len(), value in "[\\[\\]{}\",.:a-z0-9/@ -]{0,30}") {
            let key = table::all().get(key).map_or(String::new(), |spec| spec.key_of("example.org"));
            let _ = load_text("t.toml", &format!("{key} = {value}"));
            let quoted = value::quote(&value);
            if let Err(errors) = load_text("t.toml", &format!("{key} = {quoted}")) {
                proptest::prop_assert!(errors.0.iter().all(|e| !e.to_string().contains('\n')));
            }
        }
    }

    #[test]
    fn broken_toml_is_named_by_its_line() {
        let errors = load_text("t.toml", "hostname = \"a.example\"\n[smtp\nlisten = 3\n").unwrap_err();
        let first = errors.0.first().unwrap().to_string();
        assert!(first.starts_with("t.toml:2: not valid TOML: "), "{first}");
        let twice = load_text("t.toml", "hostname = \"a.example\"\nhostname = \"b.example\"\n").unwrap_err();
        assert!(twice.to_string().starts_with("t.toml:2: "), "{twice}");
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let errors =
            load_text("t.toml", "hostnam = 1\n[dns]\nmode = 1\n[queue]\nlifetime = \"x\"\n").unwrap_err();
        assert_eq!(errors.0.len(), 3, "{errors}");
    }

    #[test]
    fn files_beside_the_main_one_win_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let conf_d = dir.path().join("conf.d");
        std::fs::create_dir(&conf_d).unwrap();
        let main = dir.path().join("mta.toml");
        std::fs::write(&main, "hostname = \"a.example\"\n[queue]\nlifetime = \"1d\"\n").unwrap();
        std::fs::write(conf_d.join("20-b.toml"), "hostname = \"c.example\"\n").unwrap();
        std::fs::write(conf_d.join("10-a.toml"), "\nhostname = \"b.example\"\n").unwrap();
        std::fs::write(conf_d.join("30-c.toml.bak"), "nonsense").unwrap();
        std::fs::write(conf_d.join(".hidden.toml"), "nonsense").unwrap();
        let config = load(&main).unwrap();
        assert_eq!(config.hostname.as_deref(), Some("c.example"));
        assert_eq!(config.queue.lifetime, Duration::from_secs(86_400));
        let origin = config.origins.0.get("hostname").unwrap();
        assert_eq!((origin.file.as_path(), origin.line), (conf_d.join("20-b.toml").as_path(), 1));
        std::fs::write(conf_d.join("20-b.toml"), "hostname = \"\"\n").unwrap();
        assert_eq!(load(&main).unwrap().hostname, None, "an empty string unsets");
    }

    #[test]
    fn a_missing_file_is_one_clear_sentence() {
        let errors = load(Path::new("/nonexistent/mta.toml")).unwrap_err();
        assert_eq!(
            errors.to_string(),
            "/nonexistent/mta.toml: cannot be read: No such file or directory (os error 2); expected a TOML \
             file that this user can read"
        );
    }

    #[test]
    fn names_of_domains_are_one_whatever_their_case() {
        let text = "[domain.\"Example.ORG\"]\nmailboxes = [\"Alice\"]\n";
        let config = load_text("t.toml", text).unwrap();
        let (name, domain) = config.domains.first_key_value().unwrap();
        assert_eq!(&**name, "example.org");
        assert_eq!(&*domain.mailboxes[0], "alice");
        assert_eq!(
            domain.maildir(Path::new("/var/lib/mta"), "example.org", "alice"),
            PathBuf::from("/var/lib/mta/mail/example.org/alice")
        );
    }

    #[test]
    fn warnings_name_what_is_probably_not_meant() {
        let text = "hostname = \"mail\"\n[smtp]\nrelay_networks = [\"0.0.0.0/0\"]\n[domain.\"a.example\"]\n\
                    [destination.\"a.example\"]\ndane = \"mandatory\"\n";
        let told: Vec<String> =
            load_text("t.toml", text).unwrap().warnings().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("t.toml:3: smtp.relay_networks: 0.0.0.0/0 "), "{told:?}");
    }
}
