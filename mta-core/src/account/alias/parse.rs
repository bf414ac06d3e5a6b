//! The syntax of aliases(5), of included files and of `.forward`.
//!
//! `name: member, member`; a line that begins with a blank goes on with the one before; `#` begins a comment line. A name
//! or a member may stand in quotes. Members are addresses, names, `\name`, `/file`, `|command`, `:include:/file`.

use std::path::{Path, PathBuf};

use mta_smtp::address::Mailbox;

use super::{AliasError, Entry, Member, Place};

/// The longest logical line, octets: a list of a thousand members fits.
const MAX_LINE_BYTES: usize = 256 * 1024;

/// The entries of an alias file, and what is wrong with it. A line whose name can be read gives an entry even where its
/// members cannot.
pub fn file(path: &Path, text: &str) -> (Vec<Entry>, Vec<AliasError>) {
    let mut entries = Vec::new();
    let mut errors = Vec::new();
    for (line, text) in logical_lines(text) {
        let place = Place { file: path.to_owned(), line };
        match entry(&text) {
            Ok((name, members)) => {
                if let Err(cause) = &members {
                    errors.push(AliasError { place: place.clone(), cause: cause.clone() });
                }
                entries.push(Entry { name, members, place });
            }
            Err(cause) => errors.push(AliasError { place, cause }),
        }
    }
    (entries, errors)
}

/// The members that an included file or a `.forward` lists, on as many lines as it likes.
///
/// # Errors
/// The first line that is wrong.
pub fn list(path: &Path, text: &str) -> Result<Vec<Member>, AliasError> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let place = || Place { file: path.to_owned(), line: index + 1 };
        found.extend(members(trimmed).map_err(|cause| AliasError { place: place(), cause })?);
    }
    Ok(found)
}

/// Lines with their continuations, each with the number of its first one.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        // aliases(5): a comment inside of a continued line does not end it.
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some((_, last)) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => lines.push((index + 1, line.trim_end().to_owned())),
        }
    }
    lines
}

/// A name and its members.
type Named = (String, Result<Vec<Member>, String>);

fn entry(line: &str) -> Result<Named, String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!(
            "longer than {MAX_LINE_BYTES} octets: put the members into a file and :include: it"
        ));
    }
    if line.starts_with([' ', '\t']) {
        return Err("the first alias of a file cannot begin with a blank".to_owned());
    }
    let colon = outside_quotes(line, ':').ok_or("no colon behind the name: write name: member, member")?;
    let (name, rest) = line.split_at(colon);
    let name = local_part(name.trim())?;
    let rest = rest.get(1..).unwrap_or_default().trim();
    if rest.is_empty() {
        return Ok((name, Err("it stands for nobody: give at least one member".to_owned())));
    }
    Ok((name, members(rest)))
}

/// The members of one line.
///
/// # Errors
/// What is wrong with one of them.
pub fn members(text: &str) -> Result<Vec<Member>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let end = outside_quotes(rest, ',');
        let (one, after) = rest.split_at(end.unwrap_or(rest.len()));
        let one = one.trim();
        if !one.is_empty() {
            found.push(member(one)?);
        }
        match after.get(1..) {
            Some(next) => rest = next,
            None => return Ok(found),
        }
    }
}

/// One member.
///
/// # Errors
/// What is wrong with it.
pub fn member(text: &str) -> Result<Member, String> {
    if text.chars().any(char::is_control) {
        return Err("a control character stands in it".to_owned());
    }
    // "Full Name" <address>: the address counts.
    if let Some(inner) = text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        return member(inner.1.trim());
    }
    if let Some(inner) = quoted(text)? {
        return Ok(match special(&inner)? {
            Some(member) => member,
            None => Member::Name(local_part(text)?),
        });
    }
    if let Some(member) = special(text)? {
        return Ok(member);
    }
    if let Some(name) = text.strip_prefix('\\') {
        return local_part(name).map(Member::Final);
    }
    if let Some(domain) = text.strip_prefix('@') {
        let domain = mta_smtp::address::Domain::parse(domain);
        return domain.map(|d| Member::Domain(d.to_string())).map_err(|_| format!("{text} is no domain"));
    }
    if outside_quotes(text, '@').is_some() {
        return Mailbox::parse(text).map(Member::Address).map_err(|_| format!("{text} is no address"));
    }
    local_part(text).map(Member::Name)
}

/// What is no address: a file, a command, an included file.
fn special(text: &str) -> Result<Option<Member>, String> {
    if let Some(command) = text.strip_prefix('|') {
        let command = command.trim();
        let command = quoted(command)?.unwrap_or_else(|| command.to_owned());
        return if command.is_empty() {
            Err("a pipe to no command".to_owned())
        } else {
            Ok(Some(Member::Pipe(command)))
        };
    }
    let include = text.get(..INCLUDE.len()).filter(|head| head.eq_ignore_ascii_case(INCLUDE));
    if include.is_some() {
        let path = text.get(INCLUDE.len()..).unwrap_or_default().trim();
        let path = quoted(path)?.unwrap_or_else(|| path.to_owned());
        return absolute(&path).map(|path| Some(Member::Include(path)));
    }
    match text.starts_with('/') {
        true => absolute(text).map(|path| Some(Member::File(path))),
        false => Ok(None),
    }
}

