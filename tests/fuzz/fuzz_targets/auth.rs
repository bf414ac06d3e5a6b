//! Logins (SASL) on any octets, both sides: no panic, nobody is let in who does not know the password, and a server that does
//! not know it is not believed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mta_smtp::sasl::server::{
    Answer, ChannelBindings, MechanismSet, Query, ScramKeys, Server, ServerMechanism, Step,
};
use mta_smtp::sasl::{Client, Credentials, Mechanism};

/// One user, `u` with the password `p`; the SCRAM keys are of a password that nobody knows.
fn answer(query: Query) -> Answer {
    match query {
        Query::Password { user, password } => {
            assert!(!user.chars().any(char::is_control), "a name is text");
            if user == "u" && password.reveal() == "p" { Answer::LoggedIn(user) } else { Answer::Refused }
        }
        Query::Keys { user } => {
            assert!(!user.chars().any(char::is_control), "a name is text");
            Answer::Keys(ScramKeys {
                salt: vec![7; 16],
                iterations: 4096,
                stored_key: vec![7; 32],
                server_key: vec![7; 32],
            })
        }
        Query::Proof { proven, .. } => {
            assert!(!proven, "proven without the password");
            Answer::Refused
        }
        Query::Certificate { user } => {
            assert!(!user.chars().any(char::is_control), "a name is text");
            Answer::Refused
        }
    }
}

/// Messages of a client, each ended by 0xff, which none can hold and be UTF-8; the nonce of a challenge may stand for 0xfe.
fn serve(mechanism: ServerMechanism, offered: MechanismSet, bound: bool, data: &[u8]) {
    let exporter = bound.then(|| vec![1; 32]);
    let bindings = ChannelBindings { exporter, server_end_point: None };
    let Ok(mut server) = Server::new(mechanism, offered, &bindings) else { return };
    let (mut nonce, mut begun, mut knew) = (Vec::new(), false, false);
    for message in data.split(|octet| *octet == 0xff) {
        let filled: Vec<u8> =
            message.iter().flat_map(|it| if *it == 0xfe { nonce.clone() } else { vec![*it] }).collect();
        let mut step = if begun { server.response(&filled) } else { server.begin(Some(&filled)) };
        begun = true;
        while let Step::Ask(query) = step {
            let answer = answer(query);
            knew |= matches!(answer, Answer::LoggedIn(_));
            step = server.answer(answer);
        }
        match step {
            Step::Challenge(challenge) => {
                // Of r=nonce,s=salt,i=count.
                nonce = challenge.split(|octet| *octet == b',').next().unwrap_or_default().to_vec();
            }
            Step::LoggedIn(user) => assert!(knew && user == "u", "{user:?} was let in"),
            _ => {}
        }
    }
}

/// Challenges of a server that does not know the password.
fn ask(mechanism: Mechanism, data: &[u8]) {
    let Ok(credentials) = Credentials::new("u", "p") else { return };
    let Ok(mut client) = Client::new(mechanism, credentials) else { return };
    let first = client.initial().unwrap_or_default();
    // n,,n=u,r=nonce
    let nonce = first.rsplit(|octet| *octet == b',').next().unwrap_or_default().to_vec();
    for challenge in data.split(|octet| *octet == 0xff) {
        let filled: Vec<u8> =
            challenge.iter().flat_map(|it| if *it == 0xfe { nonce.clone() } else { vec![*it] }).collect();
        // What costs time on purpose is bounded, and tested elsewhere.
        if filled.windows(3).any(|it| it == b",i=") && !filled.ends_with(b",i=4096") {
            return;
        }
        if client.step(&filled).is_err() {
            break;
        }
    }
    if mechanism == Mechanism::ScramSha256 {
        assert!(client.finish().is_err(), "a server was believed that does not know the password");
    }
}

fuzz_target!(|data: &[u8]| {
    let [choice, data @ ..] = data else { return };
    let mechanisms: Vec<ServerMechanism> = MechanismSet::of(&ServerMechanism::ALL).iter().collect();
    let all = MechanismSet::of(&ServerMechanism::ALL);
    let offered = if choice & 0x40 == 0 { all } else { all.without(ServerMechanism::ScramSha256Plus) };
    if choice & 0x80 == 0 {
        if let Some(mechanism) = mechanisms.get(usize::from(choice & 0x07)) {
            serve(*mechanism, offered, choice & 0x20 != 0, data);
        }
    } else {
        let client = [Mechanism::Login, Mechanism::Plain, Mechanism::ScramSha256];
        if let Some(mechanism) = client.get(usize::from(choice & 0x03)) {
            ask(*mechanism, data);
        }
    }
});
