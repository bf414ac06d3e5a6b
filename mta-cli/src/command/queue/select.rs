//! From the options of a selection to the protocol's.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use mta_core::control::Select;

use crate::args::Selection;
use crate::client::Problem;
use crate::exit::Exit;

/// The protocol's form of a selection.
pub(super) fn select(selection: Selection) -> Result<Select, Problem> {
    Ok(Select {
        ids: selection.ids,
        to: selection.to,
        from: selection.from,
        status: selection.status,
        domain: selection.domain,
        before: selection.older_than.as_deref().map(|text| ago("--older-than", text)).transpose()?,
        since: selection.newer_than.as_deref().map(|text| ago("--newer-than", text)).transpose()?,
        reason: selection.reason,
        next_hop: selection.next_hop,
    })
}

/// Refuses a change without any selection.
pub(super) fn some_selection(selection: Selection, all: bool, verb: &str) -> Result<Select, Problem> {
    let select = select(selection)?;
    if all == (select != Select::default()) {
        let text = format!("{verb}: say which messages: ids, --to, --from, --domain, ...; or --all, alone");
        return Err(Problem::new(Exit::USAGE, text));
    }
    Ok(select)
}

/// A time in the past: so long ago (`2h`, `1d12h`), a day, or an instant of RFC 3339.
fn ago(option: &str, text: &str) -> Result<String, Problem> {
    point(option, text, -1)
}

/// A time to come: in so long, a day, or an instant of RFC 3339.
pub(in crate::command) fn ahead(option: &str, text: &str) -> Result<String, Problem> {
    point(option, text, 1)
}

fn point(option: &str, text: &str, direction: i64) -> Result<String, Problem> {
    let wrong = || {
        let text = format!(
            "{option}: {text:?} is no time; expected 30m, 2h, 3d, 2026-11-24 or 2026-11-24T10:00:00Z"
        );
        Problem::new(Exit::USAGE, text)
    };
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    if let Ok(span) = text.parse::<Span>() {
        let then = span.checked_mul(direction).and_then(|span| now.checked_add(span)).map_err(|_| wrong())?;
        // Whole seconds, as all times of the protocol.
        let then = Timestamp::from_second(then.timestamp().as_second()).map_err(|_| wrong())?;
        return Ok(then.to_string());
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant.to_string());
    }
    let day: Date = text.parse().map_err(|_| wrong())?;
    let midnight = day.to_zoned(TimeZone::UTC).map_err(|_| wrong())?;
    Ok(midnight.timestamp().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_needs_a_selection_or_all_but_not_both() {
        let to = Selection { to: Some("x".into()), ..Selection::default() };
        assert!(some_selection(to.clone(), false, "v").is_ok());
        assert!(some_selection(Selection::default(), true, "v").is_ok());
        assert_eq!(some_selection(to, true, "v").unwrap_err().exit, Exit::USAGE);
        assert_eq!(some_selection(Selection::default(), false, "v").unwrap_err().exit, Exit::USAGE);
    }

    #[test]
    fn times_are_ages_days_or_instants() {
        let now = Timestamp::now();
        let seconds = |text: &str| ago("x", text).unwrap().parse::<Timestamp>().unwrap().as_second();
        for (text, age) in [("90s", 90), ("2h", 7_200), ("1d12h", 129_600), ("1w", 604_800)] {
            let found = now.as_second() - seconds(text);
            assert!((age - 5..=age).contains(&found), "{text}: {found}");
        }
        assert_eq!(ago("x", "2026-11-24").unwrap(), "2026-11-24T00:00:00Z");
        assert_eq!(ago("x", "2026-11-24T10:00:00+01:00").unwrap(), "2026-11-24T09:00:00Z");
        assert_eq!(ahead("x", "2h").unwrap().len(), "2026-11-24T00:00:00Z".len());
        assert!(ahead("x", "2h").unwrap().parse::<Timestamp>().unwrap() > now);
        for wrong in ["yesterday", "", "12", "2026-13-01", "99999999999999d"] {
            assert_eq!(ago("--older-than", wrong).unwrap_err().exit, Exit::USAGE, "{wrong}");
        }
    }
}
