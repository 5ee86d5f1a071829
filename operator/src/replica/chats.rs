//! What of a release answers chats: its adapters, fetched and checked, and the model that they belong to.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use loci_models::{Adapter, Decoder};
use loci_prompt::Marks;
use loci_recall::{LoadAdapter, LoadService};
use loci_worker::step::AdapterManifest;

use super::Replica;
use super::budget::Need;
use crate::fleet::{Wanted, WantedAdapter, WantedService};

/// What there is to know of a release's adapters, by their names.
pub type Known<'a> = BTreeMap<&'a str, (&'a WantedAdapter, AdapterManifest)>;

/// What answers the chats of a release: a decoder with adapters, a service, or nobody.
#[derive(Default)]
pub struct Chats {
    pub decoder: Option<Arc<Decoder>>,
    pub adapters: BTreeMap<String, LoadAdapter>,
    pub service: Option<LoadService>,
}

impl Replica {
    /// Asks for what is not here yet. Adapters that a service has are not asked for.
    pub(super) async fn adapters<'a>(&self, wanted: &'a Wanted) -> Result<Known<'a>> {
        let mut known = Known::new();
        if wanted.service.is_some() {
            return Ok(known);
        }
        for (name, adapter) in &wanted.adapters {
            let found: Result<AdapterManifest> = self.cache.find(adapter.place()).await;
            let found = found.with_context(|| format!("adapter {name}"))?;
            known.insert(name, (adapter, found));
        }
        Ok(known)
    }

    /// What the adapters of a release and their model take. Keys and values of chats are counted for each release: those of
    /// what answers may not be there now, and take their room when somebody asks.
    pub(super) async fn for_chats(&self, wanted: &Wanted, known: &Known<'_>) -> Result<Need> {
        let Some(base) = wanted.base.as_ref().filter(|_| wanted.service.is_none()) else {
            return Ok(Need::default());
        };
        let mut fetched = 0;
        for (_, manifest) in known.values() {
            fetched += self.cache.fetched(&manifest.tree).await?;
        }
        let model = self.decoders.weight(base).await?;
        let (chats, tokens) = self.most;
        let chat = self.decoders.text_memory(base, tokens).await?;
        let trees = known.values().map(|(_, manifest)| &manifest.tree);
        let chats = chat.saturating_mul(chats as u64);
        Ok(Need::of_adapters(trees, fetched, (model, chats)))
    }

    /// Loads the model and the adapters, or finds out what a service is to be asked by. Recall sees that adapters are the
    /// release's, that they belong to the model, and that they compute what they did when they were judged; or that the
    /// service has all of them.
    pub(super) async fn chats(&self, wanted: &Wanted, known: &Known<'_>) -> Result<Chats> {
        let Some(base) = &wanted.base else {
            return Ok(Chats::default());
        };
        if let Some(service) = &wanted.service {
            let service = self.service(wanted, service, base).await;
            return Ok(Chats {
                service: Some(service.context("the service that answers chats")?),
                ..Chats::default()
            });
        }
        let decoder = self.decoders.get(base).await;
        let decoder = decoder.context("the model of chats")?;
        let mut adapters = BTreeMap::new();
        for (name, (adapter, manifest)) in known {
            let loaded = self.adapter(adapter, manifest, &decoder).await;
            let loaded = loaded.with_context(|| format!("adapter {name}"))?;
            adapters.insert((*name).to_owned(), loaded);
        }
        Ok(Chats {
            decoder: Some(decoder),
            adapters,
            service: None,
        })
    }

    async fn service(
        &self,
        wanted: &Wanted,
        service: &WantedService,
        base: &str,
    ) -> Result<LoadService> {
        let tokenizer = self.decoders.tokenizer(base).await?;
        let adapters = wanted.adapters.iter();
        Ok(LoadService {
            url: service.url.parse()?,
            model: service.model.clone(),
            marks: Marks::of(&tokenizer),
            adapters: adapters
                .map(|(name, a)| (name.clone(), a.adapter))
                .collect(),
        })
    }

    async fn adapter(
        &self,
        wanted: &WantedAdapter,
        manifest: &AdapterManifest,
        decoder: &Arc<Decoder>,
    ) -> Result<LoadAdapter> {
        let directory = self.cache.directory(wanted.place(), manifest).await?;
        let decoder = decoder.clone();
        let read = move || Adapter::read(&directory, &decoder);
        let adapter = tokio::task::spawn_blocking(read).await??;
        Ok(LoadAdapter {
            digest: wanted.adapter,
            adapter: Arc::new(adapter),
            probes: manifest.probes.clone(),
        })
    }
}
