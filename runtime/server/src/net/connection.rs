//! One ordered byte stream: Kafka requests in, answers out in the order of the requests. TCP, TLS and QUIC streams are all served here.
//!
//! ```text
//!  reader:  frame -> decode ────────────► node ──┐
//!                 └─ place in the queue ────┐    │ oneshot
//!  writer:  queue -> wait for the answer ◄──┴────┘ -> encode -> write
//! ```
//! Requests are handed to the node as they arrive, up to [`limits::STREAM_REQUESTS_MAX`] ahead of the answers. Only one fetch of a stream is
//! in work at a time, because its answer may be a thousand times larger than its request.
use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tidemill_broker::context::RequestContext;
use tidemill_protocol::{
    api::{Request, Response, api_versions},
    codec::EncodeError,
    frame::{FrameError, RequestHeader},
};
use tokio::{
    io::AsyncRead,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    advertised::Advertised,
    frame::{FrameEnd, Frames, Next},
    gate::{Connection, Gate, Permit},
    write::Outgoing,
};
use crate::{limits, node::Event};

/// Who is at the other end.
#[derive(Clone)]
pub(super) struct Peer {
    /// `User:name`.
    pub(super) principal: Arc<str>,
    /// Its address without the port.
    pub(super) host: Arc<str>,
    /// What to tell it to connect to, if that is not what the node tells everybody.
    pub(super) advertised: Option<Advertised>,
    /// Closed after so long without a request.
    pub(super) idle: Duration,
}

/// Why a stream ended early. A client that simply leaves is no error.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Frame(#[from] FrameEnd),
    #[error("cannot encode an answer: {0}")]
    Encode(#[from] EncodeError),
    #[error("cannot write an answer: {0}")]
    Write(std::io::Error),
    #[error("the client does not take its answers")]
    NotRead,
    #[error("the connection could not be set up: {0}")]
    Accept(std::io::Error),
    #[error("the TLS handshake took too long")]
    Handshake,
    #[error("the node stops")]
    Stopping,
}

impl Ended {
    /// Whether there is something to be said about it: that a client goes away in the middle is its own business, and so is our stop.
    pub(super) fn is_worth_a_line(&self) -> bool {
        !matches!(
            self,
            Self::Stopping | Self::Write(_) | Self::Frame(FrameEnd::Io(_) | FrameEnd::Stopping)
        )
    }
}

/// A request that waits for its answer to be written.
struct Pending {
    answer: Answer,
    version: i16,
    correlation_id: i32,
    _permit: Permit,
    _fetch: Option<OwnedSemaphorePermit>,
}

enum Answer {
    Here(Box<Response>),
    Awaited(oneshot::Receiver<Response>),
}

/// Serves one stream until its client is done, breaks a rule, or the node stops.
pub(super) async fn serve<R, W>(gate: Gate, peer: Peer, from: R, mut to: W) -> Result<(), Ended>
where
    R: AsyncRead + Unpin + Send,
    W: Outgoing,
{
    let (queue, waiting) = mpsc::channel(limits::STREAM_REQUESTS_MAX);
    let reader = Reader {
        connection: gate.connection(),
        fetches: Arc::new(Semaphore::new(1)),
        client_id: None,
        idle: peer.idle,
        queue,
        peer: &peer,
        gate,
    };
    let reading = reader.run(Frames::new(from));
    let writing = write_answers(waiting, &mut to, peer.advertised.as_ref());
    tokio::try_join!(reading, writing)?;
    to.finish().await.map_err(Ended::Write)
}

struct Reader<'a> {
    gate: Gate,
    peer: &'a Peer,
    connection: Connection,
    queue: mpsc::Sender<Pending>,
    fetches: Arc<Semaphore>,
    client_id: Option<Arc<str>>,
    idle: Duration,
}

