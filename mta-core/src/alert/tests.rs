use std::time::Duration;

use super::*;

/// A store that a test can look into.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Alert>>>);

impl Store for Kept {
    fn load(&self) -> Vec<Alert> {
        self.0.lock().unwrap().clone()
    }
    fn save(&self, alert: &Alert) {
        self.remove(alert.kind, &alert.subject);
        self.0.lock().unwrap().push(alert.clone());
    }
    fn remove(&self, kind: Kind, subject: &str) {
        self.0.lock().unwrap().retain(|alert| (alert.kind, alert.subject.as_str()) != (kind, subject));
    }
}

#[test]
fn raised_often_is_told_once_and_counted() {
    let alerts = Alerts::default();
    for n in 0..3 {
        alerts.raise(Kind::Provider, "google", &format!("text {n}"), "remedy");
    }
    alerts.raise(Kind::Provider, "yahoo", "text", "remedy");
    let open = alerts.open();
    assert_eq!(open.len(), 2);
    assert_eq!((open[0].subject.as_str(), open[0].text.as_str(), open[0].count), ("google", "text 2", 3));
    alerts.clear(Kind::Provider, "google");
    alerts.clear(Kind::Provider, "google");
    alerts.clear(Kind::SiteFault, "yahoo");
    assert!(!alerts.is_open(Kind::Provider, "google"));
    assert!(alerts.is_open(Kind::Provider, "yahoo"));
}

#[test]
fn an_alert_outlives_the_program_until_its_cause_ends() {
    let kept = Kept::default();
    let alerts = Alerts::kept_in(Box::new(kept.clone()));
    alerts.raise(Kind::SiteFault, "", "no route", "look at the cable");
    alerts.raise(Kind::Disk, "/var", "full", "make room");
    drop(alerts);
    let again = Alerts::kept_in(Box::new(kept.clone()));
    assert_eq!(again.open().len(), 2);
    again.raise(Kind::SiteFault, "", "no route", "look at the cable");
    assert_eq!(again.open()[0].count, 2, "it is the same alert");
    again.clear(Kind::SiteFault, "");
    assert_eq!(kept.load().len(), 1);
}

#[test]
fn an_alert_with_an_end_closes_by_itself() {
    let kept = Kept::default();
    let alerts = Alerts::kept_in(Box::new(kept.clone()));
    let (past, future) = (SystemTime::now(), SystemTime::now() + Duration::from_secs(3600));
    alerts.raise_until(Kind::Provider, "over", "t", "r", Some(past));
    alerts.raise_until(Kind::Provider, "on", "t", "r", Some(future));
    let subjects: Vec<_> = alerts.open().into_iter().map(|alert| alert.subject).collect();
    assert_eq!(subjects, ["on"]);
    assert_eq!(kept.load().len(), 1);
}

#[test]
fn each_alert_is_told_by_mail_once_over_any_number_of_starts_and_its_end_if_it_was_long() {
    let kept = Kept::default();
    let alerts = Alerts::kept_in(Box::new(kept.clone()));
    let heard = Arc::new(Mutex::new(0));
    alerts.on_news(Arc::new({
        let heard = Arc::clone(&heard);
        move || *heard.lock().unwrap() += 1
    }));
    alerts.without_mail().raise(Kind::Provider, "met by an alert mail", "t", "r");
    assert_eq!(alerts.untold(), None);
    alerts.raise(Kind::Disk, "", "full", "make room");
    let News::Opened(told) = alerts.untold().unwrap() else { panic!("it opened") };
    assert_eq!(told.kind, Kind::Disk);
    alerts.told(&News::Opened(told), SystemTime::now());
    alerts.raise(Kind::Disk, "", "fuller", "make room");
    assert_eq!(alerts.untold(), None, "once");
    let before = *heard.lock().unwrap();
    alerts.raise(Kind::Provider, "met by an alert mail", "t", "r");
    assert!(*heard.lock().unwrap() > before, "other mail met it too");
    assert!(matches!(alerts.untold(), Some(News::Opened(alert)) if alert.kind == Kind::Provider));
    alerts.clear(Kind::Provider, "met by an alert mail");
    alerts.clear(Kind::Disk, "");
    assert_eq!(alerts.untold(), None, "neither was open for long");

    // As if it had been open since yesterday.
    alerts.raise(Kind::Disk, "", "full", "make room");
    alerts.told(&alerts.untold().unwrap(), SystemTime::now());
    let mut old = kept.load().remove(0);
    old.first_at -= LONG_OPEN;
    kept.save(&old);
    let again = Alerts::kept_in(Box::new(kept));
    assert_eq!(again.untold(), None, "the mail outlives the program");
    again.clear(Kind::Disk, "");
    let ended = again.untold().unwrap();
    assert!(matches!(&ended, News::Cleared(alert, _) if alert.kind == Kind::Disk));
    again.told(&ended, SystemTime::now());
    assert_eq!(again.untold(), None);
}

#[test]
fn memory_is_bounded_and_text_of_strangers_is_tame() {
    let alerts = Alerts::default();
    for n in 0..MAX_OPEN * 2 {
        alerts.raise(Kind::Provider, &format!("p{n}"), "bad\r\n\u{1b}[31m", &"x".repeat(5000));
    }
    let open = alerts.open();
    assert_eq!(open.len(), MAX_OPEN);
    assert!(open.iter().all(|alert| !alert.text.contains(['\r', '\n', '\u{1b}'])));
    assert!(open.iter().all(|alert| alert.remedy.len() <= MAX_TEXT_BYTES));
    assert!(alerts.is_open(Kind::Provider, &format!("p{}", MAX_OPEN * 2 - 1)), "the newest stays");
}

#[test]
fn each_kind_has_a_word_of_its_own() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_word(kind.word()), Some(kind));
        assert!(!kind.meaning().is_empty());
    }
    assert_eq!(Kind::from_word("nothing"), None);
}
