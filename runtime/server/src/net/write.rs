//! Writes ropes without copying them together.
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Where answers go: a socket, TLS over one, or a QUIC stream.
pub(crate) trait Outgoing: Send {
    /// Writes all of it, in order.
    fn write(&mut self, rope: Vec<Bytes>) -> impl Future<Output = io::Result<()>> + Send;

    /// Nothing follows.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// Vectored writes.
pub(super) struct Socket<W>(pub(super) W);

/// Pieces handed to one system call.
const SLICES: usize = 64;

impl<W: AsyncWrite + Unpin + Send> Outgoing for Socket<W> {
    async fn write(&mut self, mut rope: Vec<Bytes>) -> io::Result<()> {
        let mut at = 0;
        while at < rope.len() {
            let slices: Vec<IoSlice<'_>> = rope[at..]
                .iter()
                .take(SLICES)
                .map(|piece| IoSlice::new(piece))
                .collect();
            let mut written = self.0.write_vectored(&slices).await?;
            if written == 0 && rope[at..].iter().any(|piece| !piece.is_empty()) {
                return Err(io::ErrorKind::WriteZero.into());
            }
            while at < rope.len() && rope[at].len() <= written {
                written -= rope[at].len();
                at += 1;
            }
            if 0 < written {
                rope[at].advance(written);
            }
        }
        self.0.flush().await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

impl Outgoing for quinn::SendStream {
    async fn write(&mut self, mut rope: Vec<Bytes>) -> io::Result<()> {
        Ok(self.write_all_chunks(&mut rope).await?)
    }

    async fn finish(&mut self) -> io::Result<()> {
        // Fails only when the stream is closed already, which is what is wanted.
        let _ = quinn::SendStream::finish(self);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use super::*;

    /// Takes at most three bytes at a time.
    struct Narrow(Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(3);
            self.0.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn short_writes_lose_nothing() {
        let mut out = Socket(Narrow(Vec::new()));
        let pieces = ["", "a", "bcdefgh", "", "ij", ""];
        out.write(
            pieces
                .iter()
                .map(|piece| Bytes::from_static(piece.as_bytes()))
                .collect(),
        )
        .await
        .unwrap();
        assert_eq!(out.0.0, b"abcdefghij");
        out.write(vec![Bytes::new()]).await.unwrap();
    }
}
