//! Brings one pipeline's replicas to what is wanted, and watches how far they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::reflector::Store;
use kube::{Api, ResourceExt};
use loci_crds::MemoryPipeline;
use loci_shell::{Load, News};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use super::objects::{COMPONENT, STATUS_PORT, objects};
use super::wanted::{
    RELEASES, Releases, Replica, Report, Standing, Wanted, config_map, serving, standing,
};
use super::{Command, Observed, Yard};
use crate::apply::{MANAGER, api_of, apply};
use crate::cluster::PIPELINE;
use crate::{lock, pointer};

/// How often replicas are asked while they are to change, and looked at otherwise.
const BUSY: Duration = Duration::from_millis(300);
const IDLE: Duration = Duration::from_secs(5);
/// How long no replica may be ready before nothing is said to serve.
const ABSENCE: Duration = Duration::from_secs(10);
/// Owns the number of replicas that a pipeline said and says no longer, until somebody else scales.
const SCALED: &str = "loci-operator-scaled";
const ANSWER: Duration = Duration::from_secs(2);

pub struct Task {
    yard: Yard,
    pipeline: MemoryPipeline,
    namespace: String,
    name: String,
    observed: Arc<Mutex<Observed>>,
    news: Option<UnboundedSender<News>>,
    wanted: Releases,
    desired: Option<String>,
    /// Releases whose loading is to be told of, and until when they have time.
    loading: BTreeMap<String, Instant>,
    /// What has to be written yet.
    objects_due: bool,
    releases_due: bool,
    trouble: Option<String>,
    /// The pods as they were when last asked.
    asked: BTreeSet<(String, bool)>,
    /// When queries last reached a replica, once one was seen that they reach.
    reached: Option<Instant>,
}

impl Task {
    pub fn new(yard: Yard, pipeline: MemoryPipeline, observed: Arc<Mutex<Observed>>) -> Self {
        Self {
            yard,
            namespace: pipeline.namespace().unwrap_or_default(),
            name: pipeline.name_any(),
            pipeline,
            observed,
            news: None,
            wanted: Releases::new(),
            desired: None,
            loading: BTreeMap::new(),
            objects_due: false,
            releases_due: false,
            trouble: None,
            asked: BTreeSet::new(),
            reached: None,
        }
    }

