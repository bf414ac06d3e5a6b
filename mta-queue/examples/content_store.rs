//! Where should content live: in the database, or in files beside it?
//!
//! Stores messages of three sizes in each of four ways and prints, for each: messages and MB per second, sync calls the
//! kernel counted being asked for (our own count: commits and file syncs), the largest write-ahead log, and peak memory.
//! Every way is durable before the message counts as stored. Run it on the disk in question:
//!
//!     cargo run --release -p mta-queue --example content_store -- DIRECTORY
//!
//! What it found and what was decided is in `mta-queue/DESIGN.md`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::{Connection, params};

const CHUNK: usize = 64 * 1024;

/// How content is stored.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// One row holds all; the whole content is in memory.
    OneRow,
    /// Rows of 64 KiB, a transaction of at most 1 MiB each, the row that makes the message real in the last one.
    ChunkRows,
    /// `zeroblob` and incremental writes, one transaction.
    Blob,
    /// A file, synced, its directory synced, then the row.
    File,
}

struct Bench {
    directory: PathBuf,
    connection: Connection,
    syncs: u64,
    wal_peak: u64,
    next: i64,
}

impl Bench {
    fn new(directory: &Path) -> rusqlite::Result<Self> {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory.join("content")).expect("directory");
        let connection = Connection::open(directory.join("bench.db"))?;
        connection.execute_batch(
            "PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
             PRAGMA wal_autocheckpoint=1000; PRAGMA journal_size_limit=4194304; PRAGMA cache_size=-2048;
             CREATE TABLE message (id INTEGER PRIMARY KEY, envelope TEXT, size INTEGER);
             CREATE TABLE chunk (id INTEGER PRIMARY KEY, data BLOB);",
        )?;
        Ok(Self { directory: directory.to_owned(), connection, syncs: 0, wal_peak: 0, next: 0 })
    }

    fn store(&mut self, way: Way, size: usize, source: &[u8]) -> rusqlite::Result<()> {
        self.next += 1;
        let id = self.next;
        match way {
            Way::OneRow => {
                let whole: Vec<u8> = source.iter().copied().cycle().take(size).collect();
                let tx = self.connection.unchecked_transaction()?;
                tx.execute("INSERT INTO chunk VALUES (?1, ?2)", params![id << 16, whole])?;
                row(&tx, id, size)?;
                tx.commit()?;
                self.syncs += 1;
            }
            Way::ChunkRows => self.chunk_rows(id, size, source)?,
            Way::Blob => {
                let tx = self.connection.unchecked_transaction()?;
                tx.execute("INSERT INTO chunk VALUES (?1, zeroblob(?2))", params![id << 16, size as i64])?;
                let mut blob = tx.blob_open("main", "chunk", "data", id << 16, false)?;
                for piece in pieces(size) {
                    blob.write_all(&source[..piece]).expect("blob");
                }
                blob.close()?;
                row(&tx, id, size)?;
                tx.commit()?;
                self.syncs += 1;
            }
            Way::File => {
                let directory = self.directory.join("content");
                let mut file = File::create(directory.join(id.to_string())).expect("file");
                for piece in pieces(size) {
                    file.write_all(&source[..piece]).expect("write");
                }
                file.sync_all().expect("sync");
                File::open(&directory).expect("open").sync_all().expect("sync");
                row(&self.connection, id, size)?;
                self.syncs += 3;
            }
        }
        let wal = fs::metadata(self.directory.join("bench.db-wal")).map_or(0, |m| m.len());
        self.wal_peak = self.wal_peak.max(wal);
        Ok(())
    }

    fn chunk_rows(&mut self, id: i64, size: usize, source: &[u8]) -> rusqlite::Result<()> {
        let all: Vec<usize> = pieces(size).collect();
        let mut groups = all.chunks(1_048_576 / CHUNK).enumerate().peekable();
        while let Some((group, pieces)) = groups.next() {
            // Only the last transaction must be synced: WAL frames before it are synced with it.
            let last = groups.peek().is_none();
            self.connection.execute_batch(if last {
                "PRAGMA synchronous=FULL"
            } else {
                "PRAGMA synchronous=NORMAL"
            })?;
            let tx = self.connection.unchecked_transaction()?;
            for (n, piece) in pieces.iter().enumerate() {
                let key = id << 16 | (group * (1_048_576 / CHUNK) + n) as i64;
                tx.prepare_cached("INSERT INTO chunk VALUES (?1, ?2)")?
                    .execute(params![key, &source[..*piece]])?;
            }
            if last {
                row(&tx, id, size)?;
                self.syncs += 1;
            }
            tx.commit()?;
        }
        Ok(())
    }

    /// Reads one message back, as a delivery does, and deletes it.
    fn drain(&mut self, way: Way, id: i64) -> rusqlite::Result<u64> {
        let mut read = 0;
        match way {
            Way::OneRow | Way::ChunkRows | Way::Blob => {
                let mut keys =
                    self.connection.prepare_cached("SELECT id FROM chunk WHERE id BETWEEN ?1 AND ?2")?;
                let keys: Vec<i64> = keys
                    .query_map(params![id << 16, id << 16 | 0xffff], |r| r.get(0))?
                    .collect::<Result<_, _>>()?;
                let mut buffer = vec![0; CHUNK];
                for key in keys {
                    let mut blob = self.connection.blob_open("main", "chunk", "data", key, true)?;
                    while let Ok(n @ 1..) = blob.read(&mut buffer) {
                        read += n as u64;
                    }
                }
                let range = params![id << 16, id << 16 | 0xffff];
                self.connection.execute("DELETE FROM chunk WHERE id BETWEEN ?1 AND ?2", range)?;
            }
            Way::File => {
                let path = self.directory.join("content").join(id.to_string());
                let mut file = File::open(&path).expect("open");
                let mut buffer = vec![0; CHUNK];
                while let Ok(n @ 1..) = file.read(&mut buffer) {
                    read += n as u64;
                }
                fs::remove_file(path).expect("remove");
            }
        }
        self.connection.execute("DELETE FROM message WHERE id = ?1", [id])?;
        Ok(read)
    }
}

