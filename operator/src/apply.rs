//! Server-side apply of what the operator makes for pipelines.

use anyhow::{Context, Result};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use crate::facts::{Body, Fact, Kind, Known};
use crate::fleet::{fields, place_of};

/// Owns the releases in a pipeline's ConfigMap, and the objects that serve and fetch.
pub const MANAGER: &str = "loci-operator-serving";

/// The API of an object's kind.
pub fn api_of(client: &Client, namespace: &str, object: &Value) -> Api<DynamicObject> {
    let of = |key: &str| object[key].as_str().unwrap_or_default();
    let (group, version) = of("apiVersion")
        .split_once('/')
        .unwrap_or(("", of("apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, of("kind")));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Brings an object to what it should be, and notes it; gives it as it is then, and the fields that are the operator's.
pub async fn apply(
    client: &Client,
    namespace: &str,
    object: &Value,
    known: &Known,
) -> Result<(DynamicObject, u64)> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let params = PatchParams::apply(MANAGER).force();
    let patch = Patch::Apply(object);
    let written = api_of(client, namespace, object)
        .patch(name, &params, &patch)
        .await;
    let refused = || format!("{} {name}", object["kind"].as_str().unwrap_or_default());
    let written = written.with_context(refused)?;
    let fields = fields(&written.metadata);
    let kind = Kind::Serving(place_of(object));
    known.wrote(Fact::of(kind, &written, Body::Fields(fields)));
    Ok((written, fields))
}
