//! What follows from the verdicts: the one place that refuses or marks mail for what it failed.
//!
//! Nothing that is temporary ever refuses a message, and nothing refuses the null reverse-path: a bounce that is refused
//! for what DNS says is lost for good. Mail of our own networks and users never comes here.

use std::cmp::Ordering;

use mta_smtp::reply::Reply;

use super::spf::SpfResult;
use super::verdict::{Policy, Verdicts, Word};
use super::{Action, Options};

/// The field that tells mail readers and filters of a message that failed where `mark` is set.
const MARK: &str = "X-Spam-Flag: YES\r\n";

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Taken.
    Accept,
    /// Taken, with a mark in its header section; the field.
    Mark(&'static str),
    /// Refused with this reply.
    Refuse(Reply),
}

/// Decides.
pub(crate) fn judge(options: &Options, verdicts: &Verdicts, is_bounce: bool) -> Judgement {
    let failures = [
        dmarc(options, verdicts),
        spf(options, verdicts),
        dkim(options, verdicts),
        arc(options, verdicts),
        iprev(options, verdicts),
    ];
    let mut judgement = Judgement::Accept;
    for (action, reply) in failures.into_iter().flatten() {
        match action {
            Action::Reject if !is_bounce => return Judgement::Refuse(reply),
            Action::Reject | Action::Mark => judgement = Judgement::Mark(MARK),
            Action::Accept => {}
        }
    }
    judgement
}

/// What was done with a message, in the words of reports about it (RFC 9990 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evaluated {
    /// `none`, `pass`, `quarantine` or `reject`.
    pub(crate) disposition: &'static str,
    /// Why that is not what the domain asks for: the type, and a comment.
    pub(crate) reason: Option<(&'static str, &'static str)>,
}

/// Puts a judgement into these words.
pub(crate) fn evaluated(options: &Options, verdicts: &Verdicts, judgement: &Judgement) -> Evaluated {
    let dmarc = &verdicts.dmarc;
    let done = match judgement {
        Judgement::Accept => Policy::None,
        Judgement::Mark(_) => Policy::Quarantine,
        Judgement::Refuse(_) => Policy::Reject,
    };
    let failed = dmarc.word == Word::Fail;
    let asked = if failed { dmarc.policy } else { Policy::None };
    let enforcing = dmarc.published.as_ref().is_some_and(|it| it.policy != Policy::None);
    let testing = failed && enforcing && dmarc.published.as_ref().is_some_and(|it| it.testing);
    let weight = |policy| match policy {
        Policy::None => 0,
        Policy::Quarantine => 1,
        Policy::Reject => 2,
    };
    let reason = match weight(done).cmp(&weight(asked)) {
        Ordering::Equal if testing => Some(("policy_test_mode", "the policy says t=y")),
        Ordering::Equal => None,
        Ordering::Less if vouched_for(options, verdicts) => {
            Some(("trusted_forwarder", "a trusted sealer says that it passed there (ARC)"))
        }
        Ordering::Less => Some(("local_policy", "a failure of DMARC alone has no such consequence here")),
        Ordering::Greater => Some(("local_policy", "it failed another check")),
    };
    let disposition = match done {
        Policy::None if dmarc.word == Word::Pass && enforcing => "pass",
        Policy::None => "none",
        Policy::Quarantine => "quarantine",
        Policy::Reject => "reject",
    };
    Evaluated { disposition, reason }
}

type Failure = Option<(Action, Reply)>;

fn reply(status: (u8, u16, u16), text: String) -> Reply {
    Reply::with_status(550, status, text)
}

fn dmarc(options: &Options, verdicts: &Verdicts) -> Failure {
    let dmarc = &verdicts.dmarc;
    let domain = super::results::plain(&dmarc.domain);
    match dmarc.word {
        // Whom a trusted forwarder vouches for did pass, before that one changed it (RFC 8617 7.2.1).
        Word::Fail if vouched_for(options, verdicts) => None,
        Word::Fail => {
            let action = match (options.dmarc, dmarc.policy) {
                (_, Policy::None) => return None,
                (Action::Reject, Policy::Quarantine) => Action::Mark,
                (action, _) => action,
            };
            // RFC 7372 3.2 has no code for it; 5.7.1 says "not authorized", as RFC 9989 does.
            let text = format!(
                "the domain {domain} of the From field asks to refuse mail that is not its own (DMARC)"
            );
            Some((action, reply((5, 7, 1), text)))
        }
        // No author, or several: what no domain owner can have sent (RFC 5322 3.6.2).
        Word::PermError if dmarc.published.is_none() => {
            let text = format!("the From field is not that of one author: {}", dmarc.reason);
            Some((options.dmarc, reply((5, 7, 1), text)))
        }
        _ => None,
    }
}

