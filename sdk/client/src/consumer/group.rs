//! The member: heartbeats of KIP-848, and partitions that come and go by them.
//!
//! ```text
//!            epoch 0: join                      assignment
//!  Joining ───────────────> Stable ──────────────────────> Reconciling ──┐
//!     ^                       ^   what is owned, acknowledged            │
//!     │ fenced, unknown       └──────────────────────────────────────────┘
//!     └──────────────────── partitions lost      (heartbeats go on all the while)
//! ```
//!
//! A partition that goes is no longer delivered; when the application is done with what it has, the callback runs, what
//! is processed is committed (with auto-commit), and only then is it acknowledged as given back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::api::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use tidemill_protocol::error_code::ErrorCode;
use tidemill_protocol::ids::TopicId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Shared;
use super::handle::ConsumerHandle;
use super::state::{Delivery, Locate, Part};
use crate::backoff::Backoff;
use crate::error::{Error, Result, check};
use crate::record::TopicPartition;

/// Heartbeats until the coordinator says how often.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// How long leaving may take: the coordinator finds out by itself later.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// Epochs with which a member leaves: for good, or to come back under its instance id.
const LEAVE_EPOCH: i32 = -1;
const LEAVE_STATIC_EPOCH: i32 = -2;

type Leave = oneshot::Sender<Result<()>>;

/// Commits in the configured interval what is processed.
pub(super) async fn auto_commit(shared: Arc<Shared>) {
    let Some(interval) = shared.config.auto_commit else {
        return;
    };
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = shared.closed() => return,
        }
        if let Err(error) = shared.commit_processed(None).await {
            tracing::warn!(%error, "cannot commit; the next commit makes up for it");
        }
    }
}

/// Runs until the consumer leaves or is dropped.
pub(super) async fn run(shared: Arc<Shared>, mut commands: mpsc::Receiver<Leave>) {
    let mut member = Member {
        id: shared.client.network.random.uuid(),
        epoch: 0,
        target: BTreeMap::new(),
        interval: HEARTBEAT_INTERVAL,
        next: Instant::now(),
        reconciling: None,
        is_out: false,
        backoff: Backoff::new(shared.client.network.backoff),
        shared,
    };
    loop {
        let shared = member.shared.clone();
        let event = tokio::select! {
            command = commands.recv() => Event::Leave(command),
            () = shared.closed() => Event::Leave(None),
            () = done(&mut member.reconciling) => Event::Reconciled,
            () = shared.group_wake.notified() => Event::Beat,
            () = tokio::time::sleep_until(member.next) => Event::Beat,
        };
        match event {
            Event::Leave(command) => return member.leave(command).await,
            Event::Reconciled => member.beat().await,
            Event::Beat => member.beat().await,
        }
    }
}

enum Event {
    Leave(Option<Leave>),
    Reconciled,
    Beat,
}

/// Waits for a reconciliation under way and takes it out.
async fn done(reconciling: &mut Option<JoinHandle<()>>) {
    match reconciling {
        Some(task) => {
            // A callback that panicked has said so; its partitions are gone all the same.
            let _ = task.await;
            *reconciling = None;
        }
        None => std::future::pending().await,
    }
}

struct Member {
    shared: Arc<Shared>,
    id: String,
    epoch: i32,
    /// What the coordinator wants this member to own.
    target: BTreeMap<TopicId, Vec<i32>>,
    interval: Duration,
    next: Instant,
    reconciling: Option<JoinHandle<()>>,
    /// It left because the application took too long, and joins again when the application comes back.
    is_out: bool,
    backoff: Backoff,
}

impl Member {
    async fn beat(&mut self) {
        self.next = Instant::now() + self.interval;
        if self.application_is_late() {
            return self.step_out().await;
        }
        if self.is_out {
            if self.shared.state().working_since.is_some() {
                return;
            }
            self.is_out = false;
        }
        let result = self.call(self.epoch).await;
        match result {
            Ok(response) => {
                self.backoff.reset();
                self.accept(response).await;
            }
            Err(error) => self.refused(error).await,
        }
    }

