//! The operations while the daemon is down: the queue's files, and the routes of the configuration. Nothing is delivered.

use std::sync::Arc;

use mta_queue::{Queue, Reader};

use super::{QueueOperations, Source};
use crate::config::{Applied, Config};
use crate::outbound::scheduler::{self, Deliver, Delivery, Scheduler, Site};
use crate::outbound::{AttemptReport, Job};
use crate::routing::Route;

impl QueueOperations {
    /// On the files, read.
    pub fn reading(reader: Reader) -> Self {
        Self::offline(Source::Reader(reader))
    }

    /// On the files, under the queue's lock.
    pub fn writing_offline(queue: Queue, config: &Config) -> Self {
        let nobody = Arc::new(Nobody(Applied::new(config)));
        // A notice about mail that was forwarded goes to the sender behind the rewritten one.
        let srs = config.srs_secret(&queue).ok().and_then(|secret| config.srs(&secret));
        let options = scheduler::Options { srs, ..config.scheduler_options() };
        let scheduler = Scheduler::new(queue.clone(), nobody, options, Site::default());
        Self::offline(Source::Queue(queue, scheduler))
    }
}

/// Knows the way and goes nowhere.
struct Nobody(Applied);

impl Deliver for Nobody {
    fn route(&self, destination: &str) -> Route {
        self.0.route(destination)
    }

    fn deliver(&self, _job: Job) -> Delivery {
        // The scheduler does not run, so nobody asks.
        Box::pin(async { AttemptReport::default() })
    }
}
