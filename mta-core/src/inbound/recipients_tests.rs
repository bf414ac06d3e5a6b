//! What is answered from memory, what is asked, by whom, and what follows where nobody answers.

use std::time::UNIX_EPOCH;

use futures_lite::future::{block_on, poll_once};

use super::*;

/// A next hop that says what it is told to, when it is told to.
struct Hop {
    asked: async_channel::Sender<(String, async_channel::Sender<Said>)>,
}

impl Ask for Hop {
    fn ask(&self, mailbox: &Mailbox, _within: Duration) -> Asking {
        let (says, said) = async_channel::bounded(1);
        self.asked.try_send((mailbox.to_string(), says)).expect("room");
        Box::pin(async move { said.recv().await.unwrap_or_else(|_| Said::Unreachable("gone".to_owned())) })
    }
}

struct Lab {
    relayed: Relayed,
    questions: async_channel::Receiver<(String, async_channel::Sender<Said>)>,
    _folder: tempfile::TempDir,
}

fn lab(options: Options) -> Lab {
    let folder = tempfile::tempdir().expect("a folder");
    let queue = Queue::open(folder.path(), mta_queue::Options::default()).expect("a queue");
    let (asked, questions) = async_channel::unbounded();
    let recipients = Recipients::new(queue);
    Lab { relayed: Relayed { recipients, ask: Arc::new(Hop { asked }), options }, questions, _folder: folder }
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).expect("a mailbox")
}

fn known() -> Said {
    Said::Known("250 2.1.5 ok".to_owned())
}

fn unknown() -> Said {
    Said::Unknown("550 5.1.1 no".to_owned())
}

impl Lab {
    /// The answer about an address, where the next hop says this to the one question that has to come.
    fn answer(&self, address: &str, said: Said) -> Answer {
        let address = mailbox(address);
        let answers = async {
            let (asked, says) = self.questions.recv().await.expect("a question");
            assert_eq!(asked, address.to_string());
            says.send(said).await.expect("it is waited for");
        };
        let (answer, ()) = block_on(futures_lite::future::zip(self.relayed.answer(&address), answers));
        answer
    }

    /// The answer without any question that is waited for.
    fn at_once(&self, address: &str) -> Answer {
        block_on(self.relayed.answer(&mailbox(address)))
    }

    /// What was asked and not answered so far.
    fn question(&self) -> Option<(String, async_channel::Sender<Said>)> {
        self.questions.try_recv().ok()
    }

    /// Nothing is under way, and what was said is kept.
    fn settle(&self) {
        while !self.relayed.recipients.state().flights.is_empty() {
            std::thread::yield_now();
        }
    }

    fn keep(&self, address: &str, known: bool, age: Duration) {
        let asked_at = SystemTime::now() - age;
        let answer = StoredAnswer { address: address.to_owned(), known, reply: "x".to_owned(), asked_at };
        let (done, written) = std::sync::mpsc::channel();
        let queue = &self.relayed.recipients.queue;
        queue.put_recipient_answer(answer, move |result| done.send(result).expect("test waits"));
        written.recv().expect("answered").expect("written");
    }
}

#[test]
fn how_long_an_answer_is_good() {
    let options = Options::default();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let (hour, day) = (3600, 86_400);
    let answer = |known| StoredAnswer {
        address: "a@x.example".to_owned(),
        known,
        reply: String::new(),
        asked_at: at(100 * day),
    };
    for (known, age, expected) in [
        (true, 0, Kept::Good(true)),
        (true, 7 * day - 1, Kept::Good(true)),
        (true, 7 * day, Kept::Old(true)),
        (true, 31 * day - 1, Kept::Old(true)),
        (true, 31 * day, Kept::Nothing),
        (false, 3 * hour - 1, Kept::Good(false)),
        (false, 3 * hour, Kept::Old(false)),
        (false, 3 * day, Kept::Nothing),
    ] {
        let found = kept(Some(&answer(known)), at(100 * day + age), &options);
        assert_eq!(found, expected, "{known} {age}");
    }
    assert_eq!(
        kept(Some(&answer(false)), at(50 * day), &options),
        Kept::Old(false),
        "the clock was set back"
    );
    assert_eq!(kept(None, at(0), &options), Kept::Nothing);
}

#[test]
fn what_was_said_is_kept_and_only_a_yes_or_no_is() {
    let lab = lab(Options::default());
    assert_eq!(lab.answer("a@x.example", known()), Answer::Known);
    assert_eq!(lab.answer("b@x.example", unknown()), Answer::Unknown);
    lab.settle();
    for _ in 0..3 {
        assert_eq!(
            (lab.at_once("a@X.example"), lab.at_once("b@x.example")),
            (Answer::Known, Answer::Unknown)
        );
    }
    assert!(lab.question().is_none());
    let later = || Said::Undecided("450 later".to_owned());
    assert_eq!(lab.answer("c@x.example", later()), Answer::Unclear);
    lab.settle();
    assert_eq!(lab.answer("c@x.example", known()), Answer::Known, "asked again at once");
    // Upper and lower case of a local-part are the next hop's to tell apart.
    assert_eq!(lab.answer("A@x.example", unknown()), Answer::Unknown);
    assert_eq!(lab.answer("a@x\u{fc}.example", known()), Answer::Known);
    lab.settle();
    assert_eq!(lab.at_once("a@xn--x-eha.example"), Answer::Known, "one domain in both spellings");
}

