//! Memory of DANE: what follows when a destination that had secure TLSA records for weeks has none any more. Its operator may
//! have given DANE up; or somebody interferes with its DNS, since taking DANE away is the attack that DNSSEC leaves to whoever
//! can have a zone served unsigned. Nothing here is a rule of RFC 7672: such mail goes on without DANE, unless local policy has
//! it wait a while.
//!
//! One destination at a time, pure: what is known of it, what was seen now, and what is known then. Pinned is the state alone,
//! never a key. It stores nothing and tells nobody.

/// For so many seconds a destination must have had DANE, whenever it was looked at, before the loss of it is worth a word.
pub const ESTABLISHED_SECONDS: u64 = 14 * 86_400;

/// So many seconds after the loss the destination is one without DANE like any other.
pub const FORGOTTEN_SECONDS: u64 = 30 * 86_400;

/// How old, in seconds, the kept time of the last sight may become before it is written down again.
pub const WRITE_AGAIN_SECONDS: u64 = 86_400;

/// What is known of a destination that has, or had, DANE. Times in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Since when it was seen with DANE and never without.
    pub first_at: u64,
    /// When it was seen with DANE last, give or take a day.
    pub last_at: u64,
    /// When it was first seen without DANE, after it was established.
    pub lost_at: Option<u64>,
}

/// What follows from a sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Nothing to tell.
    Nothing,
    /// DANE is gone, first seen now or before.
    Lost {
        /// Since when it was known.
        first_at: u64,
        /// When it was first seen to be gone.
        lost_at: u64,
    },
    /// It is there again.
    Back,
}

/// What is to be kept from now on, and what follows. `has_dane` says that the MX records and a host's TLSA records were secure;
/// a lookup error is no sight at all and must not come here.
pub fn seen(known: Option<Known>, has_dane: bool, now: u64) -> (Option<Known>, Event) {
    match (known, has_dane) {
        (None, false) => (None, Event::Nothing),
        (None, true) => (Some(Known { first_at: now, last_at: now, lost_at: None }), Event::Nothing),
        (Some(known), true) => {
            let event = if known.lost_at.is_some() { Event::Back } else { Event::Nothing };
            // A clock that was set back must not make a destination older than it is.
            let first_at = known.first_at.min(now);
            (Some(Known { first_at, last_at: now, lost_at: None }), event)
        }
        (Some(known), false) => lost(known, now),
    }
}

fn lost(known: Known, now: u64) -> (Option<Known>, Event) {
    if known.last_at.saturating_sub(known.first_at) < ESTABLISHED_SECONDS {
        return (None, Event::Nothing);
    }
    let lost_at = known.lost_at.unwrap_or(now).min(now);
    if now - lost_at >= FORGOTTEN_SECONDS {
        return (None, Event::Nothing);
    }
    (Some(Known { lost_at: Some(lost_at), ..known }), Event::Lost { first_at: known.first_at, lost_at })
}

/// Whether the change is worth writing down: all but a sight within a day of the last one kept.
pub fn is_worth_writing(before: Option<Known>, after: Option<Known>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            (before.first_at, before.lost_at) != (after.first_at, after.lost_at)
                || after.last_at.abs_diff(before.last_at) >= WRITE_AGAIN_SECONDS
        }
        (before, after) => before != after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const START: u64 = 1_800_000_000;

    /// Looks at a destination on these days; the event of the last look and what is kept.
    fn look(days: &[(u64, bool)]) -> (Option<Known>, Event) {
        days.iter()
            .fold((None, Event::Nothing), |(known, _), (day, has)| seen(known, *has, START + day * DAY))
    }

    #[test]
    fn weeks_of_dane_and_then_none_is_a_loss_until_it_is_back_or_forgotten() {
        let weeks = [(0, true), (7, true), (14, true)];
        let then = |more: &[(u64, bool)]| look(&[&weeks[..], more].concat());
        assert_eq!(then(&[]).1, Event::Nothing);
        let lost = Event::Lost { first_at: START, lost_at: START + 15 * DAY };
        assert_eq!(then(&[(15, false)]).1, lost);
        assert_eq!(then(&[(15, false), (20, false)]).1, lost, "the time of the first loss stays");
        assert_eq!(then(&[(15, false), (16, true)]).1, Event::Back);
        assert_eq!(then(&[(15, false), (16, true), (17, true)]).1, Event::Nothing);
        assert_eq!(
            then(&[(15, false), (16, true), (17, false)]).1,
            Event::Lost { first_at: START, lost_at: START + 17 * DAY }
        );
        assert_eq!(then(&[(15, false), (45, false)]), (None, Event::Nothing), "forgotten");
    }

    #[test]
    fn less_than_weeks_is_nothing() {
        assert_eq!(look(&[(0, true), (13, true), (20, false)]), (None, Event::Nothing));
        assert_eq!(look(&[(0, false), (30, false)]), (None, Event::Nothing));
        // Seen once, and long ago: that is no weeks of DANE.
        assert_eq!(look(&[(0, true), (100, false)]), (None, Event::Nothing));
        assert_eq!(look(&[(0, true), (10, false), (20, true), (25, false)]), (None, Event::Nothing));
    }

    #[test]
    fn a_clock_that_goes_back_makes_nothing_older() {
        let known = Known { first_at: START, last_at: START, lost_at: None };
        let (known, _) = seen(Some(known), true, 5);
        assert_eq!(known, Some(Known { first_at: 5, last_at: 5, lost_at: None }));
        let (_, event) = seen(known, false, START);
        assert_eq!(event, Event::Nothing);
        let established =
            Known { first_at: START, last_at: START + 20 * DAY, lost_at: Some(START + 21 * DAY) };
        let (_, event) = seen(Some(established), false, START);
        assert_eq!(event, Event::Lost { first_at: START, lost_at: START });
    }

    #[test]
    fn one_write_a_day_is_enough() {
        let at = |last_at| Some(Known { first_at: START, last_at, lost_at: None });
        assert!(
            !is_worth_writing(at(START), at(START + DAY - 1)) && is_worth_writing(at(START), at(START + DAY))
        );
        assert!(is_worth_writing(None, at(START)) && is_worth_writing(at(START), None));
        assert!(!is_worth_writing(None, None));
        let lost = Some(Known { lost_at: Some(START), ..at(START).unwrap() });
        assert!(is_worth_writing(at(START), lost));
    }
}
