//! `report`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// What was counted for the operators of other domains, and what they were sent.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "report", example = "{command_name} tls --day yesterday")]
pub struct Report {
    /// which report
    #[argh(subcommand)]
    pub verb: ReportVerb,
}

/// The reports.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum ReportVerb {
    /// TLS sessions.
    Tls(ReportTls),
    /// Mail from outside.
    Dmarc(ReportDmarc),
    /// What was sent.
    List(ReportList),
    /// Now.
    Send(ReportSend),
}

/// Show what mail from outside was like on a day, for each domain that asks for DMARC reports (RFC 9990): how many messages
/// of which client, what SPF and DKIM said of the author, and what was done. Exit 0, 1 if some failed, 2 if none was counted.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "dmarc", example = "{command_name} --day yesterday --domain example.org")]
pub struct ReportDmarc {
    /// the day (UTC): 2026-11-25, today or yesterday; the newest with messages unless given
    #[argh(option, arg_name = "day")]
    pub day: Option<String>,
    /// only this domain, as the one that publishes the policy
    #[argh(option, arg_name = "domain")]
    pub domain: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// List the reports of the last two weeks: which wait for their time, which were sent to whom, and what went wrong. Says why
/// none are sent, where that is so. Exit 0, 1 if one could not be handed over or none are sent, 2 if there is none.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list", example = "{command_name} --kind tls --json")]
pub struct ReportList {
    /// tls or dmarc; all kinds unless given
    #[argh(option, arg_name = "kind")]
    pub kind: Option<String>,
    /// reports at most, those of the newest days (default: 200)
    #[argh(option, default = "200", arg_name = "count")]
    pub limit: usize,
    /// also those that nobody wants
    #[argh(switch)]
    pub all: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Send the reports of a day now, also those that were sent before. Reports leave by themselves when a day is over; this is
/// for a look (--dry-run), for a test, and for what went wrong. Exit 0, 2 if there is nothing to report.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "send",
    example = "{command_name} tls --day yesterday --domain example.org --dry-run",
    note = "A report of today covers the day so far, and another follows when the day is over. What became of it: report list."
)]
pub struct ReportSend {
    /// tls or dmarc
    #[argh(positional)]
    pub kind: String,
    /// the day (UTC): 2026-11-25, today or yesterday (default: yesterday)
    #[argh(option, default = "String::from(\"yesterday\")", arg_name = "day")]
    pub day: String,
    /// only the report about this domain
    #[argh(option, arg_name = "domain")]
    pub domain: Option<String>,
    /// show what would be sent to whom, and send nothing
    #[argh(switch)]
    pub dry_run: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Show how TLS went with other servers on a day, by domain and policy (RFC 8460), and who would be told. Exit 0, 1 if a
/// session failed, 2 if none was counted.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "tls",
    example = "{command_name} --day 2026-11-25 --domain example.org",
    note = "With --json each report stands as it is sent when the day is over. What was sent: report list."
)]
pub struct ReportTls {
    /// the day (UTC): 2026-11-25, today or yesterday; the newest with sessions unless given
    #[argh(option, arg_name = "day")]
    pub day: Option<String>,
    /// only what concerns this domain, as recipient domain or as operator of TLSA records
    #[argh(option, arg_name = "domain")]
    pub domain: Option<String>,
    /// do not ask DNS where the domains want their reports
    #[argh(switch)]
    pub no_dns: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}
