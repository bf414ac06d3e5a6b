//! `report tls`: what was counted about TLS sessions with other servers.

use serde_json::Value;

use super::{QueueOperations, failed, to_value};
use crate::control::protocol::{Done, Failure, ReportTlsArguments};
use crate::report::tlsrpt;

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
}
