//! Writes what serves a pipeline, and which releases it is to load.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::applied::{fields, hash};
use super::objects::{objects, place_of};
use super::task::Task;
use super::wanted::{APPLIED, RELEASES, config_map};
use crate::apply::{MANAGER, api_of, apply};
use crate::cluster::metadata;
use crate::facts::{Body, Fact, Kind};
use crate::pointer;

/// The pause between two repairs of what somebody else changes again and again.
const REPAIR: Duration = Duration::from_secs(5);
/// Owns the number of replicas that a pipeline said and says no longer, until somebody else scales.
const SCALED: &str = "loci-operator-scaled";

impl Task {
    /// Applies what is not as it was applied.
    pub(super) async fn arrange(&mut self) -> Result<()> {
        let objects = objects(&self.pipeline, &self.yard.template);
        let mut applied = self.applied.clone().unwrap_or_default();
        let same = std::mem::replace(&mut applied.objects, hash(&objects)) == applied.objects;
        let turns = self.yard.writes.clone();
        let _turn = turns.acquire().await?;
        for object in &objects {
            let place = place_of(object);
            let Some(fields) = applied.fields.get_mut(usize::from(place)) else {
                continue;
            };
            if !same || self.known.facts().fields(place) != Some(*fields) {
                *fields = self.apply(object).await?;
            }
        }
        self.releases_due |= self.applied.as_ref() != Some(&applied);
        self.applied = Some(applied);
        self.objects_due = false;
        self.repair_at = Some(Instant::now() + REPAIR);
        Ok(())
    }

    /// Writes which releases to load.
    pub(super) async fn point(&mut self) -> Result<()> {
        let releases = serde_json::to_string(&self.wanted)?;
        let applied = self.applied.as_ref().map(ToString::to_string);
        let parts = [(RELEASES, Some(releases)), (APPLIED, applied)];
        let parts = parts
            .into_iter()
            .filter_map(|(k, v)| Some((k.to_owned(), v?)));
        let map = ConfigMap {
            metadata: metadata(&self.pipeline, &config_map(&self.name)),
            data: Some(parts.collect()),
            ..ConfigMap::default()
        };
        let api = Api::<ConfigMap>::namespaced(self.yard.client.clone(), &self.namespace);
        let written = pointer::write(&api, MANAGER, self.yard.term, map).await;
        let written = written.context("which releases to load")?;
        self.known.wrote(Fact::of_pointer(&written));
        self.releases_due = false;
        Ok(())
    }

    /// Applies one object; gives the fields that are the operator's then.
    async fn apply(&self, object: &Value) -> Result<u64> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let api = api_of(&self.yard.client, &self.namespace, object);
        let refused = || format!("{kind} {name}");
        let free = kind == "Deployment" && object["spec"]["replicas"].is_null();
        let there = match free {
            true => api.get_opt(name).await.with_context(refused)?,
            false => None,
        };
        if let Some(kept) = there.as_ref().and_then(owned_replicas) {
            // Taken over, lest the API server fall back to one when nobody owns it.
            let keep = json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": name}, "spec": {"replicas": kept},
            });
            let params = PatchParams::apply(SCALED).force();
            let kept = api.patch(name, &params, &Patch::Apply(&keep)).await;
            kept.with_context(refused)?;
        }
        let written = apply(&self.yard.client, &self.namespace, object).await?;
        let fields = fields(&written.metadata);
        let serving = Kind::Serving(place_of(object));
        self.known
            .wrote(Fact::of(serving, &written, Body::Fields(fields)));
        if free && there.is_none() {
            let scale = json!({"spec": {"replicas": self.yard.template.replicas}});
            let (params, scale) = (PatchParams::default(), Patch::Merge(&scale));
            let scaled = api.patch_scale(name, &params, &scale).await;
            scaled.with_context(refused)?;
        }
        Ok(fields)
    }
}

/// The number of replicas of a Deployment, where this operator set it.
fn owned_replicas(deployment: &DynamicObject) -> Option<i64> {
    let managers = deployment.metadata.managed_fields.as_ref()?;
    let ours = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        entry.manager.as_deref() == Some(MANAGER)
            && fields.is_some_and(|f| f.pointer("/f:spec/f:replicas").is_some())
    };
    managers.iter().find(ours)?;
    deployment.data.pointer("/spec/replicas")?.as_i64()
}
