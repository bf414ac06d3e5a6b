//! What strangers write, and how one tells that it did harm.

/// Characters that no line, field or terminal of ours may meet: controls of ASCII and C1, line and paragraph separators,
/// and everything that turns or hides text, but the two joiners that are letters of words. Written apart from the server's
/// own list.
pub(crate) fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'
                ..='\u{202e}'
        )
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0001}'..='\u{e007f}')
}

/// What is wrong with octets that should be text of ours: not UTF-8, or a character in it that is hostile and not allowed here.
pub(crate) fn fault(octets: &[u8], allowed: &[char]) -> Option<String> {
    let shown = |from: usize| {
        let (start, end) = (from.saturating_sub(120), octets.len().min(from + 120));
        octets[start..end].escape_ascii().to_string()
    };
    match std::str::from_utf8(octets) {
        Err(error) => Some(format!("not UTF-8: {}", shown(error.valid_up_to()))),
        Ok(text) => text
            .char_indices()
            .find(|(_, c)| is_hostile(*c) && !allowed.contains(c))
            .map(|(at, c)| format!("{:?} in {}", c, shown(at))),
    }
}

/// Everything that is written in every place.
pub(crate) fn texts() -> Vec<Vec<u8>> {
    let octets = (0..=0x1f).chain(0x7f..=0x9f).chain([0xa0, 0xc0, 0xf8, 0xff]).map(|octet| vec![octet]);
    let characters = ('\u{80}'..='\u{9f}')
        .chain(
            "\u{ad}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}".chars(),
        )
        .chain("\u{2060}\u{feff}\u{fff9}\u{e0041}\u{fffd}é".chars());
    let characters = characters.map(|c| c.to_string().into_bytes());
    let strings: [&[u8]; 26] = [
        b"\x1b[31m",
        b"\x1b]0;title\x07",
        b"\x9b2J",
        b"\"",
        b"'",
        b"\\",
        b"\\\"",
        b"`id`$(id)",
        b"%s%n${HOME}",
        b"'; DROP TABLE message; --",
        b"\"; DROP TABLE recipient; --",
        b"' OR '1'='1",
        b"x event=forged",
        b"\nqid=1 event=forged",
        b"\n2026-01-01T00:00:00.000Z info event=forged",
        b"\r\nX-Forged: yes",
        b"\r\n X-Folded: yes",
        b"\n\nX-Forged: yes",
        b"(((((",
        b"<>",
        b";",
        // Overlong, a surrogate, beyond the last character, cut short.
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x28\xa1",
        b"\xe2\x82",
    ];
    octets.chain(characters).chain(strings.map(<[u8]>::to_vec)).collect()
}

/// Text that stands in every place, so that what was written there is found again wherever it ends up.
pub(crate) fn framed(place: &str, text: &[u8]) -> Vec<u8> {
    [place.as_bytes(), text, b"end"].concat()
}

/// Octets as xtext (RFC 3461 4).
pub(crate) fn xtext(octets: &[u8]) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric();
    octets
        .iter()
        .map(|it| if plain(*it) { char::from(*it).to_string() } else { format!("+{it:02X}") })
        .collect()
}

#[test]
fn the_check_sees_what_it_looks_for() {
    let harmless = [b"\"".as_slice(), b"'", b"\\", b"(", b"<", b";", b"`", b"%", b"x event", "é".as_bytes()];
    let mut seen = 0;
    for text in texts() {
        let is_harmless =
            harmless.iter().any(|start| text.starts_with(start)) || text == "\u{fffd}".as_bytes();
        assert_eq!(fault(&framed("zq", &text), &[]).is_none(), is_harmless, "{}", text.escape_ascii());
        seen += usize::from(!is_harmless);
    }
    assert!(seen > 120, "{seen}");
    assert_eq!(fault(b"a\r\n\tb", &['\r', '\n', '\t']), None);
}
