//! The daemon's resolver over the laboratory's DNS: forwarders that carry DNSSEC and that do not, own recursion, trust in
//! the AD bit, a wrong clock, and verdicts of whole lookups.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::TLSA;
use mta_core::clock::{Clock, ManualClock, SystemClock};
use mta_core::dns::{Mode, Options, Resolver as _, RootHints, Service, Verdict, lookup_report};
use mta_dane::dnssec::{Answer, Kind, Status};
use mta_lab::dns::{DnsServers, ForwarderMode, Internet};
use mta_lab::zone::{FaultKind, Zone, name};
use smol::block_on;

const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

struct Lab {
    servers: DnsServers,
    files: tempfile::TempDir,
}

fn full(apex: &str) -> Zone {
    let tlsa = TLSA::new(3.into(), 1.into(), 1.into(), vec![7; 32]);
    Zone::new(apex)
        .mx("@", 10, "mx")
        .address("mx", HOST)
        .tlsa("mx", 25, tlsa)
        .cname("alias", "mx")
        .cname("away", "mx.plain.example.")
        .cname("home", "mx.good.example.")
}

fn internet() -> Internet {
    let many = (0..80).fold(full("big.example"), |zone, i| {
        zone.tlsa("many", 25, TLSA::new(3.into(), 1.into(), 1.into(), vec![i; 32]))
    });
    Internet::new([
        full("good.example"),
        full("nsec3.example").nsec3(),
        full("plain.example").unsigned(),
        full("expired.example").fault(FaultKind::Expired),
        full("broken.example").fault_of_type(RecordType::TLSA, FaultKind::BrokenSignature),
        full("servfail.example").fault_of_type(RecordType::TLSA, FaultKind::Rcode(ResponseCode::ServFail)),
        full("sub.good.example"),
        many,
    ])
}

