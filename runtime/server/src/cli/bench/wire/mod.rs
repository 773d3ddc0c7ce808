//! A plain Kafka client for measuring: one ordered byte stream, requests written as they are made, answers read in their order.
//!
//! It speaks to any broker of Kafka's protocol, over TCP, TLS or a QUIC stream, in the highest versions that both sides know. It knows
//! nothing of retries, groups or reconnecting: whatever goes wrong ends the measurement, because a number that survived an error says
//! nothing.
mod dial;
mod topic;

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use tidemill_protocol::api::api_versions::ApiVersionsRequest;
use tidemill_protocol::api::{ApiKey, Call, Request, Response};
use tidemill_protocol::frame::{self, LENGTH_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(super) use self::dial::{Dial, Transport, client_endpoint};
pub(super) use self::topic::{Topic, check, create_topic, delete_topic, end_offsets, topic};
use super::Problem;

/// Name by which brokers see this client.
const CLIENT_ID: &str = "tidemill-bench";

/// Largest answer taken.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Read at a time when nothing larger is announced.
const CHUNK: usize = 16 << 10;

/// Both directions of a stream.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A request whose answer is to come.
struct Asked {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
}

/// One stream to one broker.
pub(super) struct Connection {
    stream: Box<dyn Duplex>,
    /// What a QUIC stream lives in.
    _quic: Option<(quinn::Endpoint, quinn::Connection)>,
    buffer: BytesMut,
    versions: BTreeMap<ApiKey, i16>,
    asked: VecDeque<Asked>,
    next: i32,
}

impl Connection {
    /// Negotiates versions on a stream that was just opened.
    async fn open(
        stream: Box<dyn Duplex>,
        quic: Option<(quinn::Endpoint, quinn::Connection)>,
    ) -> Result<Connection, Problem> {
        let mut connection = Connection {
            stream,
            _quic: quic,
            buffer: BytesMut::new(),
            // Version 0 is the one that every broker answers.
            versions: BTreeMap::from([(ApiKey::ApiVersions, 0)]),
            asked: VecDeque::new(),
            next: 0,
        };
        let offered = connection.call(ApiVersionsRequest::default()).await?;
        for offered in offered.api_keys {
            let Some(key) = ApiKey::from_number(offered.api_key) else {
                continue;
            };
            let version = offered.max_version.min(*key.versions().end());
            if offered.min_version.max(*key.versions().start()) <= version {
                connection.versions.insert(key, version);
            }
        }
        Ok(connection)
    }

    /// The version in which an API is spoken.
    pub(super) fn version(&self, key: ApiKey) -> Result<i16, Problem> {
        let version = self.versions.get(&key).copied();
        version.ok_or_else(|| format!("the broker and this client have no version of {key:?} in common").into())
    }

    /// Writes a request. Its answer is the next that [`Connection::receive`] gives, after those asked for before.
    pub(super) async fn send<R: Call>(&mut self, request: R) -> Result<(), Problem> {
        let asked = self.write(request).await?;
        self.asked.push_back(asked);
        Ok(())
    }

    /// Writes a request that is never answered (a produce with `acks` 0).
    pub(super) async fn tell<R: Call>(&mut self, request: R) -> Result<(), Problem> {
        self.write(request).await.map(drop)
    }

    /// The answer to the oldest request that has none yet. Dropping the future before it is ready loses nothing.
    pub(super) async fn receive<R: Call>(&mut self) -> Result<R::Response, Problem> {
        if self.asked.is_empty() {
            return Err("nothing was asked".into());
        }
        let frame = self.read_frame().await?;
        let asked = self.asked.pop_front().ok_or("nothing was asked")?;
        let (correlation_id, response) = Response::decode_frame(asked.key, asked.version, frame)?;
        if correlation_id != asked.correlation_id {
            return Err(format!("{:?} answers another request", asked.key).into());
        }
        let response = response.try_into();
        response.map_err(|_| format!("{:?} is answered by another API", asked.key).into())
    }

    /// One request and its answer.
    pub(super) async fn call<R: Call>(&mut self, request: R) -> Result<R::Response, Problem> {
        self.send(request).await?;
        self.receive::<R>().await
    }

    async fn write<R: Call>(&mut self, request: R) -> Result<Asked, Problem> {
        let version = self.version(R::KEY)?;
        let correlation_id = self.next;
        self.next = self.next.wrapping_add(1) & i32::MAX;
        let request: Request = request.into();
        let rope = request.encode_frame(version, correlation_id, Some(CLIENT_ID))?;
        self.write_rope(rope).await?;
        Ok(Asked {
            key: R::KEY,
            version,
            correlation_id,
        })
    }

    async fn write_rope(&mut self, mut rope: Vec<Bytes>) -> Result<(), Problem> {
        let mut at = 0;
        while at < rope.len() {
            let slices: Vec<IoSlice<'_>> = rope[at..].iter().map(|piece| IoSlice::new(piece)).collect();
            let mut written = self.stream.write_vectored(&slices).await?;
            if written == 0 && rope[at..].iter().any(|piece| !piece.is_empty()) {
                return Err("the broker takes no more bytes".into());
            }
            while at < rope.len() && rope[at].len() <= written {
                written -= rope[at].len();
                at += 1;
            }
            if 0 < written {
                rope[at].advance(written);
            }
        }
        self.stream.flush().await?;
        Ok(())
    }

    async fn read_frame(&mut self) -> Result<Bytes, Problem> {
        self.at_least(LENGTH_BYTES).await?;
        let mut prefix = [0; LENGTH_BYTES];
        prefix.copy_from_slice(&self.buffer[..LENGTH_BYTES]);
        let length = frame::length(prefix, FRAME_BYTES_MAX)?;
        self.at_least(LENGTH_BYTES + length).await?;
        Ok(self
            .buffer
            .split_to(LENGTH_BYTES + length)
            .freeze()
            .slice(LENGTH_BYTES..))
    }

    async fn at_least(&mut self, count: usize) -> Result<(), Problem> {
        while self.buffer.len() < count {
            let missing = count - self.buffer.len();
            if self.buffer.capacity() - self.buffer.len() < missing {
                self.buffer.reserve(missing.max(CHUNK));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the broker closed the connection".into());
            }
        }
        Ok(())
    }
}
