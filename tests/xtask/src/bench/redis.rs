//! Redis streams, and as small a client as its protocol allows. A stream takes the place of a partition.
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{
    case::Numbers,
    nats::numbers,
    peers::Peers,
    process::{self, percentile, until, values},
};

pub(super) const ALWAYS: &str = "Redis, sync always";
pub(super) const CACHE: &str = "Redis, sync each second";

/// Commands of one connection that wait for their answer.
const WINDOW: u64 = 4096;

/// Commands written at once.
const BURST: u64 = 256;

/// Entries of one read.
const READ: usize = 1000;

pub(super) struct Server(process::Server);

impl Server {
    pub(super) fn start(peers: &Peers, sync: &'static str) -> Result<Server, String> {
        let binary = peers.redis.clone().ok_or("Redis is missing")?;
        let server = process::Server::start("redis", |directory, port| {
            let mut command = Command::new(binary);
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
            command.args(["--appendonly", "yes", "--appendfsync", sync]);
            command
                .args(["--auto-aof-rewrite-percentage", "0", "--dir"])
                .arg(directory);
            Ok(command)
        })?;
        Ok(Server(server))
    }

    fn connect(&self) -> Result<Client, String> {
        Client::connect(self.0.port).map_err(|e| format!("Redis: {e}"))
    }

    pub(super) fn produce(
        &self,
        producers: usize,
        streams: usize,
        bytes: usize,
        seconds: u64,
    ) -> Result<Numbers, String> {
        self.add(producers, streams, bytes, Duration::from_secs(1), u64::MAX)?;
        let before = self.0.cpu();
        let begun = Instant::now();
        let records = self.add(producers, streams, bytes, Duration::from_secs(seconds), u64::MAX)?;
        Ok(numbers(&self.0, records, bytes, begun, before))
    }

    fn add(&self, producers: usize, streams: usize, bytes: usize, time: Duration, each: u64) -> Result<u64, String> {
        let threads: Vec<_> = (0..producers)
            .map(|number| {
                let client = self.connect()?;
                Ok(thread::spawn(move || {
                    client.add_all(number, streams, bytes, time, each)
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
        let written = self.add(4, streams, bytes, Duration::from_secs(600), fill / bytes as u64 / 4)?;
        let before = self.0.cpu();
        let begun = Instant::now();
        let threads: Vec<_> = (0..consumers)
            .map(|number| {
                let client = self.connect()?;
                let own: Vec<usize> = (number..streams).step_by(consumers).collect();
                Ok(thread::spawn(move || client.read_all(&own)))
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
        let (mut sender, mut receiver) = (self.connect()?, self.connect()?);
        let origin = Instant::now();
        let (warmup, count) = (rate, rate * (seconds + 1));
        let reading = thread::spawn(move || -> Result<Vec<u64>, String> {
            let (mut took, mut number, mut last) = (Vec::new(), 0, b"0".to_vec());
            while number < count {
                receiver.command(&[
                    b"XREAD", b"COUNT", b"1000", b"BLOCK", b"1000", b"STREAMS", b"b.0", &last,
                ]);
                receiver.flush()?;
                let mut entries = Vec::new();
                receiver.value()?.entries(&mut entries);
                let now = u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
                for (id, value) in entries {
                    let due = value.first_chunk::<8>().ok_or("an entry that is not ours")?;
                    if warmup <= number {
                        took.push(now.saturating_sub(u64::from_be_bytes(*due)));
                    }
                    number += 1;
                    last = id;
                }
            }
            took.sort_unstable();
            Ok(took)
        });
        let values = values(bytes);
        let mut acknowledgements = sender.writer.try_clone().map_err(|e| e.to_string())?;
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while acknowledgements.read(&mut buffer).is_ok_and(|read| 0 < read) {}
        });
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
            sender.command(&[b"XADD", b"b.0", b"*", b"v", &value]);
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

/// An answer.
enum Value {
    Text(Vec<u8>),
    List(Vec<Value>),
    Nothing,
}

impl Value {
    /// Id and value of every entry, wherever it lies: a list of an id and a list of name and value.
    fn entries(self, found: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        let Value::List(mut list) = self else { return };
        if let [Value::Text(_), Value::List(fields)] = list.as_mut_slice()
            && let [Value::Text(_), Value::Text(value)] = fields.as_mut_slice()
        {
            let value = std::mem::take(value);
            if let Value::Text(id) = list.swap_remove(0) {
                found.push((id, value));
            }
            return;
        }
        list.into_iter().for_each(|one| one.entries(found));
    }
}

struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    out: Vec<u8>,
    line: Vec<u8>,
}

impl Client {
    fn connect(port: u16) -> std::io::Result<Client> {
        let writer = TcpStream::connect(("127.0.0.1", port))?;
        writer.set_nodelay(true)?;
        Ok(Client {
            reader: BufReader::with_capacity(256 << 10, writer.try_clone()?),
            writer,
            out: Vec::new(),
            line: Vec::new(),
        })
    }

    fn command(&mut self, words: &[&[u8]]) {
        self.out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            self.out.extend_from_slice(word);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        self.writer.write_all(&self.out).map_err(|e| e.to_string())?;
        self.out.clear();
        Ok(())
    }

    fn value(&mut self) -> Result<Value, String> {
        self.line.clear();
        let read = self
            .reader
            .read_until(b'\n', &mut self.line)
            .map_err(|e| e.to_string())?;
        if read == 0 {
            return Err("Redis closed the connection".to_owned());
        }
        let text = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        let (kind, rest) = text.split_at(1);
        let count = || rest.parse::<i64>().map_err(|e| e.to_string());
        match kind {
            "-" => Err(rest.to_owned()),
            "$" => match usize::try_from(count()?) {
                Err(_) => Ok(Value::Nothing),
                Ok(bytes) => {
                    let mut text = vec![0; bytes + 2];
                    self.reader.read_exact(&mut text).map_err(|e| e.to_string())?;
                    text.truncate(bytes);
                    Ok(Value::Text(text))
                }
            },
            "*" => match usize::try_from(count()?) {
                Err(_) => Ok(Value::Nothing),
                Ok(count) => Ok(Value::List((0..count).map(|_| self.value()).collect::<Result<_, _>>()?)),
            },
            _ => Ok(Value::Text(rest.as_bytes().to_vec())),
        }
    }

    fn add_all(
        mut self,
        number: usize,
        streams: usize,
        bytes: usize,
        time: Duration,
        each: u64,
    ) -> Result<u64, String> {
        let values = values(bytes);
        let names: Vec<String> = (0..streams).map(|stream| format!("b.{stream}")).collect();
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
                    self.command(&[
                        b"XADD",
                        names[turn % streams].as_bytes(),
                        b"*",
                        b"v",
                        &values[turn % values.len()],
                    ]);
                    sent += 1;
                }
                self.flush()?;
                continue;
            }
            self.value()?;
            stored += 1;
        }
    }

    fn read_all(mut self, streams: &[usize]) -> Result<u64, String> {
        let (count, mut read) = (READ.to_string(), 0);
        for stream in streams {
            let (name, mut last) = (format!("b.{stream}"), b"0".to_vec());
            loop {
                self.command(&[b"XREAD", b"COUNT", count.as_bytes(), b"STREAMS", name.as_bytes(), &last]);
                self.flush()?;
                let mut entries = Vec::new();
                self.value()?.entries(&mut entries);
                let Some((id, _)) = entries.last() else { break };
                last.clone_from(id);
                read += entries.len() as u64;
            }
        }
        Ok(read)
    }
}
