//! Applies what the plan says: each action is one durable write or one dispatch.

use anyhow::Result;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use loci_crds::{MemoryRelease, MemoryRun};
use loci_digest::Digest;
use loci_plan::{Action, Difference, Look, Probe};
use loci_worker::source;
use loci_worker::step::{SNAPSHOT, Snapshot};

use super::controller::{Controller, News};
use super::dispatch::full_name;

/// Objects younger than this are never swept: a step that is about to name them may be running.
const GRACE: std::time::Duration = std::time::Duration::from_secs(3600);

impl Controller {
    pub(super) async fn apply(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Probe(probe) => self.probe(probe),
            Action::CreateRun { name, spec } => {
                let mut run = MemoryRun::new(&name, spec);
                run.metadata = self.metadata(name);
                self.shared
                    .screen
                    .line(format!("run {} ({:?})", run.name_any(), run.spec.trigger));
                self.state.runs().put(&run)?;
                self.world.runs.push(run);
                Ok(())
            }
            Action::UpdateRun { name, status } => {
                let ended = status.phase.is_terminal();
                let Some(run) = self.world.runs.iter_mut().find(|r| r.name_any() == name) else {
                    return Ok(());
                };
                let before = run.status.as_ref().map(|s| s.phase);
                if before != Some(status.phase) {
                    let message = status.message.as_deref().unwrap_or_default();
                    self.shared
                        .screen
                        .line(format!("run {name}: {:?} {message}", status.phase));
                }
                run.status = Some(*status);
                self.state.runs().put(run)?;
                if ended {
                    self.forget(&name)?;
                }
                Ok(())
            }
            Action::Dispatch { key, input } => {
                if !self.world.in_flight.insert(key.clone()) {
                    return Ok(());
                }
                let declared = &self.declared;
                self.shared
                    .dispatch
                    .send(
                        &declared.pipeline,
                        &declared.model,
                        &declared.suites,
                        &key,
                        &input,
                        &self.news,
                    )
                    .await
            }
            Action::Stop { run } => {
                self.shared
                    .dispatch
                    .stop(&self.declared.pipeline, &run)
                    .await?;
                self.world.in_flight.retain(|k| k.run != run);
                Ok(())
            }
            Action::CreateRelease { name, spec, status } => {
                let mut release = MemoryRelease::new(&name, *spec);
                release.metadata = self.metadata(name);
                release.status = Some(*status);
                self.state.releases().put(&release)?;
                self.tell_release(&release);
                self.world.releases.push(release);
                Ok(())
            }
            Action::UpdateRelease { name, status } => {
                let found = self
                    .world
                    .releases
                    .iter_mut()
                    .find(|r| r.name_any() == name);
                let Some(release) = found else { return Ok(()) };
                let before = release.status.as_ref().map(|s| s.phase);
                release.status = Some(*status);
                self.state.releases().put(release)?;
                let release = release.clone();
                if before != release.status.as_ref().map(|s| s.phase) {
                    self.tell_release(&release);
                }
                Ok(())
            }
            Action::Prepare { release } => self.prepare(&release),
            Action::Promote { release } => {
                self.world.serving.desired = Some(release);
                self.keep()?;
                self.follow();
                Ok(())
            }
            Action::DeleteRun { name } => {
                self.state.runs().delete(&name)?;
                self.world.runs.retain(|r| r.name_any() != name);
                self.forget(&name)
            }
            Action::DeleteRelease { name } => {
                self.state.releases().delete(&name)?;
                self.world.releases.retain(|r| r.name_any() != name);
                if self.world.serving.current.as_ref() != Some(&name) {
                    self.ready.remove(&name);
                    self.world.serving.prepared.remove(&name);
                }
                Ok(())
            }
            Action::CollectGarbage { roots } => {
                self.collect(roots);
                Ok(())
            }
        }
    }

    fn metadata(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: self.declared.pipeline.namespace.clone(),
            creation_timestamp: Some(Time(Timestamp::now())),
            generation: Some(1),
            ..ObjectMeta::default()
        }
    }

    /// Drops the outcomes of a run's steps.
    fn forget(&mut self, run: &str) -> Result<()> {
        self.world.outcomes.retain(|o| o.key.run != run);
        self.world.in_flight.retain(|k| k.run != run);
        self.keep()
    }

    fn probe(&mut self, probe: Probe) -> Result<()> {
        self.world.probing.insert(probe.source.clone());
        let pipeline = full_name(&self.declared.pipeline);
        let (shared, news) = (self.shared.clone(), self.news.clone());
        tokio::spawn(async move {
            let time = Timestamp::now();
            let look = async {
                let spec = shared.sources.one(&pipeline, &probe.source);
                let spec = spec.ok_or_else(|| "the source is not declared any more".to_owned())?;
                let basis: Snapshot = shared
                    .store
                    .get_manifest(SNAPSHOT, &probe.basis)
                    .await
                    .map_err(|e| e.to_string())?;
                let before = basis
                    .sources
                    .get(&probe.source)
                    .and_then(|s| s.listing.as_ref())
                    .map(|l| &l.state);
                match source::probe(spec, before)
                    .await
                    .map_err(|e| e.to_string())?
                {
                    source::Probe::Unchanged => Ok(Difference::Unchanged),
                    source::Probe::Changed(_) => Ok(Difference::Changed),
                }
            };
            let result = look.await;
            let _ = news.send(News::Look(Box::new(Look {
                probe,
                time,
                result,
            })));
        });
        Ok(())
    }

    /// Sweeps what neither this pipeline's roots nor any other's resources reach.
    fn collect(&mut self, roots: Vec<Digest>) {
        // Known to be under way from here on; kept on disk once it is done.
        self.world.collected = Some(Timestamp::now());
        let (shared, news) = (self.shared.clone(), self.news.clone());
        shared
            .garbage
            .put(full_name(&self.declared.pipeline), roots);
        tokio::spawn(async move {
            let _alone = shared.collecting.write().await;
            let swept = async {
                let Some(roots) = shared.garbage.all() else {
                    return anyhow::Ok(());
                };
                shared.revisions.sweep(&roots).await?;
                shared.store.gc(&roots, GRACE).await?;
                Ok(())
            };
            if let Err(error) = swept.await {
                shared
                    .screen
                    .line(format!("garbage was not collected: {error:#}"));
            }
            let _ = news.send(News::Collected);
        });
    }

    fn tell_release(&self, release: &MemoryRelease) {
        let Some(status) = &release.status else {
            return;
        };
        let mut text = format!("release {} is {:?}", release.name_any(), status.phase);
        if let Some(verdict) = &status.verdict {
            text.push_str(&format!(", gates {:?}", verdict.outcome));
            for gate in &verdict.gates {
                text.push_str(&format!(
                    "; {} {} {}",
                    gate.suite, gate.metric, gate.candidate
                ));
            }
        }
        self.shared.screen.line(text);
    }
}
