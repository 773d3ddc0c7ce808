//! A client of a cluster: its brokers, what it knows of topics, and how it tries again.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tidemill_protocol::api::find_coordinator::FindCoordinatorRequest;
use tidemill_protocol::api::metadata::{MetadataRequest, MetadataRequestTopic};
use tidemill_protocol::error_code::ErrorCode;
use tidemill_protocol::ids::TopicId;
use tokio::time::Instant;

use crate::admin::Admin;
use crate::backoff::Backoff;
use crate::builder::ClientBuilder;
use crate::consumer::{Consumer, ConsumerConfig};
use crate::error::{Error, Reach, Result, check};
use crate::metadata::{Cluster, Node, Topic};
use crate::net::broker::{Broker, Network};
use crate::net::wire::Call;
use crate::producer::{Producer, ProducerConfig};

/// How long a topic's metadata is used without asking again.
const METADATA_AGE_MAX: Duration = Duration::from_secs(300);

/// How long a topic that a broker does not know may take to appear after it was asked to create it.
const TOPIC_APPEARS_WITHIN: Duration = Duration::from_secs(5);

/// A client of a Tidemill cluster. Clones share connections and metadata; the connections end with the last clone, and
/// with the last producer and consumer made from it.
///
/// ```no_run
/// # async fn example() -> tidemill_client::Result<()> {
/// use tidemill_client::{Client, Record};
///
/// let client = Client::builder().bootstrap("127.0.0.1:9092").connect().await?;
/// let producer = client.producer(Default::default())?;
/// let metadata = producer.send(Record::to("clicks").key("user-42").value("/home")).await?;
/// println!("partition {} offset {:?}", metadata.partition, metadata.offset);
/// producer.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

/// What the parts of a client share.
pub(crate) struct Inner {
    pub(crate) network: Arc<Network>,
    pub(crate) api_timeout: Duration,
    bootstrap: Vec<String>,
    brokers: Mutex<BTreeMap<String, Arc<Broker>>>,
    cluster: Mutex<Cluster>,
    /// The connection of the management protocol, once there was use for one.
    pub(crate) admin: tokio::sync::Mutex<Option<quinn::Connection>>,
}

/// Whether asking for a topic may create it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AutoCreate {
    Allowed,
    Denied,
}

impl Client {
    /// Starts to configure a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    pub(crate) async fn start(network: Network, bootstrap: Vec<String>, api_timeout: Duration) -> Result<Client> {
        let inner = Inner {
            network: Arc::new(network),
            api_timeout,
            bootstrap,
            brokers: Mutex::default(),
            cluster: Mutex::default(),
            admin: tokio::sync::Mutex::default(),
        };
        let client = Client { inner: Arc::new(inner) };
        client.inner.first_contact().await?;
        Ok(client)
    }

    /// Makes a producer.
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer> {
        Producer::start(self.inner.clone(), config)
    }

    /// Makes a consumer: member of a group, or with partitions assigned by hand.
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer> {
        Consumer::start(self.inner.clone(), config)
    }

    /// Administration of topics, offsets, groups and modules.
    pub fn admin(&self) -> Admin {
        Admin::new(self.inner.clone())
    }

    /// A topic and its partitions as the brokers tell now. It is not created if it does not exist.
    pub async fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        self.inner.forget_topic(name);
        self.inner.topic_now(name, AutoCreate::Denied).await
    }

    /// The brokers of the cluster.
    pub async fn nodes(&self) -> Result<Vec<Node>> {
        self.inner.refresh(Some(Vec::new()), AutoCreate::Denied).await?;
        Ok(self.inner.cluster().nodes.values().cloned().collect())
    }

    /// Ends every connection, whatever still uses it, and waits until the brokers were told. Close producers and
    /// consumers first: what they have not sent by now is lost.
    pub async fn close(self) {
        self.inner.network.endpoints.close().await;
    }
}

