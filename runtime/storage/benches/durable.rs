//! How fast things become durable, against plain append + fdatasync of the same bytes on the same disk in the same run.
//!
//! `cargo bench -p tidemill-storage`, or `cargo bench -p tidemill-storage --bench durable -- module` for one of them. `TIDEMILL_BENCH_DIR` chooses the disk (the build directory's by default), `TIDEMILL_BENCH_GIB` the size of the directory
//! that is opened after kill -9. Ratios are medians over interleaved rounds; the bar behind each is what the design asks for.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    missing_docs
)]
use std::{
    env,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tidemill_storage::{
    Append, Changes, Error, LogId, LogRead, Opened, Options, Row, Settled, Settler, Settling, Storage, Table, Writer,
    disk::RealDisk,
};

const BATCH_BYTES: usize = 16 << 10;
const LOGS: u32 = 16;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, mode, dir, gib] = &arguments[..]
        && mode == "fill"
    {
        return fill(Path::new(dir), gib.parse().unwrap());
    }
    let root =
        env::var_os("TIDEMILL_BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = tempfile::tempdir_in(root).unwrap();
    let gib = env::var("TIDEMILL_BENCH_GIB").map_or(1, |gib| gib.parse().unwrap());
    let benches: [(&str, &dyn Fn(&Path)); 5] = [
        ("burst", &burst),
        ("sustained", &sustained),
        ("lone", &lone),
        ("module", &module),
        ("reopen", &|dir| reopen(dir, gib)),
    ];
    let wanted: Vec<_> = arguments[1..]
        .iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    for (name, bench) in benches {
        if wanted.is_empty() || wanted.iter().any(|wanted| *wanted == name) {
            bench(&dir.path().join(name));
        }
    }
}

