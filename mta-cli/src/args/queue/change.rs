//! `queue retry|hold|release|drop|bounce|redirect|reroute`: the arguments.

use super::selecting;

selecting! {
    /// Try the recipients that fit again now.
    #[argh(subcommand, name = "retry", example = "{command_name} --to @example.org")]
    pub struct QueueRetry {
        /// everything that waits
        #[argh(switch)]
        pub all: bool,
        /// only say how many it would be
        #[argh(switch)]
        pub dry_run: bool,
        /// print JSON
        #[argh(switch)]
        pub json: bool,
    }
}

selecting! {
    /// Hold the recipients that fit until they are released.
    #[argh(
        subcommand,
        name = "hold",
        example = "{command_name} --from news@example.org --note \"a loop?\"",
        note = "For mail to come see hold-rule."
    )]
    pub struct QueueHold {
        /// why, kept in the message's history
        #[argh(option, arg_name = "text")]
        pub note: Option<String>,
        /// everything that waits
        #[argh(switch)]
        pub all: bool,
        /// only say how many it would be
        #[argh(switch)]
        pub dry_run: bool,
        /// print JSON
        #[argh(switch)]
        pub json: bool,
    }
}

selecting! {
    /// Release the held recipients that fit.
    #[argh(
        subcommand,
        name = "release",
        example = "{command_name} --from news@example.org",
        note = "They are due by their own time; to try them at once, retry them."
    )]
    pub struct QueueRelease {
        /// everything that is held
        #[argh(switch)]
        pub all: bool,
        /// only say how many it would be
        #[argh(switch)]
        pub dry_run: bool,
        /// print JSON
        #[argh(switch)]
        pub json: bool,
    }
}

selecting! {
    /// Take the recipients that fit out of the queue, silently.
    #[argh(
        subcommand,
        name = "drop",
        example = "{command_name} --from '<>' --dry-run",
        note = "Nobody is notified, and it cannot be undone."
    )]
    pub struct QueueDrop {
        /// why, kept in the message's history
        #[argh(option, arg_name = "text")]
        pub note: Option<String>,
        /// everything that waits or is held
        #[argh(switch)]
        pub all: bool,
        /// only say how many it would be
        #[argh(switch)]
        pub dry_run: bool,
        /// do not ask
        #[argh(switch)]
        pub yes: bool,
        /// print JSON
        #[argh(switch)]
        pub json: bool,
    }
}

selecting! {
    /// Return the recipients that fit to their senders.
    #[argh(subcommand, name = "bounce", example = "{command_name} --domain typo.example --note \"no such domain\"")]
    pub struct QueueBounce {
        /// why, told to the sender
        #[argh(option, arg_name = "text")]
        pub note: Option<String>,
        /// everything that waits or is held
        #[argh(switch)]
        pub all: bool,
        /// only say how many it would be
        #[argh(switch)]
        pub dry_run: bool,
        /// do not ask
        #[argh(switch)]
        pub yes: bool,
        /// print JSON
        #[argh(switch)]
        pub json: bool,
    }
}

/// Send mail to another address.
#[derive(argh::FromArgs, argh::ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "redirect",
    example = "{command_name} 1k3v9 --to robert@example.net",
    note = "The original recipient stays known to the sender's notifications."
)]
pub struct QueueRedirect {
    /// ids or beginnings of ids
    #[argh(positional)]
    pub ids: Vec<String>,
    /// the new address, or @domain to keep the part before the @
    #[argh(option, arg_name = "address")]
    pub to: String,
    /// of the recipients this one, part of one, or @domain
    #[argh(option, arg_name = "address")]
    pub rcpt: Option<String>,
    /// why, kept in the message's history
    #[argh(option, arg_name = "text")]
    pub note: Option<String>,
    /// only say how many it would be
    #[argh(switch)]
    pub dry_run: bool,
    /// do not ask
    #[argh(switch)]
    pub yes: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

selecting! {
    /// Send the recipients that fit over another next hop.
    #[argh(subcommand, name = "reroute", example = "{command_name} --domain example.org --via backup.example.org")]
    pub struct QueueReroute {
        /// HOST, HOST:PORT, or default
        #[argh(option, arg_name = "hop")]
        pub via: String,
        /// everything that waits or is held
        #[argh(switch)]
        pub all: bool,
        /// only say how many it would be
        #[argh(switch)]
        pub dry_run: bool,
        /// do not ask
        #[argh(switch)]
        pub yes: bool,
        /// print JSON
        #[argh(switch)]
        pub json: bool,
    }
}