    /// Until nobody commands any more.
    pub async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        loop {
            let pause = if self.busy() { BUSY } else { IDLE };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                () = tokio::time::sleep(pause) => {}
            }
            while let Ok(command) = commands.try_recv() {
                self.take(command);
            }
            match self.write().await {
                Ok(()) => self.trouble = None,
                Err(error) => {
                    let trouble = format!("{error:#}");
                    if self.trouble.as_ref() != Some(&trouble) {
                        tracing::warn!(
                            pipeline = self.name,
                            "serving cannot be arranged: {trouble}"
                        );
                        self.trouble = Some(trouble);
                    }
                    tokio::time::sleep(BUSY * 5).await;
                }
            }
            self.observe().await;
        }
    }

    fn busy(&self) -> bool {
        let current = lock(&self.observed).current.clone();
        self.objects_due || self.releases_due || !self.loading.is_empty() || self.desired != current
    }

    /// Whether a release was given up that replicas still try to load.
    fn held(&self) -> bool {
        let observed = lock(&self.observed);
        let there = |name: &String| {
            observed.prepared.contains(name) || observed.current.as_ref() == Some(name)
        };
        !self.wanted.keys().all(there)
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Declare(pipeline, news) => {
                let same = self.news.is_some()
                    && self.pipeline.metadata.generation == pipeline.metadata.generation;
                self.objects_due |= !same;
                self.pipeline = *pipeline;
                self.news = Some(news);
            }
            Command::Prepare(load) => self.prepare(load),
            Command::Switch(release) => self.desired = Some(release),
            Command::Remove(release) => {
                self.loading.remove(&release);
                self.releases_due |= self.wanted.remove(&release).is_some();
            }
        }
    }

    /// Beside what answers, one release at a time: a replica has memory for two.
    fn prepare(&mut self, load: Load) {
        let (release, wanted) = self.wanted(load);
        let current = lock(&self.observed).current.clone();
        let answers = |name: &String| [&self.desired, &current].contains(&&Some(name.clone()));
        if !answers(&release) {
            let others = self.wanted.keys().filter(|name| **name != release);
            let others: Vec<String> = others.filter(|name| !answers(name)).cloned().collect();
            for other in others {
                self.wanted.remove(&other);
                if self.loading.remove(&other).is_some() {
                    let instead = anyhow::anyhow!("{release} is loaded instead");
                    self.tell(News::Loaded(other, Err(instead)));
                }
            }
        }
        let deadline = Instant::now() + self.yard.template.deadline;
        self.loading.insert(release.clone(), deadline);
        self.wanted.insert(release, wanted);
        self.releases_due = true;
    }

    /// What answered before is not kept.
    fn switched(&mut self) {
        let (desired, loading) = (&self.desired, &self.loading);
        let before = self.wanted.len();
        self.wanted
            .retain(|name, _| Some(name) == desired.as_ref() || loading.contains_key(name));
        self.releases_due |= self.wanted.len() != before;
    }

    fn wanted(&self, load: Load) -> (String, Wanted) {
        let (url, key) = self.yard.artifacts.of(&load.revision);
        let wanted = Wanted {
            revision: load.revision,
            model: load.model,
            latency_budget_ms: load
                .latency_budget
                .map(|b| u64::try_from(b.as_millis()).unwrap_or(u64::MAX)),
            url,
            key,
        };
        (load.release, wanted)
    }

    async fn write(&mut self) -> Result<()> {
        if self.objects_due {
            for object in objects(&self.pipeline, &self.yard.template) {
                self.apply(object).await?;
            }
            self.objects_due = false;
        }
        if self.releases_due {
            let releases = serde_json::to_string(&self.wanted)?;
            let mut map = ConfigMap::default();
            map.metadata.name = Some(config_map(&self.name));
            map.data = Some([(RELEASES.to_owned(), releases)].into());
            let api = Api::<ConfigMap>::namespaced(self.yard.client.clone(), &self.namespace);
            let written = pointer::write(&api, MANAGER, self.yard.term, map).await;
            written.context("which releases to load")?;
            self.releases_due = false;
        }
        Ok(())
    }

    async fn apply(&self, object: Value) -> Result<()> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let api = api_of(&self.yard.client, &self.namespace, &object);
        let refused = || format!("{kind} {name}");
        let free = kind == "Deployment" && object["spec"]["replicas"].is_null();
        let there = match free {
            true => api.get_opt(name).await.with_context(refused)?,
            false => None,
        };
        if let Some(kept) = there.as_ref().and_then(owned_replicas) {
            // Taken over, lest the API server fall back to one when nobody owns it.
            let keep = json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": name}, "spec": {"replicas": kept},
            });
            let params = PatchParams::apply(SCALED).force();
            let kept = api.patch(name, &params, &Patch::Apply(&keep)).await;
            kept.with_context(refused)?;
        }
        apply(&self.yard.client, &self.namespace, &object).await?;
        if free && there.is_none() {
            let scale = json!({"spec": {"replicas": self.yard.template.replicas}});
            let (params, scale) = (PatchParams::default(), Patch::Merge(&scale));
            let scaled = api.patch_scale(name, &params, &scale).await;
            scaled.with_context(refused)?;
        }
        Ok(())
    }

    /// Asks the replicas, if that may tell anything new, and tells what has become of releases.
    async fn observe(&mut self) {
        let pods = self.pods();
        let seen: BTreeSet<(String, bool)> = pods
            .iter()
            .map(|pod| (pod.uid().unwrap_or_default(), ready(pod)))
            .collect();
        self.notice(seen.iter().any(|(_, ready)| *ready));
        if !self.busy() && !self.held() && seen == self.asked {
            return;
        }
        self.asked = seen;
        let replicas = join_all(pods.iter().map(|pod| self.ask(pod))).await;
        let (mut changed, mut switched) = (false, false);
        {
            let mut observed = lock(&self.observed);
            if let Some(current) = serving(&replicas)
                && observed.current.as_ref() != Some(&current)
            {
                switched = self.desired.as_ref() == Some(&current);
                observed.current = Some(current);
                changed = true;
            }
            let everywhere = |name: &&String| standing(name, &replicas) == Standing::Everywhere;
            let prepared = self.wanted.keys().filter(everywhere).cloned().collect();
            changed |= observed.prepared != prepared;
            observed.prepared = prepared;
        }
        if switched {
            self.switched();
        }
        let now = Instant::now();
        let mut over = Vec::new();
        for (release, deadline) in &self.loading {
            let result = match standing(release, &replicas) {
                Standing::Everywhere => Ok(()),
                Standing::Failed(why) => Err(anyhow::anyhow!(why)),
                Standing::Underway(who) if now > *deadline => Err(anyhow::anyhow!(
                    "not all replicas have loaded it within {} s: {who}",
                    self.yard.template.deadline.as_secs()
                )),
                Standing::Underway(_) => continue,
            };
            over.push((release.clone(), result));
        }
        for (release, result) in over {
            self.loading.remove(&release);
            self.tell(News::Loaded(release, result));
        }
        if changed {
            self.tell(News::Serving);
        }
    }

    /// Nothing serves when queries have reached no replica for a while.
    fn notice(&mut self, reached: bool) {
        let now = Instant::now();
        if reached {
            self.reached = Some(now);
        } else if self.reached.is_some_and(|t| now - t > ABSENCE)
            && lock(&self.observed).current.take().is_some()
        {
            self.tell(News::Serving);
        }
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        let ours = |pod: &Arc<Pod>| {
            pod.namespace().as_deref() == Some(&self.namespace)
                && pod.labels().get(PIPELINE) == Some(&self.name)
                && pod
                    .labels()
                    .get("app.kubernetes.io/component")
                    .map(String::as_str)
                    == Some(COMPONENT)
                && pod.metadata.deletion_timestamp.is_none()
        };
        self.yard
            .pods
            .iter()
            .flat_map(Store::state)
            .filter(ours)
            .collect()
    }

    async fn ask(&self, pod: &Pod) -> Replica {
        let report = self.report(pod).await;
        if let Err(error) = &report {
            tracing::debug!(
                pod = pod.name_any(),
                "does not say what it serves: {error:#}"
            );
        }
        Replica {
            name: pod.name_any(),
            ready: ready(pod),
            report: report.ok(),
        }
    }

    async fn report(&self, pod: &Pod) -> Result<Report> {
        let Some(ip) = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref()) else {
            bail!("it has no address yet");
        };
        let host = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.to_owned()
        };
        let asked = self
            .yard
            .http
            .get(format!("http://{host}:{STATUS_PORT}/status"));
        let answer = asked.timeout(ANSWER).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    fn tell(&self, news: News) {
        if let Some(to) = &self.news {
            // A closed channel is a controller that has ended; the next one asks anew.
            let _ = to.send(news);
        }
    }
}

/// The number of replicas of a Deployment, where this operator set it.
fn owned_replicas(deployment: &DynamicObject) -> Option<i64> {
    let managers = deployment.metadata.managed_fields.as_ref()?;
    let ours = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        entry.manager.as_deref() == Some(MANAGER)
            && fields.is_some_and(|f| f.pointer("/f:spec/f:replicas").is_some())
    };
    managers.iter().find(ours)?;
    deployment.data.pointer("/spec/replicas")?.as_i64()
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
