//! Resources as files, and what a terminal is told of them.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use loci_crds::release::ReleasePhase;
use loci_crds::{
    MemoryPipeline, MemoryPipelineStatus, MemoryRelease, MemoryReleaseStatus, MemoryRun,
    MemoryRunSpec, MemoryRunStatus,
};
use loci_plan::{Intents, StepOutcome, StepResult};
use loci_shell::{Keeper, Kept, Pushed, Told};

use crate::screen::Screen;
use crate::state::{PipelineState, intents, write_json};

/// One pipeline's resources in the state directory.
pub struct Files {
    /// The pipeline without a status.
    pub resource: MemoryPipeline,
    /// Where they are.
    pub state: PipelineState,
    /// Where people look.
    pub screen: Arc<Screen>,
    /// Where queries go.
    pub url: String,
    /// A question to try it with.
    pub question: String,
    /// Compares what was pushed with what is served.
    pub pushed: Pushed,
}

impl Files {
    fn metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: self.resource.metadata.namespace.clone(),
            creation_timestamp: Some(Time(Timestamp::now())),
            generation: Some(1),
            ..ObjectMeta::default()
        }
    }

    /// Writes the pipeline with this status.
    pub fn write(&self, status: &MemoryPipelineStatus) -> Result<()> {
        let mut resource = self.resource.clone();
        resource.status = Some(status.clone());
        write_json(&self.state.resource(), &resource)
    }

    fn tell_release(&self, release: &MemoryRelease) {
        let Some(status) = &release.status else {
            return;
        };
        let mut text = format!("release {} is {:?}", release.name_any(), status.phase);
        if let Some(verdict) = &status.verdict {
            text.push_str(&format!(", gates {:?}", verdict.outcome));
            for gate in &verdict.gates {
                let said = match gate.questions {
                    0 => format!("{:?}", gate.outcome),
                    _ => gate.candidate.clone(),
                };
                text.push_str(&format!("; {} {} {said}", gate.suite, gate.metric));
            }
        }
        self.screen.line(text);
        let new = release.spec.adapter.as_deref();
        if let Some(adapter) = new.filter(|_| status.phase == ReleasePhase::Serving) {
            self.tell_chat(adapter);
        }
    }

    fn tell_chat(&self, adapter: &str) {
        let (question, url) = (&self.question, &self.url);
        let model = format!("{}:{adapter}", self.resource.name_any());
        self.screen.plain(format!(
            "\nChat with {adapter}:\n  curl -s {url}/v1/chat/completions -H 'content-type: application/json' -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"{question}\"}}]}}'\n",
        ));
    }

    fn tell_run(&self, run: &MemoryRun) {
        let name = run.name_any();
        match &run.status {
            None => self
                .screen
                .line(format!("run {name} ({:?})", run.spec.trigger)),
            Some(status) => {
                let message = status.message.as_deref().unwrap_or_default();
                self.screen
                    .line(format!("run {name}: {:?} {message}", status.phase));
            }
        }
    }

    fn full_name(&self) -> String {
        let namespace = self.resource.metadata.namespace.as_deref();
        let namespace = namespace.unwrap_or("default");
        format!("{namespace}/{}", self.resource.name_any())
    }

    fn tell_serving(&self, release: &str, first: bool) {
        self.pushed.serves(&self.full_name(), release);
        let serving = console::style("serving").green().bold();
        self.screen.line(format!("{serving} {release}"));
        if !first {
            return;
        }
        let (question, url) = (&self.question, &self.url);
        let program = std::env::args().next().unwrap_or_else(|| "loci".to_owned());
        self.screen.plain(format!(
            "\nAsk it, from another terminal:\n  {program} query \"{question}\"\n  curl -s {url}/v1/retrieve -H 'content-type: application/json' -d '{{\"query\": \"{question}\", \"k\": 3}}'\nThen edit a source file and ask again. Ctrl-C stops.\n",
        ));
    }
}

#[async_trait]
impl Keeper for Files {
    async fn intents(&self) -> Result<Intents> {
        intents::read(&self.state.intents())
    }

    async fn confirm(&self) -> Result<()> {
        Ok(())
    }

    async fn create_run(&self, name: &str, spec: MemoryRunSpec) -> Result<MemoryRun> {
        let mut run = MemoryRun::new(name, spec);
        run.metadata = self.metadata(name);
        self.state.runs().put(&run)?;
        Ok(run)
    }

    async fn update_run(&self, run: &MemoryRun, status: MemoryRunStatus) -> Result<MemoryRun> {
        let mut run = run.clone();
        run.status = Some(status);
        self.state.runs().put(&run)?;
        Ok(run)
    }

    async fn delete_run(&self, name: &str) -> Result<()> {
        self.state.runs().delete(name)
    }

    async fn create_release(&self, mut release: MemoryRelease) -> Result<MemoryRelease> {
        release.metadata = self.metadata(&release.name_any());
        self.state.releases().put(&release)?;
        self.pushed.released(&self.full_name(), &release);
        Ok(release)
    }

    async fn update_release(
        &self,
        release: &MemoryRelease,
        status: MemoryReleaseStatus,
    ) -> Result<MemoryRelease> {
        let mut release = release.clone();
        release.status = Some(status);
        self.state.releases().put(&release)?;
        Ok(release)
    }

    async fn delete_release(&self, name: &str) -> Result<()> {
        self.state.releases().delete(name)
    }

    async fn write_status(&self, status: &MemoryPipelineStatus) -> Result<()> {
        self.write(status)
    }

    async fn keep(&self, kept: &Kept) -> Result<()> {
        write_json(&self.state.looks(), kept)
    }

    fn tell(&self, told: Told<'_>) {
        match told {
            Told::Run(run) => self.tell_run(run),
            Told::Release(release) => self.tell_release(release),
            Told::Step(outcome) => self.screen.line(step(outcome)),
            Told::Serving { release, first } => self.tell_serving(release, first),
            Told::Trouble(what) => self.screen.line(what),
        }
    }
}

fn step(outcome: &StepOutcome) -> String {
    let step = outcome.key.step.as_str();
    match &outcome.result {
        Ok(StepResult::Snapshot(s)) => format!("{step:<9} {}", s.summary),
        Ok(StepResult::Embed(s)) => format!("{step:<9} {}", s.summary),
        Ok(StepResult::Assemble(s)) => format!("{step:<9} {}", s.summary),
        Ok(StepResult::Collect(s)) => format!("{step:<9} {}", s.summary),
        Ok(StepResult::Train(s)) => format!("{step:<9} {}", s.summary),
        Ok(StepResult::Evaluate(s)) => format!("{step:<9} {}", s.summary),
        Err(e) => format!("{step:<9} failed: {} ({})", e.message, e.reason),
    }
}
