//! The users as everybody asks for them: one picture of the tables in memory, made anew when a table changed.
//!
//! What it does: names, flags and grants; who may send as whom. What it does not: no secret is held here; a login reads it
//! when it is needed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use mta_queue::{GrantKind, QueueError, Reader};
use mta_smtp::address::{Host, Mailbox};

use mta_dane::reference::{a_labels, text};

/// What separates the name of a mailbox from the rest that its owner chooses (RFC 5233).
const SUB_ADDRESS: char = '+';

/// One user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// May not log in.
    pub disabled: bool,
    /// The name is also a mailbox of its domain.
    pub mailbox: bool,
    /// How many octets the mailbox may hold.
    pub quota: Option<u64>,
    /// What it sends is held, and why.
    pub held: Option<String>,
    /// Addresses it may send as besides its own, lower case: `a@b`, `@b`, `*`.
    pub senders: Vec<String>,
}

/// All users at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roster {
    users: HashMap<String, User>,
    /// By the SHA-256 fingerprint of a certificate, in lower-case hexadecimal: whose it is.
    certificates: HashMap<String, String>,
}

impl Roster {
    /// From the tables.
    ///
    /// # Errors
    /// What the database reports.
    pub fn load(reader: &Reader) -> Result<Self, QueueError> {
        let mut roster = Self::default();
        for stored in reader.users()? {
            let user = User {
                disabled: stored.disabled,
                mailbox: stored.mailbox,
                quota: stored.quota,
                held: stored.held.map(|(_, reason)| reason),
                senders: Vec::new(),
            };
            roster.users.insert(stored.name, user);
        }
        for grant in reader.grants()? {
            match (grant.kind, roster.users.get_mut(&grant.user)) {
                (GrantKind::Sender, Some(user)) => user.senders.push(grant.value),
                (GrantKind::Certificate, Some(_)) => {
                    roster.certificates.insert(grant.value, grant.user);
                }
                (_, None) => {}
            }
        }
        Ok(roster)
    }

    /// One user who may send as these besides himself.
    #[cfg(test)]
    pub(crate) fn with(name: &str, senders: &[&str]) -> Self {
        let senders = senders.iter().map(ToString::to_string).collect();
        let user = User { mailbox: true, senders, ..User::default() };
        Self { users: HashMap::from([(name.to_owned(), user)]), certificates: HashMap::new() }
    }

    /// The user of this login name, in the form of [`login_name`].
    pub fn get(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// Whether there is any user.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether any certificate belongs to anybody.
    pub fn has_certificates(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// Whose certificate this is, by its fingerprint.
    pub fn by_certificate(&self, fingerprint: &str) -> Option<&str> {
        self.certificates.get(fingerprint).map(String::as_str)
    }

    /// The user whose mailbox this address is; local-part and domain lower case, the domain by its A-labels.
    pub fn mailbox(&self, local_part: &str, domain: &str) -> Option<&User> {
        self.users.get(&format!("{local_part}@{domain}")).filter(|user| user.mailbox)
    }

    /// Security decision: whether `login` may send as this address. It may as its own, also with a sub-address, and as
    /// what it was granted. A login that is no user here (an external check knows it) may send as its own address.
    pub fn may_send_as(&self, login: &str, sender: &Mailbox) -> bool {
        let Some((local_part, domain)) = plain(sender) else { return false };
        let own = login.rsplit_once('@').is_some_and(|(own_part, own_domain)| {
            let bare = local_part.split_once(SUB_ADDRESS).map_or(local_part.as_str(), |(bare, _)| bare);
            // A sub-address that is a user of its own is that user's.
            let is_anothers = || self.users.contains_key(&format!("{local_part}@{domain}"));
            own_domain == domain && (own_part == local_part || (own_part == bare && !is_anothers()))
        });
        own || self.users.get(login).is_some_and(|user| {
            user.senders.iter().any(|granted| match granted.strip_prefix('@') {
                Some(granted) => granted == domain,
                None => granted == "*" || *granted == format!("{local_part}@{domain}"),
            })
        })
    }
}

/// Local-part and domain, lower case, the domain by its A-labels. `None` for an address literal.
fn plain(mailbox: &Mailbox) -> Option<(String, String)> {
    let Host::Domain(domain) = mailbox.host() else { return None };
    Some((mailbox.local_part().to_lowercase(), ascii_domain(domain.as_str())?))
}

fn ascii_domain(domain: &str) -> Option<String> {
    if domain.is_ascii() {
        return Some(domain.to_ascii_lowercase());
    }
    a_labels(domain).ok().map(|name| text(&name).to_ascii_lowercase())
}

/// The one form of a login name: lower case, a domain by its A-labels. `None` where it cannot be one.
pub fn login_name(text: &str) -> Option<String> {
    match text.rsplit_once('@') {
        Some(_) => plain(&Mailbox::parse(text).ok()?).map(|(local, domain)| format!("{local}@{domain}")),
        None => is_word(text).then(|| text.to_ascii_lowercase()),
    }
}

/// A login name without a domain.
fn is_word(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"._-+".contains(&b);
    !text.is_empty() && text.len() <= 64 && text.bytes().all(letter)
}

/// What may be granted as a sender: an address, `@domain` or `*`, in its one form. `None` where it is none of them.
pub fn sender_grant(text: &str) -> Option<String> {
    match text.strip_prefix('@') {
        _ if text == "*" => Some(text.to_owned()),
        Some(domain) => {
            let domain = mta_smtp::address::Domain::parse(domain).ok()?;
            ascii_domain(domain.as_str()).map(|domain| format!("@{domain}"))
        }
        None => login_name(text).filter(|name| name.contains('@')),
    }
}

/// A fingerprint of a certificate in its one form: 64 hexadecimal digits, lower case. Colons are taken away.
pub fn fingerprint(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    (digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then_some(digits)
}

/// The users, shared by all who ask. All clones are one.
#[derive(Clone, Default)]
pub struct Users(Arc<RwLock<Arc<Roster>>>);

impl Users {
    /// The users as they are now.
    pub fn now(&self) -> Arc<Roster> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another picture in place.
    pub fn replace(&self, roster: Roster) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roster);
    }

    /// Reads the tables again. Blocks.
    ///
    /// # Errors
    /// What the database reports; the picture stays as it was.
    pub fn refresh(&self, reader: &Reader) -> Result<(), QueueError> {
        self.replace(Roster::load(reader)?);
        Ok(())
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Users").field(&self.now().users.len()).finish()
    }
}

/// The same users, at this time.
impl PartialEq for Users {
    fn eq(&self, other: &Self) -> bool {
        self.now() == other.now()
    }
}

impl Eq for Users {}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster() -> Roster {
        let user = |senders: &[&str]| User {
            mailbox: true,
            senders: senders.iter().map(ToString::to_string).collect(),
            ..User::default()
        };
        let users = HashMap::from([
            ("anna@one.example".to_owned(), user(&["info@one.example", "@two.example"])),
            ("ben@one.example".to_owned(), user(&[])),
            ("backup".to_owned(), User { mailbox: false, ..user(&["*"]) }),
            ("word".to_owned(), User { mailbox: false, ..user(&[]) }),
        ]);
        Roster { users, certificates: HashMap::new() }
    }

