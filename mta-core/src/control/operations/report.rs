//! `report tls|dmarc|list|send`: what was counted for the operators of other domains, and what they were told.

use std::sync::Arc;
use std::time::SystemTime;

use mta_queue::{QueueId, ReportKind, ReportPlan, ReportState, StoredReport, day_of};
use serde_json::Value;

use super::{QueueOperations, Rows, failed, to_value};
use crate::control::peer::Peer;
use crate::control::protocol::{
    Code, Done, Failure, ReportListArguments, ReportSendArguments, ReportTlsArguments,
};
use crate::control::views::{
    DmarcRecordView, DmarcView, MessageView, ReportRow, ReportSendingView, ReportToView, ReportView, rfc3339,
};
use crate::log::Line;
use crate::report::send::{Place, Preparing, Ready, Sender, Way};
use crate::report::tlsrpt::{self, day_text};

/// Reports of one answer where nobody says how many.
const LIST_LIMIT: usize = 200;

/// Reports that are made to be shown; each asks the DNS.
const SHOW_LIMIT: usize = 50;

impl QueueOperations {
    /// A row for each policy of a day.
    pub(super) fn report_tls(
        &self,
        arguments: &ReportTlsArguments,
        row: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Done, Failure> {
        let days = self.reader.tls_report_days().map_err(failed)?;
        let Some(day) = arguments.day.or_else(|| days.first().map(|newest| newest.day)) else {
            return Ok(Done::default());
        };
        let left_out = days.iter().find(|known| known.day == day).map_or(0, |known| known.left_out);
        let counts = self.reader.tls_report(day, arguments.domain.as_deref()).map_err(failed)?;
        let mut done = Done::default();
        for counted in tlsrpt::rows(day, left_out, counts) {
            done.count += 1;
            if !row(to_value(&counted)?) {
                break;
            }
        }
        Ok(done)
    }

    /// A row for each domain.
    pub(super) fn report_dmarc(
        &self,
        arguments: &ReportTlsArguments,
        row: Rows<'_>,
    ) -> Result<Done, Failure> {
        if let Some(daemon) = &self.daemon {
            daemon.reports.gathered().map_err(failed)?;
        }
        let newest = self.reader.dmarc_newest_day().map_err(failed)?;
        let Some(day) = arguments.day.or(newest) else { return Ok(Done::default()) };
        let mut done = Done::default();
        for counts in self.reader.dmarc_counts(day, arguments.domain.as_deref()).map_err(failed)? {
            let unreadable = |e: serde_json::Error| Failure::new(Code::Internal, e.to_string());
            let record = |(data, messages): (String, u64)| {
                serde_json::from_str(&data).map(|row| DmarcRecordView { messages, row }).map_err(unreadable)
            };
            let view = DmarcView {
                day: day_text(day),
                domain: counts.domain,
                policy: serde_json::from_str(&counts.policy).map_err(unreadable)?,
                records: counts.rows.into_iter().map(record).collect::<Result<_, _>>()?,
                left_out: counts.left_out,
            };
            done.count += 1;
            if !row(to_value(&view)?) {
                break;
            }
        }
        Ok(done)
    }

    /// Whether reports are sent, and a row for each.
    pub(super) fn reports(&self, arguments: &ReportListArguments, row: Rows<'_>) -> Result<Done, Failure> {
        let kind = arguments.kind.as_deref().map(kind_of).transpose()?;
        let wanted = ReportKind::ALL.into_iter().filter(|it| kind.is_none_or(|kind| kind == *it));
        if let Some(daemon) = &self.daemon {
            for kind in wanted {
                let (sending, not_sent_because) = (kind.as_str().to_owned(), daemon.reports.blocked(kind));
                row(to_value(&ReportRow::Sending(ReportSendingView { sending, not_sent_because }))?);
            }
        }
        let limit = if arguments.limit == 0 { LIST_LIMIT } else { arguments.limit };
        let mut done = Done::default();
        for report in self.reader.reports(kind, limit).map_err(failed)? {
            done.count += 1;
            if !row(to_value(&ReportRow::Report(Box::new(self.report_view(&report)?)))?) {
                break;
            }
        }
        Ok(done)
    }

    fn report_view(&self, report: &StoredReport) -> Result<ReportView, Failure> {
        let mut to = Vec::new();
        for (address, message) in &report.told {
            let status = match message.parse::<QueueId>() {
                Ok(id) => self.reader.show(id).map_err(failed)?.map(|shown| MessageView::from(&shown).status),
                Err(_) => Some("delivered".to_owned()),
            };
            let message = (!message.is_empty()).then(|| message.clone());
            to.push(ReportToView { address: address.clone(), message, status, refused_because: None });
        }
        Ok(ReportView {
            kind: report.kind.as_str().to_owned(),
            day: day_text(report.day),
            domain: report.domain.clone(),
            state: report.state.as_str().to_owned(),
            whole_day: report.whole,
            tries: report.tries,
            next_try_at: (report.state == ReportState::Due).then(|| rfc3339(report.next_try)),
            to,
            reason: (!report.error.is_empty()).then(|| report.error.clone()),
            file_name: None,
            size_bytes: None,
        })
    }

    /// Sends a day's reports now, or shows them.
    pub(super) fn send_reports(
        &self,
        peer: &Peer,
        arguments: &ReportSendArguments,
        row: Rows<'_>,
    ) -> Result<Done, Failure> {
        let kind = kind_of(&arguments.kind)?;
        let Some(daemon) = &self.daemon else {
            return Err(Failure::new(Code::Unreachable, "the daemon does not run: it sends the reports"));
        };
        if arguments.day > day_of(SystemTime::now()) {
            return Err(Failure::new(Code::BadRequest, "that day is still to come"));
        }
        let domain = arguments.domain.clone();
        if arguments.dry_run {
            return self.show_reports(&daemon.reports, kind, arguments, row);
        }
        if let Some(why) = daemon.reports.blocked(kind) {
            return Err(Failure::new(Code::Configuration, format!("no such report is sent: {why}")));
        }
        let count = daemon.reports.send_now(kind, arguments.day, domain).map_err(failed)?;
        let line = Line::new("reports-wanted").with("kind", kind.as_str()).with("by", &peer.user);
        ::log::info!("{}", line.with("day", day_text(arguments.day)).with("count", count));
        Ok(Done { count, ..Done::default() })
    }

    /// A row for each report as it would be sent.
    fn show_reports(
        &self,
        sender: &Arc<Sender>,
        kind: ReportKind,
        arguments: &ReportSendArguments,
        row: Rows<'_>,
    ) -> Result<Done, Failure> {
        let now = SystemTime::now();
        sender.gathered().map_err(failed)?;
        let plan = ReportPlan::new(kind, arguments.day, arguments.domain.clone());
        let mut done = Done::default();
        for report in self.reader.reports_of(&plan, SHOW_LIMIT).map_err(failed)? {
            done.count += 1;
            let made = smol::block_on(sender.prepare(&report, now));
            let view = self.report_view(&report)?;
            let view = match made {
                Preparing::Ready(ready) => ready_view(view, &ready),
                Preparing::Unwanted(why) => {
                    ReportView { state: ReportState::Unwanted.as_str().to_owned(), reason: Some(why), ..view }
                }
                Preparing::Later(why) => ReportView { reason: Some(why), ..view },
            };
            if !row(to_value(&view)?) {
                break;
            }
        }
        Ok(done)
    }
}

fn ready_view(view: ReportView, ready: &Ready) -> ReportView {
    let place = |place: &Place| match &place.way {
        Way::To(to) => ReportToView { address: to.to_string(), ..ReportToView::default() },
        Way::Refused(why) | Way::Unknown(why) => ReportToView {
            address: place.uri.clone(),
            refused_because: Some(why.clone()),
            ..ReportToView::default()
        },
    };
    ReportView {
        state: "ready".to_owned(),
        to: ready.places.iter().map(place).collect(),
        file_name: Some(ready.file_name().to_owned()),
        size_bytes: Some(ready.size_bytes() as u64),
        ..view
    }
}

fn kind_of(word: &str) -> Result<ReportKind, Failure> {
    ReportKind::parse(word).ok_or_else(|| {
        let known: Vec<&str> = ReportKind::ALL.into_iter().map(ReportKind::as_str).collect();
        let message = format!("{word:?} is no kind of report: expected {}", known.join(" or "));
        Failure::new(Code::BadRequest, message)
    })
}