const INCLUDE: &str = ":include:";

/// An absolute path that does not climb.
fn absolute(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    if !path.is_absolute() || climbs {
        return Err(format!("{} is no absolute path without ..", path.display()));
    }
    Ok(path)
}

/// A local-part, quoted or not, in lower case: aliases do not tell case apart.
fn local_part(text: &str) -> Result<String, String> {
    let mailbox = Mailbox::parse(&format!("{text}@name.invalid"));
    let mailbox =
        mailbox.map_err(|_| format!("{text} is no name: quote what has blanks or other signs in it"))?;
    Ok(mailbox.local_part().to_lowercase())
}

/// Where `wanted` first stands outside of quotes.
fn outside_quotes(text: &str, wanted: char) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            // Outside of quotes a backslash is the sign of a final name.
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == wanted && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// What stands in quotes, where all of `text` does.
fn quoted(text: &str) -> Result<Option<String>, String> {
    let Some(inner) = text.strip_prefix('"') else { return Ok(None) };
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.extend(chars.next()),
            // `"a b"@host`: an address whose local-part is quoted.
            '"' if !chars.as_str().is_empty() => return Ok(None),
            '"' => return Ok(Some(plain)),
            c => plain.push(c),
        }
    }
    Err(format!("{text}: a quote is not closed"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        match members(text) {
            Ok(found) => found.iter().map(|m| format!("{m:?}")).collect::<Vec<_>>().join(" "),
            Err(cause) => cause,
        }
    }

    #[test]
    fn each_kind_of_member() {
        for (text, expected) in [
            ("root", r#"Name("root")"#),
            ("Root, anna", r#"Name("root") Name("anna")"#),
            (r"\Anna", r#"Final("anna")"#),
            ("/var/mail/x", r#"File("/var/mail/x")"#),
            ("|/bin/cat -n", r#"Pipe("/bin/cat -n")"#),
            (r#""|/bin/cat, twice""#, r#"Pipe("/bin/cat, twice")"#),
            (r#"|"/bin/cat, twice""#, r#"Pipe("/bin/cat, twice")"#),
            (":include:/etc/list", r#"Include("/etc/list")"#),
            (r#"":include:/etc/a list""#, r#"Include("/etc/a list")"#),
            (r#""a b""#, r#"Name("a b")"#),
            ("a,,b,", r#"Name("a") Name("b")"#),
            ("", ""),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        for (text, expected) in [
            ("a@b.example", "a@b.example"),
            ("\"Anna B\" <a@b.example>", "a@b.example"),
            ("\"a b\"@c.example", "\"a b\"@c.example"),
        ] {
            assert_eq!(members(text), Ok(vec![Member::Address(Mailbox::parse(expected).unwrap())]), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, cause) in [
            ("a b", "no name"),
            ("a@b@c", "no address"),
            ("\"open", "not closed"),
            ("|", "no command"),
            (":include:list", "absolute"),
            ("/a/../etc/shadow", "absolute"),
            ("a\u{7}b", "control"),
            ("@", "no domain"),
        ] {
            assert!(shown(text).contains(cause), "{text}: {}", shown(text));
        }
    }

    #[test]
    fn a_file_with_continuations_comments_and_mistakes() {
        let text = "# comment\nroot: anna,\n\t# not the end\n  bob\nPOSTMASTER:root\n\"a b\": x\nbroken: a b\nnothing:\n\
                    no colon\n";
        let (entries, errors) = file(Path::new("/etc/aliases"), text);
        let names: Vec<_> =
            entries.iter().map(|e| (e.name.as_str(), e.place.line, e.members.is_ok())).collect();
        assert_eq!(
            names,
            [
                ("root", 2, true),
                ("postmaster", 5, true),
                ("a b", 6, true),
                ("broken", 7, false),
                ("nothing", 8, false)
            ]
        );
        assert_eq!(entries[0].members.as_ref().map(Vec::len), Ok(2));
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].starts_with("/etc/aliases:7: a b is no name"), "{errors:?}");
        assert!(errors[2].starts_with("/etc/aliases:9: no colon"), "{errors:?}");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_lines_are_numbered(text in "[ -~\n\t\"\\\\:,|/@#]{0,200}") {
            let count = text.lines().count();
            let (entries, errors) = file(Path::new("f"), &text);
            for line in entries.iter().map(|e| e.place.line).chain(errors.iter().map(|e| e.place.line)) {
                prop_assert!(line >= 1 && line <= count);
            }
            let _ = list(Path::new("f"), &text);
        }

        #[test]
        fn a_member_reads_back_as_it_is_shown(name in "[a-z][a-z0-9.]{0,8}[a-z]", host in "[a-z]{1,8}\\.example") {
            for text in [name.clone(), format!("\\{name}"), format!("{name}@{host}"), format!("/{name}"),
                         format!("|{name}"), format!(":include:/{name}"), format!("@{host}")] {
                if name.contains("..") { continue; }
                let read = member(&text).unwrap();
                prop_assert_eq!(read.to_string(), text);
            }
        }
    }
}
