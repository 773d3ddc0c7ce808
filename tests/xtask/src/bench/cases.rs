//! Everything that is measured: work by work, and in each the limits of the machine first.
use super::{
    Context,
    case::{Case, Numbers, tidemill},
    nats, redis,
};

const PRODUCE_KIB: &str = "produce 1 KiB, 4 producers, 8 partitions";
const PRODUCE_100: &str = "produce 100 B, 4 producers, 8 partitions";
const PRODUCE_ON: &str = "produce 1 KiB, 4 producers, 8 partitions, for 20 s";
const CONSUME_ONE: &str = "consume 1 KiB, 1 consumer";
const CONSUME_FOUR: &str = "consume 1 KiB, 4 consumers";
const CONSUME_RESTARTED: &str = "consume 1 KiB, 1 consumer, after a restart";
const LATENCY_1K: &str = "end to end, 100 B, 1,000/s";
const LATENCY_20K: &str = "end to end, 100 B, 20,000/s";
const PARTITIONS: &str = "produce 1 KiB, 4 producers, 10,000 partitions";
const START: &str = "cold start to the first acknowledgement, ms";
const KILLED: &str = "serving after kill -9, ms";
const IDLE: &str = "an idle connection, KiB in the daemon";
const TRANSFORM: &str = "exactly once through a module, 100 B, 4 tasks";
const MODULES: &str = "one module more beside 1,000 idle ones, until it runs, ms";
const REBALANCE: &str = "a task's longest pause while 100 tasks are shared out anew, ms";

const LIMIT_QUIC: &str = "limit: quinn loopback";
const LIMIT_TCP: &str = "limit: TCP loopback";
const LIMIT_DISK: &str = "limit: append + fdatasync";
const LIMIT_OVER: &str = "limit: overwrite + fdatasync";
const LIMIT_COMMIT: &str = "limit: one overwrite of 4 KiB + fdatasync";
const STATELESS: &str = "Tidemill, route";
const STATEFUL: &str = "Tidemill, count by 10,000 keys";
const QUIC: &str = "Tidemill QUIC";
const QUIC_WIRE: &str = "Tidemill QUIC, plain client";
const TCP: &str = "Tidemill TCP";
const TLS: &str = "Tidemill TLS";

/// All cases that can be run here.
pub(super) fn all(context: &Context) -> Vec<Case> {
    let mut cases = Vec::new();
    for (work, size) in [(PRODUCE_KIB, "1KiB"), (PRODUCE_100, "100B")] {
        cases.push(raw(work, LIMIT_QUIC, &["raw", "quic"]));
        for (subject, limit, words) in [
            (QUIC, LIMIT_QUIC, "--transport quic"),
            (QUIC_WIRE, LIMIT_QUIC, "--transport quic --client wire"),
            (TCP, LIMIT_DISK, "--transport tcp"),
            (TLS, LIMIT_DISK, "--transport tls"),
        ] {
            cases.push(produce(
                work,
                subject,
                limit,
                format!("produce --record-bytes {size} {words}"),
            ));
        }
        // After what it is the limit of: it takes over the size of a commit.
        cases.push(disk(work, LIMIT_DISK, ""));
        cases.push(disk(work, LIMIT_OVER, "--overwrite"));
        cases.extend(produce_peers(context, work, size));
    }
    // Long enough that nothing is left to be done later.
    for (subject, transport) in [(QUIC, "quic"), (TCP, "tcp")] {
        let words = format!("produce --transport {transport} --time 20s");
        cases.push(timed(PRODUCE_ON, subject, None, words, false));
    }
    for (work, words) in [
        (CONSUME_ONE, "--consumers 1"),
        (CONSUME_FOUR, "--consumers 4"),
        (CONSUME_RESTARTED, "--consumers 1 --restart"),
    ] {
        cases.push(raw(work, LIMIT_QUIC, &["raw", "quic"]));
        cases.push(raw(work, LIMIT_TCP, &["raw", "tcp"]));
        let fill = if context.is_long { "4GiB" } else { "512MiB" };
        for (subject, limit, transport) in [
            (QUIC, LIMIT_QUIC, "quic"),
            (QUIC_WIRE, LIMIT_QUIC, "quic --client wire"),
            (TCP, LIMIT_TCP, "tcp"),
        ] {
            let words = format!("consume {words} --fill-bytes {fill} --transport {transport}");
            cases.push(timed(work, subject, Some(limit), words, false));
        }
    }
    cases.extend(consume_peers(context));
    for (work, rate) in [(LATENCY_1K, "1000"), (LATENCY_20K, "20000")] {
        for (subject, transport) in [(TCP, "tcp"), (QUIC, "quic"), (QUIC_WIRE, "quic --client wire")] {
            let words = format!("latency --rate {rate} --transport {transport}");
            cases.push(timed(work, subject, None, words, true));
        }
        let commit = &["raw", "disk", "--commit-bytes", "4KiB", "--overwrite"];
        cases.push(raw(work, LIMIT_COMMIT, commit));
        cases.extend(latency_peers(context, work, rate.parse().unwrap_or(1000)));
    }
    let words = "produce --partitions 10000 --transport tcp";
    cases.push(produce(PARTITIONS, TCP, LIMIT_DISK, words.to_owned()));
    let fill = if context.is_long { "10GiB" } else { "1GiB" };
    cases.push(own(
        START,
        TCP,
        "start --transport tcp --fill-bytes 1MiB".to_owned(),
        "/more/cold_start_to_acknowledged_ms",
    ));
    cases.push(own(
        KILLED,
        TCP,
        format!("start --transport tcp --fill-bytes {fill}"),
        "/more/killed_to_serving_ms",
    ));
    let count = if context.is_long { "10000" } else { "1000" };
    cases.push(own(
        IDLE,
        QUIC,
        format!("idle --connections {count}"),
        "/more/daemon_kib_each",
    ));
    cases.extend(modules(context));
    cases
}

