//! The schemas of the kinds that are read.

use std::sync::LazyLock;

use kube::core::cel::{CompiledSchema, compile_schema};
use serde_json::{Value, json};

const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Rules are compiled once.
pub(crate) static SCHEMAS: LazyLock<Schemas> = LazyLock::new(Schemas::new);

pub(crate) struct Schemas {
    pub pipeline: Value,
    pub pipeline_rules: CompiledSchema,
    pub config_map: Value,
    pub secret: Value,
}

impl Schemas {
    fn new() -> Self {
        let pipeline = pipeline();
        Self {
            pipeline_rules: compile_schema(&pipeline),
            pipeline,
            config_map: object(
                json!({"data": texts(), "binaryData": texts(), "immutable": {"type": "boolean"}}),
            ),
            secret: object(json!({
                "data": texts(), "stringData": texts(), "type": {"type": "string"}, "immutable": {"type": "boolean"}
            })),
        }
    }
}

/// The schema of the CustomResourceDefinition, with what an API server knows of every object.
fn pipeline() -> Value {
    let mut schema = loci_crds::definitions()
        .into_iter()
        .filter_map(|(_, crd)| serde_json::to_value(crd).ok())
        .find(|crd| crd["spec"]["names"]["kind"] == "MemoryPipeline")
        .map_or(Value::Null, |mut crd| {
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
        });
    let own = schema["properties"].take();
    let mut whole = object(own);
    whole["required"] = json!(["metadata", "spec"]);
    whole["x-kubernetes-validations"] = schema["x-kubernetes-validations"].take();
    whole
}

fn object(own: Value) -> Value {
    let mut properties = json!({"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": metadata()});
    if let (Some(all), Value::Object(own)) = (properties.as_object_mut(), own) {
        all.extend(own);
    }
    json!({"type": "object", "required": ["metadata"], "properties": properties})
}

fn texts() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

/// `ObjectMeta` of Kubernetes.
fn metadata() -> Value {
    let text = || json!({"type": "string"});
    let open = || json!({"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let number = || json!({"type": "integer", "format": "int64"});
    json!({
        "type": "object",
        "description": "the object's name and namespace",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 253, "pattern": SUBDOMAIN, "example": "support", "description": "the object's name"},
            "namespace": {"type": "string", "minLength": 1, "maxLength": 63, "pattern": LABEL, "example": "agents"},
            "labels": texts(), "annotations": texts(),
            "finalizers": {"type": "array", "items": {"type": "string"}},
            "ownerReferences": open(), "managedFields": open(),
            "generateName": text(), "creationTimestamp": text(), "deletionTimestamp": text(),
            "resourceVersion": text(), "selfLink": text(), "uid": text(),
            "generation": number(), "deletionGracePeriodSeconds": number()
        }
    })
}
