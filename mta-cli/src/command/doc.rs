//! `doc`: manual pages, the example configuration and completions, made from the tables of verbs and options.

use std::fmt::Write;

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind};
use mta_core::config::render::{self, roff};

use super::Ended;
use crate::args::{DocVerb, NAME, Top};
use crate::client::Problem;
use crate::exit::{Exit, MEANINGS};
use crate::output;

pub(super) fn run(verb: &DocVerb) -> Ended {
    let text = match verb {
        DocVerb::Example(_) => render::example(),
        DocVerb::Man(verb) => match verb.page.as_str() {
            "mta-cli" => manual(),
            "mta.toml" => render::manual(),
            other => return Err(unknown("page", other, "mta-cli or mta.toml")),
        },
        DocVerb::Completions(verb) => match verb.shell.as_str() {
            "bash" => bash(),
            "zsh" => zsh(),
            "fish" => fish(),
            other => return Err(unknown("shell", other, "bash, zsh or fish")),
        },
    };
    output::print(&text);
    Ok(Exit::DONE)
}

fn unknown(what: &str, found: &str, expected: &str) -> Problem {
    Problem::new(Exit::USAGE, format!("doc: unknown {what} {found:?}; expected {expected}"))
}

/// A command with the words that lead to it; generated documentation itself is left out.
struct Entry<'a> {
    path: Vec<&'a str>,
    info: &'a CommandInfoWithArgs,
}

/// Every command below `info`, itself first.
fn entries<'a>(info: &'a CommandInfoWithArgs, path: &[&'a str], out: &mut Vec<Entry<'a>>) {
    out.push(Entry { path: path.to_vec(), info });
    for sub in info.commands.iter().filter(|sub| sub.name != "doc") {
        let mut deeper = path.to_vec();
        deeper.push(sub.name);
        entries(&sub.command, &deeper, out);
    }
}