    async fn call(&self, epoch: i32) -> Result<ConsumerGroupHeartbeatResponse> {
        let request = self.request(epoch);
        let coordinator = self.shared.client.coordinator(&request.group_id).await?;
        let group = request.group_id.clone();
        let response = coordinator.call(request).await?;
        check(response.error_code, response.error_message.as_deref(), || {
            format!("group {group}")
        })?;
        Ok(response)
    }

    /// Always the whole of it: the coordinator then answers with the whole assignment, and nothing depends on which
    /// heartbeats arrived.
    fn request(&self, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        let config = &self.shared.config;
        let is_leaving = epoch < 0;
        let timeout_ms = i32::try_from(config.poll_interval_max.as_millis()).unwrap_or(i32::MAX);
        let topics = self.shared.topics().clone();
        ConsumerGroupHeartbeatRequest {
            group_id: config.group_id.clone().unwrap_or_default(),
            member_id: self.id.clone(),
            member_epoch: epoch,
            instance_id: config.group_instance_id.clone(),
            rebalance_timeout_ms: if is_leaving { -1 } else { timeout_ms },
            subscribed_topic_names: Some(topics).filter(|_| !is_leaving),
            server_assignor: config.server_assignor.clone().filter(|_| !is_leaving),
            topic_partitions: Some(self.owned(epoch)).filter(|_| !is_leaving),
            ..Default::default()
        }
    }

    fn owned(&self, epoch: i32) -> Vec<TopicPartitions> {
        let mut owned: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        if epoch != 0 {
            for (place, part) in &self.shared.state().parts {
                owned.entry(part.topic_id).or_default().push(place.partition);
            }
        }
        owned
            .into_iter()
            .map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions })
            .collect()
    }

    async fn accept(&mut self, response: ConsumerGroupHeartbeatResponse) {
        if let Some(id) = response.member_id.filter(|id| !id.is_empty()) {
            self.id = id;
        }
        self.epoch = response.member_epoch;
        let interval_ms = u64::try_from(response.heartbeat_interval_ms).unwrap_or(0);
        if 0 < interval_ms {
            self.interval = Duration::from_millis(interval_ms).max(HEARTBEAT_INTERVAL_MIN);
            self.next = Instant::now() + self.interval;
        }
        self.shared.state().member = Some((self.id.clone(), self.epoch));
        if let Some(assignment) = response.assignment {
            self.target = assignment
                .topic_partitions
                .into_iter()
                .map(|t| (t.topic_id, t.partitions))
                .collect();
        }
        if self.reconciling.is_some() {
            return;
        }
        let target = self.target_places().await;
        let is_reached = {
            let state = self.shared.state();
            state.parts.len() == target.len() && target.keys().all(|place| state.parts.contains_key(place))
        };
        if !is_reached {
            self.reconciling = Some(tokio::spawn(reconcile(self.shared.clone(), target)));
        }
    }

    /// The target by names. A topic whose name cannot be found now is left for the next heartbeat.
    async fn target_places(&self) -> BTreeMap<TopicPartition, TopicId> {
        let mut places = BTreeMap::new();
        for (id, partitions) in &self.target {
            match self.shared.client.topic_by_id(*id).await {
                Ok(topic) => {
                    places.extend(
                        partitions
                            .iter()
                            .map(|p| (TopicPartition::new(topic.name.clone(), *p), *id)),
                    );
                }
                Err(error) => tracing::debug!(%id, %error, "assigned a topic that cannot be found"),
            }
        }
        places
    }

    async fn refused(&mut self, error: Error) {
        match error.code() {
            Some(ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID) => {
                tracing::info!(%error, "the group took this member for dead: joining again");
                self.lose().await;
                self.next = Instant::now();
            }
            _ if error.is_retriable() => {
                let wait = self.backoff.next_wait(&self.shared.client.network.random);
                tracing::debug!(%error, ?wait, "heartbeat failed");
                self.next = Instant::now() + wait;
            }
            _ => {
                self.lose().await;
                self.shared.report(error);
            }
        }
    }

    /// Partitions go without good order, and the member starts anew.
    async fn lose(&mut self) {
        if let Some(reconciling) = self.reconciling.take() {
            reconciling.abort();
        }
        self.epoch = 0;
        self.target.clear();
        let lost: Vec<TopicPartition> = {
            let mut state = self.shared.state();
            state.member = None;
            std::mem::take(&mut state.parts).into_keys().collect()
        };
        self.shared.partitions_changed();
        if let Some(listener) = self.shared.config.listener.clone().filter(|_| !lost.is_empty()) {
            listener
                .lost(
                    &ConsumerHandle {
                        shared: self.shared.clone(),
                    },
                    &lost,
                )
                .await;
        }
    }

    fn application_is_late(&self) -> bool {
        let since = self.shared.state().working_since;
        !self.is_out && since.is_some_and(|since| self.shared.config.poll_interval_max < since.elapsed())
    }

    /// The application has not come back for too long: its partitions go to others.
    async fn step_out(&mut self) {
        let within = self.shared.config.poll_interval_max;
        tracing::warn!(
            ?within,
            "the application did not call next in time: leaving the group until it does"
        );
        if let Err(error) = self.call(LEAVE_EPOCH).await {
            tracing::debug!(%error, "cannot leave the group");
        }
        self.lose().await;
        self.is_out = true;
    }

    async fn leave(mut self, command: Option<Leave>) {
        if let Some(reconciling) = self.reconciling.take() {
            reconciling.abort();
        }
        let in_good_order = command.is_some();
        let result = if in_good_order {
            self.give_back_all().await
        } else {
            Ok(())
        };
        let epoch = match self.shared.config.group_instance_id {
            Some(_) => LEAVE_STATIC_EPOCH,
            None => LEAVE_EPOCH,
        };
        if self.epoch != 0 {
            match tokio::time::timeout(LEAVE_WITHIN, self.call(epoch)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "cannot leave the group"),
                Err(_) => tracing::debug!("cannot leave the group in time"),
            }
        }
        self.shared.state().member = None;
        if let Some(reply) = command {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(result);
        }
    }

    async fn give_back_all(&self) -> Result<()> {
        let all: Vec<TopicPartition> = self.shared.state().parts.keys().cloned().collect();
        give_back(&self.shared, &all).await
    }
}

