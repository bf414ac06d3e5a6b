//! How many deliveries at once a next-hop takes: found out, not configured. A pure state machine.
//!
//! It begins small, grows by one after as many successes as it allows at once, and halves when the next-hop shows that
//! it is too much: 421 or a refusal on connecting, a connection that fails, a reply that names a rate. What began before
//! a halving does not halve again, so that one wave of failures is one failure. What it does not: it reads no clock and
//! counts nothing under way (`hops`).

/// The bounds of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Where it begins.
    pub(super) initial: u32,
    /// What it never exceeds.
    pub(super) max: u32,
}

impl Bounds {
    fn max(self) -> u32 {
        self.max.max(1)
    }
}

/// The deliveries at once that a next-hop is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    now: u32,
    /// Successes since it changed.
    successes: u32,
    /// How often it was halved.
    wave: Wave,
}

/// In which time between two halvings a delivery began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Wave(u32);

impl Limit {
    /// A limit that knows nothing yet.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { now: bounds.initial.clamp(1, bounds.max()), successes: 0, wave: Wave::default() }
    }

    /// Deliveries at once. The bounds may have changed since.
    pub(super) fn get(self, bounds: Bounds) -> u32 {
        self.now.clamp(1, bounds.max())
    }

    /// The time in which a delivery that begins now begins.
    pub(super) fn wave(self) -> Wave {
        self.wave
    }

    /// The next-hop took a message, or refused one for the message's or a recipient's sake.
    pub(super) fn succeeded(&mut self, bounds: Bounds) {
        self.now = self.get(bounds);
        self.successes = self.successes.saturating_add(1);
        if self.successes >= self.now && self.now < bounds.max() {
            (self.now, self.successes) = (self.now + 1, 0);
        }
    }

    /// It was too much for the next-hop.
    pub(super) fn failed(&mut self, began: Wave) {
        if began == self.wave {
            self.now = (self.now / 2).max(1);
            self.wave = Wave(self.wave.0.wrapping_add(1));
        }
        self.successes = 0;
    }

    /// No more than so many from now on; growing again as ever.
    pub(super) fn cap(&mut self, at_most: u32) {
        self.now = self.now.min(at_most.max(1));
        self.successes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { initial: 5, max: 20 };

    #[test]
    fn it_grows_by_one_for_each_round_of_successes_up_to_its_bound() {
        let mut limit = Limit::new(BOUNDS);
        let mut seen = vec![limit.get(BOUNDS)];
        for _ in 0..5 + 6 + 7 {
            limit.succeeded(BOUNDS);
            seen.push(limit.get(BOUNDS));
        }
        seen.dedup();
        assert_eq!(seen, [5, 6, 7, 8]);
        (0..1000).for_each(|_| limit.succeeded(BOUNDS));
        assert_eq!(limit.get(BOUNDS), 20);
    }

    #[test]
    fn a_wave_of_failures_halves_once_and_the_next_again() {
        let mut limit = Limit::new(Bounds { initial: 16, ..BOUNDS });
        for expected in [8, 4, 2, 1, 1] {
            let began = limit.wave();
            (0..9).for_each(|_| limit.failed(began));
            assert_eq!(limit.get(BOUNDS), expected);
        }
        limit.succeeded(BOUNDS);
        assert_eq!(limit.get(BOUNDS), 2, "one success shows that one was not too much");
    }

    #[test]
    fn a_changed_configuration_takes_effect_at_once() {
        let limit = Limit::new(BOUNDS);
        assert_eq!(limit.get(Bounds { initial: 1, max: 2 }), 2);
        assert_eq!(Limit::new(Bounds { initial: 0, max: 0 }).get(Bounds { initial: 0, max: 0 }), 1);
        let mut capped = limit;
        capped.cap(0);
        assert_eq!(capped.get(BOUNDS), 1);
    }

    #[derive(Debug, Clone)]
    enum Event {
        Succeeded,
        Failed,
        FailedLate,
        Cap(u32),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            4 => Just(Event::Succeeded),
            1 => Just(Event::Failed),
            1 => Just(Event::FailedLate),
            1 => (0u32..50).prop_map(Event::Cap),
        ];
        prop::collection::vec(event, 0..400)
    }

    proptest! {
        #[test]
        fn within_its_bounds_growing_slowly_and_halving(
            initial in 0u32..100, max in 0u32..100, events in events(),
        ) {
            let bounds = Bounds { initial, max };
            let mut limit = Limit::new(bounds);
            let mut first = limit.wave();
            let mut since = 0;
            for event in events {
                let before = limit.get(bounds);
                match event {
                    Event::Succeeded => {
                        limit.succeeded(bounds);
                        since += 1;
                        let after = limit.get(bounds);
                        prop_assert!(after == before || after == before + 1);
                        if after > before {
                            prop_assert!(since >= before, "a whole round of successes first");
                            since = 0;
                        }
                    }
                    Event::Failed => {
                        first = limit.wave();
                        limit.failed(first);
                        since = 0;
                        prop_assert_eq!(limit.get(bounds), (before / 2).max(1));
                    }
                    Event::FailedLate => {
                        let halved = limit.wave() != first;
                        limit.failed(first);
                        since = 0;
                        if halved {
                            prop_assert_eq!(limit.get(bounds), before);
                        }
                    }
                    Event::Cap(at_most) => {
                        limit.cap(at_most);
                        since = 0;
                        prop_assert!(limit.get(bounds) <= before);
                    }
                }
                let now = limit.get(bounds);
                prop_assert!(1 <= now && now <= max.max(1));
            }
        }
    }
}
