//! Writes what serves a pipeline, and which releases it is to load.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::applied::{Applied, STAMP, hash};
use super::objects::{objects, place_of};
use super::task::Task;
use super::wanted::{APPLIED, RELEASES, config_map};
use crate::apply::{MANAGER, api_of, apply};
use crate::cluster::metadata;
use crate::facts::Fact;
use crate::pointer;

/// The pause between two repairs of what somebody else changes again and again.
const REPAIR: Duration = Duration::from_secs(5);
/// The pauses after what was refused.
const REFUSED: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(120);
/// Owns the number of replicas that a pipeline said and says no longer, until somebody else scales.
const SCALED: &str = "loci-operator-scaled";

impl Task {
    /// Applies what is not as it was applied. What is refused is tried again with growing pauses, and alone.
    pub(super) async fn arrange(&mut self) -> Result<()> {
        let objects = objects(&self.pipeline, &self.yard.template);
        let hash = hash(&objects);
        let before = self.begun.take().or_else(|| self.applied.clone());
        let mut applied = before.filter(|a| a.objects == hash).unwrap_or(Applied {
            objects: hash,
            ..Applied::default()
        });
        let arranged = self.apply_all(objects, &mut applied).await;
        let pause = match &arranged {
            Ok(()) => {
                self.releases_due |= self.applied.as_ref() != Some(&applied);
                self.applied = Some(applied);
                self.objects_due = false;
                self.refused = 0;
                REPAIR
            }
            Err(_) => {
                self.begun = Some(applied);
                self.refused += 1;
                (REFUSED * 2_u32.saturating_pow(self.refused - 1)).min(LONGEST)
            }
        };
        self.repair_at = Some(Instant::now() + pause);
        arranged
    }

    async fn apply_all(&self, objects: Vec<Value>, applied: &mut Applied) -> Result<()> {
        let turns = self.yard.writes.clone();
        let _turn = turns.acquire().await?;
        let stamp = format!("{:016x}-{}", applied.objects, self.yard.term);
        for mut object in objects {
            let place = place_of(&object);
            let Some(fields) = applied.fields.get_mut(usize::from(place)) else {
                continue;
            };
            if *fields == 0 || self.known.facts().fields(place) != Some(*fields) {
                object["metadata"]["annotations"] = json!({STAMP: stamp});
                *fields = self.apply(&object).await?;
            }
        }
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
        let (client, namespace) = (&self.yard.client, &self.namespace);
        let (written, fields) = apply(client, namespace, object, &self.known).await?;
        if free && !scaled(&written) {
            let scale = json!({"spec": {"replicas": self.yard.template.replicas}});
            let (params, scale) = (PatchParams::default(), Patch::Merge(&scale));
            let scaled = api.patch_scale(name, &params, &scale).await;
            scaled.with_context(refused)?;
        }
        Ok(fields)
    }
}

/// Whether anybody has ever said how many replicas there are to be: a default has no owner.
fn scaled(deployment: &DynamicObject) -> bool {
    let mut managers = deployment.metadata.managed_fields.iter().flatten();
    managers.any(owns_replicas)
}

fn owns_replicas(entry: &ManagedFieldsEntry) -> bool {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    fields.is_some_and(|f| f.pointer("/f:spec/f:replicas").is_some())
}

/// The number of replicas of a Deployment, where this operator set it.
fn owned_replicas(deployment: &DynamicObject) -> Option<i64> {
    let managers = deployment.metadata.managed_fields.as_ref()?;
    let ours = |entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(MANAGER) && owns_replicas(entry)
    };
    managers.iter().find(ours)?;
    deployment.data.pointer("/spec/replicas")?.as_i64()
}