/// Whether the last sealer of an intact ARC chain is trusted, and says that the author's domain passed with it.
fn vouched_for(options: &Options, verdicts: &Verdicts) -> bool {
    let arc = &verdicts.arc;
    let passed = || {
        let saw = String::from_utf8_lossy(&arc.saw).to_ascii_lowercase();
        super::results::words(&saw).iter().any(|(method, word)| method == "dmarc" && word == "pass")
    };
    arc.word == Word::Pass
        && options.trusted_sealers.iter().any(|sealer| sealer.eq_ignore_ascii_case(&arc.sealer))
        && passed()
}

fn spf(options: &Options, verdicts: &Verdicts) -> Failure {
    let failed = |it: &&super::spf::Checked| it.result == SpfResult::Fail;
    let checked = verdicts.spf_from.iter().chain([&verdicts.spf_helo]).find(failed)?;
    // A passing aligned signature tells a forwarded message from a forged one.
    if verdicts.dmarc.word == Word::Pass {
        return None;
    }
    let domain = super::results::plain(&checked.domain);
    let said = checked.explanation.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
    // RFC 7372 3.2.
    Some((options.spf, reply((5, 7, 23), format!("{domain} does not let you send for it (SPF){said}"))))
}

fn dkim(options: &Options, verdicts: &Verdicts) -> Failure {
    let failed = verdicts.dkim.iter().any(|it| matches!(it.word, Word::Fail | Word::PermError));
    let hopeful = verdicts.dkim.iter().any(|it| matches!(it.word, Word::Pass | Word::TempError));
    // RFC 7372 3.1.
    (failed && !hopeful).then(|| (options.dkim, reply((5, 7, 20), "no DKIM signature holds".to_owned())))
}

fn arc(options: &Options, verdicts: &Verdicts) -> Failure {
    let failed = verdicts.arc.word == Word::Fail;
    // RFC 8617 10.3.
    failed.then(|| (options.arc, reply((5, 7, 29), "the ARC chain is broken".to_owned())))
}

