//! `user`: who may log in, and what each may. Secrets come as they are kept: no password passes here.

use std::time::{SystemTime, UNIX_EPOCH};

use mta_queue::{By, Queue, RecipientState, StoredSecret};
use mta_queue::{ChangeKind, GrantKind, Selector, StoredGrant, StoredUser, UserChange};

use super::{QueueOperations, Rows, failed, to_value};
use crate::control::peer::Peer;
use crate::control::protocol::{Code, Done, Failure, GrantArguments, UserArguments, UserChangeArguments};
use crate::control::views::UserView;
use crate::log::Line;
use crate::user::service::hold_reason;
use crate::user::{fingerprint, login_name, sender_grant};

impl QueueOperations {
    /// A row for each user, or for one.
    pub(super) fn users(&self, name: Option<&str>, row: Rows<'_>) -> Result<Done, Failure> {
        let name = name.map(one_form).transpose()?;
        let users = match &name {
            None => self.reader.users().map_err(failed)?,
            Some(name) => self.reader.user(name).map_err(failed)?.into_iter().collect(),
        };
        if let (Some(name), true) = (&name, users.is_empty()) {
            return Err(unknown(name));
        }
        let grants = self.reader.grants().map_err(failed)?;
        let mut done = Done::default();
        for user in users {
            let sent = self.reader.sent(&user.name).map_err(failed)?;
            let granted = grants.iter().filter(|grant| grant.user == user.name);
            let view = UserView::of(&user, granted, &sent, this_hour());
            done.count += 1;
            if !row(to_value(&view)?) {
                break;
            }
        }
        Ok(done)
    }

    /// Adds a user.
    pub(super) fn add_user(&self, peer: &Peer, arguments: &UserArguments) -> Result<Done, Failure> {
        let (queue, _) = self.writing()?;
        let name = one_form(&arguments.name)?;
        if arguments.mailbox && !name.contains('@') {
            let text = format!("{name} has no domain, so it is no mailbox: give an address, or --no-mailbox");
            return Err(Failure::new(Code::BadRequest, text));
        }
        let user = StoredUser {
            name: name.clone(),
            secret: arguments.secret.stored(),
            scram_off: arguments.scram_off,
            mailbox: arguments.mailbox,
            quota: arguments.quota.filter(|quota| *quota > 0),
            created_at: Some(SystemTime::now()),
            ..StoredUser::default()
        };
        if !queue.add_user(user).map_err(failed)? {
            let text = format!("{name} is a user already: mta-cli user passwd changes the password");
            return Err(Failure::new(Code::BadRequest, text));
        }
        self.changed(queue, peer, "added", &name)
    }

    /// Changes a user.
    pub(super) fn change_user(&self, peer: &Peer, arguments: &UserChangeArguments) -> Result<Done, Failure> {
        let (queue, _) = self.writing()?;
        let name = one_form(&arguments.name)?;
        let mut change = UserChange {
            secret: arguments.secret.as_ref().map(super::super::protocol::SecretArguments::stored),
            scram_off: arguments.scram_off,
            disabled: arguments.disabled,
            mailbox: arguments.mailbox,
            quota: arguments.quota.map(|quota| Some(quota).filter(|quota| *quota > 0)),
            held: None,
        };
        // Keys of an old password must not outlive it.
        if change.scram_off == Some(true) && change.secret.is_none() {
            let kept = self.reader.user(&name).map_err(failed)?.ok_or_else(|| unknown(&name))?;
            change.secret = Some(StoredSecret { scram: None, ..kept.secret });
        }
        if !queue.change_user(&name, change).map_err(failed)? {
            return Err(unknown(&name));
        }
        self.changed(queue, peer, "changed", &name)
    }

    /// Removes a user. Its mailbox stays where it lies.
    pub(super) fn remove_user(&self, peer: &Peer, name: &str) -> Result<Done, Failure> {
        let (queue, _) = self.writing()?;
        let name = one_form(name)?;
        if !queue.remove_user(&name).map_err(failed)? {
            return Err(unknown(&name));
        }
        self.changed(queue, peer, "removed", &name)
    }

    /// Grants something to a user, or takes it away.
    pub(super) fn grant(&self, peer: &Peer, arguments: &GrantArguments) -> Result<Done, Failure> {
        let (queue, _) = self.writing()?;
        let user = one_form(&arguments.name)?;
        let (kind, value) = match (&arguments.sender, &arguments.certificate) {
            (Some(sender), None) => (GrantKind::Sender, sender_grant(sender)),
            (None, Some(print)) => (GrantKind::Certificate, fingerprint(print)),
            _ => (GrantKind::Sender, None),
        };
        let Some(value) = value else {
            let text = "give an address, @domain or * to send as, or a certificate's SHA-256 fingerprint (64 \
                        hexadecimal digits)";
            return Err(Failure::new(Code::BadRequest, text));
        };
        if self.reader.user(&user).map_err(failed)?.is_none() {
            return Err(unknown(&user));
        }
        let grant = StoredGrant { user: user.clone(), kind, value };
        let changed = if arguments.remove { queue.revoke(grant) } else { queue.grant(grant) };
        let done = self.changed(queue, peer, if arguments.remove { "revoked" } else { "granted" }, &user)?;
        Ok(Done { count: u64::from(changed.map_err(failed)?), ..done })
    }

    /// Lets a user send again whom the brake held, and lets go what is held of him; how many recipients.
    pub(super) fn release_user(&self, peer: &Peer, name: &str) -> Result<Done, Failure> {
        let (queue, scheduler) = self.writing()?;
        let name = one_form(name)?;
        let change = UserChange { held: Some(None), ..UserChange::default() };
        if !queue.change_user(&name, change).map_err(failed)? {
            return Err(unknown(&name));
        }
        self.changed(queue, peer, "released", &name)?;
        if let Some(daemon) = &self.daemon {
            daemon.users.released(&name);
        }
        let selector = Selector {
            state: Some(RecipientState::Held),
            reason: Some(hold_reason(&name)),
            up_to: Some(queue.new_id()),
            ..Selector::default()
        };
        let by = By { who: &peer.user, reason: "user release" };
        let mut change = queue.piecewise(ChangeKind::Release, &selector, by, SystemTime::now());
        let mut done = Done::default();
        while let Some(changed) = change.step().map_err(failed)? {
            done.count += changed.recipients;
        }
        if self.daemon.is_some() {
            scheduler.retry_next_hops();
        }
        Ok(done)
    }

    /// The sessions see it at once.
    fn changed(&self, queue: &Queue, peer: &Peer, what: &str, name: &str) -> Result<Done, Failure> {
        ::log::info!("{}", Line::new("user").with("user", name).with("action", what).with("by", &peer.user));
        if let Some(daemon) = &self.daemon {
            daemon.users.users.refresh(&queue.reader()).map_err(failed)?;
        }
        Ok(Done { count: 1, ..Done::default() })
    }
}

fn one_form(name: &str) -> Result<String, Failure> {
    login_name(name).ok_or_else(|| {
        let shown = crate::log::visible(name);
        Failure::new(
            Code::BadRequest,
            format!("{shown:?} is no user name: an address such as anna@example.org, or a word of letters and digits"),
        )
    })
}

fn unknown(name: &str) -> Failure {
    Failure::new(Code::NotFound, format!("{name} is no user here: mta-cli user list shows them"))
}

fn this_hour() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs() / 3600).unwrap_or(i64::MAX)
}
