//! Walks without a message: what is found, and that nothing of an envelope is ever sent.

use hickory_proto::rr::RecordType::A;

use super::lab::{self, Behaviour, Lab, StartTls};
use crate::outbound::attempt::Purpose;
use crate::outbound::examine::{Examined, READY, examine};
use crate::routing::RelayTls;

fn walk(lab: &Lab, purpose: Purpose) -> Examined {
    smol::block_on(examine(&lab.context(), &lab.job.destination, lab.job.route.clone(), purpose))
}

#[test]
fn a_probe_goes_as_far_as_ehlo_inside_tls_and_to_every_address() {
    let lab = Lab::dane(Behaviour::default());
    lab.resolver.secure("mx.test", A, &["127.0.0.1", "127.0.0.3"]);
    let tries = walk(&lab, Purpose::Probe).decision.hosts.remove(0).tries;
    assert_eq!(tries.len(), 2, "{tries:#?}");
    assert_eq!(tries.iter().filter(|one| one.result == READY).count(), 1, "{tries:#?}");
    assert_eq!(tries.iter().filter(|one| one.result.starts_with("no connection")).count(), 1, "{tries:#?}");
    let ehlo = "EHLO client.test\r\n";
    assert_eq!(lab.server.log(), format!("{ehlo}STARTTLS\r\n<TLS>\r\n{ehlo}QUIT\r\n"));
}

#[test]
fn a_look_connects_to_nobody() {
    let lab = Lab::dane(Behaviour::default());
    let host = walk(&lab, Purpose::Look).decision.hosts.remove(0);
    assert_eq!((host.requirement.as_str(), host.tries.len()), ("dane", 0));
    assert_eq!(lab.server.connections(), 0);
}

#[test]
fn a_probe_logs_in_nowhere() {
    let lab = Lab::relay(Behaviour { auth: Some("PLAIN"), ..Behaviour::default() }, RelayTls::StartTls);
    let host = walk(&lab, Purpose::Probe).decision.hosts.remove(0);
    assert_eq!(host.tries[0].result, READY, "{host:#?}");
    assert!(!lab.server.log().contains("AUTH"), "{}", lab.server.log());
}

#[test]
fn a_failed_probe_is_classed_as_a_failed_delivery_is() {
    for (starttls, class) in [(StartTls::NotOffered, "no-starttls"), (StartTls::Garbage, "tls-failed")] {
        let lab = Lab::dane(Behaviour { starttls, ..Behaviour::default() });
        let probed = walk(&lab, Purpose::Probe).decision.hosts.remove(0).triage.unwrap();
        let delivered = lab.run().decision.hosts.remove(0).triage.unwrap();
        assert_eq!((probed.class.as_str(), &probed), (class, &delivered));
        lab::assert_nothing_of_the_message(&lab.server);
    }
}