#[test]
fn an_old_answer_is_given_and_asked_anew() {
    let lab = lab(Options::default());
    let day = Duration::from_secs(86_400);
    lab.keep("a@x.example", true, day * 8);
    lab.keep("b@y.example", false, day);
    lab.keep("c@y.example", false, day * 4);
    assert_eq!(lab.at_once("a@x.example"), Answer::Known);
    assert_eq!(lab.at_once("b@y.example"), Answer::Unknown);
    for (address, said) in [("a@x.example", unknown()), ("b@y.example", Said::Unreachable("down".to_owned()))]
    {
        let (asked, says) = lab.question().expect("asked in the background");
        assert_eq!(asked, address);
        says.try_send(said).expect("waited for");
    }
    lab.settle();
    assert_eq!(lab.at_once("a@x.example"), Answer::Unknown, "the new answer counts");
    assert_eq!(lab.at_once("b@y.example"), Answer::Unknown, "and without one the old");
    assert_eq!(lab.at_once("c@y.example"), Answer::Unclear, "which is not good for ever");
}

#[test]
fn everybody_waits_for_one_question_and_the_number_of_questions_is_bounded() {
    let lab = lab(Options { parallel: 2, ..Options::default() });
    let address = mailbox("a@x.example");
    let mut waiting: Vec<_> = (0..20).map(|_| Box::pin(lab.relayed.answer(&address))).collect();
    block_on(async {
        let (_, says) = loop {
            for one in &mut waiting {
                assert_eq!(poll_once(one.as_mut()).await, None);
            }
            match lab.question() {
                Some(question) => break question,
                None => smol::future::yield_now().await,
            }
        };
        for one in &mut waiting {
            assert_eq!(poll_once(one.as_mut()).await, None);
        }
        assert!(lab.question().is_none(), "one question for twenty");
        // Another address still has room, and a third one has none. Another domain is another matter.
        let (other, elsewhere) = (mailbox("b@x.example"), mailbox("b@y.example"));
        let mut second = Box::pin(lab.relayed.answer(&other));
        let mut third = Box::pin(lab.relayed.answer(&elsewhere));
        while lab.relayed.recipients.state().flights.values().map(HashMap::len).sum::<usize>() < 3 {
            assert_eq!(poll_once(second.as_mut()).await, None);
            assert_eq!(poll_once(third.as_mut()).await, None);
        }
        assert_eq!(lab.relayed.answer(&mailbox("c@x.example")).await, Answer::BeingAsked);
        says.send(known()).await.expect("waited for");
        for one in waiting {
            assert_eq!(one.await, Answer::Known);
        }
    });
}

#[test]
fn a_client_waits_so_long_and_one_that_comes_again_hears_the_answer() {
    let lab = lab(Options { wait: Duration::from_millis(20), ..Options::default() });
    assert_eq!(lab.at_once("a@x.example"), Answer::BeingAsked);
    let (_, says) = lab.question().expect("asked");
    assert_eq!(lab.at_once("a@x.example"), Answer::BeingAsked);
    assert!(lab.question().is_none(), "the same question");
    says.try_send(unknown()).expect("it is waited for, though by nobody");
    lab.settle();
    assert_eq!(lab.at_once("a@x.example"), Answer::Unknown);
}

#[test]
fn only_the_first_client_waits_for_a_host_that_is_down() {
    let lab = lab(Options { wait: Duration::from_secs(3600), ..Options::default() });
    let down = || Said::Unreachable("connection refused".to_owned());
    lab.keep("kept@x.example", true, Duration::ZERO);
    assert_eq!(lab.answer("a@x.example", down()), Answer::Unclear);
    lab.settle();
    assert_eq!(lab.at_once("a@x.example"), Answer::Unclear);
    assert_eq!(lab.at_once("b@x.example"), Answer::Unclear);
    assert_eq!(lab.at_once("kept@x.example"), Answer::Known, "what is kept counts");
    assert!(lab.question().is_none(), "it was asked a moment ago");
    let earlier = |age| {
        let found_at = Instant::now().checked_sub(age).expect("this host is up for longer");
        lab.relayed.recipients.state().down.insert("x.example".to_owned(), Down { found_at });
    };
    earlier(ASK_AGAIN);
    assert_eq!(lab.at_once("a@x.example"), Answer::Unclear);
    let (_, says) = lab.question().expect("asked in the background");
    says.try_send(known()).expect("waited for");
    lab.settle();
    assert_eq!(lab.at_once("a@x.example"), Answer::Known);
    assert_eq!(lab.answer("b@x.example", unknown()), Answer::Unknown, "it is up again");
    lab.settle();
    earlier(NOT_WAITED_FOR);
    assert_eq!(lab.answer("c@x.example", known()), Answer::Known, "that is long ago");
}
