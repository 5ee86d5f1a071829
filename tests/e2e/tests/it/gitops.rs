//! A pipeline that comes from a Git repository, by Flux: `examples/gitops/flux`.

use std::sync::Arc;

use loci_testbed::git::Repository;
use loci_testbed::hub;
use serde_json::{Value, json};

use crate::cluster::{AGENTS, field, kubectl, plugin, try_kubectl};
use crate::flux::{FLUX, Flux, Said, follow, said_of};
use crate::story::{Story, blocking};

const NAME: &str = "from-git";
const RESOURCE: &str = "memorypipeline/from-git";
const ROLLBACK: &str = "{.metadata.annotations.loci\\.dev/rollback}";

/// The repository and what it holds.
struct Memory<'a> {
    story: &'a Story,
    repository: Repository,
    documents: String,
    spec: Value,
}

impl<'a> Memory<'a> {
    fn new(story: &'a Story) -> Self {
        Self {
            story,
            repository: Repository::new(),
            documents: "The workshop opens at nine.".to_owned(),
            spec: json!({
                "embedder": {"model": hub::MODEL},
                "sources": [{"name": "docs", "memory": "factual", "configMap": {"name": "git-docs"}}],
                "index": {"refresh": {"interval": "1h"}},
                "suites": [{"name": "faq", "retrieval": {"data": {"configMap": {"name": "git-faq", "key": "faq.jsonl"}}}}],
                "gates": [{"suite": "faq", "metric": "recallAt5", "floor": "0.50"}],
            }),
        }
    }

    /// Pushes all as it is now; the commit.
    fn push(&self) -> String {
        let suite = json!({"question": "workshop", "expected": [{"document": "hours.md"}]});
        let map = |name: &str, key: &str, text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {key: text}});
        for (name, object) in [
            ("docs", map("git-docs", "hours.md", &self.documents)),
            ("faq", map("git-faq", "faq.jsonl", &suite.to_string())),
            (
                "pipeline",
                json!({
                    "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline",
                    "metadata": {"name": NAME}, "spec": self.spec,
                }),
            ),
        ] {
            let file = format!("pipelines/{name}.yaml");
            self.repository.write(&file, &object.to_string());
        }
        self.repository.push()
    }

    /// Waits for what Flux finally says of a commit.
    async fn told(&self, commit: &str) -> Said {
        let mut said = Said::Nothing;
        self.story
            .until(&format!("Flux has done {commit}"), async || {
                said = blocking(|| said_of(commit));
                said != Said::Nothing
            })
            .await;
        said
    }

    /// Pushes, and expects Flux to be content.
    async fn deploy(&self) {
        let commit = self.push();
        assert_eq!(self.told(&commit).await, Said::Ready);
    }

    async fn serves(&self, release: &str) {
        self.story
            .until(&format!("{release} serves"), async || served() == release)
            .await;
    }
}

fn of_pipeline(path: &str) -> String {
    blocking(|| field(RESOURCE, AGENTS, path))
}

fn served() -> String {
    of_pipeline("{.status.servingRelease}")
}

fn condition(kind: &str, part: &str) -> String {
    of_pipeline(&format!(
        "{{.status.conditions[?(@.type=='{kind}')].{part}}}"
    ))
}

pub async fn flux_follows_a_repository(story: Arc<Story>) {
    let mut memory = Memory::new(&story);
    let _flux = blocking(Flux::start);
    let url = memory.repository.serve().await;
    let first = memory.push();
    blocking(|| follow(&url));
    ready_when_the_pipeline_is(&memory, &first).await;
    a_commit_changes_the_schedule(&mut memory).await;
    what_admission_denies_is_reported(&mut memory).await;
    what_stalls_is_reported(&mut memory).await;
    a_rollback_by_hand_stays(&mut memory).await;
    blocking(|| {
        kubectl(&["-n", FLUX, "delete", "kustomization,gitrepository", "--all"]);
        let gone = try_kubectl(&["-n", AGENTS, "get", RESOURCE]).unwrap_err();
        assert!(
            gone.contains("not found"),
            "pruned with its Kustomization: {gone}"
        );
    });
}

