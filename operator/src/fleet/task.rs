//! Brings one pipeline's replicas to what is wanted, and watches how far they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::join_all;
use kube::ResourceExt;
use loci_crds::MemoryPipeline;
use loci_shell::{Load, News};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use super::applied::Applied;
use super::objects::{STATUS_PORT, objects, place};
use super::wanted::{
    Releases, Replica, Report, Standing, Wanted, WantedService, serving, standing_with,
};
use super::{Command, Observed, Yard, as_applied};
use crate::facts::{Known, Pod};
use crate::lock;

/// How often replicas are asked while they are to change, and while they try to load what was given up.
const BUSY: Duration = Duration::from_millis(300);
const IDLE: Duration = Duration::from_secs(5);
/// How long no replica may be ready before nothing is said to serve.
const ABSENCE: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(2);

pub struct Task {
    pub(super) yard: Yard,
    pub(super) pipeline: MemoryPipeline,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) known: Arc<Known>,
    observed: Arc<Mutex<Observed>>,
    news: Option<UnboundedSender<News>>,
    pub(super) wanted: Releases,
    pub(super) applied: Option<Applied>,
    desired: Option<String>,
    /// Releases whose loading is to be told of, and until when they have time.
    loading: BTreeMap<String, Instant>,
    /// What has to be written yet.
    pub(super) objects_due: bool,
    pub(super) releases_due: bool,
    /// When objects may be written again.
    pub(super) repair_at: Option<Instant>,
    /// What is applied already of what is to be.
    pub(super) begun: Option<Applied>,
    /// How often in a row something was refused.
    pub(super) refused: u32,
    trouble: Option<String>,
    /// The pods as they were when last asked.
    asked: BTreeSet<(String, bool)>,
    /// When queries last reached a replica, once one was seen that they reach.
    reached: Option<Instant>,
}

impl Task {
    /// Replicas do without this process, so that they are believed to be as they were left: what the pointer says and
    /// the pipeline's status confirms needs no asking.
    pub fn new(
        yard: Yard,
        pipeline: MemoryPipeline,
        known: Arc<Known>,
        observed: Arc<Mutex<Observed>>,
    ) -> Self {
        let pointer = known
            .facts()
            .pointer(&pipeline)
            .cloned()
            .unwrap_or_default();
        let releases = pointer.releases.as_deref().map(serde_json::from_str);
        let wanted: Releases = releases.and_then(Result::ok).unwrap_or_default();
        let current = lock(&observed).current.clone();
        let mut task = Self {
            yard,
            namespace: pipeline.namespace().unwrap_or_default(),
            name: pipeline.name_any(),
            pipeline,
            known,
            observed,
            news: None,
            wanted,
            applied: pointer.applied.as_deref().and_then(Applied::parse),
            desired: pointer.desired,
            loading: BTreeMap::new(),
            objects_due: false,
            releases_due: false,
            repair_at: None,
            begun: None,
            refused: 0,
            trouble: None,
            asked: BTreeSet::new(),
            reached: current.is_some().then(Instant::now),
        };
        if current.is_some() && current == task.desired {
            task.asked = seen(&task.pods());
            task.asked.extend(seen(&task.agents()));
            task.switched();
        }
        task.renew();
        let loaded = current.filter(|name| task.wanted.contains_key(name));
        lock(&task.observed).prepared = loaded.into_iter().collect();
        task
    }

    /// Revisions and adapters are where this operator gives them out, and chats answered by what the pipeline says.
    fn renew(&mut self) {
        let service = WantedService::of(&self.pipeline);
        for wanted in self.wanted.values_mut() {
            let there = wanted.clone().relocated(&self.yard.artifacts);
            let there = there.served_by(service.as_ref());
            self.releases_due |= there != *wanted;
            *wanted = there;
        }
    }

