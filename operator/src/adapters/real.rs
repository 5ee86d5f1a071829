//! Adapters that were trained here, in a real vLLM. `make test-vllm` installs and starts one; elsewhere this is skipped.

use std::path::PathBuf;
use std::sync::Arc;

use loci_models::{
    Adapter, Decoder, DeviceRequest, Example, LoraConfig, Message, Probe, Trainer, TrainingSettings,
};
use loci_store::{FileEntry, Tree};
use loci_worker::step::ADAPTER;

use super::made::{manifest, release};
use super::*;
use crate::artifacts::Artifacts;
use crate::fleet::Report;

/// How far vLLM's float32 may be from the one here, in nats a token.
const TOLERANCE: f64 = 2e-3;

/// Where a vLLM is, and the directory of the model that it serves.
fn real() -> Option<(Url, PathBuf)> {
    let (Ok(url), Some(model)) = (
        std::env::var("LOCI_TEST_VLLM"),
        std::env::var_os("LOCI_TEST_VLLM_MODEL"),
    ) else {
        eprintln!(
            "skipped: LOCI_TEST_VLLM names no vLLM; `make test-vllm` installs and starts one"
        );
        return None;
    };
    Some((url.parse().unwrap(), model.into()))
}

fn says(role: &str, content: &str) -> Message {
    Message {
        role: role.to_owned(),
        content: content.to_owned(),
    }
}

fn trained(decoder: &Arc<Decoder>) -> Adapter {
    let example = |i: usize| {
        let turns = [
            says("user", &format!("Who is on call on day {i}?")),
            says("assistant", "Ask the lead, always."),
        ];
        Example::chat(decoder, &turns).unwrap()
    };
    let settings = TrainingSettings {
        epochs: 3,
        batch: 4,
        learning_rate: 1e-3,
        ..TrainingSettings::default()
    };
    let (lora, examples) = (LoraConfig::default(), (0..8).map(example).collect());
    let mut trainer = Trainer::new(decoder.clone(), lora, settings, examples).unwrap();
    while trainer.step().unwrap().is_some() {}
    trainer.adapter().unwrap()
}

fn recorded(decoder: &Decoder, adapter: &Adapter) -> Vec<Probe> {
    let asked = [
        ("Who is on call?", "Ask the lead."),
        ("Name a colour.", "Blue."),
    ];
    let probe = |(question, answer): (&str, &str)| {
        let prompt = decoder.render(&[says("user", question)], true).unwrap();
        Probe::record(decoder, Some(adapter), prompt, answer.to_owned()).unwrap()
    };
    asked.map(probe).into()
}

async fn until(shown: &Shown, fits: impl Fn(&Report) -> bool) -> Report {
    let mut left = 1200;
    loop {
        let report = shown.report();
        if fits(&report) {
            return report;
        }
        left -= 1;
        assert!(left > 0, "{report:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_vllm_keeps_what_says_what_was_recorded() {
    let Some((url, model)) = real() else { return };
    let decoder = Arc::new(Decoder::load(&model, DeviceRequest::Cpu).unwrap());
    let adapter = trained(&decoder);
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("operator");
    let store = Store::open_local(&place).await.unwrap();
    let mut tree = Tree::new();
    for (name, bytes) in adapter.files().unwrap() {
        let size = bytes.len() as u64;
        let digest = store.put(bytes.into()).await.unwrap();
        tree.insert(name.to_owned(), FileEntry { digest, size });
    }
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let operator = format!("http://{}", listener.local_addr().unwrap());
    let (at, operator) = (place.as_path().into(), operator.parse().unwrap());
    let artifacts = Artifacts::new(store.clone(), &at, operator).await.unwrap();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(artifacts.clone().serve(listener, stop));

    let (goals, watched) = watch::channel(Goal::default());
    let shown = Shown::default();
    let terms = AdapterTerms {
        max_rank: Some(16),
        tolerance: TOLERANCE,
        drain: Duration::from_secs(1),
    };
    let vllm = Vllm::new(url).unwrap();
    let state = dir.path().join("agent");
    let agent = Agent::new(vllm, state, terms, shown.clone(), watched);
    let agent = tokio::spawn(agent.await.unwrap().run());
    let put = async |probes: Vec<Probe>| {
        let mut made = manifest("0");
        (made.tree, made.content) = (tree.clone(), adapter.digest());
        made.probes = probes;
        let files: Vec<Digest> = tree.values().map(|file| file.digest).collect();
        let manifest = store.put_manifest(ADAPTER, &files, &made).await.unwrap();
        let (url, key) = artifacts.of_adapter(&manifest);
        WantedAdapter {
            manifest,
            adapter: made.content,
            url,
            key,
        }
    };
    let want = |name: &str, wanted| {
        goals.send_replace(Goal {
            desired: Some(name.to_owned()),
            releases: [(name.to_owned(), wanted)].into(),
        });
    };

    let probes = recorded(&decoder, &adapter);
    let mut shifted = probes.clone();
    shifted[0].log_probability -= 0.5;
    want("shifted", release(put(shifted).await));
    let report = until(&shown, |r| r.failures.contains_key("shifted")).await;
    let why = &report.failures["shifted"];
    assert!(why.contains("nats a token"), "{why}");

    want("whole", release(put(probes).await));
    until(&shown, |r| r.serving.as_deref() == Some("whole")).await;

    let mut bare = release(put(Vec::new()).await);
    bare.adapters.clear();
    want("bare", bare);
    let name = loci_recall::adapter_name("escalation", adapter.digest());
    let vllm = Vllm::new(real().unwrap().0).unwrap();
    let mut left = 300;
    while vllm
        .cards()
        .await
        .unwrap()
        .iter()
        .any(|card| card.id == name)
    {
        left -= 1;
        assert!(left > 0, "{name} stays");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    agent.abort();
}