/// `wait: true`.
async fn ready_when_the_pipeline_is(memory: &Memory<'_>, commit: &str) {
    let mut waited = false;
    let mut said = Said::Nothing;
    memory
        .story
        .until("Flux has done the first commit", async || {
            // In this order: a pipeline that is not Ready now was not before.
            said = blocking(|| said_of(commit));
            let there = !of_pipeline("{.metadata.name}").is_empty();
            waited |= there && condition("Ready", "status") != "True" && said == Said::Nothing;
            said != Said::Nothing
        })
        .await;
    assert_eq!(said, Said::Ready);
    assert_eq!(condition("Ready", "status"), "True");
    assert_eq!(served(), "from-git-1");
    assert!(waited, "the pipeline was seen while Flux waited for it");
}

async fn a_commit_changes_the_schedule(memory: &mut Memory<'_>) {
    let before = of_pipeline("{.status.nextRefreshTime}");
    memory.spec["index"] = json!({"refresh": {"cron": "30 3 * * *"}});
    memory.deploy().await;
    let after = of_pipeline("{.status.nextRefreshTime}");
    assert!(
        after != before && after.contains("T03:30:00"),
        "{before} {after}"
    );
}

async fn what_admission_denies_is_reported(memory: &mut Memory<'_>) {
    let (spec, generation) = (memory.spec.clone(), of_pipeline("{.metadata.generation}"));
    memory.spec["sources"][0] =
        json!({"name": "docs", "memory": "factual", "directory": {"path": "docs"}});
    let denied = memory.push();
    let Said::Failed(reason, message) = memory.told(&denied).await else {
        panic!("a path of one machine is let in");
    };
    let expected = "spec.sources[0].directory: a path of one machine, which a cluster cannot read; use git, http, bucket or configMap";
    assert!(
        reason == "ReconciliationFailed" && message.contains(expected),
        "{reason}: {message}"
    );
    assert_eq!(of_pipeline("{.metadata.generation}"), generation);
    memory.spec = spec;
    memory.deploy().await;
}

async fn what_stalls_is_reported(memory: &mut Memory<'_>) {
    let spec = memory.spec.clone();
    memory.spec["sources"][0]["configMap"]["name"] = json!("not-there");
    let stalled = memory.push();
    let Said::Failed(reason, message) = memory.told(&stalled).await else {
        panic!("Flux is content with a pipeline that cannot be built");
    };
    assert_eq!(reason, "HealthCheckFailed");
    let expected = "MemoryPipeline/agents/from-git status: 'Failed'";
    assert!(message.contains(expected), "{message}");
    let why = condition("Stalled", "message");
    assert!(why.contains("not-there"), "{why}");
    assert_eq!(served(), "from-git-1", "what served goes on");
    memory.spec = spec;
    memory.deploy().await;
}

async fn a_rollback_by_hand_stays(memory: &mut Memory<'_>) {
    memory.documents = "The workshop opens at ten.".to_owned();
    memory.deploy().await;
    memory.serves("from-git-2").await;
    let ask = |what: &[&str]| blocking(|| plugin(&[&["-n", AGENTS], what].concat()));
    ask(&["rollback", NAME, "1"]);
    memory.serves("from-git-1").await;
    memory.spec["serving"] = json!({"latencyBudget": "60ms"});
    memory.deploy().await;
    let budget = of_pipeline("{.spec.serving.latencyBudget}");
    assert_eq!(budget, "60ms", "Flux has synced");
    let held = (of_pipeline(ROLLBACK), served());
    assert_eq!(held, ("1".to_owned(), "from-git-1".to_owned()));
    ask(&["resume", NAME]);
    assert_eq!(of_pipeline(ROLLBACK), "");

    // What the README warns of: Flux takes over what a manager of kubectl's own name wrote.
    let annotation = "loci.dev/rollback=1";
    blocking(|| kubectl(&["-n", AGENTS, "annotate", RESOURCE, annotation]));
    assert_eq!(of_pipeline(ROLLBACK), "1");
    memory.spec["serving"] = json!({"latencyBudget": "70ms"});
    memory.deploy().await;
    assert_eq!(of_pipeline(ROLLBACK), "");
}
