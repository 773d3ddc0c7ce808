//! NATS with JetStream, and as small a client as its text protocol allows.
//!
//! A stream of one subject takes the place of a partition. Publishes are pipelined, each acknowledged; a bounded number wait for that.
//! Reading is by a push consumer without acknowledgements, the fastest that there is.
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{
    case::Numbers,
    peers::Peers,
    process::{self, percentile, until, values},
};

pub(super) const ALWAYS: &str = "NATS, sync always";
pub(super) const CACHE: &str = "NATS, sync later";

/// Publishes of one connection that wait for their acknowledgement.
const WINDOW: u64 = 4096;

/// Publishes written at once.
const BURST: u64 = 256;

pub(super) struct Server(process::Server);

impl Server {
    pub(super) fn start(peers: &Peers, sync: &'static str) -> Result<Server, String> {
        let binary = peers.nats.clone().ok_or("NATS is missing")?;
        let server = process::Server::start("nats", |directory, port| {
            let config = format!(
                "listen: 127.0.0.1:{port}\njetstream {{ store_dir: {:?}, sync_interval: {sync}, max_file_store: 16GB }}\n",
                directory.join("store")
            );
            let path = directory.join("nats.conf");
            std::fs::write(&path, config).map_err(|e| e.to_string())?;
            let mut command = Command::new(binary);
            command.arg("-c").arg(path);
            Ok(command)
        })?;
        Ok(Server(server))
    }

    fn connect(&self) -> Result<Client, String> {
        Client::connect(self.0.port).map_err(|e| format!("NATS: {e}"))
    }

