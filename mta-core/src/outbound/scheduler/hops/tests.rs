use std::sync::Arc;
use std::time::UNIX_EPOCH;

use mta_smtp::address::Host;

use super::*;
use crate::routing::{RelayHost, RelayTls};

const BOUNDS: Bounds = Bounds { initial: 2, max: 9 };
const NOW: SystemTime = UNIX_EPOCH;

fn mx(name: &str) -> Route {
    Route::Mx { next_hop: Host::parse(name).expect("host") }
}

fn relay() -> Route {
    let host = "relay.example".to_owned();
    Route::Relay(Arc::new(RelayHost { host, port: 25, tls: RelayTls::StartTls, auth: None }))
}

fn ask<'a>(route: &'a Route, given: &'a HashMap<Key, usize>) -> Ask<'a> {
    Ask { route, failures: 0, given, bounds: BOUNDS, free: 99, held_until: None, recovering: false, now: NOW }
}

fn slot(hops: &Hops, route: &Route) -> Slot {
    hops.slot(ask(route, &HashMap::new()))
}

fn start(hops: &mut Hops, route: &Route) -> (Keys, Wave) {
    hops.started(route, BOUNDS, NOW)
}

#[test]
fn a_next_hop_has_so_many_at_once_and_a_failing_destination_a_single_probe() {
    let mut hops = Hops::default();
    let (one, none) = (mx("one.example"), HashMap::new());
    assert_eq!(slot(&hops, &one), Slot::Take { room: 2, in_hand: 0 });
    let (keys, _) = start(&mut hops, &one);
    assert_eq!(slot(&hops, &one), Slot::Take { room: 1, in_hand: 1 });
    let mut given = HashMap::new();
    hops.give(&mut given, &one);
    assert_eq!(hops.slot(ask(&one, &given)), Slot::Busy, "what this round gave counts");
    assert_eq!(hops.slot(Ask { failures: 3, ..ask(&one, &none) }), Slot::Busy, "a probe is under way");
    let two = mx("two.example");
    assert_eq!(hops.slot(Ask { failures: 3, ..ask(&two, &none) }), Slot::Take { room: 1, in_hand: 0 });
    hops.ended(&keys, NOW);
    assert_eq!((hops.total(), hops.remote()), (0, 0));
}

#[test]
fn few_stuck_next_hops_never_take_all() {
    let mut hops = Hops::default();
    let bounds = Bounds { initial: 50, max: 50 };
    let (none, total) = (HashMap::new(), 50);
    let mut taken = Vec::new();
    for n in 0..8 {
        let route = mx(&format!("stuck{n}.example"));
        let mut count = 0;
        while let Slot::Take { .. } =
            hops.slot(Ask { bounds, free: total - hops.total(), ..ask(&route, &none) })
        {
            hops.started(&route, bounds, NOW);
            count += 1;
        }
        taken.push(count);
    }
    assert!(taken.iter().take(5).all(|count| *count > 0), "{taken:?}");
    assert_eq!(taken[0], 25);
}

#[test]
fn domains_with_the_same_hosts_share_limit_and_back_off() {
    let mut hops = Hops::default();
    let (one, two, other) = (mx("one.example"), mx("two.example"), mx("other.example"));
    for route in [&one, &two] {
        hops.learn(route, "mx.hoster.example".into(), "mx.hoster.example".into(), NOW);
    }
    start(&mut hops, &one);
    start(&mut hops, &two);
    assert_eq!(slot(&hops, &one), Slot::Busy);
    assert_eq!(slot(&hops, &other), Slot::Take { room: 2, in_hand: 0 });
    let later = NOW + Duration::from_secs(60);
    hops.failed(&one, 1, later, BOUNDS, NOW);
    assert_eq!(
        slot(&hops, &two),
        Slot::NotBefore(later),
        "one failure moves what waits for the other domain"
    );
    assert_eq!(slot(&hops, &other), Slot::Take { room: 2, in_hand: 0 });
    assert_eq!(hops.failures(&two), 1);
    hops.took(&two, BOUNDS, NOW);
    assert_eq!(hops.failures(&one), 0);
}

