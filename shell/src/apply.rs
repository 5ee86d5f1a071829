//! Applies what the plan says: each action is one durable write or one dispatch.

use anyhow::Result;
use jiff::Timestamp;
use kube::ResourceExt;
use loci_crds::run::RunTrigger;
use loci_crds::{MemoryRelease, MemoryReleaseStatus, MemoryRunSpec, MemoryRunStatus};
use loci_digest::Digest;
use loci_plan::{Action, Look, Probe};

use crate::controller::{Controller, Shared};
use crate::items::full_name;
use crate::keeper::Told;
use crate::news::News;

impl Shared {
    /// Sweeps what no pipeline needs, when all have said what that is.
    pub(crate) async fn collect(&self) -> Result<()> {
        let _alone = self.collecting.write().await;
        let Some(roots) = self.garbage.all() else {
            return Ok(());
        };
        self.revisions.sweep(&roots).await?;
        self.store.gc(&roots, self.store.grace()).await?;
        Ok(())
    }
}

impl Controller {
    pub(crate) async fn apply(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Probe(probe) => self.probe(probe),
            Action::CreateRun { name, spec } => self.create_run(&name, spec).await?,
            Action::UpdateRun { name, status } => self.update_run(&name, *status).await?,
            Action::Dispatch { key, input } => {
                if self.world.in_flight.insert(key.clone()) {
                    let mut runs = self.world.runs.iter();
                    let run = runs.find(|run| run.name_any() == key.run);
                    let requested = run.is_some_and(|r| r.spec.trigger == RunTrigger::Requested);
                    let (dispatch, news) = (&self.shared.dispatch, self.news.clone());
                    let sent = dispatch.send(&self.declared, &key, &input, requested, news);
                    sent.await?;
                }
            }
            Action::Stop { run } => {
                let pipeline = &self.declared.pipeline;
                self.shared.dispatch.stop(pipeline, &run).await?;
                self.world.in_flight.retain(|k| k.run != run);
            }
            Action::CreateRelease { name, spec, status } => {
                let mut release = MemoryRelease::new(&name, *spec);
                release.status = Some(*status);
                let release = self.keeper.create_release(release).await?;
                self.keeper.tell(Told::Release(&release));
                self.world.releases.push(release);
            }
            Action::UpdateRelease { name, status } => self.update_release(&name, *status).await?,
            Action::Prepare { release } => self.prepare(&release)?,
            Action::Promote { release } => {
                self.world.serving.desired = Some(release);
                self.keep().await?;
                self.follow();
            }
            Action::DeleteRun { name } => {
                self.keeper.delete_run(&name).await?;
                self.world.runs.retain(|r| r.name_any() != name);
                self.forget(&name).await?;
            }
            Action::DeleteRelease { name } => {
                self.keeper.delete_release(&name).await?;
                self.world.releases.retain(|r| r.name_any() != name);
                self.fleet.remove(&name);
                self.world.serving.prepared = self.fleet.prepared();
            }
            Action::CollectGarbage { roots } => self.collect(roots),
        }
        Ok(())
    }

    async fn create_run(&mut self, name: &str, spec: MemoryRunSpec) -> Result<()> {
        let run = self.keeper.create_run(name, spec).await?;
        self.keeper.tell(Told::Run(&run));
        self.world.runs.push(run);
        Ok(())
    }

    async fn update_run(&mut self, name: &str, status: MemoryRunStatus) -> Result<()> {
        let Some(run) = self.world.runs.iter_mut().find(|r| r.name_any() == name) else {
            return Ok(());
        };
        let ended = status.phase.is_terminal();
        let before = run.status.as_ref().map(|s| s.phase);
        *run = self.keeper.update_run(run, status).await?;
        if before != run.status.as_ref().map(|s| s.phase) {
            self.keeper.tell(Told::Run(run));
        }
        if ended {
            self.forget(name).await?;
        }
        Ok(())
    }

    async fn update_release(&mut self, name: &str, status: MemoryReleaseStatus) -> Result<()> {
        let found = self
            .world
            .releases
            .iter_mut()
            .find(|r| r.name_any() == name);
        let Some(release) = found else { return Ok(()) };
        let before = release.status.as_ref().map(|s| s.phase);
        *release = self.keeper.update_release(release, status).await?;
        if before != release.status.as_ref().map(|s| s.phase) {
            self.keeper.tell(Told::Release(release));
        }
        Ok(())
    }

    /// Drops the outcomes of a run's steps.
    pub(crate) async fn forget(&mut self, run: &str) -> Result<()> {
        self.world.outcomes.retain(|o| o.key.run != run);
        self.world.in_flight.retain(|k| k.run != run);
        self.world.reported.remove(run);
        self.keep().await
    }

    /// Has a source looked at. A bus that is away costs time, and nothing is said of the source.
    fn probe(&mut self, probe: Probe) {
        self.world.probing.insert(probe.key());
        let (dispatch, news) = (self.shared.dispatch.clone(), self.news.clone());
        let pipeline = self.declared.pipeline.clone();
        tokio::spawn(async move {
            let time = Timestamp::now();
            if let Err(error) = dispatch.probe(&pipeline, probe.clone(), news.clone()).await {
                let result = Err(format!("{error:#}"));
                let look = Look {
                    probe,
                    time,
                    result,
                };
                let _ = news.send(News::Look(Box::new(look)));
            }
        });
    }

    /// Sweeps what neither this pipeline's roots nor any other's reach.
    fn collect(&mut self, roots: Vec<Digest>) {
        // Known to be under way from here on; kept once it is done.
        self.world.collected = Some(Timestamp::now());
        let (shared, news, keeper) = (self.shared.clone(), self.news.clone(), self.keeper.clone());
        shared
            .garbage
            .put(full_name(&self.declared.pipeline), roots);
        tokio::spawn(async move {
            if let Err(error) = shared.collect().await {
                keeper.tell(Told::Trouble(format!(
                    "garbage was not collected: {error:#}"
                )));
            }
            let _ = news.send(News::Collected);
        });
    }
}
