//! What is made from the table of options: the effective configuration, the full example file, the manual page.

use std::fmt::Write;

use super::Config;
use super::table::{self, OptionSpec};

/// Which options [`show`] lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All of them, as in force.
    All,
    /// Those whose value is not the default.
    Changed,
}

/// One option in force.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// The full dotted key.
    pub key: String,
    /// The value, as TOML.
    pub value: String,
    /// The default, as TOML.
    pub default: String,
    /// File and line that set it; nothing for a default.
    pub source: Option<String>,
}

/// Every option of `config` in force, in the order of the table, instances by name.
pub fn settings(config: &Config, which: Which) -> Vec<Setting> {
    let defaults = Config::default();
    let mut found = Vec::new();
    for (section, _) in table::sections() {
        let specs: Vec<&OptionSpec> = in_section(section).collect();
        let instances = specs.first().map_or_else(Vec::new, |spec| spec.instances(config));
        for instance in &instances {
            let all: Vec<Setting> =
                specs.iter().map(|spec| setting(spec, config, &defaults, instance)).collect();
            let changed = |s: &Setting| which == Which::All || s.value != s.default;
            // A domain that sets nothing is still a domain.
            let lone = *section == "domain.*" && !all.iter().any(changed);
            found.extend(
                all.into_iter().enumerate().filter(|(i, s)| changed(s) || lone && *i == 0).map(|(_, s)| s),
            );
        }
    }
    found
}

/// One option in force.
fn setting(spec: &OptionSpec, config: &Config, defaults: &Config, instance: &str) -> Setting {
    let key = spec.key_of(instance);
    let default = if instance.is_empty() { spec.value(defaults, "") } else { spec.default.to_owned() };
    Setting {
        value: spec.value(config, instance),
        default,
        source: config.origins.0.get(&key).map(ToString::to_string),
        key,
    }
}

/// The options of one section.
fn in_section(section: &str) -> impl Iterator<Item = &'static OptionSpec> {
    table::all().iter().filter(move |spec| spec.section() == section)
}

/// The configuration in force as a TOML file that says where each value comes from.
pub fn show(config: &Config, which: Which) -> String {
    let mut out = String::new();
    let mut section = None;
    for setting in settings(config, which) {
        let (at, name) = split_key(&setting.key);
        if section.as_deref() != Some(at) {
            if !at.is_empty() {
                let _ = writeln!(out, "{}[{at}]", if out.is_empty() { "" } else { "\n" });
            }
            section = Some(at.to_owned());
        }
        let builtin = if setting.value == setting.default { "default" } else { "development default" };
        let source = setting.source.as_deref().unwrap_or(builtin);
        let _ = writeln!(out, "{name} = {}  # {source}", setting.value);
    }
    out
}

