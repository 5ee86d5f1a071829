//! What of a release answers chats: a decoder that it shares with others, and adapters of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use loci_models::{Adapter, Continuation, Decoder, Message, ModelError};
use loci_prompt::Marks;

use crate::engine::EngineError;
use crate::generate::Generator;
use crate::model::{ModelName, alias, content, pinned};
use crate::release::LoadAdapter;

/// The decoder of a release, ready to answer, and its adapters by name.
pub(crate) struct Chat {
    pub(crate) generator: Arc<Generator>,
    /// What its tokenizer takes for more than text.
    pub(crate) marks: Marks,
    adapters: BTreeMap<String, Arc<Adapter>>,
}

impl Chat {
    pub(crate) fn new(generator: Arc<Generator>, adapters: BTreeMap<String, LoadAdapter>) -> Self {
        let adapters = adapters.into_iter();
        Self {
            marks: Marks::of(generator.decoder().tokenizer()),
            generator,
            adapters: adapters.map(|(name, own)| (name, own.adapter)).collect(),
        }
    }

    /// The adapter that a name of a model means, none for the decoder alone, and the name that means it for ever.
    pub(crate) fn adapter(
        &self,
        pipeline: &str,
        name: &ModelName<'_>,
    ) -> Result<(Option<Arc<Adapter>>, String), String> {
        let Some(wanted) = name.adapter else {
            return Ok((None, pipeline.to_owned()));
        };
        let Some(adapter) = self.adapters.get(wanted) else {
            return Err(self.unknown(pipeline, wanted));
        };
        let (own, pinned) = (
            content(adapter.digest()),
            pinned(pipeline, wanted, adapter.digest()),
        );
        match name.content {
            Some(asked) if asked != own => Err(format!(
                "{}@{} does not serve, {pinned} does: ask for {}, whichever serves",
                alias(pipeline, wanted),
                asked.chars().take(80).collect::<String>(),
                alias(pipeline, wanted),
            )),
            _ => Ok((Some(adapter.clone()), pinned)),
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
        let names = |(name, adapter): (&String, &Arc<Adapter>)| {
            let pinned = pinned(pipeline, name, adapter.digest());
            (alias(pipeline, name), pinned)
        };
        adapters.map(names).collect()
    }
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
    let greeting = Message {
        role: "user".to_owned(),
        content: "What is this about?".to_owned(),
    };
    let prompt = decoder.chat_tokens(&[greeting], true)?;
    let some = Continuation {
        prompt: &prompt,
        tokens: &prompt[..prompt.len().min(1)],
        adapter: None,
    };
    decoder.log_probabilities(&[some]).map(|_| ())
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
