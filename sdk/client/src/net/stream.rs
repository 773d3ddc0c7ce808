//! One QUIC stream as a Kafka connection: frames out, frames in, answers in the order of the requests.
//!
//! Requests are pipelined: any number may be on their way, up to a bound. Sending never waits, so whoever sends under a
//! lock fixes the order of requests. When the stream breaks, every request that was written fails with
//! [`Reach::Unknown`] and every one that was not with [`Reach::NotSent`]; nothing is sent again here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream, VarInt};
use tidemill_protocol::api::ApiKey;
use tokio::sync::{mpsc, oneshot, watch};

use super::faults::{Fate, Faults};
use crate::error::{Error, Reach, Result};
use crate::limits::{FRAME_BYTES_MAX, FRAME_STEP_BYTES, STREAM_PENDING_MAX};

/// Told to the peer when a stream is given up.
const ABANDONED: VarInt = VarInt::from_u32(1);

/// The answer to one request: the response frame without its length prefix.
pub(crate) type Answer = oneshot::Receiver<Result<Bytes>>;

/// A request ready to be written.
pub(crate) struct Outgoing {
    pub(crate) api: ApiKey,
    /// The whole frame, length prefix included.
    pub(crate) frame: Vec<Bytes>,
    /// Whether an answer comes: to everything but a produce with `acks` 0.
    pub(crate) answered: Answered,
}

/// Whether a request has an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Yes,
    No,
}

struct Queued {
    request: Outgoing,
    reply: oneshot::Sender<Result<Bytes>>,
}

struct Pending {
    api: ApiKey,
    reply: oneshot::Sender<Result<Bytes>>,
}

/// What reader, writer and owner share.
struct Shared {
    pending: Mutex<PendingQueue>,
    /// Becomes true when the stream is given up; both halves watch it.
    broken: watch::Sender<bool>,
}

#[derive(Default)]
struct PendingQueue {
    waiting: VecDeque<Pending>,
    /// Set once: why nothing more will come.
    failure: Option<Error>,
}

impl Shared {
    /// Ends the stream once: everything written and unanswered fails.
    fn fail(&self, reason: &str) {
        let waiting = {
            let mut pending = self.lock();
            pending
                .failure
                .get_or_insert_with(|| Error::disconnected(reason, Reach::NotSent));
            std::mem::take(&mut pending.waiting)
        };
        for request in waiting {
            // The other side may have stopped waiting: nobody is left to tell then.
            let _ = request.reply.send(Err(Error::disconnected(reason, Reach::Unknown)));
        }
        self.broken.send_replace(true);
    }

    /// Returns once the stream is given up.
    async fn broken(&self) {
        // It cannot fail: the sender is this value's own.
        let _ = self.broken.subscribe().wait_for(|broken| *broken).await;
    }

    fn failure(&self) -> Option<Error> {
        self.lock().failure.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, PendingQueue> {
        self.pending.lock().expect("no panic while requests are queued")
    }
}

/// A handle to the stream. Clones share it; it ends when the last is dropped and everything asked is answered.
#[derive(Clone)]
pub(crate) struct Stream {
    requests: mpsc::UnboundedSender<Queued>,
    shared: Arc<Shared>,
}

impl Stream {
    /// Opens a stream and starts its two tasks on the current runtime.
    pub(crate) async fn open(connection: &quinn::Connection, faults: Option<Arc<dyn Faults>>) -> Result<Stream> {
        let (send, receive) = connection
            .open_bi()
            .await
            .map_err(|e| Error::disconnected(e, Reach::NotSent))?;
        let (requests, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            pending: Mutex::default(),
            broken: watch::Sender::new(false),
        });
        tokio::spawn(write(send, queue, shared.clone(), faults.clone()));
        tokio::spawn(read(receive, shared.clone(), faults));
        Ok(Stream { requests, shared })
    }

    /// Queues a request behind those sent before. Its answer fails when the stream breaks.
    pub(crate) fn send(&self, request: Outgoing) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        {
            let pending = self.shared.lock();
            if let Some(failure) = &pending.failure {
                return Err(failure.clone());
            }
            if STREAM_PENDING_MAX <= pending.waiting.len() {
                return Err(Error::disconnected("too many requests on one stream", Reach::NotSent));
            }
        }
        match self.requests.send(Queued { request, reply }) {
            Ok(()) => Ok(answer),
            Err(_) => Err(self
                .shared
                .failure()
                .unwrap_or(Error::disconnected("stream closed", Reach::NotSent))),
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.shared.lock().failure.is_some()
    }

