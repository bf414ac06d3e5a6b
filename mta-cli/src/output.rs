//! Printing: tables for people, stable columns for pipes, JSON for programs.
//!
//! Text of strangers (addresses, replies) is shown with every invisible or controlling character escaped.

use crate::exit::Exit;
use std::io::{ErrorKind, IsTerminal, Write};
use std::time::SystemTime;

use mta_core::log::{escape, visible};
use serde_json::{Value, json};

/// The version of the JSON output, raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// Columns of a terminal that does not say how many it has.
const WIDTH: usize = 120;

/// Columns of running text where nobody says how many there are.
const TEXT_WIDTH: usize = 100;

/// Prints text. A reader that has gone away (`| head`) is no trouble. Where the text cannot be written the program ends
/// with 75: half a list with exit status 0 would be taken for the whole.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && e.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("mta-cli: cannot write the output: {e}");
        std::process::exit(i32::from(Exit::TEMPORARY.0));
    }
}

/// Prints one JSON document: the schema version and `fields`.
pub fn print_json(fields: Value) {
    let mut document = json!({ "schema": SCHEMA });
    if let (Some(document), Value::Object(fields)) = (document.as_object_mut(), fields) {
        document.extend(fields);
    }
    print(&format!("{document:#}\n"));
}

/// Whether a person reads the output.
pub fn for_person() -> bool {
    std::io::stdout().is_terminal()
}

/// Columns for running text: those of the terminal, within reason.
pub fn text_columns() -> usize {
    let known = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    known.unwrap_or(TEXT_WIDTH).clamp(60, WIDTH)
}

/// A table of text.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table for a person: aligned, the last column cut at the terminal's width.
    pub fn for_person(&self) -> String {
        let width = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).unwrap_or(WIDTH);
        self.aligned(width)
    }

    /// The table for a pipe: one line for each row, columns apart by one space, each value one word.
    pub fn for_pipe(&self) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let words: Vec<String> = row
                .iter()
                .map(|cell| if cell.is_empty() { "-".to_owned() } else { escape(cell).into_owned() })
                .collect();
            out.push_str(&words.join(" "));
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
        let mut out = String::new();
        for row in std::iter::once(&header).chain(&shown) {
            let cells: Vec<String> =
                row.iter().zip(&columns).map(|(cell, column)| format!("{cell:<column$}")).collect();
            let line = cells.join("  ");
            let line: String = line.trim_end().chars().take(width).collect();
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
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
        assert_eq!(table.for_pipe(), "a \"4.2.0 come back\\u{1b}[31m\"\nbcd -\n");
        assert_eq!(table.aligned(80), "ID   REPLY\na    4.2.0 come back\\u{1b}[31m\nbcd\n");
        assert_eq!(table.aligned(8), "ID   REP\na    4.2\nbcd\n");
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
