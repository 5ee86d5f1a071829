//! The two streams, and what is asked of them.
//!
//! `LOCI_ITEMS` keeps one record per item, changed by compare-and-swap on its sequence: claim, cancellation and outcome
//! exclude each other without a lock, and whoever reads the stream hears them in order. `LOCI_JOBS` hands items out; a
//! message of it says no more than that its item may be due.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Config, ConsumerError, ConsumerErrorKind, DirectGetErrorKind, DiscardPolicy, Info,
    LastRawMessageErrorKind, RetentionPolicy, Stream,
};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, HeaderMap};
use futures::TryStreamExt;
use loci_bus::{BusError, Priority, Result, WorkItem, owner, wire};
use tokio::sync::watch;

use crate::options::{Link, NatsOptions};
use crate::record::Record;

pub(crate) const ITEMS: &str = "LOCI_ITEMS";
pub(crate) const JOBS: &str = "LOCI_JOBS";
/// Which publication of its id a job is of.
const PUBLICATION: &str = "Loci-Publication";
/// How long an outcome can be read.
const OUTCOME_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long an answer is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A record, its subject, and the sequence it was read at: what a change has to name.
type Found = (String, Record, u64);

#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) client: Client,
    context: Context,
    link: watch::Receiver<Link>,
    replicas: usize,
    ack_wait: Duration,
    direct: bool,
}

/// Reads of a replica that has not heard of what was written: so many, so far apart.
const READS: (u32, Duration) = (40, Duration::from_millis(50));

/// Of a pipeline that is not known.
pub(crate) const ANY: &str = "*.*";

/// The part of a subject that tells whose item it is: tenant and pipeline.
pub(crate) fn owned_by(pipeline: &str) -> String {
    let (tenant, name) = owner(pipeline);
    format!("{tenant}.{name}")
}

pub(crate) fn item_subject(owner: &str, id: &str) -> String {
    format!("item.v1.{owner}.{id}")
}

fn job_subject(item: &WorkItem) -> String {
    let (class, priority) = (&item.class, priority(item.priority));
    let owner = owned_by(&item.pipeline);
    format!("job.v1.{class}.{priority}.{owner}.{}", item.id)
}

/// Told when something of a class may be due.
pub(crate) fn class_hint(class: &str) -> String {
    format!("ctl.v1.class.{class}")
}

/// Told when an item's record has changed under its worker.
pub(crate) fn item_hint(id: &str) -> String {
    format!("ctl.v1.item.{id}")
}

pub(crate) fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::P0 => "p0",
        Priority::P1 => "p1",
        Priority::P2 => "p2",
    }
}

fn consumer_name(class: &str, p: Priority) -> String {
    format!("{class}-{}", priority(p))
}

fn missing(error: &ConsumerError) -> bool {
    let none = [ErrorCode::CONSUMER_NOT_FOUND, ErrorCode::STREAM_NOT_FOUND];
    matches!(error.kind(), ConsumerErrorKind::JetStream(e) if none.contains(&e.error_code()))
}

/// The publication that a job is of.
pub(crate) fn publication(headers: Option<&HeaderMap>) -> Option<&str> {
    headers?.get(PUBLICATION).map(|value| value.as_str())
}

impl Ledger {
    pub(crate) fn new(client: Client, link: watch::Receiver<Link>, options: &NatsOptions) -> Self {
        let context = jetstream::context::ContextBuilder::new()
            .timeout(PATIENCE)
            .ack_timeout(PATIENCE)
            .build(client.clone());
        Self {
            client,
            context,
            link,
            replicas: options.replicas,
            ack_wait: options.ack_wait,
            direct: options.tenant.is_some(),
        }
    }

    pub(crate) fn connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Makes the streams, or brings them to what this build wants. Answers with the items' and the jobs'.
    pub(crate) async fn ensure(&self) -> Result<(Info, Info)> {
        let jobs = Config {
            name: JOBS.to_owned(),
            description: Some(
                "Work that may be due, by class, priority, tenant and pipeline".to_owned(),
            ),
            subjects: vec!["job.v1.>".to_owned()],
            retention: RetentionPolicy::WorkQueue,
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            discard_new_per_subject: true,
            num_replicas: self.replicas,
            ..Config::default()
        };
        let items = Config {
            name: ITEMS.to_owned(),
            description: Some("Where each work item stands".to_owned()),
            subjects: vec!["item.v1.>".to_owned()],
            max_messages_per_subject: 1,
            allow_message_ttl: true,
            // By subject, so that who may see one tenant's records reads no other's.
            allow_direct: true,
            num_replicas: self.replicas,
            ..Config::default()
        };
        let make = |config: Config| async move {
            let stream = format!("create the stream {}", config.name);
            let made = self.context.create_or_update_stream(config).await;
            made.map_err(|e| self.unreachable(&stream, &e))
        };
        Ok((make(items).await?, make(jobs).await?))
    }

