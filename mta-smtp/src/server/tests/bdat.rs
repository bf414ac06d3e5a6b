//! BDAT (RFC 3030): chunks, what they may not hold, sizes that lie, and that no octet of content is ever a command.

use super::*;

const BEFORE: &[u8] = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n";

fn begun(options: Options) -> Client {
    let mut client = Client::new(options);
    client.send(OPEN).send(BEFORE);
    assert_eq!(client.codes(), [220, 250, 250, 250]);
    client
}

/// The codes after those of `begun`.
fn later(client: &Client) -> Vec<u16> {
    client.codes()[4..].to_vec()
}

fn sized(size_limit: u64) -> Options {
    let mut options = options();
    options.extensions.size_limit = size_limit;
    options
}

#[test]
fn chunks_make_one_message_however_they_come() {
    let wire = b"BDAT 14\r\nSubject: x\r\n\r\nBDAT 5\r\n.\r\n.xBDAT 0 LAST\r\nMAIL FROM:<a@b.example>\r\n";
    for cut in [1, 2, 7, wire.len()] {
        let mut client = begun(options());
        wire.chunks(cut).for_each(|piece| {
            client.send(piece);
        });
        assert_eq!(later(&client), [250, 250, 250, 250], "{cut}");
        let content = b"Subject: x\r\n\r\n.\r\n.x\r\n".to_vec();
        assert_eq!(client.messages, [Message { recipients: 1, content }]);
    }
}

#[test]
fn the_whole_transaction_may_come_in_one_packet() {
    let mut client = Client::new(options());
    client
        .send(OPEN)
        .send(&[BEFORE, b"BDAT 3 LAST\r\nx\r\n", BEFORE, b"BDAT 3 LAST\r\ny\r\nQUIT\r\n"].concat());
    assert_eq!(client.codes(), [220, 250, 250, 250, 250, 250, 250, 250, 221]);
    assert_eq!(client.messages.len(), 2);
}

#[test]
fn three_thousand_chunks_of_one_octet() {
    let mut client = begun(options());
    client.send(b"BDAT 2\r\n\r\n");
    for _ in 0..3000 {
        client.send(b"BDAT 1\r\nx");
    }
    client.send(b"BDAT 2 LAST\r\n\r\n");
    assert_eq!(client.messages[0].content.len(), 3004);
    assert!(!client.closed && client.codes().iter().all(|code| *code < 400));
    // Chunks without any octet bring nothing on.
    let mut client = begun(options());
    client.send(&b"BDAT 0\r\n".repeat(150));
    assert_eq!((client.codes().last(), client.closed), (Some(&421), true));
}

#[test]
fn sizes_that_lie_allocate_nothing_and_leave_nothing_to_be_read_as_commands() {
    for size in ["2147483647", "2147483648", "4294967301", "9223372036854775807", "18446744073709551615"] {
        let mut client = begun(sized(100_000));
        client.send(format!("BDAT {size} LAST\r\nNOOP\r\n").as_bytes());
        assert_eq!((later(&client), client.closed), (vec![552], true), "{size}");
    }
    for wrong in ["-1", "18446744073709551616", "", "x", "1 FIRST", "0x1", "1 LAST LAST", "+5"] {
        let mut client = begun(options());
        client.send(format!("BDAT {wrong}\r\nNOOP\r\n").as_bytes());
        assert_eq!((later(&client), client.closed), (vec![501], true), "{wrong}");
    }
    // A little too big: read over, refused, and in step again. The transaction is over where content was taken.
    let mut client = begun(sized(100));
    client.send(&[b"BDAT 101\r\n".as_slice(), &[b'N'; 101], b"BDAT 3 LAST\r\nx\r\nNOOP\r\n"].concat());
    assert_eq!(later(&client), [552, 250, 250]);
    let mut client = begun(sized(100));
    client.send(&[b"BDAT 90\r\n".as_slice(), &[b'x'; 90], b"BDAT 11\r\n", &[b'x'; 11]].concat());
    client.send(b"BDAT 5 LAST\r\nNOOP\nNOOP\r\n");
    assert_eq!(later(&client), [250, 552, 503, 250]);
    assert!(client.messages.is_empty() && client.content.is_empty());
}

