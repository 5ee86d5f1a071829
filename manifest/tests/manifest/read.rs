//! What is read.

use std::path::Path;

use loci_manifest::{Position, for_cluster, for_machine, load_str};

use crate::{GOOD, good, rendered, with};

#[test]
fn a_manifest_is_read_as_kubectl_reads_it() {
    let manifests = good(GOOD);
    let [pipeline] = &manifests.pipelines[..] else {
        panic!("one pipeline")
    };
    let spec = &pipeline.object.spec;
    let namespace = pipeline.object.metadata.namespace.as_deref();
    assert_eq!(namespace, Some("agents"));
    assert_eq!(spec.sources.len(), 3);
    assert_eq!(spec.releases.history_limit, Some(5));
    assert_eq!(spec.index.chunking.overlap_tokens, Some(32));
    assert_eq!(spec.gates[0].floor.as_ref().unwrap().0, "0.80");
    let notes = &manifests.config_map("agents", "notes").unwrap().object;
    assert_eq!(notes.get("a.md"), Some(&b"A note."[..]));
    assert_eq!(notes.get("b.md"), Some(&b"A note."[..]));
    assert!(manifests.config_map("default", "notes").is_none());
    let secret = manifests.secret("agents", "git-auth").unwrap();
    assert_eq!(secret.object.get("password"), Some(&b"hunter2"[..]));
}

