//! A check as lines for a person.

use super::super::explain::Out;
use super::Checked;

impl Checked {
    /// The check in lines of at most `columns` characters, where words allow.
    pub fn text(&self, columns: usize) -> String {
        let mut out = Out::new(columns);
        let word = match self.exit_code {
            0 => "published and served fit",
            2 => "no DANE",
            75 => "no answer",
            _ => "PROBLEMS FOUND",
        };
        out.line(0, &format!("{} port {}: {word}", self.host, self.port));
        out.blank();
        self.rules.iter().for_each(|rule| out.rule(0, rule));
        out.blank();
        out.hanging(0, 0, &self.conclusion);
        if !self.suggested.is_empty() {
            out.blank();
            out.line(0, "If the keys served are the host's own, publish besides");
            self.suggested.iter().for_each(|line| out.line(6, line));
        }
        out.finish()
    }
}
