//! Objects as they are kept by the ten thousand: as text, without what nobody here reads.

use std::borrow::Cow;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What people's tools leave behind, often larger than the object itself.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object of kind `K`, which is read only when it is unpacked: one that cannot be read stalls nobody.
#[derive(Clone, Debug)]
pub struct Packed<K> {
    metadata: ObjectMeta,
    /// The pipeline that it names.
    pub pipeline: Option<String>,
    /// The text.
    pub json: Box<[u8]>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Packed<K> {
    fn of(mut value: Value) -> serde_json::Result<Self> {
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            let annotations = metadata.get_mut("annotations");
            if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
                annotations.remove(APPLIED);
            }
        }
        let metadata = value.get("metadata").cloned().unwrap_or_default();
        let pipeline = value.pointer("/spec/pipelineRef/name");
        Ok(Self {
            metadata: serde_json::from_value(metadata)?,
            pipeline: pipeline.and_then(Value::as_str).map(str::to_owned),
            json: serde_json::to_vec(&value)?.into(),
            kind: PhantomData,
        })
    }

    /// Of an object that is at hand.
    pub fn from_object(object: &K) -> serde_json::Result<Self>
    where
        K: Serialize,
    {
        Self::of(serde_json::to_value(object)?)
    }
}

/// The object of a text. One that cannot be read is told of.
pub fn unpack<K>(json: &[u8]) -> Option<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let unreadable = |error: &serde_json::Error| {
        let named = serde_json::from_slice::<kube::core::PartialObjectMeta<K>>(json);
        let name = named.map(|n| n.name_any()).unwrap_or_default();
        tracing::error!("{} {name} cannot be read: {error}", K::kind(&()));
    };
    serde_json::from_slice(json).inspect_err(unreadable).ok()
}

impl<'de, K> Deserialize<'de> for Packed<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<K: Resource> Resource for Packed<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &K::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &K::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &K::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &K::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests;
