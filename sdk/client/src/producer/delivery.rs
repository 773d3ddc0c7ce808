//! The future of one record: its acknowledgement, or why there is none.
//!
//! Records of one batch share one outcome. A delivery knows its record's place in the batch, so that nothing is made for a record whose
//! delivery is dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::sync::{Notify, oneshot};

use crate::error::{Error, Result};
use crate::record::RecordMetadata;

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) base_offset: Option<i64>,
    pub(super) append_time: Option<i64>,
}

/// What becomes of a batch; told once. A batch that is dropped untold failed because its runtime was shut down.
pub(super) struct Completion(Arc<Done>);

struct Done {
    topic: Arc<str>,
    partition: i32,
    outcome: OnceLock<Result<Stored>>,
    told: Notify,
}

impl Completion {
    pub(super) fn new(topic: Arc<str>, partition: i32) -> Completion {
        Completion(Arc::new(Done {
            topic,
            partition,
            outcome: OnceLock::new(),
            told: Notify::new(),
        }))
    }

    /// The record at this place of the batch.
    pub(super) fn place(&self, index: usize, timestamp: i64) -> Placed {
        Placed {
            done: self.0.clone(),
            index,
            timestamp,
        }
    }

    pub(super) fn tell(&self, outcome: Result<Stored>) {
        // The first word stands.
        let _ = self.0.outcome.set(outcome);
        self.0.told.notify_waiters();
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if self.0.outcome.get().is_none() {
            self.tell(Err(Error::Closed));
        }
    }
}

/// A record that has its place in a batch.
#[derive(Clone)]
pub(super) struct Placed {
    done: Arc<Done>,
    index: usize,
    timestamp: i64,
}

impl Placed {
    /// What became of it, once that is known.
    fn outcome(&self) -> Option<Result<RecordMetadata>> {
        let stored = match self.done.outcome.get()? {
            Ok(stored) => stored,
            Err(error) => return Some(Err(error.clone())),
        };
        let index = i64::try_from(self.index).unwrap_or(i64::MAX);
        Some(Ok(RecordMetadata {
            topic: self.done.topic.to_string(),
            partition: self.done.partition,
            offset: stored.base_offset.map(|base| base + index),
            timestamp: stored.append_time.unwrap_or(self.timestamp),
        }))
    }

    async fn wait(self) -> Result<RecordMetadata> {
        loop {
            // Made before looking, so that what is told in between is heard.
            let told = self.done.told.notified();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            told.await;
        }
    }
}

/// Resolves when the record is acknowledged, with its place, or when it failed for good. It may be moved to another task
/// and awaited at any time.
pub struct Delivery {
    state: State,
}

type Boxed = Pin<Box<dyn Future<Output = Result<RecordMetadata>> + Send>>;

enum State {
    /// It has its place, and nobody has waited yet.
    Placed(Placed),
    /// Its topic is being looked for.
    Resolving(oneshot::Receiver<Result<Placed>>),
    /// Somebody waits: for room in the buffer, or for the acknowledgement.
    Waiting(Boxed),
    /// It was never accepted; empty once told.
    Failed(Option<Error>),
}

impl Delivery {
    pub(super) fn placed(placed: Placed) -> Delivery {
        Delivery {
            state: State::Placed(placed),
        }
    }

    pub(super) fn resolving(place: oneshot::Receiver<Result<Placed>>) -> Delivery {
        Delivery {
            state: State::Resolving(place),
        }
    }

    pub(super) fn failed(error: Error) -> Delivery {
        Delivery {
            state: State::Failed(Some(error)),
        }
    }

    pub(super) fn waiting_for_room(send: impl Future<Output = Result<RecordMetadata>> + Send + 'static) -> Delivery {
        Delivery {
            state: State::Waiting(Box::pin(send)),
        }
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.state {
                State::Placed(placed) => match placed.outcome() {
                    Some(outcome) => return Poll::Ready(outcome),
                    None => {
                        let waiting = Box::pin(placed.clone().wait());
                        self.state = State::Waiting(waiting);
                    }
                },
                State::Resolving(place) => match std::task::ready!(Pin::new(place).poll(context)) {
                    Ok(Ok(placed)) => self.state = State::Placed(placed),
                    Ok(Err(error)) => return Poll::Ready(Err(error)),
                    // Whoever looked for the topic is gone with its runtime.
                    Err(_) => return Poll::Ready(Err(Error::Closed)),
                },
                State::Waiting(waiting) => return waiting.as_mut().poll(context),
                State::Failed(error) => return Poll::Ready(Err(error.take().unwrap_or(Error::Closed))),
            }
        }
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}
