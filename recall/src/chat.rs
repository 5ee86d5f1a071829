//! What of a release answers chats: a decoder that it shares with others, and adapters of its own; or a service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loci_digest::Digest;
use loci_models::{Adapter, Continuation, Decoder, Message, ModelError};
use loci_prompt::Marks;

use crate::engine::EngineError;
use crate::generate::Generator;
use crate::model::{ModelName, adapter_name, alias, content, pinned};
use crate::release::{LoadAdapter, LoadService};
use crate::service::{Service, ServiceError};

/// What answers the chats of a release, ready to do so.
pub(crate) struct Chat {
    pub(crate) writer: Writer,
    /// What the model's tokenizer takes for more than text.
    pub(crate) marks: Marks,
    /// The release's adapters.
    adapters: BTreeMap<String, Digest>,
}

/// Who writes the answers.
pub(crate) enum Writer {
    /// A decoder in this process, with these adapters.
    Here(Arc<Generator>, BTreeMap<String, Arc<Adapter>>),
    /// A service, and its name for the model without adapter.
    Service(Arc<Service>, String),
}

/// The model that a request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meant {
    /// The adapter by the pipeline's name for it, none for the model alone.
    pub(crate) adapter: Option<(String, Digest)>,
    /// The name that means it for ever.
    pub(crate) pinned: String,
}

impl Chat {
    /// With a decoder in this process.
    pub(crate) fn here(generator: Arc<Generator>, adapters: BTreeMap<String, LoadAdapter>) -> Self {
        let digests = adapters.iter();
        let digests = digests.map(|(name, own)| (name.clone(), own.digest));
        Self {
            marks: Marks::of(generator.decoder().tokenizer()),
            adapters: digests.collect(),
            writer: Writer::Here(
                generator,
                adapters
                    .into_iter()
                    .map(|(name, own)| (name, own.adapter))
                    .collect(),
            ),
        }
    }

    /// With a service.
    pub(crate) fn by(service: Arc<Service>, load: LoadService) -> Self {
        Self {
            writer: Writer::Service(service, load.model),
            marks: load.marks,
            adapters: load.adapters,
        }
    }

    /// What a name of a model means.
    pub(crate) fn meant(&self, pipeline: &str, name: &ModelName<'_>) -> Result<Meant, String> {
        let Some(wanted) = name.adapter else {
            return Ok(Meant {
                adapter: None,
                pinned: pipeline.to_owned(),
            });
        };
        let Some(digest) = self.adapters.get(wanted) else {
            return Err(self.unknown(pipeline, wanted));
        };
        let (own, pinned) = (content(*digest), pinned(pipeline, wanted, *digest));
        match name.content {
            Some(asked) if asked != own => Err(format!(
                "{}@{} does not serve, {pinned} does: ask for {}, whichever serves",
                alias(pipeline, wanted),
                asked.chars().take(80).collect::<String>(),
                alias(pipeline, wanted),
            )),
            _ => Ok(Meant {
                adapter: Some((wanted.to_owned(), *digest)),
                pinned,
            }),
        }
    }

    fn unknown(&self, pipeline: &str, wanted: &str) -> String {
        let wanted: String = wanted.chars().take(80).collect();
        let names: Vec<&str> = self.adapters.keys().map(String::as_str).collect();
        let known = match names.join(", ") {
            none if none.is_empty() => "none".to_owned(),
            names => names,
        };
        format!(
            "{pipeline} has no adapter \"{wanted}\"; it has {known}, and {pipeline} alone is the model without adapter"
        )
    }

    /// The names of its adapters, each with the one that means the same for ever.
    pub(crate) fn models(&self, pipeline: &str) -> Vec<(String, String)> {
        let adapters = self.adapters.iter();
        let names = |(name, digest): (&String, &Digest)| {
            (alias(pipeline, name), pinned(pipeline, name, *digest))
        };
        adapters.map(names).collect()
    }
}

/// Sees that a service has the model and all adapters of the release, and can chat.
pub(crate) async fn reach(service: &Service, load: &LoadService) -> Result<(), EngineError> {
    let unfit = |e: ServiceError| EngineError::Unfit(e.to_string());
    let there = service.models().await.map_err(unfit)?;
    let adapters = load.adapters.iter();
    let adapters = adapters.map(|(name, digest)| adapter_name(name, *digest));
    let wanted: BTreeSet<String> = adapters.chain([load.model.clone()]).collect();
    let missing: Vec<&str> = wanted.difference(&there).map(String::as_str).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(EngineError::Unfit(format!(
            "{} does not serve {missing}: `loci adapters` beside it loads adapters, and says on its status port what fails",
            load.url
        )));
    }
    service
        .length(&load.model, &[greeting()])
        .await
        .map_err(unfit)?;
    Ok(())
}

/// Sees that a decoder can chat, and that adapters are those of the release, belong to this decoder, and compute here
/// what they computed when they were judged. Calls `between` before each computation.
pub(crate) fn probe(
    decoder: &Decoder,
    adapters: &BTreeMap<String, LoadAdapter>,
    between: &mut dyn FnMut(),
) -> Result<(), EngineError> {
    between();
    greet(decoder)?;
    for (name, own) in adapters {
        let unfit = |reason: String| EngineError::Unfit(format!("adapter {name}: {reason}"));
        own.belongs(decoder).map_err(unfit)?;
        for probe in &own.probes {
            between();
            let same = probe.check(decoder, Some(&own.adapter));
            same.map_err(|e| unfit(e.to_string()))?;
        }
    }
    Ok(())
}

/// Renders a chat and asks for a probability: that reads every weight once.
fn greet(decoder: &Decoder) -> Result<(), ModelError> {
    let prompt = decoder.chat_tokens(&[greeting()], true)?;
    let some = Continuation {
        prompt: &prompt,
        tokens: &prompt[..prompt.len().min(1)],
        adapter: None,
    };
    decoder.log_probabilities(&[some]).map(|_| ())
}

fn greeting() -> Message {
    Message {
        role: "user".to_owned(),
        content: "What is this about?".to_owned(),
    }
}

impl LoadAdapter {
    /// Whether this is the adapter of the release, for this decoder and the prompts that it makes.
    fn belongs(&self, decoder: &Decoder) -> Result<(), String> {
        let (got, named) = (self.adapter.digest(), self.digest);
        if got != named {
            return Err(format!(
                "it is {got}, and the release names {named}: fetch the adapter of the release"
            ));
        }
        let (base, own) = (self.adapter.base(), decoder.identity());
        if (base.weights, &base.architecture) != (own.weights, &own.architecture) {
            return Err(format!(
                "it belongs to a model with weights {}, and this model's are {}: load the model that it was trained on",
                base.weights, own.weights
            ));
        }
        if (base.tokenizer, base.chat_template) != (own.tokenizer, own.chat_template) {
            let reason = "it was trained with another tokenizer or chat template than this model has, and would be sent prompts that it does not know: load the model's files of that revision, or train it anew";
            return Err(reason.to_owned());
        }
        if self.probes.is_empty() {
            let reason = "no probes were recorded when it was judged, so that nothing shows that it computes here what it did there: judge it anew";
            return Err(reason.to_owned());
        }
        Ok(())
    }
}
