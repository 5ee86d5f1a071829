//! What of a release answers chats: its adapters, fetched and checked, and the model that they belong to.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use loci_models::{Adapter, Decoder};
use loci_recall::LoadAdapter;
use loci_worker::step::AdapterManifest;

use super::Replica;
use super::budget::Need;
use crate::fleet::{Wanted, WantedAdapter};

/// What there is to know of a release's adapters, by their names.
pub type Known<'a> = BTreeMap<&'a str, (&'a WantedAdapter, AdapterManifest)>;

impl Replica {
    /// Asks for what is not here yet.
    pub(super) async fn adapters<'a>(&self, wanted: &'a Wanted) -> Result<Known<'a>> {
        let mut known = Known::new();
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
        let Some(base) = &wanted.base else {
            return Ok(Need::default());
        };
        let mut fetched = 0;
        for (_, manifest) in known.values() {
            fetched += self.cache.fetched(&manifest.tree).await?;
        }
        let model = self.decoders.weight(base).await?;
        let (chats, tokens) = self.chats;
        let chat = self.decoders.text_memory(base, tokens).await?;
        let trees = known.values().map(|(_, manifest)| &manifest.tree);
        let chats = chat.saturating_mul(chats as u64);
        Ok(Need::of_adapters(trees, fetched, (model, chats)))
    }

    /// Loads the model and the adapters. Recall sees that these are the release's, that they belong to the model, and that
    /// they compute what they did when they were judged.
    pub(super) async fn decoder(
        &self,
        wanted: &Wanted,
        known: &Known<'_>,
    ) -> Result<(Option<Arc<Decoder>>, BTreeMap<String, LoadAdapter>)> {
        let mut adapters = BTreeMap::new();
        let Some(base) = &wanted.base else {
            return Ok((None, adapters));
        };
        let decoder = self
            .decoders
            .get(base)
            .await
            .context("the model of chats")?;
        for (name, (adapter, manifest)) in known {
            let loaded = self.adapter(adapter, manifest, &decoder).await;
            let loaded = loaded.with_context(|| format!("adapter {name}"))?;
            adapters.insert((*name).to_owned(), loaded);
        }
        Ok((Some(decoder), adapters))
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
