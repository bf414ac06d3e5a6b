//! `report`: the arguments.

use argh::{ArgsInfo, FromArgs};

/// What was counted for the operators of other domains.
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
}

/// Show how TLS went with other servers on a day, by domain and policy (RFC 8460), and who would be told. Exit 0, 1 if a
/// session failed, 2 if none was counted.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "tls",
    example = "{command_name} --day 2026-11-25 --domain example.org",
    note = "With --json each report stands as it would be sent. Nothing is sent yet: a report has to be signed with DKIM, which this version cannot do."
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