fn report(what: &str, figure: f64, unit: &str, bar: &str) {
    println!("{what:<58} {figure:>9.2} {unit:<9} {bar}");
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A batch header that says what storage looks at; the rest is noise that does not compress.
fn batch(bytes: usize) -> Bytes {
    let mut data: Vec<u8> = (0..bytes as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    data[8..12].copy_from_slice(&(bytes as i32 - 12).to_be_bytes());
    data[23..27].copy_from_slice(&0i32.to_be_bytes());
    data[35..43].copy_from_slice(&0i64.to_be_bytes());
    data.into()
}

/// A node with its threads: one writer of commits, who waits for each.
struct Node {
    disk: RealDisk,
    storage: Storage,
    writer: Writer,
    /// Settles by itself...
    settling: Option<Settling>,
    /// ...or when it is told to.
    settler: Option<Settler>,
    relief: Arc<(Mutex<()>, Condvar)>,
    acknowledged: (mpsc::Sender<()>, mpsc::Receiver<()>),
    index: u64,
    ends: Vec<i64>,
}

impl Node {
    fn open(dir: &Path, settle: bool) -> Self {
        let disk = RealDisk::open(dir).unwrap();
        let options = if settle {
            Options::default()
        } else {
            Options {
                unsettled_bytes_max: u64::MAX,
                ..Options::default()
            }
        };
        let Opened {
            storage,
            journal,
            settler,
            applied,
            ..
        } = Storage::open(Arc::new(disk.clone()), &options).unwrap();
        let relief = Arc::new((Mutex::new(()), Condvar::new()));
        let told = relief.clone();
        let settled = Box::new(move |result: Result<Settled, Error>| {
            result.unwrap();
            told.1.notify_all();
        });
        let (settling, settler) = if settle {
            (Some(Settling::spawn(settler, settled)), None)
        } else {
            (None, Some(settler))
        };
        let writer = Writer::spawn(journal, Box::new(|error| panic!("{error}")));
        let ends = vec![0; LOGS as usize];
        Self {
            disk,
            storage,
            writer,
            settling,
            settler,
            relief,
            acknowledged: mpsc::channel(),
            index: applied,
            ends,
        }
    }

    /// One entry, acknowledged: durable and published.
    fn commit(&mut self, batches: &[Bytes], rows: Vec<Row>) {
        while self.storage.is_behind() {
            let guard = self.relief.0.lock().unwrap();
            drop(self.relief.1.wait_timeout(guard, Duration::from_millis(5)).unwrap());
        }
        self.index += 1;
        let acknowledged = self.acknowledged.0.clone();
        // As the core writes an entry: batches are shared, what is small is copied into one piece.
        let mut entry = batches.to_vec();
        let small = rows
            .iter()
            .flat_map(|row| [&row.key[..], row.value.as_deref().unwrap_or_default()]);
        entry.push(small.collect::<Vec<_>>().concat().into());
        self.writer.submit(
            self.index,
            entry,
            Box::new(move |result| {
                result.unwrap();
                acknowledged.send(()).unwrap();
            }),
        );
        self.acknowledged.1.recv().unwrap();
        let mut changes = Changes {
            index: self.index,
            rows,
            ..Changes::default()
        };
        for (n, batch) in (self.index as u32..).zip(batches) {
            let end = &mut self.ends[(n % LOGS) as usize];
            changes.appends.push(Append {
                log: LogId(n % LOGS),
                base_offset: *end,
                last_offset: *end,
                max_timestamp: 0,
                leader_epoch: 0,
                batch: batch.clone(),
            });
            *end += 1;
        }
        self.storage.publish(changes).unwrap();
    }

    /// Settles what is left.
    fn settle_all(&mut self) {
        drop(self.settling.take());
        if let Some(settler) = &mut self.settler {
            settler.step().unwrap();
        }
    }
}

fn rate(bytes: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    bytes as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn plain(file: &mut File, data: &[u8], commits: usize) -> f64 {
    rate(data.len() * commits, || {
        for _ in 0..commits {
            file.write_all(data).unwrap();
            file.sync_data().unwrap();
        }
    })
}

/// 64 batches of 16 KiB a commit, settling left out.
fn burst(dir: &Path) {
    const COMMITS: usize = 48;
    let batches = vec![batch(BATCH_BYTES); 64];
    let (bytes, data) = (64 * BATCH_BYTES, batches.concat());
    let (mut plains, mut ratios) = (Vec::new(), Vec::new());
    std::fs::create_dir_all(dir).unwrap();
    let mut file = File::create(dir.join("plain")).unwrap();
    let mut node = Node::open(&dir.join("node"), false);
    // A node that has run for a while has journal files to write over.
    (0..4 * COMMITS).for_each(|_| node.commit(&batches, Vec::new()));
    for _ in 0..9 {
        node.settle_all();
        let plain = plain(&mut file, &data, COMMITS);
        let ours = rate(bytes * COMMITS, || {
            (0..COMMITS).for_each(|_| node.commit(&batches, Vec::new()))
        });
        plains.push(plain);
        ratios.push(ours / plain);
    }
    report("plain append + fdatasync, 1 MiB", median(plains), "MB/s", "");
    report("journal burst, 64 x 16 KiB, of plain", median(ratios), "", ">= 0.70");
}

/// The same with settling to redb behind it, until everything is settled.
fn sustained(dir: &Path) {
    const COMMITS: usize = 512;
    let batches = vec![batch(BATCH_BYTES); 64];
    let (bytes, data) = (64 * BATCH_BYTES * COMMITS, batches.concat());
    let (mut ratios, mut all, mut amplifications) = (Vec::new(), Vec::new(), Vec::new());
    std::fs::create_dir_all(dir).unwrap();
    for round in 0..3 {
        let path = dir.join(format!("plain-{round}"));
        let plain = plain(&mut File::create(&path).unwrap(), &data, COMMITS);
        std::fs::remove_file(path).unwrap();
        let mut node = Node::open(&dir.join(format!("node-{round}")), true);
        let start = Instant::now();
        let acknowledged = rate(bytes, || (0..COMMITS).for_each(|_| node.commit(&batches, Vec::new())));
        node.settle_all();
        let settled = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
        ratios.push(acknowledged / plain);
        all.push(settled / plain);
        amplifications.push(node.disk.bytes_written() as f64 / bytes as f64);
        drop(node);
        std::fs::remove_dir_all(dir.join(format!("node-{round}"))).unwrap();
    }
    report(
        "sustained with settling, acknowledged, of plain",
        median(ratios),
        "",
        ">= 0.40",
    );
    report(
        "sustained with settling, until all is settled, of plain",
        median(all),
        "",
        "",
    );
    report("bytes written per user byte", median(amplifications), "", "<= 2.50");
}

/// A lone batch of 1 KiB.
fn lone(dir: &Path) {
    const COMMITS: usize = 300;
    let batches = [batch(1 << 10)];
    let mut node = Node::open(dir, true);
    let mut file = File::create(dir.join("plain")).unwrap();
    let (mut plains, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        for _ in 0..COMMITS {
            let start = Instant::now();
            file.write_all(&batches[0]).unwrap();
            file.sync_data().unwrap();
            plains.push(start.elapsed().as_secs_f64() * 1e6);
        }
        for _ in 0..COMMITS {
            let start = Instant::now();
            node.commit(&batches, Vec::new());
            ours.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let plain = median(plains);
    report("1 KiB append + fdatasync, p50", plain, "us", "");
    report("lone 1 KiB commit, p50, of plain", median(ours) / plain, "", "<= 2.00");
}

/// A module's commit: outputs, its offset, state, in one entry, one at a time, with settling.
fn module(dir: &Path) {
    const COMMITS: u64 = 2_000;
    let mut batches = vec![batch(BATCH_BYTES); 4];
    batches.push(batch(200));
    let mut node = Node::open(dir, true);
    let mut file = File::create(dir.join("plain")).unwrap();
    let (mut rates, mut ratios) = (Vec::new(), Vec::new());
    for round in 0..3 {
        // A million keys, touched at random: the hardest that a state can be on what settles it.
        let row = |row: u64| Row {
            table: Table::ModuleState,
            key: Bytes::from(format!(
                "module/0/bucket/{:016x}",
                row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44
            )),
            value: Some(Bytes::from(vec![round; 100])),
        };
        let commits: Vec<Vec<Row>> = (0..COMMITS)
            .map(|n| (n * 100..n * 100 + 100).map(row).collect())
            .collect();
        let entry = [batches.concat(), vec![0; 100 * 133]].concat();
        let plain = plain(&mut file, &entry, COMMITS as usize) * 1e6 / entry.len() as f64;
        let start = Instant::now();
        for rows in commits {
            node.commit(&batches, rows);
        }
        rates.push(COMMITS as f64 / start.elapsed().as_secs_f64());
        ratios.push(rates[rates.len() - 1] / plain);
    }
    report(
        "the same, of plain append + fdatasync of as much",
        median(ratios),
        "",
        "",
    );
    report(
        "module commits, 4 x 16 KiB, offset, 100 rows",
        median(rates),
        "/s",
        ">= 1500",
    );
}

/// A child that fills a directory, says so, goes on writing, and is killed.
fn fill(dir: &Path, gib: usize) {
    let mut node = Node::open(dir, true);
    let batches = vec![batch(BATCH_BYTES); 64];
    for _ in 0..gib << 10 {
        node.commit(&batches, Vec::new());
    }
    println!("full");
    loop {
        node.commit(&batches, Vec::new());
    }
}

fn reopen(dir: &Path, gib: usize) {
    let (mut times, mut entries) = (Vec::new(), 0);
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["fill", dir.to_str().unwrap(), &gib.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut String::new())
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..3 {
        let start = Instant::now();
        let disk = RealDisk::open(dir).unwrap();
        let opened = Storage::open(Arc::new(disk), &Options::default()).unwrap();
        entries = opened.entries.len();
        for (index, entry) in &opened.entries {
            // As the core would: every batch goes to the log that it went to before. Each entry has four for each log.
            let appends = (0..64u64).map(|n| {
                let base_offset = ((index - 1) * 4 + n / u64::from(LOGS)) as i64;
                let at = n as usize * BATCH_BYTES;
                Append {
                    log: LogId(((index + n) % u64::from(LOGS)) as u32),
                    base_offset,
                    last_offset: base_offset,
                    max_timestamp: 0,
                    leader_epoch: 0,
                    batch: entry.slice(at..at + BATCH_BYTES),
                }
            });
            let changes = Changes {
                index: *index,
                appends: appends.collect(),
                ..Changes::default()
            };
            opened.storage.publish(changes).unwrap();
        }
        let first = LogRead {
            log: LogId(0),
            from: 0,
            until: i64::MAX,
            bytes_max: 1,
        };
        assert_eq!(opened.storage.read(first).unwrap().len(), BATCH_BYTES);
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("after kill -9: {gib} GiB, {entries} MiB replayed");
    println!("open, replay and first read, one after the other: {times:.0?} ms");
    report(
        "open, replay and first read, worst",
        times.into_iter().fold(0.0, f64::max),
        "ms",
        "< 1000 at 10 GiB",
    );
}
