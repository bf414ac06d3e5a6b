//! Which characters of a stranger's text may stand in a line, a field or on a terminal of ours.
//!
//! What it does: one predicate, used wherever such text is taken in or written out. What it does not: it changes nothing;
//! whether a harmful character is refused, replaced or escaped is for the place to decide.

/// Whether a character can end a line, control a terminal, or turn or hide text: controls of ASCII and C1, line and
/// paragraph separators, and the format characters of Unicode (general category Cf) but two: the joiners U+200C and U+200D
/// are letters of words in several scripts (RFC 5892 A.1, A.2).
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_let_through_and_what_controls_turns_or_hides_is_not() {
        let letters = "aZ09 ~!\"\\'é日本語\u{5d0}\u{627}\u{640}\u{200c}\u{200d}\u{301}\u{fffd}\u{1f600}";
        assert!(!letters.chars().any(is_harmful));
        let harmful = ('\0'..=' ').filter(|c| *c != ' ').chain('\u{7f}'..='\u{9f}');
        let turning = "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}".chars();
        let hiding = "\u{ad}\u{200b}\u{2060}\u{2063}\u{feff}\u{fff9}\u{e0001}\u{e0041}".chars();
        for c in harmful.chain(turning).chain(hiding) {
            assert!(is_harmful(c), "{c:?}");
        }
    }
}
