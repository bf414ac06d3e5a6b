//! The table, within 120 columns.

use std::io::{self, Write};

use super::{Row, Verdict};

/// Width of each column in characters; with the tick and the gaps it makes 120.
const WIDTHS: [usize; 6] = [17, 22, 9, 20, 9, 30];
/// The heads of the columns.
const HEADS: [&str; 6] =
    ["domain", "what it shows", "DNSSEC", "TLS / DANE", "verdict", "why (the server's own words)"];
/// Which column holds the verdict.
const VERDICT: usize = 4;
/// The most lines one cell takes; what is longer ends with dots. `queue show` has all of it.
const CELL_LINES: usize = 4;

/// Prints the table.
///
/// # Errors
///
/// The output cannot be written.
pub fn print(rows: &[Row], colours: bool, out: &mut impl Write) -> io::Result<()> {
    line(out, &HEADS.map(str::to_owned), " ", None)?;
    writeln!(out, "{}", "-".repeat(WIDTHS.iter().map(|width| width + 2).sum::<usize>() + 1))?;
    for row in rows {
        let verdict = row.verdict.to_string();
        let cells = [row.domain, row.shows, &row.dnssec, &row.tls, &verdict, &row.why];
        let wrapped: Vec<Vec<String>> =
            cells.iter().zip(WIDTHS).map(|(text, width)| wrap(text, width)).collect();
        let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
        for index in 0..height {
            let cell = |column: usize| wrapped[column].get(index).cloned().unwrap_or_default();
            let tick = match index {
                0 if row.as_expected => "\u{2713}",
                0 => "\u{2717}",
                _ => " ",
            };
            let colour = colours.then(|| colour(row.verdict));
            line(out, &[cell(0), cell(1), cell(2), cell(3), cell(4), cell(5)], tick, colour)?;
        }
    }
    Ok(())
}

/// The terminal's code for a verdict: green, yellow, red.
fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered => "32",
        Verdict::Delayed => "33",
        Verdict::Returned | Verdict::Unclear => "31",
    }
}

fn line(out: &mut impl Write, cells: &[String; 6], tick: &str, colour: Option<&str>) -> io::Result<()> {
    let mut text = String::from(tick);
    for (index, (cell, width)) in cells.iter().zip(WIDTHS).enumerate() {
        let padded = format!("{cell:<width$}");
        match colour {
            Some(colour) if index == VERDICT => text.push_str(&format!(" \x1b[{colour}m{padded}\x1b[0m ")),
            _ => text.push_str(&format!(" {padded} ")),
        }
    }
    writeln!(out, "{}", text.trim_end())
}

/// A text in lines of at most `width` characters, broken at blanks where there are some.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        while !word.is_empty() {
            let Some(line) = lines.last_mut() else { break };
            let used = line.chars().count();
            let gap = usize::from(used > 0);
            if used + gap + word.len() <= width {
                if gap == 1 {
                    line.push(' ');
                }
                line.extend(word.drain(..));
            } else if used == 0 {
                line.extend(word.drain(..width));
                lines.push(String::new());
            } else {
                lines.push(String::new());
            }
        }
    }
    if lines.len() > CELL_LINES {
        lines.truncate(CELL_LINES);
        if let Some(last) = lines.last_mut() {
            let kept: String = last.chars().take(width - 3).collect();
            *last = format!("{}...", kept.trim_end());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Protection;

    #[test]
    fn no_line_is_wider_than_120_columns() {
        let long = "w".repeat(300);
        let row = Row {
            domain: "a-rather-long-domain-name.with-labels.example",
            shows: "something that takes many words to say and would never fit into one cell of the table",
            dnssec: "MX secure, host insecure".to_owned(),
            tls: long.clone(),
            protection: Protection::None,
            verdict: Verdict::Delivered,
            why: format!("short {long}"),
            as_expected: false,
            queue_id: String::new(),
            story: Vec::new(),
        };
        let mut out = Vec::new();
        print(&[row], false, &mut out).expect("memory");
        let text = String::from_utf8(out).expect("text");
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(120), "{widest:?}\n{text}");
        assert!(text.contains('\u{2717}'));
    }

    #[test]
    fn words_stay_whole_where_they_fit() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
