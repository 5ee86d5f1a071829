//! `loci up`: the shell without a cluster.

pub mod declare;
mod keeper;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use loci_bus::LocalBus;
use loci_crds::values::GoDuration;
use loci_models::{DeviceRequest, HubOptions};
use loci_recall::{Auth, Recall, RecallOptions, Tokens};
use loci_shell::{
    CLASS, Census, Controller, Crew, Dispatch, FETCH, Garbage, LocalFleet, News, Pushed, Shared,
    Sources, Sweeper, full_name,
};
use loci_store::Store;
use loci_worker::document::Parsers;
use loci_worker::service::{self, FETCHES};
use loci_worker::source::{SourceKind, SourceSpec, watch};
use loci_worker::step::{CHECKPOINTS, Decoders, Encoders, FetchContext, Revisions, StepContext};
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use declare::Declaration;
use keeper::Files;

use crate::screen::{Lines, Screen};
use crate::state::{PipelineState, State, intents, read_json};

/// How often the file with what people ask for is looked at.
const POLL: Duration = Duration::from_millis(250);

/// `loci up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Files with MemoryPipelines and the ConfigMaps and Secrets that they name
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:7700")]
    listen: SocketAddr,
    /// A file with bearer tokens, one a line, or what may be seen by each (docs/access.md); needed to listen beyond loopback
    #[arg(long, env = "LOCI_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// A file with bearer tokens of those who may put and delete documents of push sources, one a line; without one everybody may
    /// on loopback, and nobody where --token-file is given
    #[arg(long, env = "LOCI_WRITE_TOKEN_FILE")]
    write_token_file: Option<PathBuf>,
    /// Where encoders run: auto or cpu; cuda is refused until a build has it
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceRequest,
    /// The hub that hf:// models come from
    #[arg(long, env = "HF_ENDPOINT")]
    hub: Option<url::Url>,
    /// How long a pipeline has to be gone from the files before its deletionPolicy is carried out
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    deletion_grace: Duration,
}

/// A duration as Go writes it, such as 30m.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = GoDuration(text.to_owned()).to_std();
    duration.map_err(|error| error.to_string())
}

/// A device by its name.
pub fn device(name: &str) -> Result<DeviceRequest, String> {
    match name {
        "auto" => Ok(DeviceRequest::Auto),
        "cpu" => Ok(DeviceRequest::Cpu),
        "cuda" => Ok(DeviceRequest::Cuda),
        other => Err(format!("there is no device {other}: use auto, cpu or cuda")),
    }
}