impl Inner {
    fn brokers(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Broker>>> {
        self.brokers.lock().expect("no panic while brokers are looked up")
    }

    pub(crate) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().expect("no panic while metadata is looked up")
    }

    fn broker_at(&self, address: &str) -> Arc<Broker> {
        let mut brokers = self.brokers();
        let network = || Arc::new(Broker::new(address.to_owned(), self.network.clone()));
        brokers.entry(address.to_owned()).or_insert_with(network).clone()
    }

    /// Connects to the first bootstrap address that answers, each tried once.
    async fn first_contact(&self) -> Result<()> {
        let mut reason = "none given".to_owned();
        for address in &self.bootstrap {
            match self.broker_at(address).connection().await {
                Ok(_) => return Ok(()),
                Err(Error::Unreachable { reason: why, .. }) => reason = why,
                Err(other) => return Err(other),
            }
        }
        Err(Error::Unreachable {
            addresses: self.bootstrap.join(", "),
            reason,
        })
    }

    /// Any broker: one with a live connection, else the next of those known, in an order that changes.
    fn any_broker(&self) -> Arc<Broker> {
        let known = self.brokers();
        if let Some(live) = known.values().find(|broker| broker.live().is_some()) {
            return live.clone();
        }
        drop(known);
        let addresses = self.addresses();
        let count = u64::try_from(addresses.len()).unwrap_or(1);
        let chosen = usize::try_from(self.network.random.below(count)).unwrap_or(0);
        self.broker_at(&addresses[chosen])
    }