    fn create(&self, streams: usize) -> Result<(), String> {
        let mut client = self.connect()?;
        for number in 0..streams {
            let body = format!(r#"{{"name":"B{number}","subjects":["b.{number}"],"storage":"file","num_replicas":1}}"#);
            client.request(&format!("$JS.API.STREAM.CREATE.B{number}"), &body)?;
        }
        Ok(())
    }

    pub(super) fn produce(
        &self,
        producers: usize,
        streams: usize,
        bytes: usize,
        seconds: u64,
    ) -> Result<Numbers, String> {
        self.create(streams)?;
        self.publish(producers, streams, bytes, Duration::from_secs(1), u64::MAX)?;
        let before = self.0.cpu();
        let begun = Instant::now();
        let records = self.publish(producers, streams, bytes, Duration::from_secs(seconds), u64::MAX)?;
        Ok(numbers(&self.0, records, bytes, begun, before))
    }

    /// Publishes from several connections for a while. How many were acknowledged.
    fn publish(
        &self,
        producers: usize,
        streams: usize,
        bytes: usize,
        time: Duration,
        each: u64,
    ) -> Result<u64, String> {
        let threads: Vec<_> = (0..producers)
            .map(|number| {
                let client = self.connect()?;
                Ok(thread::spawn(move || {
                    client.publish(number, streams, bytes, time, each)
                }))
            })
            .collect::<Result<_, String>>()?;
        let mut records = 0;
        for thread in threads {
            records += thread.join().map_err(|_| "a producer panicked")??;
        }
        Ok(records)
    }

    pub(super) fn consume(&self, consumers: usize, streams: usize, bytes: usize, fill: u64) -> Result<Numbers, String> {
        self.create(streams)?;
        let each = fill / bytes as u64 / 4;
        let written = self.publish(4, streams, bytes, Duration::from_secs(600), each)?;
        let before = self.0.cpu();
        let begun = Instant::now();
        let threads: Vec<_> = (0..consumers)
            .map(|number| {
                let client = self.connect()?;
                let own: Vec<usize> = (number..streams).step_by(consumers).collect();
                Ok(thread::spawn(move || client.consume(&own)))
            })
            .collect::<Result<_, String>>()?;
        let mut read = 0;
        for thread in threads {
            read += thread.join().map_err(|_| "a consumer panicked")??;
        }
        if read != written {
            return Err(format!("{written} were written and {read} read"));
        }
        Ok(numbers(&self.0, read, bytes, begun, before))
    }

    pub(super) fn latency(&self, rate: u64, bytes: usize, seconds: u64) -> Result<Numbers, String> {
        self.create(1)?;
        let (mut sender, receiver) = (self.connect()?, self.connect()?);
        let origin = Instant::now();
        let (warmup, count) = (rate, rate * (seconds + 1));
        let mut receiver = receiver.subscribe_all(&[0])?;
        let reading = thread::spawn(move || -> Result<Vec<u64>, String> {
            let mut took = Vec::new();
            for number in 0..count {
                let message = receiver.message()?;
                let due = message.first_chunk::<8>().ok_or("a message that is not ours")?;
                if warmup <= number {
                    took.push(nanos(origin).saturating_sub(u64::from_be_bytes(*due)));
                }
            }
            took.sort_unstable();
            Ok(took)
        });
        let values = values(bytes);
        sender.reads_acknowledgements_elsewhere()?;
        let begun = Instant::now();
        for number in 0..count {
            let due = begun + Duration::from_nanos(number * 1_000_000_000 / rate);
            if Instant::now() < due {
                sender.flush()?;
                until(due);
            }
            let mut value = values[usize::try_from(number).unwrap_or(0) % values.len()].clone();
            let stamp = u64::try_from((due - origin).as_nanos()).unwrap_or(0);
            value[..8].copy_from_slice(&stamp.to_be_bytes());
            sender.write("b.0", "_INBOX.ack", &value)?;
        }
        sender.flush()?;
        let took = reading.join().map_err(|_| "the receiver panicked")??;
        Ok(Numbers {
            p50_ms: percentile(&took, 0.5),
            p99_ms: percentile(&took, 0.99),
            memory_mib: self.0.peak_mib(),
            ..Numbers::default()
        })
    }
}

fn nanos(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// What a peer has done since `begun`.
pub(super) fn numbers(
    server: &process::Server,
    records: u64,
    bytes: usize,
    begun: Instant,
    before: Option<f64>,
) -> Numbers {
    let seconds = begun.elapsed().as_secs_f64();
    let all = records as f64 * bytes as f64;
    let used = before.zip(server.cpu()).map(|(before, now)| now - before);
    Numbers {
        megabytes: Some(all / seconds / 1e6),
        records: Some(records as f64 / seconds),
        cpu_per_gb: used.map(|used| used / (all / 1e9)),
        memory_mib: server.peak_mib(),
        ..Numbers::default()
    }
}

struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    out: Vec<u8>,
    line: Vec<u8>,
    payload: Vec<u8>,
}

impl Client {
    fn connect(port: u16) -> std::io::Result<Client> {
        let writer = TcpStream::connect(("127.0.0.1", port))?;
        writer.set_nodelay(true)?;
        let mut client = Client {
            reader: BufReader::with_capacity(256 << 10, writer.try_clone()?),
            writer,
            out: Vec::new(),
            line: Vec::new(),
            payload: Vec::new(),
        };
        client.read_line()?;
        client
            .writer
            .write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n")?;
        while !client.line.starts_with(b"PONG") {
            client.read_line()?;
        }
        Ok(client)
    }