/// Callback and commit of partitions that go, then they are gone.
async fn give_back(shared: &Arc<Shared>, places: &[TopicPartition]) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    if let Some(listener) = &shared.config.listener {
        listener
            .revoked(&ConsumerHandle { shared: shared.clone() }, places)
            .await;
    }
    let committed = match shared.config.auto_commit {
        Some(_) => shared.commit_processed(Some(places)).await,
        None => Ok(()),
    };
    shared.state().parts.retain(|place, _| !places.contains(place));
    shared.partitions_changed();
    committed
}

/// Makes what is owned what is wanted: first gives back, then takes.
async fn reconcile(shared: Arc<Shared>, target: BTreeMap<TopicPartition, TopicId>) {
    let going: Vec<TopicPartition> = {
        let mut state = shared.state();
        let going = state
            .parts
            .iter_mut()
            .filter(|(place, part)| target.get(place) != Some(&part.topic_id));
        going
            .map(|(place, part)| {
                part.delivery = Delivery::Revoking;
                place.clone()
            })
            .collect()
    };
    if !going.is_empty() {
        shared.partitions_changed();
        shared.idle().await;
        if let Err(error) = give_back(&shared, &going).await {
            tracing::warn!(%error, "partitions go without a commit: their next owner repeats records");
        }
    }
    let coming: Vec<TopicPartition> = {
        let mut state = shared.state();
        let new: Vec<_> = target
            .iter()
            .filter(|(place, _)| !state.parts.contains_key(place))
            .collect();
        for (place, id) in &new {
            state.parts.insert(
                (*place).clone(),
                Part::new(**id, Delivery::Announced, Locate::Committed),
            );
        }
        new.into_iter().map(|(place, _)| place.clone()).collect()
    };
    if coming.is_empty() {
        return;
    }
    if let Some(listener) = &shared.config.listener {
        listener
            .assigned(&ConsumerHandle { shared: shared.clone() }, &coming)
            .await;
    }
    for place in &coming {
        if let Some(part) = shared.state().parts.get_mut(place) {
            part.delivery = Delivery::Open;
        }
    }
    shared.partitions_changed();
}
