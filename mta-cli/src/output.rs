//! Printing: tables for people, stable columns for pipes, JSON for programs.
//!
//! Text of strangers (addresses, replies) is shown with every invisible or controlling character escaped.

use crate::exit::Exit;
use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};
use std::time::SystemTime;

use mta_core::log::{is_harmful, visible};
use serde_json::{Value, json};

/// The version of the JSON output, raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// Columns of a terminal that does not say how many it has.
const WIDTH: usize = 120;

/// Columns of running text where nobody says how many there are.
const TEXT_WIDTH: usize = 100;

/// Prints text. A reader that has gone away (`| head`) is no trouble. Where the text cannot be written the program ends
/// with 75: half a list with exit status 0 would be taken for the whole. False where nobody reads any more.
pub fn print(text: &str) -> bool {
    print_bytes(text.as_bytes())
}

/// Prints running text, wrapped at the terminal's width where a person reads it.
pub fn print_text(text: &str) -> bool {
    if for_person() { print(&wrapped(text, text_columns())) } else { print(text) }
}

/// As [`print()`], for octets that are not ours to change.
pub fn print_bytes(octets: &[u8]) -> bool {
    let mut out = std::io::stdout().lock();
    match out.write_all(octets).and_then(|()| out.flush()) {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::BrokenPipe => false,
        Err(e) => {
            eprintln!("mta-cli: cannot write the output: {e}");
            std::process::exit(i32::from(Exit::TEMPORARY.0));
        }
    }
}

/// Prints one JSON object as a line: for streams.
pub fn print_line(object: &impl serde::Serialize) -> bool {
    // Views are plain data, which always is JSON.
    serde_json::to_string(object).is_ok_and(|line| print(&format!("{}\n", harmless(&line))))
}

/// Prints one JSON document: the schema version and `fields`.
pub fn print_json(fields: Value) {
    let mut document = json!({ "schema": SCHEMA });
    if let (Some(document), Value::Object(fields)) = (document.as_object_mut(), fields) {
        document.extend(fields);
    }
    print(&format!("{}\n", harmless(&format!("{document:#}"))));
}

/// JSON in which every character that could control a terminal is escaped. JSON itself asks for it below U+0020 only (RFC
/// 8259 7); such a character stands in strings alone, so the document means the same.
fn harmless(json: &str) -> Cow<'_, str> {
    let escape = |c: char| c != '\n' && is_harmful(c);
    if !json.contains(escape) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if escape(c) {
            let units = &mut [0; 2];
            out.extend(c.encode_utf16(units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Prints each as a line.
pub fn print_lines<T: serde::Serialize>(objects: &[T]) {
    let _ = objects.iter().all(print_line);
}

/// Whether a person reads the output.
pub fn for_person() -> bool {
    std::io::stdout().is_terminal()
}

/// Columns for running text: those of the terminal, within reason.
pub fn text_columns() -> usize {
    known_columns().unwrap_or(TEXT_WIDTH).clamp(60, WIDTH)
}

/// Columns of the terminal.
fn columns() -> usize {
    known_columns().unwrap_or(WIDTH)
}

/// What COLUMNS or the terminal itself says.
fn known_columns() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    said.or_else(|| size().map(|(columns, _)| columns))
}

/// Columns and lines of the terminal behind standard output.
pub fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some((usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// A table of text.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// The first column that goes to a line of its own, with those behind it, where one line is too short.
    folds_at: usize,
}

/// Characters of the last column that are worth seeing.
const WORTH_SEEING: usize = 30;

impl Table {
    /// An empty table with these columns.
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new(), folds_at: usize::MAX }
    }

    /// On a terminal too narrow for them the columns from this one on stand below the others.
    pub fn folding_at(self, column: usize) -> Self {
        Self { folds_at: column, ..self }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints it as whoever reads it wants it; nothing where there are no rows.
    pub fn print(&self) {
        if !self.rows.is_empty() {
            print(&if for_person() { self.for_person() } else { self.for_pipe() });
        }
    }

    /// The table for a person: aligned, each line cut at the terminal's width.
    pub fn for_person(&self) -> String {
        self.aligned(columns())
    }

    /// The table for a pipe: one line for each row, columns apart by a tab; a value that is missing is `-`.
    pub fn for_pipe(&self) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let words: Vec<String> =
                row.iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { visible(cell) }).collect();
            out.push_str(&words.join("\t"));
            out.push('\n');
        }
        out
    }

    fn aligned(&self, width: usize) -> String {
        let shown: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|c| visible(c)).collect()).collect();
        let header: Vec<String> = self.header.iter().map(ToString::to_string).collect();
        let length = |row: &[String], i: usize| row.get(i).map_or(0, |cell| cell.chars().count());
        let columns: Vec<usize> = (0..header.len())
            .map(|i| shown.iter().chain([&header]).map(|row| length(row, i)).max().unwrap_or(0))
            .collect();
        let worth = |(i, columns): (usize, &usize)| {
            if i + 1 == header.len() { *columns.min(&WORTH_SEEING) } else { columns + 2 }
        };
        let needed: usize = columns.iter().enumerate().map(worth).sum();
        let at = if needed > width { self.folds_at.min(header.len()) } else { header.len() };
        let mut out = String::new();
        for row in std::iter::once(&header).chain(&shown) {
            let cells: Vec<String> =
                row.iter().zip(&columns).map(|(cell, column)| format!("{cell:<column$}")).collect();
            let (first, below) = cells.split_at(at.min(cells.len()));
            let below = (!below.is_empty()).then(|| format!("  {}", below.join("  ")));
            for line in std::iter::once(first.join("  ")).chain(below) {
                let line: String = line.trim_end().chars().take(width).collect();
                out.push_str(line.trim_end());
                out.push('\n');
            }
        }
        out
    }
}

