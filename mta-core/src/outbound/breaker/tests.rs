use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + seconds)
}

fn fault(fault: Fault) -> Evidence {
    let certain = matches!(fault, Fault::NoRoute | Fault::Resources);
    Evidence::Fault { fault, fresh: true, certain }
}

const STALE: Evidence = Evidence::Fault { fault: Fault::Unreachable, fresh: false, certain: false };
const WORKS: Evidence = Evidence::Works { tls: true };

/// Feeds evidence, a second apart; says when it opened.
fn opens(events: &[(&str, Evidence)]) -> Option<usize> {
    let (mut breaker, settings) = (Breaker::default(), Settings::default());
    events.iter().enumerate().find_map(|(n, (key, evidence))| {
        let change = breaker.seen(at(n as u64), key, *evidence, settings);
        matches!(change, Some(Change::Opened { .. })).then_some(n)
    })
}

#[test]
fn it_opens_for_unrelated_failures_alike_and_for_nothing_else() {
    use Fault::{NoRoute, Resolver, Resources, Tls, Unreachable};
    let dead = fault(Unreachable);
    for (what, events, opened) in [
        ("four unrelated ones", vec![("a", dead), ("b", dead), ("c", dead), ("d", dead)], Some(3)),
        ("one dead provider, often", vec![("big", dead); 50], None),
        ("three are too few", vec![("a", dead), ("b", dead), ("c", dead), ("c", dead)], None),
        (
            "something works between",
            vec![("a", dead), ("b", dead), ("c", dead), ("x", WORKS), ("d", dead)],
            None,
        ),
        (
            "what was dead before",
            vec![("a", STALE), ("b", STALE), ("c", STALE), ("d", STALE), ("e", STALE)],
            None,
        ),
        (
            "each in its own way",
            vec![("a", dead), ("b", fault(Tls)), ("c", fault(Resolver)), ("d", dead)],
            None,
        ),
        (
            "resolver",
            vec![
                ("a", fault(Resolver)),
                ("b", fault(Resolver)),
                ("c", fault(Resolver)),
                ("d", fault(Resolver)),
            ],
            Some(3),
        ),
        ("the system says so", vec![("a", fault(NoRoute))], Some(0)),
        ("no descriptors", vec![("a", WORKS), ("a", fault(Resources))], Some(1)),
        (
            "TLS, while plain text works",
            vec![
                ("a", fault(Tls)),
                ("b", fault(Tls)),
                ("p", Evidence::Works { tls: false }),
                ("c", fault(Tls)),
                ("d", fault(Tls)),
            ],
            Some(4),
        ),
        (
            "TLS works somewhere",
            vec![("a", fault(Tls)), ("b", fault(Tls)), ("p", WORKS), ("c", fault(Tls)), ("d", fault(Tls))],
            None,
        ),
        ("nothing said", vec![("a", Evidence::Nothing); 9], None),
    ] {
        assert_eq!(opens(&events), opened, "{what}");
    }
}

#[test]
fn old_failures_do_not_count() {
    let (mut breaker, settings) = (Breaker::default(), Settings::default());
    for n in 0..20 {
        let evidence = fault(Fault::Unreachable);
        assert_eq!(breaker.seen(at(n * 1_000), &n.to_string(), evidence, settings), None, "{n}");
    }
}

#[test]
fn the_outage_began_with_the_first_failure() {
    let (mut breaker, settings) = (Breaker::default(), Settings::default());
    let mut change = None;
    for n in 0..4u64 {
        change = breaker.seen(at(n * 60), &n.to_string(), fault(Fault::Unreachable), settings);
    }
    assert_eq!(change, Some(Change::Opened { fault: Fault::Unreachable, since: at(0) }));
    assert_eq!(breaker.is_open(), Some((Fault::Unreachable, at(0))));
}

#[test]
fn open_it_probes_one_at_a_time_ever_more_rarely_and_closes_with_the_first_success() {
    let (mut breaker, settings) = (Breaker::default(), Settings::default());
    breaker.seen(at(0), "a", fault(Fault::NoRoute), settings);
    let (mut now, mut waits) = (at(0), Vec::new());
    for _ in 0..6 {
        // What was under way when it opened changes nothing.
        assert_eq!(breaker.seen(now, "late", fault(Fault::Unreachable), settings), None);
        let Room::Nothing(Some(next)) = breaker.room(now) else { panic!("{:?}", breaker.room(now)) };
        waits.push(next.duration_since(now).expect("later").as_secs());
        now = next;
        assert_eq!(breaker.room(now), Room::Probe);
        breaker.started();
        assert_eq!(breaker.room(now), Room::Nothing(None), "one at a time");
        breaker.seen(now, "b", fault(Fault::NoRoute), settings);
    }
    assert_eq!(waits, [30, 60, 120, 240, 300, 300]);
    breaker.try_now(now);
    assert_eq!(breaker.room(now), Room::Probe);
    breaker.started();
    assert_eq!(
        breaker.seen(now, "c", WORKS, settings),
        Some(Change::Closed { fault: Fault::NoRoute, since: at(0) })
    );
    let mut seen = Vec::new();
    while let Room::AtMost(at_once) = breaker.room(now) {
        seen.push(at_once);
        breaker.seen(now, "c", WORKS, settings);
    }
    assert!(seen.is_sorted() && seen[0] == 2 && seen.len() > 50, "slow start: {seen:?}");
    assert_eq!(breaker.room(now), Room::Free);
}

