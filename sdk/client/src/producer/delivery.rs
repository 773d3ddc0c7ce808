//! The future of one record: its acknowledgement, or why there is none.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Answer;
use crate::error::{Error, Result};
use crate::record::RecordMetadata;

/// Resolves when the record is acknowledged, with its place, or when it failed for good. It may be moved to another task
/// and awaited at any time.
pub struct Delivery {
    state: State,
}

enum State {
    /// It has its place.
    Waiting(Answer),
    /// The buffer is full.
    Room(Pin<Box<dyn Future<Output = Result<RecordMetadata>> + Send>>),
    /// It was never accepted; empty once told.
    Failed(Option<Error>),
}

impl Delivery {
    pub(super) fn waiting(answer: Answer) -> Delivery {
        Delivery {
            state: State::Waiting(answer),
        }
    }

    pub(super) fn failed(error: Error) -> Delivery {
        Delivery {
            state: State::Failed(Some(error)),
        }
    }

    pub(super) fn waiting_for_room(send: impl Future<Output = Result<RecordMetadata>> + Send + 'static) -> Delivery {
        Delivery {
            state: State::Room(Box::pin(send)),
        }
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            // A sender answers everything it takes, unless its runtime was shut down.
            State::Waiting(answer) => Pin::new(answer)
                .poll(context)
                .map(|result| result.unwrap_or(Err(Error::Closed))),
            State::Room(send) => send.as_mut().poll(context),
            State::Failed(error) => Poll::Ready(Err(error.take().unwrap_or(Error::Closed))),
        }
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}