fn modules(context: &Context) -> Vec<Case> {
    let transform = |subject, module| {
        let line = format!("transform guest-examples/{module} --record-bytes 100B --partitions 4");
        timed(TRANSFORM, subject, None, line, false)
    };
    let rebalance = "rebalance guest-examples/route --partitions 100";
    let mut cases = vec![
        transform(STATELESS, "route"),
        transform(STATEFUL, "workloads --keys 10000"),
        own(REBALANCE, QUIC, rebalance.to_owned(), "/latency_ms/max"),
    ];
    // Each has to be compiled.
    if context.is_long {
        let line = "modules guest-examples/route --modules 1000".to_owned();
        cases.push(own(MODULES, QUIC, line, "/latency_ms/p50"));
    }
    cases
}

fn words(line: &str) -> Vec<&str> {
    line.split_ascii_whitespace().collect()
}

/// A limit that depends on nothing.
fn raw(work: &'static str, subject: &'static str, line: &'static [&'static str]) -> Case {
    let run = move |context: &mut Context| {
        let time = format!("{}s", context.seconds);
        let mut all = line.to_vec();
        all.extend(["--time", &time]);
        Ok(Numbers::of(&tidemill(context, &all)?))
    };
    Case {
        work,
        subject,
        limit: None,
        run: Box::new(run),
    }
}

/// What the disk does with commits as large as those of the last run of the same work over TCP.
fn disk(work: &'static str, subject: &'static str, more: &'static str) -> Case {
    let run = move |context: &mut Context| {
        let bytes = context.commit_bytes.get(work).copied();
        let bytes = bytes.ok_or("nobody has measured how large a commit is")?.to_string();
        let time = format!("{}s", context.seconds);
        let mut all = vec!["raw", "disk", "--commit-bytes", &bytes, "--time", &time];
        all.extend(words(more));
        Ok(Numbers::of(&tidemill(context, &all)?))
    };
    Case {
        work,
        subject,
        limit: None,
        run: Box::new(run),
    }
}

fn produce(work: &'static str, subject: &'static str, limit: &'static str, line: String) -> Case {
    let run = move |context: &mut Context| {
        let time = format!("{}s", context.seconds);
        let mut all = words(&line);
        all.extend(["--time", &time, "--warmup", "1s"]);
        let report = tidemill(context, &all)?;
        let commit = report.pointer("/journal/bytes_per_commit").and_then(|n| n.as_u64());
        if let Some(bytes) = commit.filter(|_| subject == TCP) {
            context.commit_bytes.insert(work, bytes.max(4096));
        }
        Ok(Numbers::of(&report))
    };
    Case {
        work,
        subject,
        limit: Some(limit),
        run: Box::new(run),
    }
}