    /// Makes the consumers of a class.
    pub(crate) async fn ensure_class(&self, class: &str) -> Result<()> {
        for p in Priority::ALL {
            let name = consumer_name(class, p);
            let config = pull::Config {
                durable_name: Some(name.clone()),
                ack_policy: AckPolicy::Explicit,
                ack_wait: self.ack_wait,
                max_deliver: -1,
                max_ack_pending: 10_000,
                filter_subject: format!("job.v1.{class}.{}.>", priority(p)),
                ..pull::Config::default()
            };
            let made = self.context.create_consumer_on_stream(config, JOBS).await;
            made.map_err(|e| self.unreachable(&format!("create the consumer {name}"), &e))?;
        }
        Ok(())
    }

    /// The consumer of a class and priority; none while nothing was ever published for it.
    pub(crate) async fn consumer(&self, class: &str, p: Priority) -> Result<Option<PullConsumer>> {
        let name = consumer_name(class, p);
        let found = self
            .context
            .get_consumer_from_stream::<pull::Config, _, _>(&name, JOBS)
            .await;
        match found {
            Ok(consumer) => Ok(Some(consumer)),
            Err(e) if missing(&e) => Ok(None),
            Err(e) => Err(self.unreachable(&format!("find the consumer {name}"), &e)),
        }
    }

    pub(crate) async fn stream(&self, name: &str) -> Result<Stream<()>> {
        let found = self.context.get_stream_no_info(name).await;
        found.map_err(|e| self.unreachable(&format!("find the stream {name}"), &e))
    }

    /// Whether records are read by subject, from whichever replica answers: it may not have heard of the latest.
    pub(crate) fn direct(&self) -> bool {
        self.direct
    }

