//! The TXT record at `_mta-sts.DOMAIN` that says whether the domain has a policy, and which version (RFC 8461 3.1).

/// Characters of an id at most.
const MAX_ID: usize = 32;
/// Characters of the name of a field at most.
const MAX_FIELD_NAME: usize = 32;

/// Why the TXT records say nothing. All of these mean "no policy" where none is cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoRecord {
    /// There is none that begins as it must.
    Absent,
    /// There are several.
    Several,
    /// There is one, and it breaks the grammar.
    Invalid,
}

/// The id of the policy that a domain announces, from all TXT records at the name, each with its strings joined.
///
/// Records that do not begin with `v=STSv1;` are of somebody else; of the others there has to be exactly one, and it has to be
/// right in all its fields (RFC 8461 3.1).
///
/// # Errors
/// There is no such record.
pub(super) fn policy_id<'r>(records: impl IntoIterator<Item = &'r [u8]>) -> Result<String, NoRecord> {
    let mut ours = records.into_iter().filter(|record| is_ours(record));
    match (ours.next(), ours.next()) {
        (None, _) => Err(NoRecord::Absent),
        (Some(_), Some(_)) => Err(NoRecord::Several),
        (Some(record), None) => parse(record).ok_or(NoRecord::Invalid),
    }
}

/// Whether a record begins with `v=STSv1` and a delimiter, which blanks may precede.
fn is_ours(record: &[u8]) -> bool {
    let rest = record.strip_prefix(b"v=STSv1");
    rest.is_some_and(|rest| rest.trim_ascii_start().first().is_none_or(|next| *next == b';'))
}

/// `sts-text-record` of RFC 8461 3.1.
fn parse(record: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(record).ok().filter(|text| text.is_ascii())?;
    let mut fields = text.split(';').map(|field| field.trim_matches([' ', '\t']));
    if fields.next() != Some("v=STSv1") {
        return None;
    }
    let fields: Vec<&str> = fields.collect();
    // One delimiter may stand at the end, where it closes the last field.
    let fields = match fields.as_slice() {
        [before @ .., ""] => before,
        all => all,
    };
    let mut id = None;
    for field in fields {
        let (name, value) = field.split_once('=')?;
        if name == "id" {
            let fits =
                (1..=MAX_ID).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric());
            if !fits || id.is_some() {
                return None;
            }
            id = Some(value.to_owned());
        } else if !is_extension(name, value) {
            return None;
        }
    }
    id
}

/// `sts-ext-name "=" sts-ext-value`.
fn is_extension(name: &str, value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    name.len() <= MAX_FIELD_NAME
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(inner)
        && !value.is_empty()
        && value.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'=' | b';'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(records: &[&str]) -> Result<String, NoRecord> {
        policy_id(records.iter().map(|record| record.as_bytes()))
    }

    #[test]
    fn records_that_count_rfc8461_3_1() {
        let long = "a".repeat(32);
        for (record, expected) in [
            ("v=STSv1; id=20160831085700Z;", "20160831085700Z"),
            ("v=STSv1;id=1", "1"),
            ("v=STSv1 ; id=1 ;", "1"),
            ("v=STSv1;\tid=1;", "1"),
            ("v=STSv1; id=Ab9; x-y_z.1=anything:goes/here", "Ab9"),
            ("v=STSv1; note=first; id=2;", "2"),
            (&format!("v=STSv1; id={long}"), &long),
        ] {
            assert_eq!(id(&[record]).as_deref(), Ok(expected), "{record}");
        }
    }

    #[test]
    fn records_that_break_the_grammar_announce_nothing() {
        let long = format!("v=STSv1; id={}", "a".repeat(33));
        let name = format!("v=STSv1; id=1; {}=x", "n".repeat(33));
        for record in [
            "v=STSv1;",
            "v=STSv1",
            "v=STSv1; id=",
            "v=STSv1; id=a-b",
            "v=STSv1; id=a b",
            "v=STSv1; id = 1",
            "v=STSv1; ID=1",
            "v=STSv1; id=1; id=2",
            "v=STSv1; id=1;;",
            "v=STSv1;; id=1",
            "v=STSv1; id=1; x",
            "v=STSv1; id=1; =y",
            "v=STSv1; id=1; x=",
            "v=STSv1; id=1; x=a=b",
            "v=STSv1; id=1; -x=a",
            "v=STSv1; id=\u{e4}",
            &long,
            &name,
        ] {
            assert_eq!(id(&[record]), Err(NoRecord::Invalid), "{record}");
        }
        for record in
            ["", "v=STSv2; id=1", "v=stsv1; id=1", " v=STSv1; id=1", "V=STSv1; id=1", "v=STSv1x; id=1"]
        {
            assert_eq!(id(&[record]), Err(NoRecord::Absent), "{record}");
        }
    }

    #[test]
    fn other_peoples_records_are_left_out_and_several_of_ours_are_none() {
        assert_eq!(id(&["v=spf1 -all", "v=STSv1; id=1", "x"]).as_deref(), Ok("1"));
        assert_eq!(id(&["v=STSv1; id=1", "v=STSv1; id=1"]), Err(NoRecord::Several));
        assert_eq!(id(&["v=STSv1; id=1", "v=STSv1; rubbish"]), Err(NoRecord::Several));
        assert_eq!(id(&[]), Err(NoRecord::Absent));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_an_id_is_what_an_id_may_be(bytes in any::<Vec<u8>>(), tail in "[ -~]{0,40}") {
            let _ = policy_id([bytes.as_slice()]);
            let record = format!("v=STSv1; {tail}");
            if let Ok(id) = policy_id([record.as_bytes()]) {
                prop_assert!((1..=MAX_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric()));
            }
        }
    }
}