fn timed(
    work: &'static str,
    subject: &'static str,
    limit: Option<&'static str>,
    line: String,
    takes_time: bool,
) -> Case {
    let run = move |context: &mut Context| {
        let time = format!("{}s", context.seconds);
        let mut all = words(&line);
        if takes_time {
            all.extend(["--time", &time, "--warmup", "1s"]);
        }
        Ok(Numbers::of(&tidemill(context, &all)?))
    };
    Case {
        work,
        subject,
        limit,
        run: Box::new(run),
    }
}

/// Work whose result is one number.
fn own(work: &'static str, subject: &'static str, line: String, pointer: &'static str) -> Case {
    let run = move |context: &mut Context| {
        let report = tidemill(context, &words(&line))?;
        let own = report.pointer(pointer).and_then(|n| n.as_f64());
        let own = Some(own.ok_or_else(|| format!("{pointer} was not measured"))?);
        let memory_mib = report.pointer("/daemon/rss_peak_mib").and_then(|n| n.as_f64());
        Ok(Numbers {
            own,
            memory_mib,
            ..Numbers::default()
        })
    };
    Case {
        work,
        subject,
        limit: None,
        run: Box::new(run),
    }
}

fn peer(
    work: &'static str,
    subject: &'static str,
    run: impl Fn(&mut Context) -> Result<Numbers, String> + 'static,
) -> Case {
    Case {
        work,
        subject,
        limit: None,
        run: Box::new(run),
    }
}

fn produce_peers(context: &Context, work: &'static str, size: &'static str) -> Vec<Case> {
    let bytes = if size == "100B" { 100 } else { 1024 };
    let mut cases = Vec::new();
    if context.peers.nats.is_some() {
        for (subject, sync) in [(nats::ALWAYS, "always"), (nats::CACHE, "2m")] {
            cases.push(peer(work, subject, move |context| {
                nats::Server::start(&context.peers, sync)?.produce(4, 8, bytes, context.seconds)
            }));
        }
    }
    if context.peers.redis.is_some() {
        for (subject, sync) in [(redis::ALWAYS, "always"), (redis::CACHE, "everysec")] {
            cases.push(peer(work, subject, move |context| {
                redis::Server::start(&context.peers, sync)?.produce(4, 8, bytes, context.seconds)
            }));
        }
    }
    if context.peers.nisshi.is_some() {
        let line = format!("produce --record-bytes {size}");
        cases.push(peer(work, super::peers::NISSHI, move |context| {
            super::peers::nisshi(context, &line)
        }));
    }
    cases
}

fn consume_peers(context: &Context) -> Vec<Case> {
    let mut cases = Vec::new();
    let megabytes = if context.is_long { 1024 } else { 256 };
    for (work, consumers) in [(CONSUME_ONE, 1), (CONSUME_FOUR, 4)] {
        if context.peers.nats.is_some() {
            cases.push(peer(work, nats::CACHE, move |context| {
                nats::Server::start(&context.peers, "2m")?.consume(consumers, 8, 1024, megabytes << 20)
            }));
        }
        if context.peers.redis.is_some() {
            cases.push(peer(work, redis::CACHE, move |context| {
                redis::Server::start(&context.peers, "everysec")?.consume(consumers, 8, 1024, megabytes << 20)
            }));
        }
    }
    cases
}

fn latency_peers(context: &Context, work: &'static str, rate: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    if context.peers.nats.is_some() {
        cases.push(peer(work, nats::ALWAYS, move |context| {
            nats::Server::start(&context.peers, "always")?.latency(rate, 100, context.seconds)
        }));
    }
    if context.peers.redis.is_some() {
        cases.push(peer(work, redis::ALWAYS, move |context| {
            redis::Server::start(&context.peers, "always")?.latency(rate, 100, context.seconds)
        }));
    }
    cases
}