    /// Reads a record; `owner` may be [`ANY`]. Answers with its subject too. What was written before `since` is not waited for.
    pub(crate) async fn read(&self, owner: &str, id: &str, since: u64) -> Result<Option<Found>> {
        let (mut reads, pause) = READS;
        loop {
            let found = self.read_once(owner, id).await?;
            let outdated = found.as_ref().is_none_or(|(_, _, at)| *at < since);
            reads -= 1;
            if !self.direct || !outdated || since == 0 || reads == 0 {
                return Ok(found);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn read_once(&self, owner: &str, id: &str) -> Result<Option<Found>> {
        let stream = self.stream(ITEMS).await?;
        let subject = item_subject(owner, id);
        let refused = |e: &dyn std::error::Error| {
            Err(self.unreachable(&format!("read where the item {id} stands"), e))
        };
        let message = if self.direct {
            match stream.direct_get_last_for_subject(subject).await {
                Ok(message) => message,
                Err(e) if e.kind() == DirectGetErrorKind::NotFound => return Ok(None),
                Err(e) => return refused(&e),
            }
        } else {
            match stream.get_last_raw_message_by_subject(&subject).await {
                Ok(message) => message,
                Err(e) if e.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
                Err(e) => return refused(&e),
            }
        };
        let record = wire::decode(&message.payload)?;
        let subject = message.subject.to_string();
        Ok(Some((subject, record, message.sequence)))
    }

    /// Writes a record over the one read at `sequence` (0: over none). Answers with its own sequence; none when someone
    /// else has changed it since.
    pub(crate) async fn write(
        &self,
        subject: &str,
        record: &Record,
        sequence: u64,
    ) -> Result<Option<u64>> {
        let mut message = PublishMessage::build()
            .payload(wire::encode(record)?.into())
            .expected_last_subject_sequence(sequence);
        if !record.live() {
            message = message.ttl(OUTCOME_TTL);
        }
        self.send(subject, message, "write where an item stands")
            .await
    }

    /// Changes the record of an item by `change`, as often as it takes. Answers what it answered, and whether there was
    /// anything to write.
    pub(crate) async fn update<T>(
        &self,
        owner: &str,
        id: &str,
        since: u64,
        change: impl Fn(&Record) -> (T, Option<Record>),
    ) -> Result<Option<(T, Option<Record>)>> {
        loop {
            let Some((subject, record, sequence)) = self.read(owner, id, since).await? else {
                return Ok(None);
            };
            let (answer, changed) = change(&record);
            let written = match &changed {
                Some(changed) => self.write(&subject, changed, sequence).await?.is_some(),
                None => true,
            };
            if written {
                return Ok(Some((answer, changed)));
            }
        }
    }

    /// Puts a job of this publication into the queue, unless it is there. One of an earlier publication, whose worker was
    /// about to remove it, makes way.
    pub(crate) async fn offer(
        &self,
        item: &WorkItem,
        publication_: &str,
        json: &[u8],
    ) -> Result<()> {
        let subject = job_subject(item);
        loop {
            let message = PublishMessage::build()
                .payload(json.to_vec().into())
                .header(PUBLICATION, publication_)
                .expected_last_subject_sequence(0);
            let sent = self.send(&subject, message, "publish a job").await?;
            if sent.is_some() {
                return self.hint(class_hint(&item.class)).await;
            }
            let stream = self.stream(JOBS).await?;
            match stream.get_last_raw_message_by_subject(&subject).await {
                Ok(there) if publication(Some(&there.headers)) == Some(publication_) => {
                    return Ok(());
                }
                Ok(_) => self.withdraw(&subject).await?,
                Err(e) if e.kind() == LastRawMessageErrorKind::NoMessageFound => {}
                Err(e) => return Err(self.unreachable("read a job", &e)),
            }
        }
    }

    /// Removes the job of an item that has ended while nobody held it.
    pub(crate) async fn withdraw_job(&self, id: &str) -> Result<()> {
        self.withdraw(&format!("job.v1.*.*.{ANY}.{id}")).await
    }

    /// Removes the records and jobs of a pipeline. Answers with the ids of those that had a record.
    pub(crate) async fn forget(&self, pipeline: &str) -> Result<Vec<String>> {
        let owner = owned_by(pipeline);
        let (items, jobs) = (
            format!("item.v1.{owner}.*"),
            format!("job.v1.*.*.{owner}.*"),
        );
        self.ensure().await?;
        let refused = |e: &dyn std::error::Error| self.unreachable("list a pipeline's items", e);
        let stream = self.stream(ITEMS).await?;
        let mut found = stream
            .info_with_subjects(&items)
            .await
            .map_err(|e| refused(&e))?;
        let mut ids = Vec::new();
        while let Some((subject, _)) = found.try_next().await.map_err(|e| refused(&e))? {
            ids.extend(subject.rsplit('.').next().map(str::to_owned));
        }
        self.withdraw(&jobs).await?;
        let purged = stream.purge().filter(items).await;
        purged.map_err(|e| self.unreachable("remove a pipeline's items", &e))?;
        Ok(ids)
    }

    async fn withdraw(&self, subject: &str) -> Result<()> {
        let stream = self.stream(JOBS).await?;
        let purged = stream.purge().filter(subject).await;
        purged
            .map(drop)
            .map_err(|e| self.unreachable("remove a job", &e))
    }

    /// Sends a message that nobody has to hear.
    pub(crate) async fn hint(&self, subject: String) -> Result<()> {
        self.tell(subject, Vec::new()).await
    }

    /// Publishes without waiting for anybody.
    pub(crate) async fn tell(&self, subject: String, payload: Vec<u8>) -> Result<()> {
        let sent = self.client.publish(subject, payload.into()).await;
        sent.map_err(|e| self.unreachable("publish", &e))
    }

    /// The sequence of the message; none when the subject's last one is not the expected one.
    async fn send(
        &self,
        subject: &str,
        message: PublishMessage,
        action: &str,
    ) -> Result<Option<u64>> {
        let sent = self.context.send_publish(subject.to_owned(), message).await;
        let stored = match sent {
            Ok(acknowledged) => acknowledged.await,
            Err(e) => Err(e),
        };
        match stored {
            Ok(stored) => Ok(Some(stored.sequence)),
            Err(e) if e.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
            Err(e) => Err(self.unreachable(action, &e)),
        }
    }

    pub(crate) fn unreachable(&self, action: &str, error: &dyn std::error::Error) -> BusError {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            let text = next.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            cause = next.source();
        }
        if let Some(problem) = &self.link.borrow().problem {
            reason = format!("{reason} ({problem})");
        }
        BusError::Unreachable {
            action: action.to_owned(),
            reason,
        }
    }
}