#[test]
fn a_probe_that_says_nothing_is_soon_followed_by_another() {
    let settings = Settings::default();
    let mut breaker = Breaker::open_since(Fault::Tls, at(0), at(50), settings);
    for evidence in [Evidence::Nothing, Evidence::Works { tls: false }] {
        assert_eq!(breaker.room(at(500)), Room::Probe);
        breaker.started();
        assert_eq!(breaker.seen(at(500), "x", evidence, settings), None);
        let Room::Nothing(Some(next)) = breaker.room(at(500)) else { panic!("waits") };
        assert_eq!(next, at(515));
        breaker.try_now(at(500));
    }
    breaker.started();
    breaker.cut_off(at(500));
    assert_ne!(breaker.room(at(500)), Room::Nothing(None));
}

#[test]
fn it_opens_again_on_the_ramp() {
    let settings = Settings::default();
    let mut breaker = Breaker::open_since(Fault::NoRoute, at(0), at(5), settings);
    breaker.started();
    breaker.seen(at(6), "a", WORKS, settings);
    assert_eq!(
        breaker.seen(at(7), "dead", fault(Fault::Unreachable), settings),
        None,
        "one dead host is none of ours"
    );
    assert_eq!(breaker.room(at(7)), Room::AtMost(2));
    assert!(matches!(breaker.seen(at(8), "b", fault(Fault::NoRoute), settings), Some(Change::Opened { .. })));
}

#[test]
fn no_message_grows_older_while_nothing_can_be_sent() {
    let hour = |n: u64| at(n * 3_600);
    let mut outages = Outages::default();
    outages.note(hour(10), Some(hour(14)), Some(Fault::NoRoute));
    outages.note(hour(20), None, Some(Fault::NoRoute));
    let frozen = |arrived, now| outages.frozen(hour(arrived), hour(now)).as_secs() / 3_600;
    for (arrived, now, expected) in
        [(0, 5, 0), (0, 12, 2), (0, 18, 4), (12, 18, 2), (15, 19, 0), (0, 24, 8), (22, 24, 2), (30, 24, 0)]
    {
        assert_eq!(frozen(arrived, now), expected, "{arrived} {now}");
    }
    assert_eq!(outages.arrival(hour(0), hour(18)), hour(4));
    outages.note(hour(20), Some(hour(21)), Some(Fault::NoRoute));
    assert_eq!(outages.frozen(hour(0), hour(24)), 5 * 3_600 * SECOND);
    // A fault that only seems to be one keeps nothing young for ever.
    let mut likely = Outages::default();
    likely.note(hour(0), None, Some(Fault::Unreachable));
    assert_eq!(likely.frozen(hour(0), hour(10_000)), LONGEST_LIKELY);
}

#[test]
fn each_fault_has_a_word_of_its_own() {
    for fault in Fault::ALL {
        assert_eq!(Fault::from_word(fault.word()), Some(fault));
        assert!(!fault.text().is_empty() && !fault.remedy().is_empty());
    }
}

fn evidence() -> impl Strategy<Value = Evidence> {
    prop_oneof![
        2 => any::<bool>().prop_map(|tls| Evidence::Works { tls }),
        4 => (0usize..5, any::<bool>(), 0u8..9).prop_map(|(n, fresh, dice)| {
            Evidence::Fault { fault: Fault::ALL[n], fresh, certain: dice == 0 }
        }),
        1 => Just(Evidence::Nothing),
    ]
}

proptest! {
    /// Whatever happens: opened and closed alternate, memory is bounded, an open breaker is always probed again, and one
    /// destination alone opens it for nothing but what the system itself reports.
    #[test]
    fn any_order_of_events(events in prop::collection::vec((0u64..100, 0u8..8, evidence()), 0..300)) {
        let (mut breaker, settings) = (Breaker::default(), Settings::default());
        let (mut now, mut open) = (at(0), false);
        for (pause, key, evidence) in events {
            now += Duration::from_secs(pause);
            if breaker.room(now) == Room::Probe {
                breaker.started();
            }
            match breaker.seen(now, &key.to_string(), evidence, settings) {
                Some(Change::Opened { since, .. }) => {
                    prop_assert!(!open && since <= now);
                    open = true;
                }
                Some(Change::Closed { .. }) => {
                    prop_assert!(open);
                    open = false;
                }
                None => {}
            }
            prop_assert_eq!(breaker.is_open().is_some(), open);
            prop_assert!(breaker.recent.len() <= MAX_RECENT);
            match breaker.room(now) {
                Room::Nothing(next) => {
                    prop_assert!(open);
                    prop_assert!(next.is_some_and(|next| next <= now + LONGEST_PROBE_WAIT));
                }
                Room::AtMost(n) => prop_assert!(n >= RAMP_BEGIN),
                Room::Probe | Room::Free => {}
            }
        }
    }

    #[test]
    fn one_destination_never_opens_it(events in prop::collection::vec(evidence(), 0..200)) {
        let mut breaker = Breaker::default();
        for (n, evidence) in events.into_iter().enumerate() {
            if let Evidence::Fault { certain: true, .. } = evidence {
                continue;
            }
            prop_assert_eq!(breaker.seen(at(n as u64), "one", evidence, Settings::default()), None);
        }
    }

    #[test]
    fn time_that_does_not_count_is_never_more_than_there_was(
        outages in prop::collection::vec((0u64..1_000, prop::option::of(0u64..1_000)), 0..100),
        arrived in 0u64..1_000, age in 0u64..1_000,
    ) {
        let mut known = Outages::default();
        for (began, lasted) in outages {
            known.note(at(began), lasted.map(|lasted| at(began + lasted)), Some(Fault::NoRoute));
        }
        let (arrived, now) = (at(arrived), at(arrived + age));
        prop_assert!(known.arrival(arrived, now) <= now);
        prop_assert!(known.arrival(arrived, now) >= arrived);
    }
}