    /// Whether both are handles of one stream.
    pub(crate) fn is_same(&self, other: &Stream) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Gives the stream up at once, with every request on it.
    pub(crate) fn abandon(&self, reason: &str) {
        self.shared.fail(reason);
    }
}

async fn write(
    mut stream: SendStream,
    mut queue: mpsc::UnboundedReceiver<Queued>,
    shared: Arc<Shared>,
    faults: Option<Arc<dyn Faults>>,
) {
    loop {
        let next = tokio::select! {
            next = queue.recv() => next,
            () = shared.broken() => None,
        };
        let Some(Queued { request, reply }) = next else { break };
        if let Some(failure) = shared.failure() {
            let _ = reply.send(Err(failure));
            continue;
        }
        let lost = faults
            .as_ref()
            .is_some_and(|faults| faults.request(request.api) == Fate::Lose);
        // Known as pending before a byte is written, so that its answer cannot come first.
        match request.answered {
            Answered::Yes => shared.lock().waiting.push_back(Pending {
                api: request.api,
                reply,
            }),
            Answered::No => drop(reply.send(Ok(Bytes::new()))),
        }
        if lost {
            shared.fail("request lost on purpose");
            break;
        }
        let mut frame = request.frame;
        let written = tokio::select! {
            written = stream.write_all_chunks(&mut frame) => written.map_err(|e| whole(&e)),
            () = shared.broken() => break,
        };
        if let Err(reason) = written {
            shared.fail(&reason);
            break;
        }
    }
    match shared.failure() {
        None => {
            // A stream that was already closed by the peer needs no end.
            let _ = stream.finish();
        }
        Some(failure) => {
            let _ = stream.reset(ABANDONED);
            queue.close();
            while let Some(queued) = queue.recv().await {
                let _ = queued.reply.send(Err(failure.clone()));
            }
        }
    }
}

async fn read(mut stream: RecvStream, shared: Arc<Shared>, faults: Option<Arc<dyn Faults>>) {
    loop {
        let frame = tokio::select! {
            frame = read_frame(&mut stream) => frame,
            () = shared.broken() => break,
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(reason) => {
                shared.fail(&reason);
                break;
            }
        };
        let Some(Pending { api, reply }) = shared.lock().waiting.pop_front() else {
            shared.fail("an answer nobody asked for");
            break;
        };
        if faults.as_ref().is_some_and(|faults| faults.response(api) == Fate::Lose) {
            let _ = reply.send(Err(Error::disconnected("response lost on purpose", Reach::Unknown)));
            shared.fail("response lost on purpose");
            break;
        }
        let _ = reply.send(Ok(frame));
    }
    let _ = stream.stop(ABANDONED);
}

/// One frame without its length. Memory grows with the bytes that arrive, not with the length that was promised.
async fn read_frame(stream: &mut RecvStream) -> std::result::Result<Bytes, String> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.map_err(|e| whole(&e))?;
    let length = match usize::try_from(i32::from_be_bytes(length)) {
        Ok(length) if length <= FRAME_BYTES_MAX => length,
        _ => return Err(format!("a frame of {} bytes", i32::from_be_bytes(length))),
    };
    let mut frame = BytesMut::with_capacity(length.min(FRAME_STEP_BYTES));
    while frame.len() < length {
        match stream.read_chunk(length - frame.len(), true).await {
            Ok(Some(chunk)) if frame.is_empty() && chunk.bytes.len() == length => return Ok(chunk.bytes),
            Ok(Some(chunk)) => frame.extend_from_slice(&chunk.bytes),
            Ok(None) => return Err("the stream ended inside a frame".to_owned()),
            Err(e) => return Err(whole(&e)),
        }
    }
    Ok(frame.freeze())
}

/// An error with what is behind it: `connection lost` alone does not say that the daemon wants a certificate.
fn whole(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let behind = error.to_string();
        if !words.ends_with(&behind) {
            words = format!("{words}: {behind}");
        }
        source = error.source();
    }
    words
}