impl Lab {
    fn start() -> Self {
        let internet = internet();
        let files = tempfile::tempdir().expect("a directory");
        std::fs::write(files.path().join("anchor"), internet.trust_anchor()).expect("a file");
        std::fs::write(files.path().join("hints"), internet.root_hints()).expect("a file");
        let servers = DnsServers::start(internet.tree(), 0).expect("servers");
        Self { servers, files }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Options for this laboratory: its forwarder, its root, its anchor; short timeouts.
    fn options(&self) -> Options {
        Options {
            forwarders: vec![self.servers.forwarder()],
            root_hints: RootHints::File(self.file("hints")),
            authoritative_port: self.servers.port(),
            trust_anchor_file: Some(self.file("anchor")),
            query_timeout: Duration::from_millis(700),
            attempts: 1,
            ..Options::default()
        }
    }

    fn service(&self, options: Options) -> Service {
        let service = Service::new(options, SystemClock::shared()).expect("options that work");
        block_on(service.self_test());
        service
    }
}

fn ask(service: &Service, owner: &str, rtype: RecordType) -> Arc<Answer> {
    block_on(service.lookup(name(owner), rtype))
}

/// What each lookup has to end in, whatever the transport.
fn check_verdicts(service: &Service) {
    use Kind::{Data, NoData, NxDomain};
    use Status::{Bogus, Insecure, Secure, Unavailable};
    let cases = [
        ("good.example.", RecordType::MX, Secure, Data),
        ("_25._tcp.mx.good.example.", RecordType::TLSA, Secure, Data),
        ("_25._tcp.mx.nsec3.example.", RecordType::TLSA, Secure, Data),
        ("_26._tcp.mx.good.example.", RecordType::TLSA, Secure, NxDomain),
        ("_26._tcp.mx.nsec3.example.", RecordType::TLSA, Secure, NxDomain),
        ("mx.good.example.", RecordType::AAAA, Secure, NoData),
        ("alias.good.example.", RecordType::A, Secure, Data),
        ("home.sub.good.example.", RecordType::A, Secure, Data),
        ("away.good.example.", RecordType::A, Insecure, Data),
        ("plain.example.", RecordType::MX, Insecure, Data),
        ("_25._tcp.mx.plain.example.", RecordType::TLSA, Insecure, Data),
        ("_26._tcp.mx.plain.example.", RecordType::TLSA, Insecure, NxDomain),
        ("home.plain.example.", RecordType::A, Insecure, Data),
        ("_25._tcp.mx.expired.example.", RecordType::TLSA, Bogus, NoData),
        ("_25._tcp.mx.broken.example.", RecordType::TLSA, Bogus, NoData),
        ("mx.broken.example.", RecordType::A, Secure, Data),
        ("_25._tcp.mx.servfail.example.", RecordType::TLSA, Unavailable, NoData),
        ("_25._tcp.many.big.example.", RecordType::TLSA, Secure, Data),
    ];
    for (owner, rtype, status, kind) in cases {
        let answer = ask(service, owner, rtype);
        assert_eq!((answer.status, answer.kind), (status, kind), "{owner} {rtype}: {:?}", answer.reason);
    }
    assert_eq!(ask(service, "_25._tcp.many.big.example.", RecordType::TLSA).records.len(), 80);
    let away = ask(service, "away.good.example.", RecordType::A);
    assert_eq!(away.hops.first().map(|hop| hop.status), Some(Secure), "{away:?}");
}

#[test]
fn a_plain_forwarder_is_used_and_answers_are_validated() {
    let lab = Lab::start();
    let service = lab.service(lab.options());
    let report = service.report();
    assert_eq!(report.verdict, Verdict::Forwarders, "{report:?}");
    assert_eq!(report.candidates.first().and_then(|c| c.warning.clone()), None);
    check_verdicts(&service);
}

#[test]
fn own_recursion_finds_its_way_from_the_root() {
    let lab = Lab::start();
    let mut options = lab.options();
    options.forwarders.clear();
    options.resolv_conf = lab.file("no-such-file");
    let service = lab.service(options);
    let report = service.report();
    assert_eq!(report.verdict, Verdict::Recursion, "{report:?}");
    assert!(report.reason.contains("no-such-file"), "{report:?}");
    check_verdicts(&service);
    assert!(
        lab.servers.queries().iter().all(|q| q.server != lab.servers.forwarder()),
        "the forwarder was asked"
    );
}

#[test]
fn a_forwarder_that_strips_fails_or_is_silent_gives_way_to_own_recursion() {
    for mode in [ForwarderMode::Stripping, ForwarderMode::Failing, ForwarderMode::Silent] {
        let lab = Lab::start();
        lab.servers.set_mode(mode);
        let service = lab.service(lab.options());
        let report = service.report();
        assert_eq!(report.verdict, Verdict::Recursion, "{mode:?}: {report:?}");
        assert!(report.candidates.iter().any(|c| c.problem.is_some()), "{report:?}");
        assert_eq!(ask(&service, "good.example.", RecordType::MX).status, Status::Secure);
    }
}

#[test]
fn where_nothing_carries_dnssec_nothing_is_answered_and_the_reason_is_said() {
    let lab = Lab::start();
    lab.servers.set_mode(ForwarderMode::Stripping);
    let service = lab.service(Options { recursion: false, ..lab.options() });
    let report = service.report();
    assert_eq!(report.verdict, Verdict::Failed, "{report:?}");
    assert!(service.is_site_fault());
    assert!(report.reason.contains("strips"), "{report:?}");
    for owner in ["good.example.", "plain.example."] {
        let answer = ask(&service, owner, RecordType::MX);
        assert_eq!(answer.status, Status::Unavailable);
        assert!(answer.reason.as_deref().unwrap_or_default().contains("strips"), "{answer:?}");
    }
    lab.servers.set_mode(ForwarderMode::Plain);
    block_on(service.self_test());
    assert_eq!(ask(&service, "good.example.", RecordType::MX).status, Status::Secure);
}

#[test]
fn a_forwarder_that_sets_ad_on_everything_changes_no_verdict() {
    let lab = Lab::start();
    lab.servers.set_mode(ForwarderMode::AlwaysAd);
    check_verdicts(&lab.service(lab.options()));
}

#[test]
fn a_clock_far_off_is_recognised_and_nothing_else_is_blamed() {
    let lab = Lab::start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let clock = ManualClock::at(86_400);
    let service = Service::new(lab.options(), clock.clone() as Arc<dyn Clock>).expect("options that work");
    let report = block_on(service.self_test());
    assert_eq!((report.verdict, report.wrong_clock), (Verdict::Failed, true), "{report:?}");
    assert!(report.reason.contains("clock"), "{report:?}");
    assert_eq!(ask(&service, "good.example.", RecordType::MX).status, Status::Unavailable);
    clock.set(now);
    assert_eq!(block_on(service.self_test()).verdict, Verdict::Forwarders);
    assert_eq!(ask(&service, "good.example.", RecordType::MX).status, Status::Secure);
}

#[test]
fn trust_ad_believes_the_bit_and_only_a_resolver_that_sets_it() {
    let lab = Lab::start();
    let options = Options { mode: Mode::TrustAd, ..lab.options() };
    let plain = lab.service(options.clone());
    assert_eq!(plain.report().verdict, Verdict::Failed, "a resolver without validation was accepted");
    assert_eq!(ask(&plain, "good.example.", RecordType::MX).status, Status::Unavailable);
    lab.servers.set_mode(ForwarderMode::AlwaysAd);
    let service = lab.service(options);
    assert_eq!(service.report().verdict, Verdict::TrustAd, "{:?}", service.report());
    let answer = ask(&service, "away.good.example.", RecordType::A);
    assert_eq!((answer.status, answer.kind, answer.hops.len()), (Status::Secure, Kind::Data, 1));
    let none = ask(&service, "none.good.example.", RecordType::A);
    assert_eq!((none.status, none.kind), (Status::Secure, Kind::NxDomain));
    // It goes back to a resolver that does not set it: insecure, with the first hop asked for.
    lab.servers.set_mode(ForwarderMode::Plain);
    assert_eq!(ask(&service, "away.good.example.", RecordType::A).status, Status::Insecure);
    let error = ask(&service, "_25._tcp.mx.servfail.example.", RecordType::TLSA);
    assert_eq!(error.status, Status::Unavailable);
}

#[test]
fn the_type_cname_is_answered_and_not_followed() {
    let lab = Lab::start();
    let service = lab.service(lab.options());
    let first = ask(&service, "away.good.example.", RecordType::CNAME);
    assert_eq!((first.status, first.kind, first.hops.len()), (Status::Secure, Kind::Data, 0), "{first:?}");
    let none = ask(&service, "mx.good.example.", RecordType::CNAME);
    assert_eq!((none.status, none.kind), (Status::Secure, Kind::NoData));
}

#[test]
fn a_forwarder_that_begins_to_strip_is_noticed_and_own_recursion_takes_over() {
    let lab = Lab::start();
    let service = Service::new(lab.options(), SystemClock::shared()).expect("options that work");
    block_on(service.self_test());
    assert_eq!(service.report().verdict, Verdict::Forwarders);
    lab.servers.set_mode(ForwarderMode::Stripping);
    let runs = service.clone();
    let task = smol::spawn(async move { runs.watch().await });
    // None of these may be taken for insecure in the meantime.
    for owner in ["nsec3.example.", "big.example.", "sub.good.example.", "broken.example.", "good.example."] {
        let answer = ask(&service, owner, RecordType::MX);
        assert!(answer.status != Status::Insecure, "{answer:?}");
    }
    block_on(task);
    assert_eq!(service.report().verdict, Verdict::Recursion, "{:?}", service.report());
    assert_eq!(ask(&service, "nsec3.example.", RecordType::MX).status, Status::Secure);
}

#[test]
fn one_server_with_broken_data_does_not_make_a_domain_bogus() {
    let mut internet = internet();
    let good = DnsServers::start(internet.tree(), 0).expect("servers");
    internet.change("good.example", |zone| zone.fault_of_type(RecordType::TLSA, FaultKind::Expired));
    let stale = DnsServers::start(internet.tree(), 0).expect("servers");
    let files = tempfile::tempdir().expect("a directory");
    let anchor = files.path().join("anchor");
    std::fs::write(&anchor, internet.trust_anchor()).expect("a file");
    let options =
        |forwarders| Options { forwarders, trust_anchor_file: Some(anchor.clone()), ..Options::default() };
    let both = Service::new(options(vec![stale.forwarder(), good.forwarder()]), SystemClock::shared())
        .expect("options that work");
    block_on(both.self_test());
    let answer = ask(&both, "_25._tcp.mx.good.example.", RecordType::TLSA);
    assert_eq!((answer.status, answer.kind), (Status::Secure, Kind::Data), "{answer:?}");
    // Where there is no better one, it stays bogus.
    let alone =
        Service::new(options(vec![stale.forwarder()]), SystemClock::shared()).expect("options that work");
    block_on(alone.self_test());
    assert_eq!(ask(&alone, "_25._tcp.mx.good.example.", RecordType::TLSA).status, Status::Bogus);
}

#[test]
fn the_report_for_people_tells_records_hops_and_status() {
    let lab = Lab::start();
    let service = lab.service(lab.options());
    let report = block_on(lookup_report(&service, "away.good.example", "a")).expect("a question");
    assert_eq!((report.status.as_str(), report.answer, report.exit_code()), ("insecure", Some("data"), 0));
    assert_eq!(report.hops.len(), 1);
    assert!(report.reason.is_some_and(|why| why.contains("plain.example")));
    let bogus = block_on(lookup_report(&service, "_25._tcp.mx.broken.example", "TLSA")).expect("a question");
    assert_eq!((bogus.status.as_str(), bogus.answer, bogus.exit_code()), ("bogus", None, 1));
    assert!(bogus.reason.is_some_and(|why| !why.is_empty()));
}

#[test]
fn a_warm_lookup_asks_once_and_a_repeated_one_not_at_all() {
    let lab = Lab::start();
    let mut options = lab.options();
    options.forwarders.clear();
    options.resolv_conf = lab.file("no-such-file");
    let service = lab.service(options);
    lab.servers.forget_queries();
    ask(&service, "good.example.", RecordType::MX);
    let cold = lab.servers.queries().len();
    assert!(cold <= 8, "{cold} queries for a cold lookup: {:#?}", lab.servers.queries());
    lab.servers.forget_queries();
    ask(&service, "_25._tcp.mx.good.example.", RecordType::TLSA);
    assert!(lab.servers.queries().len() <= 1, "{:#?}", lab.servers.queries());
    lab.servers.forget_queries();
    ask(&service, "_25._tcp.mx.good.example.", RecordType::TLSA);
    assert_eq!(lab.servers.queries(), []);
}
