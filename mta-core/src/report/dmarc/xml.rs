//! A day's counters as XML (RFC 9990 appendix A). Written here rather than by a library: some thirty elements in one fixed
//! order, and one rule of escaping; any parser reads it back.

use std::fmt::Write as _;

use super::row::{PublishedPolicy, Row};

/// What a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// Who reports: our host name.
    pub organization: &'a str,
    /// Whom to ask.
    pub contact: &'a str,
    /// Its identifier.
    pub report_id: &'a str,
    /// The first and the last second, seconds since 1970.
    pub range: (u64, u64),
    /// The domain that publishes the policy.
    pub domain: &'a str,
    /// The policy.
    pub policy: &'a PublishedPolicy,
    /// The messages.
    pub rows: &'a [(Row, u64)],
    /// Messages that found no room in the counters.
    pub left_out: u64,
}

/// The document.
pub fn xml(document: &Document<'_>) -> String {
    let mut out = Writer { text: String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"), depth: 0 };
    out.open("feedback xmlns=\"urn:ietf:params:xml:ns:dmarc-2.0\"");
    out.leaf("version", "1.0");
    metadata(&mut out, document);
    published(&mut out, document);
    for (row, messages) in document.rows {
        record(&mut out, row, *messages);
    }
    out.close("feedback");
    out.text
}

fn metadata(out: &mut Writer, document: &Document<'_>) {
    out.open("report_metadata");
    out.leaf("org_name", document.organization);
    out.leaf("email", document.contact);
    out.leaf("report_id", document.report_id);
    out.open("date_range");
    out.leaf("begin", &document.range.0.to_string());
    out.leaf("end", &document.range.1.to_string());
    out.close("date_range");
    if document.left_out > 0 {
        out.leaf(
            "error",
            &format!("{} further messages are not told apart: too many kinds", document.left_out),
        );
    }
    out.leaf("generator", concat!("mta ", env!("CARGO_PKG_VERSION")));
    out.close("report_metadata");
}

fn published(out: &mut Writer, document: &Document<'_>) {
    let policy = document.policy;
    let mode = |strict| if strict { "s" } else { "r" };
    out.open("policy_published");
    out.leaf("domain", document.domain);
    out.leaf("discovery_method", "treewalk");
    out.leaf("adkim", mode(policy.adkim_strict));
    out.leaf("aspf", mode(policy.aspf_strict));
    out.leaf("p", &policy.policy);
    out.leaf("sp", &policy.subdomain_policy);
    out.leaf("testing", if policy.testing { "y" } else { "n" });
    out.close("policy_published");
}

fn record(out: &mut Writer, row: &Row, messages: u64) {
    let result = |passed| if passed { "pass" } else { "fail" };
    out.open("record");
    out.open("row");
    out.leaf("source_ip", &row.source_ip.to_string());
    out.leaf("count", &messages.to_string());
    out.open("policy_evaluated");
    out.leaf("disposition", &row.disposition);
    out.leaf("dkim", result(row.dkim));
    out.leaf("spf", result(row.spf));
    if let Some(reason) = &row.reason {
        out.open("reason");
        out.leaf("type", &reason.word);
        out.leaf("comment", &reason.comment);
        out.close("reason");
    }
    out.close("policy_evaluated");
    out.close("row");
    out.open("identifiers");
    out.leaf("envelope_from", &row.envelope_from);
    out.leaf("header_from", &row.header_from);
    out.close("identifiers");
    out.open("auth_results");
    for signature in &row.signatures {
        out.open("dkim");
        out.leaf("domain", &signature.domain);
        out.leaf("selector", &signature.selector);
        out.leaf("result", &signature.result);
        out.close("dkim");
    }
    out.open("spf");
    out.leaf("domain", &row.spf_result.domain);
    // The schema knows one scope; what was asked of HELO is told by its domain alone.
    if !row.spf_result.helo {
        out.leaf("scope", "mfrom");
    }
    out.leaf("result", &row.spf_result.result);
    out.close("spf");
    out.close("auth_results");
    out.close("record");
}

/// Elements in lines, indented.
struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    fn open(&mut self, element: &str) {
        let _ = writeln!(self.text, "{:1$}<{element}>", "", self.depth);
        self.depth += 2;
    }

    fn close(&mut self, element: &str) {
        self.depth = self.depth.saturating_sub(2);
        let _ = writeln!(self.text, "{:1$}</{element}>", "", self.depth);
    }

    fn leaf(&mut self, element: &str, text: &str) {
        let _ = write!(self.text, "{:1$}<{element}>", "", self.depth);
        text.chars().for_each(|c| self.escaped(c));
        let _ = writeln!(self.text, "</{element}>");
    }

    /// XML 1.0, 2.2 and 2.4: what would be markup, and what no document may hold.
    fn escaped(&mut self, c: char) {
        match c {
            '&' => self.text.push_str("&amp;"),
            '<' => self.text.push_str("&lt;"),
            '>' => self.text.push_str("&gt;"),
            '"' => self.text.push_str("&quot;"),
            '\'' => self.text.push_str("&apos;"),
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => self.text.push('?'),
            c => self.text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::super::row::{Reason, Signature, Spf};
    use super::*;

    /// Reads the document as other software does, and prints each element that holds text, with its path.
    const READER: &str = r#"
import sys, xml.etree.ElementTree as tree
def walk(element, path):
    path = path + "/" + element.tag.replace("{urn:ietf:params:xml:ns:dmarc-2.0}", "")
    if len(element) == 0:
        print(path + "=" + (element.text or ""))
    for child in element:
        walk(child, path)
walk(tree.fromstring(sys.stdin.buffer.read()), "")
"#;

    fn read(document: &str) -> Vec<String> {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", READER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{document}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn row(header_from: &str) -> Row {
        Row {
            source_ip: "2001:db8::1".parse().unwrap(),
            disposition: "none".into(),
            dkim: true,
            spf: false,
            reason: Some(Reason { word: "local_policy".into(), comment: "a < b".into() }),
            header_from: header_from.into(),
            envelope_from: String::new(),
            signatures: vec![Signature {
                domain: "a.example".into(),
                selector: "s1".into(),
                result: "pass".into(),
            }],
            spf_result: Spf { domain: "mx.b.example".into(), helo: true, result: "softfail".into() },
        }
    }

    #[test]
    fn another_parser_reads_what_was_meant() {
        let policy = PublishedPolicy {
            adkim_strict: true,
            aspf_strict: false,
            policy: "reject".into(),
            subdomain_policy: "none".into(),
            testing: false,
            rua: Vec::new(),
        };
        let hostile = "x]]></header_from><evil>&amp;\"'\u{8}\u{ffff}";
        let plain =
            Row { reason: None, spf_result: Spf { helo: false, ..row("").spf_result }, ..row("a.example") };
        let rows = [(row(hostile), 7), (plain, 1)];
        let document = Document {
            organization: "mx.own.example",
            contact: "postmaster@own.example",
            report_id: "1.a.example@mx.own.example",
            range: (86_400, 172_799),
            domain: "a.example",
            policy: &policy,
            rows: &rows,
            left_out: 3,
        };
        let found = read(&xml(&document));
        let record = "/feedback/record";
        for (path, text) in [
            ("/feedback/version", "1.0"),
            ("/feedback/report_metadata/org_name", "mx.own.example"),
            ("/feedback/report_metadata/date_range/end", "172799"),
            ("/feedback/report_metadata/error", "3 further messages are not told apart: too many kinds"),
            ("/feedback/policy_published/adkim", "s"),
            ("/feedback/policy_published/sp", "none"),
            (&format!("{record}/row/source_ip"), "2001:db8::1"),
            (&format!("{record}/row/count"), "7"),
            (&format!("{record}/row/policy_evaluated/dkim"), "pass"),
            (&format!("{record}/row/policy_evaluated/reason/comment"), "a < b"),
            (&format!("{record}/identifiers/envelope_from"), ""),
            (&format!("{record}/identifiers/header_from"), "x]]></header_from><evil>&amp;\"'??"),
            (&format!("{record}/auth_results/dkim/selector"), "s1"),
            (&format!("{record}/auth_results/spf/scope"), "mfrom"),
        ] {
            assert!(found.contains(&format!("{path}={text}")), "{path}={text} is missing in {found:#?}");
        }
        let count = |part: &str| found.iter().filter(|line| line.contains(part)).count();
        assert_eq!((count("/row/count="), count("/reason/type="), count("/spf/scope=")), (2, 1, 1));
    }
}