/// A dotted key as section and name. The last part never has a dot.
fn split_key(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// The full example: each option as a paragraph, then its default, commented out.
pub fn example() -> String {
    let mut out = String::from(
        "# Every option of mta, with its default commented out. Generated from the table of options by\n\
         # `mta-cli doc example`; the manual page is mta.toml(5). Files in conf.d/ beside this one are read after it,\n\
         # by name; later values win. `mta-cli config check` says what is wrong before anything is started.\n",
    );
    for (section, text) in table::sections() {
        out.push('\n');
        comment(&mut out, text);
        if !section.is_empty() {
            let instance = if section.starts_with("domain") { "example.org" } else { "example.net" };
            let header = section.replace('*', &table::quoted_part(instance));
            let hash = if section.contains('*') { "#" } else { "" };
            let _ = writeln!(out, "{hash}[{header}]");
        }
        for spec in in_section(section) {
            out.push('\n');
            comment(&mut out, &format!("{} Type: {}. Since {}.", spec.text, spec.type_name(), spec.since));
            if spec.example != spec.default {
                comment(&mut out, &format!("Example: {} = {}", spec.name(), spec.example));
            }
            let _ = writeln!(out, "#{} = {}", spec.name(), spec.default);
        }
    }
    out
}

/// Writes `text` as comment lines.
fn comment(out: &mut String, text: &str) {
    /// Columns of a comment line.
    const WIDTH: usize = 100;
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

/// The manual page mta.toml(5), as roff.
pub fn manual() -> String {
    let mut out = String::from(MANUAL_HEAD);
    for (section, text) in table::sections() {
        let title = if section.is_empty() {
            "TOP LEVEL".to_owned()
        } else {
            format!("[{}]", section.replace(".*", ".NAME"))
        };
        let _ = writeln!(out, ".SS \"{}\"\n{}", roff(&title), roff(text));
        for spec in in_section(section) {
            let _ = writeln!(
                out,
                ".TP\n\\fB{}\\fR (\\fI{}\\fR, default {})",
                roff(spec.name()),
                roff(&spec.type_name()),
                roff(spec.default)
            );
            let _ = writeln!(out, "{}", roff(spec.text));
            let _ = writeln!(out, ".br\nExpects {}. Since {}.", roff(&spec.expected()), spec.since);
            if spec.example != spec.default {
                let _ = writeln!(out, ".br\nExample: \\fC{} = {}\\fR", roff(spec.name()), roff(spec.example));
            }
        }
    }
    out.push_str(MANUAL_TAIL);
    out
}

/// Text for roff: backslashes, hyphens and leading dots mean themselves.
pub fn roff(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

const MANUAL_HEAD: &str = ".TH MTA.TOML 5 \"\" \"mta\" \"File Formats\"
.SH NAME
mta.toml \\- configuration of the mta mail server
.SH SYNOPSIS
/etc/mta/mta.toml, /etc/mta/conf.d/*.toml
.SH DESCRIPTION
The configuration is one TOML file. Files named *.toml in the directory conf.d beside it are read after it, by name;
later values win. Unknown keys are refused. \\fBmta\\-cli config check\\fR reads everything and says what is wrong, and
\\fBmta\\-cli config show\\fR says what is in force and which file and line set it.
.PP
Durations are numbers with units: ms, s, m, h, d, w, as in \\(dq1h30m\\(dq. Sizes are bytes, or numbers with kB, MB, GB,
TB, which are powers of 1024. A list of one may be written without brackets. An empty string unsets an option that has
no default.
.SH OPTIONS
";

const MANUAL_TAIL: &str = ".SH FILES
.TP
/etc/mta/mta.toml
The configuration. Without it the server listens on 127.0.0.1:2525 with its state in ./mta\\-state.
.TP
/var/lib/mta
The state directory: the queue and the server's own key.
.SH SEE ALSO
mta\\-cli(8)
";

#[cfg(test)]
mod tests {
    use super::super::load::load_text;
    use super::*;

    /// The example with every default live.
    fn uncommented() -> String {
        example()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => rest.to_owned(),
                _ => line.to_owned(),
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_example_as_it_stands_is_the_default() {
        assert_eq!(load_text("example.toml", &example()), Ok(Config::default()));
    }

    #[test]
    fn the_example_with_every_line_live_is_the_default_and_two_blank_instances() {
        let mut config = load_text("example.toml", &uncommented()).unwrap();
        assert_eq!(config.domains.len(), 1);
        assert_eq!(config.destinations.len(), 1);
        config.domains.clear();
        config.destinations.clear();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn every_example_value_is_accepted_alone() {
        for spec in table::all() {
            let mut config = Config::default();
            if let Some((section, _)) = spec.key.split_once(".*") {
                table::instance_name(&mut config, section, "example.org").unwrap();
            }
            let line = format!("v = {}", spec.example);
            let parsed = toml::de::DeTable::parse(&line).unwrap();
            let value = parsed.get_ref().get("v").unwrap();
            assert_eq!(spec.set(&mut config, "example.org", value), Ok(()), "{}", spec.key);
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        let text = "hostname = \"mx.example.org\"\n[domain.\"example.org\"]\nmailboxes = [\"a\", \"b\"]\n\
                    [destination.\".example.net\".relay]\nhost = \"r.example\"\nport = 25\n[queue]\nlifetime = \"90s\"\n";
        let config = load_text("a.toml", text).unwrap();
        for which in [Which::All, Which::Changed] {
            let shown = show(&config, which);
            assert_eq!(load_text("b.toml", &shown).as_ref(), Ok(&config), "{shown}");
        }
        assert!(show(&config, Which::Changed).contains("lifetime = \"1m30s\"  # a.toml:8"));
        assert!(!show(&config, Which::Changed).contains("default"));
    }

    #[test]
    fn every_option_has_a_section_and_a_text() {
        for spec in table::all() {
            assert!(table::sections().iter().any(|(section, _)| *section == spec.section()), "{}", spec.key);
            assert!(spec.text.ends_with('.') && spec.text.len() > 10, "{}", spec.key);
        }
    }
}