    /// Security decision: who may use which sender.
    #[test]
    fn own_addresses_grants_and_nothing_else() {
        for (login, sender, expected) in [
            ("anna@one.example", "anna@one.example", true),
            ("anna@one.example", "ANNA@ONE.example", true),
            ("anna@one.example", "anna+shop@one.example", true),
            ("anna@one.example", "anna+@one.example", true),
            ("anna@one.example", "annas@one.example", false),
            ("anna@one.example", "x+anna@one.example", false),
            ("anna@one.example", "anna@sub.one.example", false),
            ("anna@one.example", "info@one.example", true),
            ("anna@one.example", "info+x@one.example", false),
            ("anna@one.example", "any@two.example", true),
            ("anna@one.example", "any@sub.two.example", false),
            ("anna@one.example", "any@xtwo.example", false),
            ("anna@one.example", "ben@one.example", false),
            ("anna@one.example", "anna@[127.0.0.1]", false),
            ("anna@one.example", "\"anna@one.example\"@three.example", false),
            ("ben@one.example", "info@one.example", false),
            ("ben@one.example", "@one.example", false),
            ("backup", "any@where.example", true),
            ("word", "word@one.example", false),
            ("outside@ldap.example", "outside@ldap.example", true),
            ("outside@ldap.example", "anna@one.example", false),
            ("", "anna@one.example", false),
        ] {
            let Ok(mailbox) = Mailbox::parse(sender) else {
                assert!(!expected, "{sender}");
                continue;
            };
            assert_eq!(roster().may_send_as(login, &mailbox), expected, "{login} as {sender}");
        }
    }

    #[test]
    fn names_have_one_form() {
        for (text, name) in [
            ("Anna@One.Example", Some("anna@one.example")),
            ("anna@b\u{fc}cher.example", Some("anna@xn--bcher-kva.example")),
            ("Backup-1", Some("backup-1")),
            ("", None),
            ("a b", None),
            ("a@", None),
            ("@a.example", None),
            ("a\0", None),
            ("a@b\r\n", None),
            ("../x", None),
        ] {
            assert_eq!(login_name(text).as_deref(), name, "{text:?}");
        }
        for (text, grant) in [
            ("@Two.Example", Some("@two.example")),
            ("*", Some("*")),
            ("Info@one.example", Some("info@one.example")),
            ("info", None),
            ("@", None),
            ("**", None),
        ] {
            assert_eq!(sender_grant(text).as_deref(), grant, "{text:?}");
        }
        assert_eq!(fingerprint(&"Ab:".repeat(32)).as_deref(), Some("ab".repeat(32).as_str()));
        assert_eq!(fingerprint("abcd"), None);
    }

    #[test]
    fn only_users_with_a_mailbox_are_one() {
        assert!(roster().mailbox("anna", "one.example").is_some());
        assert!(roster().mailbox("carl", "one.example").is_none());
        assert!(roster().mailbox("anna", "two.example").is_none(), "a grant to send is no mailbox");
    }

    #[test]
    fn the_picture_follows_the_tables() {
        let state = tempfile::tempdir().expect("a directory");
        let queue = mta_queue::Queue::open(state.path(), mta_queue::Options::default()).expect("a queue");
        let users = Users::default();
        let other = users.clone();
        let user = mta_queue::StoredUser { name: "anna@one.example".to_owned(), ..Default::default() };
        queue.add_user(user).expect("added");
        let grant = |kind, value: &str| mta_queue::StoredGrant {
            user: "anna@one.example".to_owned(),
            kind,
            value: value.to_owned(),
        };
        queue.grant(grant(GrantKind::Sender, "@two.example")).expect("granted");
        queue.grant(grant(GrantKind::Certificate, &"ab".repeat(32))).expect("granted");
        assert!(other.now().is_empty());
        users.refresh(&queue.reader()).expect("read");
        let now = other.now();
        assert_eq!(now.by_certificate(&"ab".repeat(32)), Some("anna@one.example"));
        assert_eq!(now.get("anna@one.example").expect("there").senders, ["@two.example"]);
    }
}