    /// Until nobody commands any more.
    pub async fn run(
        mut self,
        mut commands: UnboundedReceiver<Command>,
        start: Option<Arc<OwnedSemaphorePermit>>,
    ) {
        let (known, mut start) = (self.known.clone(), start);
        loop {
            let mut taken = 0;
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => {
                        self.take(command);
                        taken += 1;
                    }
                    None => return,
                },
                () = known.serving.notified() => {}
                () = tokio::time::sleep(BUSY), if self.busy() || self.absent() => {}
                () = tokio::time::sleep(IDLE), if self.held() => {}
            }
            while let Ok(command) = commands.try_recv() {
                self.take(command);
                taken += 1;
            }
            self.look();
            self.write_or_tell().await;
            self.observe().await;
            drop(start.take());
            let busy = self.busy() || self.absent() || self.held();
            let mut observed = lock(&self.observed);
            observed.commands = observed.commands.saturating_sub(taken);
            observed.busy = busy;
        }
    }

    /// Whether somebody has changed what serves.
    fn look(&mut self) {
        if self.news.is_some() {
            let objects = objects(&self.pipeline, &self.yard.template);
            let facts = self.known.facts();
            self.objects_due = !as_applied(&objects, self.applied.as_ref(), &facts);
            let pointer = facts.pointer(&self.pipeline);
            self.releases_due |= pointer.is_none_or(|p| {
                p.releases != serde_json::to_string(&self.wanted).ok()
                    || p.applied != self.applied.as_ref().map(ToString::to_string)
            });
        }
    }

    async fn write_or_tell(&mut self) {
        match self.write().await {
            Ok(()) if self.begun.is_some() => {}
            Ok(()) => self.trouble = None,
            Err(error) => {
                let trouble = format!("{error:#}");
                if self.trouble.as_ref() != Some(&trouble) {
                    let name = &self.name;
                    tracing::warn!(pipeline = name, "serving cannot be arranged: {trouble}");
                    self.tell(News::Trouble(format!(
                        "serving cannot be arranged: {trouble}"
                    )));
                    self.trouble = Some(trouble);
                }
                tokio::time::sleep(BUSY * 5).await;
            }
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
                self.pipeline = *pipeline;
                self.news = Some(news);
                self.renew();
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
        let service = WantedService::of(&self.pipeline);
        let wanted = Wanted::of(&load, &self.yard.artifacts).served_by(service.as_ref());
        let release = load.release;
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
        let before = self.wanted.insert(release, wanted.clone());
        self.releases_due |= before != Some(wanted);
    }

    /// What answered before is not kept.
    fn switched(&mut self) {
        let (desired, loading) = (&self.desired, &self.loading);
        let before = self.wanted.len();
        self.wanted
            .retain(|name, _| Some(name) == desired.as_ref() || loading.contains_key(name));
        self.releases_due |= self.wanted.len() != before;
    }

    async fn write(&mut self) -> Result<()> {
        let now = Instant::now();
        let may =
            self.repair_at.is_none_or(|at| at <= now) && (now >= self.yard.calm || !self.stands());
        let arranged = match self.objects_due && may {
            true => self.arrange().await,
            false => Ok(()),
        };
        // Replicas that are there follow, whatever cannot be arranged.
        if self.releases_due {
            self.point().await?;
        }
        arranged
    }

    /// Whether there are replicas already.
    fn stands(&self) -> bool {
        self.known.facts().fields(place("Deployment")).is_some()
    }

    /// Asks the replicas, if that may tell anything new, and tells what has become of releases.
    async fn observe(&mut self) {
        let (pods, agents) = (self.pods(), self.agents());
        let seen: BTreeSet<_> = seen(&pods).into_iter().chain(seen(&agents)).collect();
        self.notice(pods.iter().any(|pod| pod.ready));
        if !self.busy() && !self.held() && seen == self.asked {
            return;
        }
        self.asked = seen;
        let replicas = join_all(pods.iter().map(|pod| self.ask(pod))).await;
        let agents = join_all(agents.iter().map(|pod| self.ask(pod))).await;
        let stands = |release: &str| standing_with(release, &replicas, &agents);
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
            let everywhere = |name: &&String| stands(name) == Standing::Everywhere;
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
            let result = match stands(release) {
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

    /// Whether queries reach no replica of what is said to serve.
    fn absent(&self) -> bool {
        lock(&self.observed).current.is_some() && !self.pods().iter().any(|pod| pod.ready)
    }

    fn pods(&self) -> Vec<Pod> {
        self.known.facts().pods()
    }

    /// Those beside a vLLM, where one answers chats.
    fn agents(&self) -> Vec<Pod> {
        match self.pipeline.spec.serving.runtime {
            Some(_) => self.known.facts().agents(),
            None => Vec::new(),
        }
    }

    async fn ask(&self, pod: &Pod) -> Replica {
        let report = self.report(pod).await;
        if let Err(error) = &report {
            let pod = &pod.name;
            tracing::debug!(pod, "does not say what it serves: {error:#}");
        }
        Replica {
            name: pod.name.clone(),
            ready: pod.ready,
            report: report.ok(),
        }
    }

    async fn report(&self, pod: &Pod) -> Result<Report> {
        let Some(ip) = pod.address.as_deref() else {
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

fn seen(pods: &[Pod]) -> BTreeSet<(String, bool)> {
    pods.iter().map(|p| (p.uid.clone(), p.ready)).collect()
}