#[test]
fn a_provider_shares_its_limit_and_not_the_failure_of_one_host_set() {
    let mut hops = Hops::default();
    let (one, two) = (mx("one.example"), mx("two.example"));
    hops.learn(&one, "one-example.mail.protection.outlook.com".into(), "microsoft365".into(), NOW);
    hops.learn(&two, "two-example.mail.protection.outlook.com".into(), "microsoft365".into(), NOW);
    hops.failed(&one, 1, NOW + Duration::from_secs(60), BOUNDS, NOW);
    assert_eq!(slot(&hops, &two), Slot::Take { room: 2, in_hand: 0 });
    let (_, wave) = start(&mut hops, &two);
    hops.too_much(&two, wave, BOUNDS, NOW);
    assert_eq!(slot(&hops, &two), Slot::Busy, "one at once now");
    hops.failed(&one, 0, NOW, BOUNDS, NOW);
    assert_eq!(
        hops.slot(Ask { now: NOW + Duration::from_secs(61), ..ask(&one, &HashMap::new()) }),
        Slot::Busy
    );
    assert_eq!(hops.group(&one), Some("microsoft365"));
}

#[test]
fn a_group_that_is_held_back_waits_and_then_is_probed() {
    let hops = Hops::default();
    let (one, none, until) = (mx("one.example"), HashMap::new(), NOW + Duration::from_secs(9));
    assert_eq!(hops.slot(Ask { held_until: Some(until), ..ask(&one, &none) }), Slot::NotBefore(until));
    let after = Ask { held_until: Some(until), recovering: true, now: until, ..ask(&one, &none) };
    assert_eq!(hops.slot(after), Slot::Take { room: 1, in_hand: 0 });
}

#[test]
fn a_relay_host_that_failed_waits_as_a_whole() {
    let mut hops = Hops::default();
    let relay = relay();
    let later = NOW + Duration::from_secs(60);
    let (keys, _) = start(&mut hops, &relay);
    hops.failed(&relay, 1, later, BOUNDS, NOW);
    hops.ended(&keys, NOW);
    assert_eq!(slot(&hops, &relay), Slot::NotBefore(later));
    let none = HashMap::new();
    assert_eq!(
        hops.slot(Ask { now: later, ..ask(&relay, &none) }),
        Slot::Take { room: 1, in_hand: 0 },
        "one probe"
    );
    hops.failed(&relay, 2, NOW, BOUNDS, NOW);
    assert_eq!(hops.failures(&relay), 2);
    assert_eq!(slot(&hops, &relay), Slot::NotBefore(later), "an older answer shortens nothing");
    hops.took(&relay, BOUNDS, NOW);
    assert_eq!(slot(&hops, &relay), Slot::Take { room: 2, in_hand: 0 });
}

#[test]
fn the_limit_grows_with_success_and_local_delivery_has_none_to_find() {
    let mut hops = Hops::default();
    let one = mx("one.example");
    (0..100).for_each(|_| hops.took(&one, BOUNDS, NOW));
    assert_eq!(slot(&hops, &one), Slot::Take { room: 9, in_hand: 0 });
    hops.slow(&one, BOUNDS, NOW);
    assert_eq!(slot(&hops, &one), Slot::Take { room: 1, in_hand: 0 });
    assert_eq!(slot(&hops, &Route::Local), Slot::Take { room: 9, in_hand: 0 });
    start(&mut hops, &Route::Local);
    assert_eq!((hops.total(), hops.remote()), (1, 0));
}

#[test]
fn forgiving_and_resetting_keep_what_is_under_way() {
    let mut hops = Hops::default();
    let relay = relay();
    start(&mut hops, &relay);
    hops.failed(&relay, 1, NOW + Duration::from_secs(9), BOUNDS, NOW);
    hops.forgive();
    assert_eq!(slot(&hops, &relay), Slot::Take { room: 1, in_hand: 1 });
    hops.failed(&relay, 1, NOW + Duration::from_secs(9), BOUNDS, NOW);
    assert!(hops.reset("relay.example:25"));
    assert!(!hops.reset("unknown.example"));
    assert_eq!(slot(&hops, &relay), Slot::Take { room: 1, in_hand: 1 });
    let views = hops.views(BOUNDS);
    assert_eq!((views[0].name.as_str(), views[0].kind, views[0].in_use), ("relay.example:25", "relay", 1));
}

#[test]
fn what_is_idle_is_forgotten_and_memory_is_bounded() {
    let mut hops = Hops::default();
    for n in 0..3 * MAX_KEPT {
        let route = mx(&format!("d{n}.example"));
        hops.learn(&route, format!("mx{n}"), format!("mx{n}"), NOW);
        let (keys, _) = start(&mut hops, &route);
        hops.failed(&route, 1, NOW + Duration::from_secs(5), BOUNDS, NOW);
        hops.ended(&keys, NOW);
    }
    assert!(hops.hops.len() <= MAX_KEPT + 3 && hops.learnt.len() <= MAX_KEPT);
    let later = NOW + IDLE * 3;
    hops.started(&mx("x.example"), BOUNDS, later);
    assert_eq!(hops.hops.len(), 1);
}