    fn read_line(&mut self) -> std::io::Result<()> {
        self.line.clear();
        match self.reader.read_until(b'\n', &mut self.line)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The payload of the next message.
    fn message(&mut self) -> Result<&[u8], String> {
        loop {
            self.read_line().map_err(|e| e.to_string())?;
            if self.line.starts_with(b"PING") {
                self.writer.write_all(b"PONG\r\n").map_err(|e| e.to_string())?;
            } else if self.line.starts_with(b"MSG ") {
                let text = std::str::from_utf8(&self.line).map_err(|e| e.to_string())?.trim_end();
                let bytes = text.rsplit(' ').next().and_then(|n| n.parse::<usize>().ok());
                self.payload.resize(bytes.ok_or("a message without a length")? + 2, 0);
                self.reader.read_exact(&mut self.payload).map_err(|e| e.to_string())?;
                return Ok(&self.payload[..self.payload.len() - 2]);
            } else if self.line.starts_with(b"-ERR") {
                return Err(String::from_utf8_lossy(&self.line).into_owned());
            }
        }
    }

    fn write(&mut self, subject: &str, reply: &str, value: &[u8]) -> Result<(), String> {
        write!(self.out, "PUB {subject} {reply} {}\r\n", value.len()).map_err(|e| e.to_string())?;
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        self.writer.write_all(&self.out).map_err(|e| e.to_string())?;
        self.out.clear();
        Ok(())
    }

    fn request(&mut self, subject: &str, body: &str) -> Result<(), String> {
        self.out.extend_from_slice(b"SUB _INBOX.request 1\r\nUNSUB 1 1\r\n");
        self.write(subject, "_INBOX.request", body.as_bytes())?;
        self.flush()?;
        let answer = String::from_utf8_lossy(self.message()?).into_owned();
        match answer.contains("\"error\"") {
            true => Err(answer),
            false => Ok(()),
        }
    }

    fn publish(
        mut self,
        number: usize,
        streams: usize,
        bytes: usize,
        time: Duration,
        each: u64,
    ) -> Result<u64, String> {
        let (values, inbox) = (values(bytes), format!("_INBOX.p{number}"));
        let subjects: Vec<String> = (0..streams).map(|stream| format!("b.{stream}")).collect();
        self.out.extend_from_slice(format!("SUB {inbox} 2\r\n").as_bytes());
        let deadline = Instant::now() + time;
        let (mut sent, mut stored) = (0u64, 0u64);
        loop {
            let is_over = deadline <= Instant::now() || each <= sent;
            if is_over && stored == sent {
                return Ok(stored);
            }
            if !is_over && sent + BURST <= stored + WINDOW {
                for _ in 0..BURST.min(each - sent) {
                    let turn = usize::try_from(sent).unwrap_or(0) + number;
                    self.write(&subjects[turn % streams], &inbox, &values[turn % values.len()])?;
                    sent += 1;
                }
                self.flush()?;
                continue;
            }
            let answer = self.message()?;
            if answer.windows(7).any(|word| word == b"\"error\"") {
                return Err(String::from_utf8_lossy(answer).into_owned());
            }
            stored += 1;
        }
    }

    /// Acknowledgements come and are not looked at: the receiver sees what is stored.
    fn reads_acknowledgements_elsewhere(&mut self) -> Result<(), String> {
        let mut reader = self.writer.try_clone().map_err(|e| e.to_string())?;
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while reader.read(&mut buffer).is_ok_and(|read| 0 < read) {}
        });
        Ok(())
    }

    /// A push consumer on each of these streams, from their start, all to one inbox.
    fn subscribe_all(mut self, streams: &[usize]) -> Result<Client, String> {
        let inbox = format!("_DELIVER.{}", streams.first().unwrap_or(&0));
        self.out.extend_from_slice(format!("SUB {inbox} 3\r\n").as_bytes());
        for stream in streams {
            let body = format!(
                r#"{{"stream_name":"B{stream}","config":{{"durable_name":"c{stream}","deliver_subject":"{inbox}","deliver_policy":"all","ack_policy":"none"}}}}"#
            );
            // The answer comes among the messages, and is told apart by not being counted: nobody asks for it.
            self.write(
                &format!("$JS.API.CONSUMER.DURABLE.CREATE.B{stream}.c{stream}"),
                "_INBOX.nobody",
                body.as_bytes(),
            )?;
        }
        self.flush()?;
        Ok(self)
    }

    fn consume(mut self, streams: &[usize]) -> Result<u64, String> {
        let mut wanted = 0;
        for stream in streams {
            wanted += self.count(*stream)?;
        }
        let mut client = self.subscribe_all(streams)?;
        for _ in 0..wanted {
            client.message()?;
        }
        Ok(wanted)
    }

    /// Messages of a stream.
    fn count(&mut self, stream: usize) -> Result<u64, String> {
        self.out.extend_from_slice(b"SUB _INBOX.info 4\r\nUNSUB 4 1\r\n");
        self.write(&format!("$JS.API.STREAM.INFO.B{stream}"), "_INBOX.info", b"")?;
        self.flush()?;
        let answer: serde_json::Value = serde_json::from_slice(self.message()?).map_err(|e| e.to_string())?;
        let messages = answer.pointer("/state/messages").and_then(|n| n.as_u64());
        messages.ok_or_else(|| format!("stream B{stream} does not say how many messages it has"))
    }
}