impl Reader<'_> {
    async fn run<R: AsyncRead + Unpin>(mut self, mut frames: Frames<R>) -> Result<(), Ended> {
        let mut stop = self.gate.clone();
        loop {
            let next = tokio::select! {
                biased;
                () = stop.stopping() => return Ok(()),
                next = frames.next(&self.gate, self.idle) => next?,
            };
            match next {
                Next::End => return Ok(()),
                // Nothing to read, but answers are owed: the silence is ours.
                Next::Idle if self.queue.capacity() < self.queue.max_capacity() => {}
                Next::Idle => return Ok(()),
                Next::Frame(frame) => {
                    if !self.handle(frame.bytes, frame.permit).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Returns false when the writer is gone.
    async fn handle(&mut self, frame: Bytes, permit: Permit) -> Result<bool, Ended> {
        let (header, request) = match Request::decode_frame(frame) {
            Ok(decoded) => decoded,
            Err(FrameError::UnsupportedVersion {
                key: tidemill_protocol::api::ApiKey::ApiVersions,
                correlation_id,
                ..
            }) => {
                let answer = Answer::Here(Box::new(api_versions::unsupported_version().into()));
                return Ok(self
                    .enqueue(Pending {
                        answer,
                        version: 0,
                        correlation_id,
                        _permit: permit,
                        _fetch: None,
                    })
                    .await);
            }
            Err(error) => return Err(FrameEnd::from(error).into()),
        };
        let mut fetch = None;
        let mut is_answered = true;
        match &request {
            Request::Fetch(_) => fetch = self.fetches.clone().acquire_owned().await.ok(),
            Request::Produce(produce) => is_answered = produce.acks != 0,
            _ => {}
        }
        let (reply, awaited) = oneshot::channel();
        let context = self.context(&header);
        if !is_answered {
            self.gate.send(Event::Request {
                context,
                request,
                reply,
                permit: Some(permit),
            });
            return Ok(true);
        }
        self.gate.send(Event::Request {
            context,
            request,
            reply,
            permit: None,
        });
        let (version, correlation_id) = (header.api_version, header.correlation_id);
        let answer = Answer::Awaited(awaited);
        Ok(self
            .enqueue(Pending {
                answer,
                version,
                correlation_id,
                _permit: permit,
                _fetch: fetch,
            })
            .await)
    }

    async fn enqueue(&self, pending: Pending) -> bool {
        self.queue.send(pending).await.is_ok()
    }

    fn context(&mut self, header: &RequestHeader) -> RequestContext {
        if self.client_id.as_deref() != header.client_id.as_deref() {
            self.client_id = header.client_id.as_deref().map(Arc::from);
        }
        RequestContext {
            principal: self.peer.principal.clone(),
            client_id: self.client_id.clone(),
            client_host: self.peer.host.clone(),
            api_version: header.api_version,
            connection: self.connection.id,
        }
    }
}

/// Answers in the order of the requests; those that are there together go out together.
async fn write_answers<W: Outgoing>(
    mut queue: mpsc::Receiver<Pending>,
    to: &mut W,
    advertised: Option<&Advertised>,
) -> Result<(), Ended> {
    let mut gathered = Gathered::default();
    loop {
        let next = if gathered.is_empty() {
            queue.recv().await
        } else {
            queue.try_recv().ok()
        };
        let Some(mut pending) = next else {
            if gathered.is_empty() {
                return Ok(());
            }
            gathered.write(to).await?;
            continue;
        };
        let response = match pending.answer {
            Answer::Here(response) => *response,
            Answer::Awaited(mut awaited) => match awaited.try_recv() {
                Ok(response) => response,
                Err(_) => {
                    gathered.write(to).await?;
                    awaited.await.map_err(|_| Ended::Stopping)?
                }
            },
        };
        pending.answer = Answer::Here(Box::new(response));
        gathered.add(pending, advertised)?;
        if limits::GATHERED_BYTES_MAX <= gathered.bytes {
            gathered.write(to).await?;
        }
    }
}

/// Answers on their way out, with what they hold.
#[derive(Default)]
struct Gathered {
    rope: Vec<Bytes>,
    bytes: usize,
    held: Vec<(Permit, Option<OwnedSemaphorePermit>)>,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.rope.is_empty()
    }

    fn add(&mut self, pending: Pending, advertised: Option<&Advertised>) -> Result<(), Ended> {
        let Answer::Here(mut response) = pending.answer else {
            return Err(Ended::Stopping);
        };
        if let Some(advertised) = advertised {
            advertised.amend(&mut response);
        }
        let pieces = response.encode_frame(pending.version, pending.correlation_id)?;
        self.bytes += pieces.iter().map(Bytes::len).sum::<usize>();
        self.rope.extend(pieces);
        self.held.push((pending._permit, pending._fetch));
        Ok(())
    }

    async fn write<W: Outgoing>(&mut self, to: &mut W) -> Result<(), Ended> {
        if self.rope.is_empty() {
            return Ok(());
        }
        let rope = std::mem::take(&mut self.rope);
        timeout(limits::WRITE_TIMEOUT, to.write(rope))
            .await
            .map_err(|_| Ended::NotRead)?
            .map_err(Ended::Write)?;
        self.bytes = 0;
        self.held.clear();
        Ok(())
    }
}