/// Calls `make` with all commands.
fn with_entries(make: impl FnOnce(&[Entry<'_>]) -> String) -> String {
    let info = Top::get_args_info();
    let mut all = Vec::new();
    entries(&info, &[], &mut all);
    make(&all)
}

/// The flags a person may give, without help, which every command has.
fn flags(info: &CommandInfoWithArgs) -> impl Iterator<Item = &FlagInfo<'static>> {
    info.flags.iter().filter(|flag| flag.long != "--help" && !flag.hidden)
}

/// The manual page mta-cli(8), as roff.
pub fn manual() -> String {
    with_entries(|all| {
        let mut out = format!(
            ".TH MTA\\-CLI 8 \"\" \"mta\" \"System Administration\"\n.SH NAME\nmta\\-cli \\- the mta mail server and its \
             administration\n.SH SYNOPSIS\n.B {}\n[\\-\\-config FILE] VERB [ARGUMENTS]\n.SH DESCRIPTION\n\
             One program is the daemon (\\fBmta\\-cli serve\\fR) and the administrator's tool (every other verb). Called as \
             \\fBmailq\\fR it lists the queue.\n.PP\nThe configuration is FILE, else /etc/mta/mta.toml; without either, \
             a development default listens on 127.0.0.1:2525 with its state in ./mta\\-state. \\-\\-config may stand \
             anywhere on the command line, and \\-\\-option=value may be written for \\-\\-option value.\n.PP\n\
             Tables are for terminals; in a pipe each line is one row and each column one word. \\-\\-json prints one \
             document with a schema version. The queue can be read, tried again and cleared while the daemon is down.\n\
             .SH VERBS\n",
            roff(NAME)
        );
        for entry in all.iter().filter(|e| !e.path.is_empty() && e.info.commands.is_empty()) {
            manual_entry(&mut out, entry);
        }
        out.push_str(
            ".SH ALERTS\nWhat the administrator has to act on is an alert: one line in the log when it opens and one when \
             it closes, shown by \\fBmta\\-cli status\\fR (exit status 1) until its cause has ended.\n",
        );
        for kind in mta_core::alert::Kind::ALL {
            let _ = writeln!(out, ".TP\n{}\n{}", roff(kind.word()), roff(kind.meaning()));
        }
        out.push_str(".SH EXIT STATUS\n");
        for (exit, meaning) in MEANINGS {
            let _ = writeln!(out, ".TP\n{}\n{}", exit.0, roff(meaning));
        }
        out.push_str(".SH SEE ALSO\nmta.toml(5)\n");
        out
    })
}

/// One verb of the manual.
fn manual_entry(out: &mut String, entry: &Entry<'_>) {
    let _ = write!(out, ".SS \"{}", roff(&entry.path.join(" ")));
    for positional in entry.info.positionals {
        let _ = write!(out, " {}", positional.name.to_uppercase());
    }
    let _ = writeln!(out, "\"\n{}", roff(entry.info.description));
    for note in entry.info.notes {
        let _ = writeln!(out, "{}", roff(note));
    }
    for flag in flags(entry.info) {
        let value = match flag.kind {
            FlagInfoKind::Switch => String::new(),
            FlagInfoKind::Option { arg_name } => format!(" \\fI{}\\fR", roff(arg_name)),
        };
        let _ =
            writeln!(out, ".TP\n\\fB{}\\fR{value}\n{}.", roff(flag.long), roff(&sentence(flag.description)));
    }
    for example in entry.info.examples {
        let line = example.replace("{command_name}", &format!("{NAME} {}", entry.path.join(" ")));
        let _ = writeln!(out, ".PP\nExample: \\fC{}\\fR", roff(&line));
    }
}

/// A description as the beginning of a sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Completion for bash: the words that may follow the verbs typed so far.
pub fn bash() -> String {
    with_entries(|all| {
        let mut out = String::from(
            "# bash completion for mta-cli; generated from its table of verbs.\n_mta_cli() {\n    \
             local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path=mta-cli word\n    \
             case $prev in\n        --config|-c|--chain) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n    esac\n    \
             for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n        \
             case $word in -*) ;; *) [[ -n ${_mta_cli_words[\"$path $word\"]+x} ]] && path=\"$path $word\" ;; esac\n    \
             done\n    COMPREPLY=($(compgen -W \"${_mta_cli_words[\"$path\"]}\" -- \"$cur\"))\n}\n\
             declare -gA _mta_cli_words=(\n",
        );
        for entry in all {
            let key: String = entry.path.iter().map(|word| format!(" {word}")).collect();
            let _ = writeln!(out, "    [\"{NAME}{key}\"]=\"{}\"", words(entry).join(" "));
        }
        out.push_str(")\ncomplete -F _mta_cli mta-cli\n");
        out
    })
}

/// What may follow a command: its verbs and flags.
fn words(entry: &Entry<'_>) -> Vec<String> {
    let verbs = entry.info.commands.iter().filter(|sub| sub.name != "doc").map(|sub| sub.name.to_owned());
    let flags = flags(entry.info).map(|flag| flag.long.to_owned());
    let config = (!entry.path.is_empty()).then(|| "--config".to_owned());
    verbs.chain(flags).chain(config).chain(["--help".to_owned()]).collect()
}

/// Completion for zsh, with descriptions.
pub fn zsh() -> String {
    with_entries(|all| {
        let mut out = String::from(
            "#compdef mta-cli\n# zsh completion for mta-cli; generated from its table of verbs.\n_mta_cli() {\n    \
             local typed= word\n    local -a items\n    for word in ${words[2,CURRENT-1]}; do\n        \
             case \"$typed $word\" in\n",
        );
        let paths: Vec<String> =
            all.iter().filter(|e| !e.path.is_empty()).map(|e| format!("\" {}\"", e.path.join(" "))).collect();
        let _ = writeln!(out, "            {}) typed=\"$typed $word\" ;;", paths.join("|"));
        out.push_str("        esac\n    done\n    case \"${words[CURRENT-1]}\" in\n        --config|-c|--chain) _files; return ;;\n    esac\n    case $typed in\n");
        for entry in all {
            let key: String = entry.path.iter().map(|word| format!(" {word}")).collect();
            let _ = writeln!(out, "        \"{key}\") items=({}) ;;", zsh_items(entry));
        }
        out.push_str("    esac\n    _describe 'mta-cli' items\n}\n_mta_cli \"$@\"\n");
        out
    })
}

/// The words of a command with their descriptions, as zsh wants them.
fn zsh_items(entry: &Entry<'_>) -> String {
    let quote = |word: &str, text: &str| {
        format!("'{}:{}'", word, text.replace('\'', "'\\''").replace(':', "\\:").trim_end_matches('.'))
    };
    let verbs = entry.info.commands.iter().filter(|sub| sub.name != "doc");
    let mut items: Vec<String> = verbs.map(|sub| quote(sub.name, first(sub.command.description))).collect();
    items.extend(flags(entry.info).map(|flag| quote(flag.long, flag.description)));
    items.push("'--help:show help'".to_owned());
    items.join(" ")
}

/// The first sentence of a description.
fn first(text: &str) -> &str {
    text.split(". ").next().unwrap_or(text)
}

/// Completion for fish.
pub fn fish() -> String {
    with_entries(|all| {
        let mut out = String::from(
            "# fish completion for mta-cli; generated from its table of verbs.\ncomplete -c mta-cli -f\n\
             complete -c mta-cli -l config -s c -r -F -d 'the configuration file'\ncomplete -c mta-cli -l help -d 'show help'\n",
        );
        for entry in all {
            let condition = fish_condition(entry);
            let quote = |text: &str| text.replace('\'', "\\'");
            for sub in entry.info.commands.iter().filter(|sub| sub.name != "doc") {
                let text = quote(first(sub.command.description));
                let _ = writeln!(out, "complete -c mta-cli -n '{condition}' -a {} -d '{text}'", sub.name);
            }
            for flag in flags(entry.info).filter(|flag| flag.long != "--config") {
                let value = match flag.kind {
                    FlagInfoKind::Switch => "",
                    FlagInfoKind::Option { arg_name: "file" } => " -r -F",
                    FlagInfoKind::Option { .. } => " -x",
                };
                let (name, text) = (flag.long.trim_start_matches("--"), quote(flag.description));
                let _ = writeln!(out, "complete -c mta-cli -n '{condition}' -l {name}{value} -d '{text}'");
            }
        }
        out
    })
}

/// When the words of a command may be typed.
fn fish_condition(entry: &Entry<'_>) -> String {
    let verbs: Vec<&str> = entry.info.commands.iter().map(|sub| sub.name).collect();
    let mut parts: Vec<String> =
        entry.path.iter().map(|word| format!("__fish_seen_subcommand_from {word}")).collect();
    if !verbs.is_empty() {
        parts.push(format!("not __fish_seen_subcommand_from {}", verbs.join(" ")));
    }
    parts.join("; and ")
}
