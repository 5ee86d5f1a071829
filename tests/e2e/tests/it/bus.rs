//! The cluster's NATS, asked with the passwords that pods have: what becomes of work items, and how long silence is borne.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::pull::{self, OrderedConfig};
use async_nats::jetstream::consumer::{DeliverPolicy, FromConsumer};
use async_nats::jetstream::stream::Stream;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use crate::cluster::{SYSTEM, field, kubectl};
use crate::story::blocking;

/// When nothing comes for so long, there is nothing to come.
const SILENCE: Duration = Duration::from_millis(15);

/// A user of the chart's NATS.
pub struct Login {
    pub url: String,
    user: String,
    password: String,
}

impl Login {
    /// From a Secret that the chart made.
    pub fn of(namespace: &str, secret: &str) -> Self {
        let url = "-ogo-template={{.data.url | base64decode}}";
        let url = kubectl(&["-n", namespace, "get", "secret", secret, url]);
        let who = url.trim().strip_prefix("nats://");
        let who = who.and_then(|url| url.split_once('@')).unwrap().0;
        let (user, password) = who.split_once(':').unwrap();
        // The test is on the node, which has no cluster DNS.
        let address = field("service/loci-nats", SYSTEM, "{.spec.clusterIP}");
        Self {
            url: format!("nats://{address}:4222"),
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    /// As a process of this name connects.
    pub fn options(&self, name: &str) -> ConnectOptions {
        ConnectOptions::new()
            .user_and_password(self.user.clone(), self.password.clone())
            .custom_inbox_prefix(format!("_INBOX_{name}"))
    }
}

/// A stream, as the operator sees it.
async fn stream(name: &str) -> Stream<()> {
    let login = blocking(|| Login::of(SYSTEM, "loci-nats-operator"));
    let client = login.options("loci-operator").connect(&login.url).await;
    let context = async_nats::jetstream::new(client.unwrap());
    context.get_stream_no_info(name).await.unwrap()
}

/// What becomes of a pipeline's work items.
pub struct Items {
    records: pull::Ordered,
    latest: BTreeMap<String, Value>,
}

impl Items {
    /// From now on.
    pub async fn watch(namespace: &str, pipeline: &str) -> Self {
        let config = OrderedConfig {
            filter_subject: format!("item.v1.{namespace}.{pipeline}.*"),
            deliver_policy: DeliverPolicy::New,
            ..OrderedConfig::default()
        };
        let consumer = stream("LOCI_ITEMS").await.create_consumer(config).await;
        Self {
            records: consumer.unwrap().messages().await.unwrap(),
            latest: BTreeMap::new(),
        }
    }

    /// Takes in what was written.
    pub async fn hear(&mut self) {
        while let Ok(Some(Ok(told))) = tokio::time::timeout(SILENCE, self.records.next()).await {
            let told: Value = serde_json::from_slice(&told.payload).unwrap();
            let id = told["body"]["id"].as_str().unwrap().to_owned();
            self.latest.insert(id, told["body"].clone());
        }
    }

    pub fn record(&self, id: &str) -> Value {
        self.latest.get(id).cloned().unwrap_or_default()
    }

    /// An item that a worker of this class holds, and which attempt that is.
    pub fn held(&self, class: &str) -> Option<(String, u64)> {
        let mut all = self.latest.iter();
        let held = |r: &Value| r["class"] == class && r["state"]["held"].is_object();
        let (id, record) = all.find(|(_, record)| held(record))?;
        Some((id.clone(), record["attempt"].as_u64()?))
    }
}

/// The last job with such a subject that is not done with.
pub async fn job(subject: &str) -> Option<Value> {
    let found = stream("LOCI_JOBS").await;
    let found = found.get_last_raw_message_by_subject(subject).await.ok()?;
    let job: Value = serde_json::from_slice(&found.payload).unwrap();
    Some(job["body"].clone())
}

/// Has NATS wait so long for a sign of life of who holds an item of a class, also of what is held already. Answers how
/// long it would have waited.
pub async fn patience(class: &str, wait: Duration) -> Duration {
    let (jobs, mut before) = (stream("LOCI_JOBS").await, wait);
    let mut all = jobs.consumers();
    while let Some(info) = all.try_next().await.unwrap() {
        if info.name.starts_with(&format!("{class}-p")) {
            let config = pull::Config::try_from_consumer_config(info.config).unwrap();
            before = config.ack_wait;
            let config = pull::Config {
                ack_wait: wait,
                ..config
            };
            jobs.create_consumer(config).await.unwrap();
        }
    }
    before
}
