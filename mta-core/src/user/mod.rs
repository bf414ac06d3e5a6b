//! Users who log in: who they are, how they prove it, as whom they send and how much.
//!
//! `roster` is the picture of all of them in memory; `password` makes and checks what is kept of a password; `login` is the
//! one place that decides whether a login is good, with `guard` against guessing and `external` for users that somebody else
//! knows; `rate` counts what each sends and holds a runaway. The tables are `mta_queue`'s; the protocol is `mta_smtp::sasl`.
//! What this module does not: it is no mailbox and delivers nothing (`account`).

mod argon2id;
pub mod external;
pub mod guard;
pub mod login;
pub mod password;
pub mod rate;
pub mod roster;
pub mod service;

pub use login::Logins;
pub use roster::{Roster, Users, fingerprint, login_name, sender_grant};
pub use service::Service;