fn iprev(options: &Options, verdicts: &Verdicts) -> Failure {
    let failed = matches!(verdicts.iprev.word, Word::Fail | Word::PermError);
    // RFC 7372 3.3.
    failed.then(|| {
        (options.iprev, reply((5, 7, 25), "your address has no name that leads back to it".to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::spf::Checked;
    use super::super::verdict::{Arc, Dkim, Dmarc, Iprev, Published};
    use super::*;

    fn checked(result: SpfResult) -> Checked {
        Checked { result, domain: "a.example".to_owned(), explanation: Some("no".to_owned()), reason: None }
    }

    fn verdicts() -> Verdicts {
        Verdicts {
            spf_helo: checked(SpfResult::None),
            spf_from: Some(checked(SpfResult::Fail)),
            dkim: vec![Dkim { word: Word::Fail, ..Dkim::default() }],
            arc: Arc { word: Word::Fail, ..Arc::default() },
            dmarc: Dmarc {
                word: Word::Fail,
                domain: "a.example".to_owned(),
                policy: Policy::Reject,
                published: Some(Published::default()),
                ..Dmarc::default()
            },
            iprev: Iprev { word: Word::Fail, name: None },
        }
    }

    fn accepting() -> Options {
        let accept = Action::Accept;
        Options { spf: accept, dkim: accept, dmarc: accept, arc: accept, iprev: accept, ..Options::default() }
    }

    fn code(judgement: &Judgement) -> String {
        match judgement {
            Judgement::Refuse(reply) => reply.to_string().chars().take(10).collect(),
            Judgement::Mark(_) => "mark".to_owned(),
            Judgement::Accept => "accept".to_owned(),
        }
    }

    #[test]
    fn each_result_follows_its_own_option() {
        use Action::{Mark, Reject};
        let all = verdicts();
        assert_eq!(judge(&accepting(), &all, false), Judgement::Accept);
        for (options, expected) in [
            (Options { dmarc: Reject, ..accepting() }, "550 5.7.1 "),
            (Options { spf: Reject, ..accepting() }, "550 5.7.23"),
            (Options { dkim: Reject, ..accepting() }, "550 5.7.20"),
            (Options { arc: Reject, ..accepting() }, "550 5.7.29"),
            (Options { iprev: Reject, ..accepting() }, "550 5.7.25"),
            (Options { spf: Mark, ..accepting() }, "mark"),
            (Options { iprev: Reject, dmarc: Mark, ..accepting() }, "550 5.7.25"),
        ] {
            assert_eq!(code(&judge(&options, &all, false)), expected);
            let bounced = judge(&options, &all, true);
            assert_eq!(code(&bounced), "mark", "a bounce is never refused");
        }
    }

    #[test]
    fn dmarc_goes_by_what_the_domain_asks_for() {
        let options = Options { dmarc: Action::Reject, ..accepting() };
        for (word, policy, expected) in [
            (Word::Fail, Policy::Reject, "550 5.7.1 "),
            (Word::Fail, Policy::Quarantine, "mark"),
            (Word::Fail, Policy::None, "accept"),
            (Word::Pass, Policy::Reject, "accept"),
            (Word::None, Policy::Reject, "accept"),
            (Word::TempError, Policy::Reject, "accept"),
        ] {
            let mut verdicts = verdicts();
            (verdicts.dmarc.word, verdicts.dmarc.policy) = (word, policy);
            assert_eq!(code(&judge(&options, &verdicts, false)), expected, "{word} {policy}");
        }
        let mut nobody = verdicts();
        nobody.dmarc =
            Dmarc { word: Word::PermError, reason: "no From field".to_owned(), ..Dmarc::default() };
        assert_eq!(code(&judge(&options, &nobody, false)), "550 5.7.1 ");
    }

    #[test]
    fn reports_say_what_was_done_and_why_it_is_not_what_was_asked_for() {
        let told = |word, policy, testing, judgement: &Judgement, sealer: &str| {
            let mut verdicts = verdicts();
            (verdicts.dmarc.word, verdicts.dmarc.policy) = (word, policy);
            verdicts.dmarc.published = Some(Published { policy, testing, ..Published::default() });
            verdicts.arc = Arc {
                word: Word::Pass,
                sealer: sealer.to_owned(),
                saw: b"i=1; x; dmarc=pass".to_vec(),
                ..Arc::default()
            };
            let options = Options { trusted_sealers: vec!["lists.example".to_owned()], ..accepting() };
            let evaluated = evaluated(&options, &verdicts, judgement);
            (evaluated.disposition, evaluated.reason.map_or("", |(word, _)| word))
        };
        let refused = Judgement::Refuse(Reply::with_status(550, (5, 7, 1), "no"));
        let (accepted, marked) = (Judgement::Accept, Judgement::Mark(MARK));
        for (word, policy, testing, judgement, sealer, expected) in [
            (Word::Pass, Policy::Reject, false, &accepted, "", ("pass", "")),
            (Word::Pass, Policy::None, false, &accepted, "", ("none", "")),
            (Word::Pass, Policy::Reject, false, &refused, "", ("reject", "local_policy")),
            (Word::Fail, Policy::Reject, false, &refused, "", ("reject", "")),
            (Word::Fail, Policy::Reject, false, &marked, "", ("quarantine", "local_policy")),
            (Word::Fail, Policy::Quarantine, false, &marked, "", ("quarantine", "")),
            (Word::Fail, Policy::Quarantine, true, &marked, "", ("quarantine", "policy_test_mode")),
            (Word::Fail, Policy::None, false, &accepted, "", ("none", "")),
            (Word::Fail, Policy::Reject, false, &accepted, "lists.example", ("none", "trusted_forwarder")),
            (Word::Fail, Policy::Reject, false, &accepted, "other.example", ("none", "local_policy")),
        ] {
            assert_eq!(
                told(word, policy, testing, judgement, sealer),
                expected,
                "{word} {policy} {judgement:?}"
            );
        }
    }

    #[test]
    fn nothing_temporary_refuses() {
        use Action::Reject;
        let options = Options {
            spf: Reject,
            dkim: Reject,
            dmarc: Reject,
            arc: Reject,
            iprev: Reject,
            ..Options::default()
        };
        let mut verdicts = verdicts();
        verdicts.spf_from = Some(checked(SpfResult::TempError));
        verdicts.spf_helo = checked(SpfResult::TempError);
        verdicts.dkim = vec![Dkim { word: Word::TempError, ..Dkim::default() }];
        verdicts.arc.word = Word::TempError;
        verdicts.dmarc.word = Word::TempError;
        verdicts.iprev.word = Word::TempError;
        assert_eq!(judge(&options, &verdicts, false), Judgement::Accept);
    }

    #[test]
    fn a_trusted_sealer_vouches_and_nobody_else() {
        let mut verdicts = verdicts();
        verdicts.arc = Arc {
            word: Word::Pass,
            sealer: "lists.example".to_owned(),
            saw: b" i=1; lists.example; spf=fail;\r\n\tdmarc=pass header.from=a.example".to_vec(),
            ..Arc::default()
        };
        let options = |sealer: &str| Options {
            dmarc: Action::Reject,
            trusted_sealers: vec![sealer.to_owned()],
            ..accepting()
        };
        assert_eq!(judge(&options("lists.example"), &verdicts, false), Judgement::Accept);
        assert_eq!(code(&judge(&options("other.example"), &verdicts, false)), "550 5.7.1 ");
        verdicts.arc.saw = b" i=1; lists.example; dmarc=fail (dmarc=pass)".to_vec();
        assert_eq!(code(&judge(&options("lists.example"), &verdicts, false)), "550 5.7.1 ");
        verdicts.arc.saw = b" i=1; lists.example; dmarc=pass".to_vec();
        verdicts.arc.word = Word::Fail;
        assert_eq!(code(&judge(&options("lists.example"), &verdicts, false)), "550 5.7.1 ");
    }
}