/// Lines no longer than so many columns, parted between words; what goes on is set in two more than its line began.
pub fn wrapped(text: &str, columns: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let mut width = 0;
        for word in line.split_inclusive(' ') {
            let long = word.trim_end().chars().count();
            if width + long > columns && width > indent {
                out.truncate(out.trim_end().len());
                out.push('\n');
                width = indent + 2;
                out.extend(std::iter::repeat_n(' ', width));
            }
            out.push_str(word);
            width += word.chars().count();
        }
        out.push('\n');
    }
    out
}

/// A time of the protocol relative to now: "3m ago", "in 2h".
pub fn relative(time: &str, now: SystemTime) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else {
        return time.to_owned();
    };
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
    let seconds = then.as_second() - now;
    match seconds {
        0 => "now".to_owned(),
        s if s < 0 => format!("{} ago", rough(s.unsigned_abs())),
        s => format!("in {}", rough(s.unsigned_abs())),
    }
}

/// A length of time in its largest fitting unit, or two.
pub fn rough(seconds: u64) -> String {
    match seconds {
        s if s < 60 => format!("{s}s"),
        s if s < 3600 => format!("{}m", s / 60),
        s if s < 86_400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        s => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// A number of bytes for a person.
pub fn bytes(size: u64) -> String {
    match size {
        s if s < 10_000 => format!("{s} B"),
        s if s < 10_000 << 10 => format!("{} kB", s >> 10),
        s => format!("{} MB", s >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn tables() {
        let mut table = Table::new(&["ID", "REPLY"]);
        table.row(vec!["a".into(), "4.2.0 come back\u{1b}[31m".into()]);
        table.row(vec!["bcd".into(), String::new()]);
        assert_eq!(table.for_pipe(), "a\t4.2.0 come back\\u{1b}[31m\nbcd\t-\n");
        assert_eq!(table.aligned(80), "ID   REPLY\na    4.2.0 come back\\u{1b}[31m\nbcd\n");
        assert_eq!(table.aligned(8), "ID   REP\na    4.2\nbcd\n");
        let mut table = Table::new(&["ID", "TO", "REPLY"]).folding_at(1);
        table.row(vec!["a".into(), "b@c.example".into(), "4.2.0 come back in an hour, not before".into()]);
        assert_eq!(
            table.aligned(47),
            "ID  TO           REPLY\na   b@c.example  4.2.0 come back in an hour, no\n"
        );
        assert_eq!(table.aligned(30), "ID\n  TO           REPLY\na\n  b@c.example  4.2.0 come back\n");
    }

    #[test]
    fn long_lines_are_parted_between_words() {
        let text = "Message x: deferred\n  to  somebody said a few more words\n\n  averyveryverylongword\n";
        assert_eq!(
            wrapped(text, 20),
            "Message x: deferred\n  to  somebody said\n    a few more words\n\n  averyveryverylongword\n"
        );
    }

    #[test]
    fn json_means_the_same_and_controls_no_terminal() {
        let value = json!({ "a\u{9b}b": ["\u{7f}\u{85}\u{202e}é", "\u{e0041}\n\u{1b}"] });
        for text in [value.to_string(), format!("{value:#}")] {
            let shown = harmless(&text);
            assert!(!shown.chars().any(|c| c != '\n' && is_harmful(c)), "{shown}");
            assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON"), value);
        }
    }

    #[test]
    fn times() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (time, expected) in [
            ("1970-01-12T13:46:40Z", "now"),
            ("1970-01-12T13:46:35Z", "5s ago"),
            ("1970-01-12T14:46:41Z", "in 1h00m"),
            ("1970-01-10T13:46:40Z", "2d00h ago"),
            ("rubbish", "rubbish"),
        ] {
            assert_eq!(relative(time, now), expected);
        }
        assert_eq!(bytes(9_999), "9999 B");
        assert_eq!(bytes(26_214_400), "25 MB");
    }
}
