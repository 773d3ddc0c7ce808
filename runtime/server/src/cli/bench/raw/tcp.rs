//! Bytes through TCP on loopback, both ends in this process, a thread each.
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use clap::Args;
use serde_json::json;

use super::super::payload::Payload;
use super::super::report::{Moved, Report};
use super::super::usage::Process;
use super::super::{Problem, settings};
use super::Stream;
use crate::clock;

/// Write bytes into TCP connections and read them.
#[derive(Debug, Args)]
pub(in crate::cli::bench) struct Tcp {
    #[command(flatten)]
    stream: Stream,
}

type Worker = JoinHandle<Result<u64, std::io::Error>>;

impl Tcp {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        let stream = self.stream;
        let mut report = Report::new(
            "raw tcp",
            settings([vec![
                ("connections", json!(stream.connections)),
                ("write_bytes", json!(stream.write_bytes.0)),
            ]]),
        );
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let mut pairs = Vec::new();
        for _ in 0..stream.connections {
            let out = TcpStream::connect(address)?;
            pairs.push((out, listener.accept()?.0));
        }
        let before = Process::own().usage();
        let begun = clock::instant();
        let mut readers = Vec::new();
        for (number, (out, into)) in pairs.into_iter().enumerate() {
            readers.push(reader(into)?);
            writer(out, stream, number as u64)?;
        }
        let mut bytes = 0;
        for reader in readers {
            bytes += reader.join().map_err(|_| "a reader panicked")??;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let used = before.zip(Process::own().usage());
        report.client = used.map(|(before, now)| before.until(now, bytes));
        report.moved = Some(Moved::new(bytes / stream.write_bytes.0.max(1), bytes, seconds));
        Ok(report)
    }
}

fn reader(mut from: TcpStream) -> Result<Worker, Problem> {
    let read = move || {
        let (mut buffer, mut bytes) = (vec![0; 256 << 10], 0);
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(bytes),
                Ok(read) => bytes += read as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    };
    Ok(std::thread::Builder::new().name("raw-reader".into()).spawn(read)?)
}

fn writer(mut to: TcpStream, stream: Stream, seed: u64) -> Result<Worker, Problem> {
    let write = move || {
        let mut payload = Payload::new(stream.write_bytes.bytes(), seed);
        let deadline = clock::instant() + stream.time.duration();
        let mut bytes = 0;
        while clock::instant() < deadline {
            let value = payload.next();
            to.write_all(&value)?;
            bytes += value.len() as u64;
        }
        Ok(bytes)
    };
    Ok(std::thread::Builder::new().name("raw-writer".into()).spawn(write)?)
}
