//! Cuts a byte stream into frames, and never holds more than was announced and allowed.
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tidemill_protocol::frame::{self, FrameError, LENGTH_BYTES};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use crate::{
    limits,
    net::gate::{Gate, Permit},
};

/// Read at a time when nothing larger is announced. An idle connection keeps no more than this.
const CHUNK: usize = 8 << 10;

/// Frames up to this size are copied out of the chunk. Batches stay in memory as slices of their frame, and one of a hundred bytes must not
/// keep a chunk: with this, what is kept takes at most twice what is counted.
const COPIED_MAX: usize = CHUNK / 2;

/// Why there is no further frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameEnd {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the connection ended in the middle of a frame")]
    Cut,
    #[error("a frame was not complete within {}s", limits::FRAME_TIMEOUT.as_secs())]
    Slow,
    #[error("the node stops")]
    Stopping,
}

/// Reads frames from one stream.
pub(super) struct Frames<R> {
    from: R,
    buffer: BytesMut,
}

/// One frame without its length, and the right to hold it in memory.
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    pub(super) permit: Permit,
}

/// What came within the idle time.
pub(super) enum Next {
    Frame(Frame),
    End,
    Idle,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            buffer: BytesMut::new(),
        }
    }

    /// The next frame. `idle` bounds the wait for its first byte; the rest must follow within [`limits::FRAME_TIMEOUT`].
    ///
    /// Memory for the frame is taken from the node's budget before it is read, so that many large frames wait for each other.
    pub(super) async fn next(&mut self, gate: &Gate, idle: Duration) -> Result<Next, FrameEnd> {
        if self.buffer.is_empty() {
            match timeout(idle, self.fill(CHUNK)).await {
                Err(_) => return Ok(Next::Idle),
                Ok(Ok(0)) => return Ok(Next::End),
                Ok(read) => drop(read?),
            }
        }
        if self.buffer.len() < LENGTH_BYTES {
            timeout(limits::FRAME_TIMEOUT, self.at_least(LENGTH_BYTES))
                .await
                .map_err(|_| FrameEnd::Slow)??;
        }
        let mut prefix = [0; LENGTH_BYTES];
        prefix.copy_from_slice(&self.buffer[..LENGTH_BYTES]);
        let length = frame::length(prefix, gate.frame_bytes_max())?;
        let permit = gate.admit(length).await.ok_or(FrameEnd::Stopping)?;
        if self.buffer.len() < LENGTH_BYTES + length {
            timeout(limits::FRAME_TIMEOUT, self.at_least(LENGTH_BYTES + length))
                .await
                .map_err(|_| FrameEnd::Slow)??;
        }
        self.buffer.advance(LENGTH_BYTES);
        let bytes = self.take(length);
        Ok(Next::Frame(Frame { bytes, permit }))
    }

    /// Takes so many bytes, which are there, off the front.
    fn take(&mut self, count: usize) -> Bytes {
        if COPIED_MAX < count {
            return self.buffer.split_to(count).freeze();
        }
        let bytes = Bytes::copy_from_slice(&self.buffer[..count]);
        self.buffer.advance(count);
        bytes
    }

    async fn at_least(&mut self, count: usize) -> Result<(), FrameEnd> {
        while self.buffer.len() < count {
            if self.fill(count - self.buffer.len()).await? == 0 {
                return Err(FrameEnd::Cut);
            }
        }
        Ok(())
    }

    async fn fill(&mut self, wanted: usize) -> std::io::Result<usize> {
        if self.buffer.capacity() - self.buffer.len() < wanted {
            self.buffer.reserve(wanted.max(CHUNK));
        }
        self.from.read_buf(&mut self.buffer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_frame_that_is_kept_does_not_keep_its_chunk() {
        let mut frames = Frames::new(tokio::io::empty());
        frames.buffer.extend_from_slice(&[7; 3 * CHUNK]);
        let small = frames.take(COPIED_MAX);
        let large = frames.take(CHUNK);
        assert!(small.is_unique(), "a copy of its own");
        assert!(!large.is_unique(), "a slice of the buffer");
        assert_eq!(
            (small.len(), large.len(), frames.buffer.len()),
            (CHUNK / 2, CHUNK, 3 * CHUNK / 2)
        );
    }
}
