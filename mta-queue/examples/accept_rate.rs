//! How many messages a second the queue accepts durably, and how many syncs each costs, with 1, 10 and 50 producers.
//!
//! Each producer hands in one message of 4 KiB and waits for the answer, as an SMTP session does. Beside it, the disk:
//! an append of 4 KiB and a sync, one after the other.
//!
//!     cargo run --release -p mta-queue --example accept_rate -- DIRECTORY [MESSAGES]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Instant, SystemTime};

use mta_queue::{NewMessage, Options, Origin, Queue};
use mta_smtp::address::{Mailbox, ReversePath};
use mta_smtp::envelope::{Envelope, Recipient};

const SIZE: usize = 4096;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let base = PathBuf::from(arguments.next().unwrap_or_else(|| "./accept-rate-bench".to_owned()));
    let messages: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    println!(
        "{:>9} {:>9} {:>9} {:>11} {:>12} {:>13}",
        "producers", "messages", "msg/s", "syncs/msg", "CPU us/msg", "disk probe/s"
    );
    for producers in [1, 10, 50] {
        let directory = base.join(producers.to_string());
        let _ = fs::remove_dir_all(&directory);
        let probe = probe(&base);
        let queue =
            Queue::open(&directory, Options { reserve_bytes: 0, ..Options::default() }).expect("open");
        let each = messages / producers;
        let (start, cpu) = (Instant::now(), cpu_micros());
        std::thread::scope(|scope| {
            for producer in 0..producers {
                let queue = &queue;
                scope.spawn(move || (0..each).for_each(|n| accept(queue, producer, n)));
            }
        });
        let seconds = start.elapsed().as_secs_f64();
        let cpu = cpu_micros() - cpu;
        let done = (each * producers) as f64;
        let syncs = queue.statistics().full_commits as f64;
        println!(
            "{producers:>9} {done:>9} {:>9.0} {:>11.3} {:>12.0} {probe:>13.0}",
            done / seconds,
            syncs / done,
            cpu as f64 / done
        );
        queue.close();
    }
    let _ = fs::remove_dir_all(base);
}

fn accept(queue: &Queue, producer: usize, n: usize) {
    let mut envelope = Envelope::new(ReversePath::Null);
    let mailbox = format!("user{n}@domain{}.example", producer % 20);
    envelope.recipients.push(Recipient::new(Mailbox::parse(&mailbox).expect("mailbox")));
    let mut content = queue.content();
    content.write_all(&[b'x'; SIZE]).expect("write");
    let content = content.finish().expect("finish");
    let (id, received_at) = (queue.new_id(), SystemTime::now());
    let (done, answer) = channel();
    let message = NewMessage { id, envelope, received_at, origin: Origin::default(), content, hold: None };
    queue.accept(message, move |result| done.send(result).expect("producer waits"));
    answer.recv().expect("answered").expect("accepted");
}

/// Appends of 4 KiB with a sync each, per second.
fn probe(base: &Path) -> f64 {
    fs::create_dir_all(base).expect("directory");
    let mut file = File::create(base.join("probe")).expect("file");
    let start = Instant::now();
    for _ in 0..100 {
        file.write_all(&[0; SIZE]).expect("write");
        file.sync_data().expect("sync");
    }
    100.0 / start.elapsed().as_secs_f64()
}

/// CPU time of this process, user and system.
fn cpu_micros() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks * 10_000
}