fn row(connection: &Connection, id: i64, size: usize) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "INSERT INTO message VALUES (?1, 'someone@example.org someone.else@example.net', ?2)",
        )?
        .execute(params![id, size as i64])
}

fn pieces(size: usize) -> impl Iterator<Item = usize> {
    (0..size).step_by(CHUNK).map(move |at| CHUNK.min(size - at))
}

/// Peak memory of this process since the last reset, in KiB.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn main() -> rusqlite::Result<()> {
    let base = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "./content-store-bench".to_owned()));
    let source: Vec<u8> = (0..CHUNK as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    println!(
        "{:>9} {:<10} {:>6} {:>9} {:>9} {:>11} {:>9} {:>9} {:>10}",
        "size", "way", "count", "msg/s", "MB/s", "syncs/msg", "WAL MiB", "peak MiB", "drain MB/s"
    );
    for (size, count) in [(4 << 10, 400), (64 << 10, 200), (1 << 20, 60), (25_000_000, 8)] {
        for way in [Way::OneRow, Way::ChunkRows, Way::Blob, Way::File] {
            let mut bench = Bench::new(&base)?;
            let _ = fs::write("/proc/self/clear_refs", "5");
            let start = Instant::now();
            for _ in 0..count {
                bench.store(way, size, &source)?;
            }
            let stored = start.elapsed().as_secs_f64();
            let peak = peak_kib();
            bench.connection.execute_batch("PRAGMA synchronous=NORMAL")?;
            let start = Instant::now();
            let mut read = 0;
            for id in 1..=count {
                read += bench.drain(way, id)?;
            }
            let drained = start.elapsed().as_secs_f64();
            assert_eq!(read, size as u64 * count as u64, "all content is read back");
            let megabytes = (size as f64) * (count as f64) / 1e6;
            println!(
                "{size:>9} {:<10} {count:>6} {:>9.0} {:>9.1} {:>11.2} {:>9.1} {:>9.1} {:>10.1}",
                format!("{way:?}"),
                count as f64 / stored,
                megabytes / stored,
                bench.syncs as f64 / count as f64,
                bench.wal_peak as f64 / 1_048_576.0,
                peak as f64 / 1024.0,
                megabytes / drained,
            );
        }
    }
    let _ = fs::remove_dir_all(base);
    Ok(())
}
