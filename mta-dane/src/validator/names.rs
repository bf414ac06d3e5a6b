//! Arithmetic on names that the proofs need, and that hickory-proto does not offer in this form.

use hickory_proto::rr::Name;

/// The number of labels, a leading `*` counted and the root not.
pub(super) fn labels(name: &Name) -> usize {
    name.iter().len()
}

/// The rightmost `count` labels of a name: its ancestor with that many labels.
pub(super) fn ancestor(name: &Name, count: usize) -> Name {
    name.trim_to(count)
}

/// The name one label up; the root stays the root.
pub(super) fn parent(name: &Name) -> Name {
    name.base_name()
}

/// True where `name` lies below `top` and is not `top` itself.
pub(super) fn is_below(name: &Name, top: &Name) -> bool {
    labels(name) > labels(top) && top.zone_of(name)
}

/// The number of labels that two names share from the right.
pub(super) fn shared_labels(a: &Name, b: &Name) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x.eq_ignore_ascii_case(y)).count()
}

/// `*.` in front of a name; `None` where that would be too long to exist.
pub(super) fn wildcard_below(name: &Name) -> Option<Name> {
    name.prepend_label("*").ok()
}

/// A name in the one form that is used for keys of maps and for questions.
pub(super) fn normal(name: &Name) -> Name {
    let mut name = name.to_lowercase();
    name.set_fqdn(true);
    name
}

/// A name in uncompressed wire form, as the RDATA of a DNAME holds it (RFC 6672 2.1); `None` for anything else.
pub(super) fn from_wire(bytes: &[u8]) -> Option<Name> {
    let mut found = Vec::new();
    let mut rest = bytes;
    loop {
        let (&length, after) = rest.split_first()?;
        if length == 0 {
            return if after.is_empty() { Name::from_labels(found).ok() } else { None };
        }
        if length > 63 {
            return None;
        }
        let (label, after) = after.split_at_checked(usize::from(length))?;
        found.push(label);
        rest = after;
    }
}

/// The name that a DNAME at `owner` with `target` makes of `name` (RFC 6672 2.2); `None` where it would be too long.
pub(super) fn substitute(name: &Name, owner: &Name, target: &Name) -> Option<Name> {
    let prefix = name.iter().take(labels(name).checked_sub(labels(owner))?);
    Name::from_labels(prefix.chain(target.iter())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn substitution_replaces_the_suffix_only() {
        assert_eq!(substitute(&n("a.b.old.x."), &n("old.x."), &n("new.y.")), Some(n("a.b.new.y.")));
        assert_eq!(substitute(&n("a.x."), &n("x."), &Name::root()), Some(n("a.")));
        let long = n(&format!("{}.", vec!["a".repeat(60); 4].join(".")));
        assert_eq!(substitute(&n("abcdefghijkl.x."), &n("x."), &long), None);
    }

    #[test]
    fn wire_names_are_read_whole_or_not_at_all() {
        assert_eq!(from_wire(b"\x01a\x02bc\x00"), Some(n("a.bc.")));
        assert_eq!(from_wire(b"\x00"), Some(Name::root()));
        for bad in [&b""[..], b"\x01", b"\x01a", b"\x01a\x00\x00", b"\xc0\x0c", b"\x40a\x00"] {
            assert_eq!(from_wire(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ancestors_and_sharing() {
        assert_eq!(ancestor(&n("a.b.c."), 2), n("b.c."));
        assert_eq!(ancestor(&n("a.b.c."), 0), Name::root());
        assert_eq!(shared_labels(&n("a.b.c."), &n("x.B.c.")), 2);
        assert!(
            is_below(&n("a.b."), &n("b."))
                && !is_below(&n("b."), &n("b."))
                && is_below(&n("b."), &Name::root())
        );
        assert_eq!(labels(&n("*.b.")), 2);
    }
}