impl Up {
    /// Runs until Ctrl-C or SIGTERM.
    pub async fn run(self, directory: &Path) -> Result<()> {
        let filter = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
        let (manifests, pipelines) = declare::load(&self.files)?;
        let screen = Arc::new(Screen::new(Lines::Stderr));
        for note in &manifests.notes {
            screen.line(note.to_string());
        }
        let auth = match &self.token_file {
            Some(path) => Auth::Bearer(Tokens::from_file(path)?),
            None => Auth::Off,
        };
        let writers = self.write_token_file.as_deref().map(Tokens::of_writers);
        let writers = writers.transpose()?;
        let state = State::create(directory)?;
        let lock = state.lock()?;
        let store = Store::open_local(&state.directory("store")?).await?;
        let mut declared = Vec::new();
        let sources = Sources::default();
        for (loaded, pipeline) in manifests.pipelines.iter().zip(pipelines) {
            let one = declare::declare(&manifests, loaded, pipeline, &state, &store).await?;
            sources.set(full_name(&one.declared.pipeline), one.sources.clone());
            declared.push(one);
        }
        let listener = TcpListener::bind(self.listen).await.with_context(|| {
            format!(
                "cannot listen on {}: is another server there? give another --listen",
                self.listen
            )
        })?;
        let url = format!("http://{}", listener.local_addr()?);
        let shutdown = CancellationToken::new();
        let names: Vec<String> = declared
            .iter()
            .map(|one| full_name(&one.declared.pipeline))
            .collect();
        let logs = declared.iter().map(|d| (&*d.declared.pipeline, &d.logs));
        let parsers = Parsers::own()?;
        let pushed = Pushed::new(store.clone(), parsers.clone(), logs);
        let recall = Recall::new(RecallOptions {
            expect: names.clone(),
            documents: Some(Arc::new(pushed.clone())),
            writers,
            ..RecallOptions::default()
        })?;
        let bus = LocalBus::new();
        let revisions = Revisions::new(state.directory("revisions")?, store.clone());
        let hub = HubOptions {
            cache: state.directory("models")?,
            endpoint: self.hub,
            token: None,
        };
        let gate = recall.bulk_gate();
        let context = StepContext {
            store: store.clone(),
            encoders: Encoders::new(hub.clone(), self.device),
            decoders: Decoders::new(hub, self.device),
            parsers,
            revisions: revisions.clone(),
            pace: Arc::new(move || gate.yield_to_queries()),
            checkpoints: CHECKPOINTS,
            card: None,
        };
        let shared = Shared {
            dispatch: Dispatch::new(Arc::new(bus.clone()), store.clone(), Crew::Here),
            store,
            revisions,
            encoders: context.encoders.clone(),
            decoders: context.decoders.clone(),
            recall: recall.clone(),
            classes: tokio::sync::watch::channel(None).1,
            sources,
            garbage: Garbage::new(names),
            collecting: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        // Ends with this function: it only listens.
        let mut listening = JoinSet::new();
        tasks.spawn(serve_errors(loci_recall::serve(
            listener,
            recall,
            auth,
            shutdown.clone(),
        )));
        let events = shared.dispatch.events().await?;
        listening.spawn(shared.dispatch.clone().listen(events, Some(screen.clone())));
        let fetching = FetchContext {
            sources: Arc::new(shared.sources.clone()),
            store: Some(shared.store.clone()),
            http: reqwest::Client::new(),
        };
        let (queue, stop) = (bus.clone(), shutdown.clone());
        tasks.spawn(async move {
            service::serve(&queue, FETCH, &fetching, FETCHES, stop).await;
            Ok(())
        });
        let stop = shutdown.clone();
        tasks.spawn(async move {
            service::serve(&bus, CLASS, &context, 1, stop).await;
            Ok(())
        });
        listening.spawn(sweep(
            Sweeper::new(shared.clone(), self.deletion_grace),
            census(&declared),
            state.clone(),
        ));
        for one in declared {
            let site = Site {
                shared: shared.clone(),
                screen: screen.clone(),
                url: url.clone(),
                pushed: pushed.clone(),
            };
            let controller = site.controller(one, &state, &mut listening).await?;
            let shutdown = shutdown.clone();
            tasks.spawn(async move { controller.run(shutdown).await.1 });
        }
        state.announce(&url)?;
        screen.line(format!(
            "listening on {url}, state in {}",
            directory.display()
        ));
        let ended = until_stopped(&mut tasks).await;
        shutdown.cancel();
        state.retract();
        screen.line("stopping");
        while let Some(task) = tasks.join_next().await {
            if let Ok(Err(error)) = task {
                screen.line(format!("{error:#}"));
            }
        }
        drop(lock);
        ended
    }
}

async fn serve_errors(
    serving: impl Future<Output = Result<(), loci_recall::RecallError>>,
) -> Result<()> {
    Ok(serving.await?)
}

/// Waits for Ctrl-C or SIGTERM.
pub async fn terminated() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        signal = tokio::signal::ctrl_c() => signal.context("cannot listen for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}

/// Waits for a signal, or for the first task to fail.
async fn until_stopped(tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    let signal = terminated();
    tokio::pin!(signal);
    loop {
        tokio::select! {
            signal = &mut signal => return signal,
            Some(task) = tasks.join_next() => task.context("a task ended unexpectedly")??,
        }
    }
}

/// What the controllers of all pipelines are made of.
struct Site {
    shared: Shared,
    screen: Arc<Screen>,
    url: String,
    pushed: Pushed,
}

impl Site {
    async fn controller(
        self,
        one: Declaration,
        state: &State,
        listening: &mut JoinSet<Result<()>>,
    ) -> Result<Controller> {
        let Declaration {
            declared,
            sources,
            logs: _,
            question,
        } = one;
        let namespace = declared.pipeline.namespace.as_deref().unwrap_or("default");
        let kept = state.pipeline(namespace, &declared.pipeline.name);
        let files = Files {
            resource: declared.resource.clone(),
            state: kept.clone(),
            screen: self.screen,
            url: self.url,
            question,
            pushed: self.pushed.clone(),
        };
        files.write(&declared.resource.status.clone().unwrap_or_default())?;
        let resources = (kept.runs().list()?, kept.releases().list()?);
        for release in &resources.1 {
            self.pushed
                .released(&full_name(&declared.pipeline), release);
        }
        let fleet = Box::new(LocalFleet::new(self.shared.clone()));
        let looks = read_json(&kept.looks())?.unwrap_or_default();
        let controller = Controller::new(
            self.shared,
            declared,
            Arc::new(files),
            looks,
            resources,
            fleet,
        )
        .await?;
        for spec in sources {
            watch_source(listening, spec, controller.news());
        }
        listening.spawn(hear_people(kept, controller.news()));
        Ok(controller)
    }
}

/// Only the given files say which pipelines there are.
fn census(declared: &[Declaration]) -> Census {
    let uid = |one: &Declaration| {
        let uid = one.declared.resource.metadata.uid.clone();
        (full_name(&one.declared.pipeline), uid.unwrap_or_default())
    };
    Census {
        namespaces: None,
        complete: true,
        pipelines: declared.iter().map(uid).collect(),
    }
}

/// Deletes what is left of pipelines that are not declared any more, as their policy says.
async fn sweep(mut sweeper: Sweeper, census: Census, state: State) -> Result<()> {
    loop {
        for pipeline in sweeper.round(&census).await? {
            state.forget(&pipeline)?;
        }
        tokio::time::sleep(sweeper.pause()).await;
    }
}

/// Tells when what people ask for has changed.
async fn hear_people(state: PipelineState, news: UnboundedSender<News>) -> Result<()> {
    let mut last = intents::read(&state.intents())?;
    loop {
        tokio::time::sleep(POLL).await;
        let now = intents::read(&state.intents())?;
        if now != last && news.send(News::Asked).is_err() {
            return Ok(());
        }
        last = now;
    }
}

/// Hints at each change of a watched directory, and of what is pushed.
fn watch_source(tasks: &mut JoinSet<Result<()>>, spec: SourceSpec, news: UnboundedSender<News>) {
    let name = spec.name;
    let directory = match spec.kind {
        SourceKind::Directory(directory) => directory,
        SourceKind::Push(push) => {
            let mut watching = push.watch();
            tasks.spawn(async move {
                while watching.changed().await {
                    if news.send(News::Hint(name.clone())).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            return;
        }
        SourceKind::Git(_)
        | SourceKind::Http(_)
        | SourceKind::Bucket(_)
        | SourceKind::ConfigMap(_) => return,
    };
    tasks.spawn(async move {
        let mut watching = match watch(&directory) {
            Ok(watching) => watching,
            Err(error) => {
                tracing::warn!("{name} is not watched and is looked at on schedule only: {error}");
                return Ok(());
            }
        };
        while watching.changed().await.is_ok() {
            if news.send(News::Hint(name.clone())).is_err() {
                break;
            }
        }
        Ok(())
    });
}
