//! Adapters for tests. To the vLLM of the tests, an adapter's weights are a number: the logarithm of the probability that
//! it gives to every token.

use std::collections::{BTreeMap, BTreeSet};

use loci_digest::Digest;
use loci_models::{LoraConfig, Probe};
use loci_recall::adapter_name;
use loci_store::{FileEntry, Tree};
use loci_worker::step::{AdapterManifest, Trained};

use crate::fleet::{Wanted, WantedAdapter};
use crate::goal::Goal;

/// The file that the number is in.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// An adapter's files, by their names.
pub fn files(value: &str) -> [(&'static str, String); 3] {
    [
        ("adapter_config.json", "{\"r\": 8}".to_owned()),
        (WEIGHTS, value.to_owned()),
        ("loci.json", format!("{{\"weights\": \"{value}\"}}")),
    ]
}

/// The manifest of an adapter for which this number was recorded.
pub fn manifest(value: &str) -> AdapterManifest {
    let entry = |(name, text): (&str, String)| {
        let (digest, size) = (Digest::of(&text), text.len() as u64);
        (name.to_owned(), FileEntry { digest, size })
    };
    let tree: Tree = files(value).into_iter().map(entry).collect();
    // To the vLLM of the tests a text is the numbers in it.
    let probe = |first: u32| Probe {
        prompt: format!("{first} 2 3"),
        completion: "4 5".to_owned(),
        log_probability: 2.0 * value.parse::<f64>().unwrap(),
    };
    let nothing = Digest::of("");
    AdapterManifest {
        content: tree["loci.json"].digest,
        tree,
        base: "hf://example/model@0123".to_owned(),
        base_weights: nothing,
        lora: LoraConfig::default(),
        dataset: nothing,
        parent: None,
        taint: BTreeSet::new(),
        curve: nothing,
        left_out: nothing,
        probes: vec![probe(1), probe(7)],
        computed: Vec::new(),
        trained: Trained {
            examples: 1,
            held_out: 0,
            left_out: 0,
            first_left_out: Vec::new(),
            steps: 1,
            tokens: 1,
            loss: 1.0,
            held_out_before: None,
            held_out_after: None,
        },
    }
}

/// The same as a release names it; it is to be had nowhere.
pub fn wanted(manifest: &AdapterManifest) -> WantedAdapter {
    WantedAdapter {
        manifest: Digest::of_json(manifest).unwrap(),
        adapter: manifest.content,
        url: String::new(),
        key: String::new(),
    }
}

/// The name by which vLLM is to know it.
pub fn name(value: &str) -> String {
    adapter_name("escalation", manifest(value).content)
}

/// A release with an adapter.
pub fn release(adapter: WantedAdapter) -> Wanted {
    Wanted {
        revision: Digest::of(""),
        model: "hf://example/encoder@0123".to_owned(),
        cross_encoder: None,
        latency_budget_ms: None,
        url: String::new(),
        key: String::new(),
        adapters: BTreeMap::from([("escalation".to_owned(), adapter)]),
        base: Some("hf://example/model@0123".to_owned()),
        service: None,
    }
}

/// Releases with an adapter each, and which of them is to answer.
pub fn goal(desired: Option<&str>, releases: &[(&str, &str)]) -> Goal {
    let named = |(name, value): &(&str, &str)| {
        let wanted = release(wanted(&manifest(value)));
        ((*name).to_owned(), wanted)
    };
    Goal {
        desired: desired.map(str::to_owned),
        releases: releases.iter().map(named).collect(),
    }
}