    /// Where brokers may be found.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let mut addresses = self.bootstrap.clone();
        addresses.extend(self.cluster().nodes.values().map(|node| node.address.clone()));
        addresses
    }

    /// A broker by its id.
    pub(crate) fn broker(&self, node: i32) -> Result<Arc<Broker>> {
        let address = self.cluster().nodes.get(&node).map(|node| node.address.clone());
        let address =
            address.ok_or_else(|| Error::disconnected(format_args!("node {node} is not known"), Reach::NotSent))?;
        Ok(self.broker_at(&address))
    }

    /// Asks any broker once.
    pub(crate) async fn call_any<R: Call>(&self, request: R) -> Result<R::Response> {
        self.any_broker().call(request).await
    }

    /// Asks the controller once: it is who changes topics.
    pub(crate) async fn call_controller<R: Call>(&self, request: R) -> Result<R::Response> {
        let controller = self.cluster().controller;
        match controller.map(|node| self.broker(node)) {
            Some(Ok(broker)) => broker.call(request).await,
            _ => self.call_any(request).await,
        }
    }

    /// Does `attempt` until it succeeds, fails for good, or the client's `api_timeout` is over. Only for what may be
    /// done twice.
    pub(crate) async fn retry<T, F: Future<Output = Result<T>>>(&self, attempt: impl FnMut() -> F) -> Result<T> {
        self.retry_within(self.api_timeout, attempt).await
    }

    pub(crate) async fn retry_within<T, F>(&self, within: Duration, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let deadline = Instant::now() + within;
        let mut backoff = Backoff::new(self.network.backoff);
        loop {
            match attempt().await {
                Err(error) if error.is_retriable() => {
                    let wait = backoff.next_wait(&self.network.random);
                    if deadline < Instant::now() + wait {
                        return Err(error);
                    }
                    tracing::debug!(%error, ?wait, "trying again");
                    tokio::time::sleep(wait).await;
                }
                done => return done,
            }
        }
    }

    /// Asks for topics, for all with `None`. Returns the errors of those that have one.
    pub(crate) async fn refresh(
        &self,
        topics: Option<Vec<MetadataRequestTopic>>,
        create: AutoCreate,
    ) -> Result<Vec<Error>> {
        let request = MetadataRequest {
            topics,
            allow_auto_topic_creation: create == AutoCreate::Allowed,
            ..Default::default()
        };
        let response = self.call_any(request).await?;
        check(response.error_code, None, || "metadata".to_owned())?;
        let failed = self.cluster().update(response, Instant::now())?;
        let errors = failed.into_iter().map(|(topic, code)| Error::Broker {
            code,
            subject: match topic.name {
                Some(name) => format!("topic {name}"),
                None => format!("topic id {}", topic.topic_id),
            },
            message: None,
        });
        Ok(errors.collect())
    }

    /// A topic, from the cache if it is not too old there.
    pub(crate) async fn topic(&self, name: &str, create: AutoCreate) -> Result<Arc<Topic>> {
        let oldest = Instant::now().checked_sub(METADATA_AGE_MAX);
        if let Some(topic) = self.cluster().topic(name, oldest) {
            return Ok(topic);
        }
        let started = Instant::now();
        self.retry(|| async {
            match self.topic_now(name, create).await {
                // Retriable in itself, but a topic that nobody creates does not appear.
                Err(Error::Broker {
                    code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    subject,
                    message,
                }) if create == AutoCreate::Denied || TOPIC_APPEARS_WITHIN < started.elapsed() => {
                    let message = message.or_else(|| Some("create it with `tidemill topic create`".to_owned()));
                    Ok(Err(Error::Broker {
                        code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                        subject,
                        message,
                    }))
                }
                Err(error) => Err(error),
                Ok(topic) => Ok(Ok(topic)),
            }
        })
        .await?
    }

    async fn topic_now(&self, name: &str, create: AutoCreate) -> Result<Arc<Topic>> {
        let asked = MetadataRequestTopic {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        let errors = self.refresh(Some(vec![asked]), create).await?;
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        let topic = self.cluster().topic(name, None);
        topic.ok_or_else(|| Error::protocol(format_args!("asked for topic {name}, and not told of it")))
    }

    /// A topic by its id, from the cache or from a broker.
    pub(crate) async fn topic_by_id(&self, id: TopicId) -> Result<Arc<Topic>> {
        if let Some(topic) = self.cluster().topic_by_id(id) {
            return Ok(topic);
        }
        let asked = MetadataRequestTopic {
            topic_id: id,
            name: None,
        };
        let errors = self.refresh(Some(vec![asked]), AutoCreate::Denied).await?;
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        let topic = self.cluster().topic_by_id(id);
        topic.ok_or_else(|| Error::protocol(format_args!("asked for topic id {id}, and not told of it")))
    }

    /// Makes the next look at a topic ask a broker.
    pub(crate) fn forget_topic(&self, name: &str) {
        self.cluster().forget(name);
    }

    /// The broker that leads a partition.
    pub(crate) fn leader(&self, topic: &Topic, partition: i32) -> Result<Arc<Broker>> {
        let unknown = |code| Error::Broker {
            code,
            subject: format!("{}-{partition}", topic.name),
            message: None,
        };
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        let partition = topic
            .partitions
            .get(index)
            .ok_or_else(|| unknown(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?;
        self.broker(
            partition
                .leader
                .ok_or_else(|| unknown(ErrorCode::LEADER_NOT_AVAILABLE))?,
        )
    }

    /// The broker that coordinates a group.
    pub(crate) async fn coordinator(&self, group: &str) -> Result<Arc<Broker>> {
        let request = FindCoordinatorRequest {
            key: group.to_owned(),
            coordinator_keys: vec![group.to_owned()],
            ..Default::default()
        };
        let response = self.call_any(request).await?;
        let subject = || format!("group {group}");
        let (node_id, host, port) = match response.coordinators.into_iter().next() {
            Some(found) => {
                check(found.error_code, found.error_message.as_deref(), subject)?;
                (found.node_id, found.host, found.port)
            }
            None => {
                check(response.error_code, response.error_message.as_deref(), subject)?;
                (response.node_id, response.host, response.port)
            }
        };
        if let Ok(broker) = self.broker(node_id) {
            return Ok(broker);
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Ok(self.broker_at(&format!("{host}:{port}")))
    }
}