#[test]
fn a_chunk_that_may_not_come_is_read_over() {
    for (before, code) in [(b"".as_slice(), 503), (b"MAIL FROM:<a@b>\r\nRCPT TO:<nobody@d>\r\n", 554)] {
        let mut client = Client::new(options());
        client.send(OPEN).send(before).send(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n");
        let codes = client.codes();
        assert_eq!(codes[codes.len() - 2..], [code, 250], "{codes:?}");
        assert!(!client.closed && client.messages.is_empty());
    }
    let mut client = begun(options());
    client.send(b"BDAT 3\r\nx\r\nDATA\r\n").send(b"MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nSTARTTLS\r\n");
    assert_eq!(later(&client), [250, 503, 503, 503, 503]);
    client.send(b"BDAT 3 LAST\r\ny\r\n");
    assert_eq!(client.messages[0].content, b"x\r\ny\r\n");
}

#[test]
fn bare_line_ends_and_nul_are_refused_within_and_across_chunks() {
    for (wire, codes) in [
        (b"BDAT 4 LAST\r\na\nb\nNOOP\r\n".as_slice(), vec![550, 250]),
        (b"BDAT 3 LAST\r\na\rbNOOP\r\n", vec![550, 250]),
        (b"BDAT 3 LAST\r\na\0bNOOP\r\n", vec![550, 250]),
        (b"BDAT 2\r\na\rBDAT 1 LAST\r\nbNOOP\r\n", vec![250, 550, 250]),
        (b"BDAT 2\r\na\rBDAT 1 LAST\r\n\nNOOP\r\n", vec![250, 250, 250]),
        (b"BDAT 2\r\na\nBDAT 1 LAST\r\nbNOOP\r\n", vec![550, 503, 250]),
        (b"BDAT 2 LAST\r\na\rNOOP\r\n", vec![550, 250]),
    ] {
        for cut in [1, wire.len()] {
            let mut client = begun(options());
            wire.chunks(cut).for_each(|piece| {
                client.send(piece);
            });
            assert_eq!(later(&client), codes, "{wire:?}");
        }
    }
}

#[test]
fn a_message_is_given_up_between_chunks() {
    for (end, code) in [(b"RSET\r\n".as_slice(), 250), (b"EHLO again\r\n", 250)] {
        let mut client = begun(options());
        client.send(b"BDAT 3\r\nx\r\n").send(end);
        assert_eq!(later(&client), [250, code]);
        assert!(client.content.is_empty(), "the driver was told to drop it");
        client.send(BEFORE).send(b"BDAT 3 LAST\r\ny\r\n");
        assert_eq!(client.messages, [Message { recipients: 1, content: b"y\r\n".to_vec() }]);
    }
}

/// Guarantee G3, and the end of TLS within BDAT (CVE-2026-45185): the session ends, nothing is left.
#[test]
fn the_end_of_the_connection_within_chunks_leaves_nothing() {
    let wire = b"BDAT 3\r\nx\r\nBDAT 3 LAST\r\ny\r\n";
    for cut in 0..wire.len() {
        let mut client = begun(options());
        client.send(&wire[..cut]).input(Input::Eof);
        assert!(client.closed && client.messages.is_empty(), "{cut}");
        client.send(b"BDAT 3 LAST\r\nz\r\n");
        assert!(client.messages.is_empty());
    }
}

#[test]
fn stopping_cuts_no_message_between_chunks() {
    let mut client = begun(options());
    client.send(b"BDAT 3\r\nx\r\n").input(Input::Shutdown).send(b"BDAT 3 LAST\r\ny\r\n");
    assert_eq!((later(&client), client.closed), (vec![250, 250, 421], true));
    assert_eq!(client.messages.len(), 1);
}

#[test]
fn slow_chunks_end_the_session() {
    let mut client = begun(options());
    client.send(b"BDAT 10\r\nx");
    client.pass(Limits::default().content_block_timeout);
    assert_eq!((later(&client), client.closed), (vec![421], true));
    let mut client = begun(options());
    client.send(b"BDAT 1\r\nx");
    for _ in 0..40 {
        client.pass(Duration::from_secs(100)).send(b"BDAT 1\r\nx");
    }
    assert_eq!((client.codes().last(), client.closed), (Some(&421), true), "an hour for the whole content");
}

fn chunked() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let chunk = (
        proptest::collection::vec(
            prop_oneof![
                Just(b"x\r\n".to_vec()),
                Just(b"\n".to_vec()),
                Just(b".\r\n".to_vec()),
                Just(b"\r".to_vec())
            ],
            0..4,
        ),
        any::<bool>(),
    )
        .prop_map(|(parts, last)| {
            let content = parts.concat();
            let last = if last { " LAST" } else { "" };
            [format!("BDAT {}{last}\r\n", content.len()).into_bytes(), content].concat()
        });
    let group = prop_oneof![
        4 => chunk,
        1 => Just(BEFORE.to_vec()),
        1 => Just(b"RSET\r\n".to_vec()),
        1 => Just(b"NOOP\r\nDATA\r\n".to_vec()),
        1 => Just(b"BDAT 99999999\r\n".to_vec()),
    ];
    proptest::collection::vec(group, 0..12)
}

proptest! {
    #[test]
    fn any_split_of_chunks_gives_the_same_outputs(groups in chunked(), cut in 1usize..40) {
        let (mut whole, mut pieces) = (begun(options()), begun(options()));
        // DATA must be the last of what is sent at once; these dialogs wait behind it.
        for group in &groups {
            whole.send(group);
            group.chunks(cut).for_each(|piece| {
                pieces.send(piece);
            });
        }
        prop_assert_eq!(String::from_utf8_lossy(&whole.sent), String::from_utf8_lossy(&pieces.sent));
        prop_assert_eq!(&whole.questions, &pieces.questions);
        prop_assert_eq!(&whole.messages, &pieces.messages);
        prop_assert_eq!(whole.closed, pieces.closed);
    }
}
