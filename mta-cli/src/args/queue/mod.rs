//! `queue`: the arguments. The verbs that take a selection share its options by one macro.

mod change;
mod look;

use argh::{ArgsInfo, FromArgs};

pub use self::change::{
    QueueBounce, QueueDrop, QueueHold, QueueRedirect, QueueRelease, QueueReroute, QueueRetry,
};
pub use self::look::{
    HoldRule, HoldRuleAdd, HoldRuleList, HoldRuleRemove, HoldRuleVerb, QueueList, QueueShow, QueueSummary,
};

/// Look at the queue and change it.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "queue", example = "{command_name} list --to @example.org")]
pub struct Queue {
    /// what to do
    #[argh(subcommand)]
    pub verb: QueueVerb,
}

/// The verbs of the queue.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum QueueVerb {
    /// A list.
    List(QueueList),
    /// Groups.
    Summary(QueueSummary),
    /// One message.
    Show(QueueShow),
    /// Due now.
    Retry(QueueRetry),
    /// Not until released.
    Hold(QueueHold),
    /// No longer held.
    Release(QueueRelease),
    /// Away.
    Drop(QueueDrop),
    /// Back to the sender.
    Bounce(QueueBounce),
    /// To another address.
    Redirect(QueueRedirect),
    /// Another way.
    Reroute(QueueReroute),
    /// Rules for mail to come.
    HoldRule(HoldRule),
}

/// Which messages, as the command line says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Ids or beginnings of ids.
    pub ids: Vec<String>,
    /// A recipient.
    pub to: Option<String>,
    /// The reverse-path.
    pub from: Option<String>,
    /// A recipient's domain.
    pub domain: Option<String>,
    /// A status.
    pub status: Option<String>,
    /// Arrived longer ago than this, or before this time.
    pub older_than: Option<String>,
    /// Arrived less long ago than this, or since this time.
    pub newer_than: Option<String>,
    /// Why it waits.
    pub reason: Option<String>,
    /// The host last spoken to.
    pub next_hop: Option<String>,
}

/// A verb with the options of a selection, and options of its own.
macro_rules! selecting {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($own:tt)*
        }
    ) => {
        #[derive(argh::FromArgs, argh::ArgsInfo, Debug, Default)]
        $(#[$meta])*
        pub struct $name {
            /// ids or beginnings of ids
            #[argh(positional)]
            pub ids: Vec<String>,
            /// a recipient, part of one, or @domain
            #[argh(option, arg_name = "address")]
            pub to: Option<String>,
            /// the sender, part of it, @domain, or <>
            #[argh(option, arg_name = "address")]
            pub from: Option<String>,
            /// a recipient's domain
            #[argh(option, arg_name = "name")]
            pub domain: Option<String>,
            /// queued, deferred, held, damaged
            #[argh(option, arg_name = "status")]
            pub status: Option<String>,
            /// arrived longer ago (2h, 3d) or before a time
            #[argh(option, arg_name = "age")]
            pub older_than: Option<String>,
            /// arrived less long ago, or since a time
            #[argh(option, arg_name = "age")]
            pub newer_than: Option<String>,
            /// text or code of the last reply, or a class
            #[argh(option, arg_name = "text")]
            pub reason: Option<String>,
            /// the host last spoken to, or part of it
            #[argh(option, arg_name = "host")]
            pub next_hop: Option<String>,
            $($own)*
        }

        impl $name {
            /// Which messages are meant.
            pub fn selection(&self) -> $crate::args::queue::Selection {
                $crate::args::queue::Selection {
                    ids: self.ids.clone(),
                    to: self.to.clone(),
                    from: self.from.clone(),
                    domain: self.domain.clone(),
                    status: self.status.clone(),
                    older_than: self.older_than.clone(),
                    newer_than: self.newer_than.clone(),
                    reason: self.reason.clone(),
                    next_hop: self.next_hop.clone(),
                }
            }
        }
    };
}
use selecting;