#[test]
fn the_namespace_is_default_and_a_status_is_left_out() {
    let text = with(", namespace: agents, labels: {team: \"7\"}}", "}");
    let text = text.replace("  runs:\n", "status: {heldOn: support-3}\n");
    let manifests = good(&text);
    let pipeline = &manifests.pipelines[0].object;
    assert_eq!(pipeline.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(pipeline.status, None);
    let note = manifests.notes[0].to_string();
    assert_eq!(
        note,
        "pipeline.yaml:27:1: status is not read: Loci writes it"
    );
}

#[test]
fn what_is_skipped_is_noted() {
    let notes = |text: &str| -> Vec<_> {
        let manifests = good(text);
        manifests.notes.iter().map(ToString::to_string).collect()
    };
    let only = "loci up reads only MemoryPipeline, ConfigMap, Secret";
    assert_eq!(
        notes(GOOD),
        [format!("pipeline.yaml:48:7: skipped Namespace: {only}")]
    );
    let secrets = "apiVersion: vault.example.com/v1\nkind: Secrets\n";
    assert_eq!(
        notes(secrets),
        [format!("pipeline.yaml:2:7: skipped Secrets: {only}")]
    );
    assert_eq!(
        notes("# nothing\n---\n"),
        ["pipeline.yaml: holds no document"]
    );
}

#[test]
fn fields_are_found_again() {
    let manifests = good(GOOD);
    let pipeline = &manifests.pipelines[0];
    let at = |line, column| Some(Position { line, column });
    assert_eq!(pipeline.locate("spec.sources[1].http.urls[0]"), at(13, 19));
    assert_eq!(pipeline.locate("spec.index.refresh"), at(18, 5));
    assert_eq!(pipeline.locate("spec.index.refresh.cron"), None);
    let problem = pipeline.problem("spec.index.refresh.cron", "no", Some("yes".into()));
    assert_eq!(
        problem.to_string(),
        "pipeline.yaml:18:5: spec.index.refresh.cron: no; yes"
    );
    let faq = manifests.config_map("agents", "faq").unwrap();
    assert_eq!(faq.locate("data[\"faq.jsonl\"]"), at(34, 5));
}

#[test]
fn relative_paths_start_at_the_file() {
    let directory = |name: &str| {
        load_str(name, GOOD).unwrap().pipelines[0]
            .directory()
            .to_owned()
    };
    assert_eq!(
        directory("examples/local/pipeline.yaml"),
        Path::new("examples/local")
    );
    assert_eq!(directory("pipeline.yaml"), Path::new("."));
}

#[test]
fn aliases_merges_and_several_pipelines_are_read() {
    let text = "
apiVersion: loci.dev/v1alpha1
kind: MemoryPipeline
metadata: {name: a, annotations: &keep {k: v}, labels: {<<: *keep, l: w}}
spec: &spec
  embedder: {model: file://./model}
  sources: [{name: docs, memory: factual, directory: {path: docs}}]
";
    let pipelines = good(&format!(
        "{text}\n---{}",
        text.replace("name: a,", "name: b,")
    ))
    .pipelines;
    let labels = pipelines[1].object.metadata.labels.clone().unwrap();
    let labels: Vec<_> = labels
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(labels, [("k", "v"), ("l", "w")]);
}

#[test]
fn what_a_machine_lacks_is_named() {
    let missing = |text: &str| rendered(&for_machine(&good(text)));
    assert_eq!(missing(GOOD), [""; 0]);
    let cases = [
        (
            with("configMap: {name: notes}", "configMap: {name: note}"),
            "16:23: spec.sources[2].configMap.name: no file declares ConfigMap agents/note; did you mean \"notes\"?",
        ),
        (
            with("key: faq.jsonl", "key: cases"),
            "23:64: spec.suites[0].retrieval.data.configMap.key: ConfigMap faq has no key \"cases\"; its keys are: faq.jsonl",
        ),
        (
            with("name: git-auth, namespace: agents", "name: git-auth"),
            "10:117: spec.sources[0].git.secretRef.name: no file declares Secret agents/git-auth; \
             declare it, beside the pipeline or in another file that is named, in namespace agents",
        ),
        (
            with("{password: hunter2}", "{Password: hunter2}"),
            "10:117: spec.sources[0].git.secretRef.name: Secret git-auth has no key \"password\"; did you mean \"Password\"?",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(missing(&text), [format!("pipeline.yaml:{expected}")]);
    }
}

#[test]
fn a_bucket_wants_the_keys_of_its_provider() {
    let missing = |url: &str, more: &str, keys: &str| {
        let text = format!(
            "apiVersion: loci.dev/v1alpha1
kind: MemoryPipeline
metadata: {{name: local}}
spec:
  embedder: {{model: file://./model}}
  sources:
  - {{name: docs, memory: factual, bucket: {{url: \"{url}\", {more}secretRef: {{name: keys}}}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
stringData: {{{keys}}}
"
        );
        rendered(&for_machine(&good(&text)))
    };
    let cases = [
        (
            "s3://acme/docs",
            "",
            "accessKeyId: a, secretAccessKey: b",
            "",
        ),
        ("s3://acme/docs", "", "accessKeyId: a", "secretAccessKey"),
        ("gs://acme", "", "serviceAccount: a", ""),
        ("gs://acme", "", "token: a", "serviceAccount"),
        ("az://docs", "account: acme, ", "sasToken: a", ""),
        ("az://docs", "account: acme, ", "accountKey: a", ""),
        ("az://docs", "account: acme, ", "token: a", "accountKey"),
    ];
    for (url, more, keys, lacking) in cases {
        let problems = missing(url, more, keys);
        let expected = usize::from(!lacking.is_empty());
        assert_eq!(problems.len(), expected, "{url} {keys}: {problems:?}");
        let named = format!("bucket.secretRef.name: Secret keys has no key {lacking:?}");
        assert!(
            problems.iter().all(|problem| problem.contains(&named)),
            "{problems:?}"
        );
    }
}

#[test]
fn what_a_cluster_cannot_read_is_named() {
    assert_eq!(for_cluster(&good(GOOD)), []);
    let local = good(
        "apiVersion: loci.dev/v1alpha1
kind: MemoryPipeline
metadata: {name: local}
spec:
  embedder: {model: file://./model}
  sources:
  - {name: docs, memory: factual, directory: {path: docs}}
  - {name: repository, memory: factual, git: {url: file:///srv/handbook.git}}
  suites:
  - {name: faq, retrieval: {data: {file: faq.jsonl}}}
",
    );
    let why = "a path of one machine, which a cluster cannot read";
    assert_eq!(
        rendered(&for_cluster(&local)),
        [
            format!("pipeline.yaml:5:21: spec.embedder.model: {why}; use hf://org/name@revision"),
            format!(
                "pipeline.yaml:7:35: spec.sources[0].directory: {why}; use git, http, bucket or configMap"
            ),
            format!("pipeline.yaml:8:52: spec.sources[1].git.url: {why}; use an https:// URL"),
            format!(
                "pipeline.yaml:10:42: spec.suites[0].retrieval.data.file: {why}; use configMap"
            ),
        ]
    );
    let pushed = good(&with("configMap: {name: notes}", "push: {}"));
    let told = rendered(&for_cluster(&pushed));
    let only = "spec.sources[2].push: push sources are not built yet in a cluster";
    assert!(told.len() == 1 && told[0].contains(only), "{told:?}");
    let adapters = "  adapters: [{name: a, base: \"hf://org/base@main\", sources: [notes]}]\n";
    let trained = with("  runs:\n", adapters).replace("memory: episodic", "memory: procedural");
    assert_eq!(for_cluster(&good(&trained)), []);
    let served = trained.replace(
        "  releases:",
        "  serving: {runtime: {vllm: {service: support-vllm}}}\n  releases:",
    );
    assert_eq!(for_cluster(&good(&served)), []);
    let told = rendered(&for_machine(&good(&served)));
    let only = "spec.serving.runtime: only replicas of a cluster ask vLLM";
    assert!(told.len() == 1 && told[0].contains(only), "{told:?}");
    let local = trained.replace("hf://org/base@main", "file://base");
    let told = rendered(&for_cluster(&good(&local)));
    assert!(
        told.len() == 1 && told[0].contains(&format!("spec.adapters[0].base: {why}")),
        "{told:?}"
    );
}
