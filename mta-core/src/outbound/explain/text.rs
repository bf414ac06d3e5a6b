//! An explanation as lines for a person: one for each rule, grouped by host, then the conclusion and what can be done.

use std::fmt::Write as _;

use super::super::decision::COPIED;
use super::{Explanation, Fate, Mark, Rule};
use crate::log::visible;

/// Width of a rule's name.
const NAME: usize = 12;
/// What stands before a rule's text: mark, name and the gaps.
const BEFORE: usize = 4 + 2 + NAME + 2;

impl Explanation {
    /// The explanation in lines of at most `columns` characters, where words allow.
    pub fn text(&self, columns: usize) -> String {
        let mut out = Out::new(columns);
        let fate = match self.fate {
            Fate::Deliver => "mail would be DELIVERED",
            Fate::Delay => "mail would be DELAYED",
            Fate::Refuse => "mail would be RETURNED",
            Fate::Nothing => "there is NO SUCH DOMAIN",
            Fate::Temporary => "mail would be DELAYED (no answer from DNS now)",
        };
        let fate = if self.fate == Fate::Deliver && !self.probed && self.route != "local" {
            "mail can be sent, as far as DNS tells"
        } else {
            fate
        };
        out.line(0, &format!("{}: {fate}", self.subject));
        out.blank();
        for rule in &self.rules {
            out.rule(0, rule);
        }
        for host in &self.hosts {
            out.blank();
            let preference = host.preference.map(|it| format!(", preference {it}")).unwrap_or_default();
            out.line(0, &format!("Host {}{preference}", host.host));
            for rule in &host.rules {
                out.rule(2, rule);
            }
            for address in host.addresses.iter().filter(|address| !address.rules.is_empty()) {
                out.line(2, &address.address);
                for rule in &address.rules {
                    out.rule(4, rule);
                }
            }
            if let Some(triage) = &host.triage {
                // Of one host the conclusion tells it.
                if self.hosts.len() > 1 {
                    out.hanging(2, 2, &format!("Most likely ({}): {}.", triage.class, triage.cause));
                } else if !triage.evidence.is_empty() {
                    out.line(2, "What else was seen");
                }
                for evidence in &triage.evidence {
                    out.hanging(2, 4, &format!("- {evidence}"));
                }
            }
        }
        out.blank();
        out.hanging(0, 0, &self.conclusion);
        self.remedies(&mut out);
        out.finish()
    }

    fn remedies(&self, out: &mut Out) {
        if !self.operator.is_empty() {
            out.blank();
            out.line(0, "What the operator of the other side can do");
            out.steps(&self.operator);
        }
        if !self.here.is_empty() {
            out.blank();
            out.line(0, "What you can do");
            out.steps(&self.here);
            for line in &self.exception {
                out.line(6, line);
            }
        }
    }
}

/// Lines of running text.
pub(in crate::outbound) struct Out {
    text: String,
    columns: usize,
}

impl Out {
    pub(in crate::outbound) fn new(columns: usize) -> Self {
        Self { text: String::new(), columns: columns.max(60) }
    }

    pub(in crate::outbound) fn finish(self) -> String {
        self.text
    }

    pub(in crate::outbound) fn blank(&mut self) {
        self.text.push('\n');
    }

    pub(in crate::outbound) fn line(&mut self, indent: usize, text: &str) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.text, "{:indent$}{}", "", visible(text));
    }

    /// What can be done. A step that is a line to be copied stays one line.
    fn steps(&mut self, steps: &[String]) {
        for step in steps {
            match step.strip_prefix(COPIED) {
                Some(line) => self.line(6, line),
                None => self.hanging(2, 4, &format!("- {step}")),
            }
        }
    }

    pub(in crate::outbound) fn rule(&mut self, indent: usize, rule: &Rule) {
        let mark = match rule.verdict {
            Mark::Ok => "ok",
            Mark::Fail => "FAIL",
            Mark::Warn => "warn",
            Mark::NotApplicable => "n/a",
        };
        let head = format!("{mark:<4}  {:<NAME$}  ", rule.rule);
        let source = rule.source.map(|source| format!("[{source}]"));
        self.wrapped(indent, &head, BEFORE, &rule.text, source.as_deref());
    }

    pub(in crate::outbound) fn hanging(&mut self, indent: usize, hang: usize, text: &str) {
        let hang = hang.saturating_sub(indent);
        self.wrapped(indent, "", hang, text, None);
    }

    /// `text` behind `head`, its further lines indented by `hang`. Words stay whole, and so does `tail`.
    fn wrapped(&mut self, indent: usize, head: &str, hang: usize, text: &str, tail: Option<&str>) {
        let text = visible(text);
        let mut row = format!("{:indent$}{head}", "");
        let mut used = row.chars().count();
        let mut fresh = true;
        for word in text.split(' ').filter(|word| !word.is_empty()).chain(tail) {
            let length = word.chars().count();
            if !fresh && used + 1 + length > self.columns {
                self.push(&row);
                row = " ".repeat(indent + hang);
                used = indent + hang;
                fresh = true;
            }
            if !fresh {
                row.push(' ');
                used += 1;
            }
            row.push_str(word);
            used += length;
            fresh = false;
        }
        self.push(&row);
    }

    fn push(&mut self, row: &str) {
        self.text.push_str(row.trim_end());
        self.text.push('\n');
    }
}
