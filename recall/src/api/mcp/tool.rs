//! The tool and its schemas, which are those of `/v1/retrieve`.

use std::sync::{Arc, LazyLock};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use super::arguments;
use crate::wire::{RetrieveRequest, RetrieveResponse};

/// The tool's name.
pub(super) const NAME: &str = "retrieve";

const DESCRIPTION: &str = "Finds the passages of this memory's documents that answer a question, by meaning and by words. \
    Each comes with a citation: the document's URI and version, where in it the passage stands, and the release of the index that it comes from.";

/// Where OpenAPI and JSON Schema have what is referred to.
const OPENAPI: &str = "#/components/schemas/";
const DEFINITIONS: &str = "#/$defs/";

/// The tool.
pub(super) fn tool() -> &'static Tool {
    static TOOL: LazyLock<Tool> = LazyLock::new(|| {
        let annotations = ToolAnnotations::new()
            .read_only(true)
            .idempotent(true)
            .open_world(false);
        Tool::new(NAME, DESCRIPTION, Arc::new(input()))
            .with_title("Retrieve passages")
            .with_raw_output_schema(Arc::new(output()))
            .with_annotations(annotations)
    });
    &TOOL
}

/// Arguments: the fields of a request by their names as arguments. That absent is as good as null goes without saying.
fn input() -> JsonObject {
    let mut schema = schema_of::<RetrieveRequest>();
    if let Some(Value::Object(fields)) = schema.get_mut("properties") {
        *fields = std::mem::take(fields)
            .into_iter()
            .map(|(field, schema)| (arguments::argument(&field).to_owned(), present(schema)))
            .collect();
    }
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

fn output() -> JsonObject {
    let mut schema = schema_of::<RetrieveResponse>();
    let mut parts = Vec::new();
    RetrieveResponse::schemas(&mut parts);
    let parts: Map<String, Value> = parts
        .into_iter()
        .map(|(name, part)| (name, json_schema(part)))
        .collect();
    schema.insert("$defs".to_owned(), Value::Object(parts));
    schema
}

fn schema_of<T: PartialSchema>() -> JsonObject {
    match json_schema(T::schema()) {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    }
}

/// OpenAPI 3.1 has the schemas of JSON Schema; only what is referred to stands elsewhere.
fn json_schema(schema: impl serde::Serialize) -> Value {
    // Maps with string keys, strings and numbers: JSON cannot fail on them.
    let mut schema = serde_json::to_value(schema).unwrap_or_default();
    refer_to_definitions(&mut schema);
    schema
}

fn refer_to_definitions(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(to) if name == "$ref" => {
                        *to = to.replace(OPENAPI, DEFINITIONS);
                    }
                    value => refer_to_definitions(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(refer_to_definitions),
        _ => {}
    }
}

/// The schema of a value that is not null.
fn present(mut schema: Value) -> Value {
    let kinds = schema.get_mut("type").filter(|kinds| kinds.is_array());
    if let Some(kinds) = kinds {
        let present = kinds
            .as_array()
            .and_then(|kinds| kinds.iter().find(|kind| *kind != "null").cloned());
        if let Some(present) = present {
            *kinds = present;
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn arguments_are_described_and_nothing_else() {
        let schema = Value::Object(input());
        let names = |value: &Value| -> BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        let known = ["query", "topK", "filter", "pipeline", "explain"];
        assert_eq!(
            names(&schema["properties"]),
            known.map(str::to_owned).into()
        );
        assert_eq!(schema["type"], "object");
        assert_eq!(schema["required"], json!(["query"]));
        assert_eq!(schema["additionalProperties"], false);
        let k = &schema["properties"]["topK"];
        assert_eq!(
            (&k["type"], &k["minimum"], &k["maximum"]),
            (&json!("integer"), &json!(1), &json!(1000))
        );
        assert_eq!(schema["properties"]["filter"]["type"], "object");
        for (name, argument) in schema["properties"].as_object().unwrap() {
            assert!(argument["description"].is_string(), "{name}");
        }
    }

    #[test]
    fn all_that_the_output_refers_to_is_there() {
        fn referred(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                    match value.as_str().filter(|_| name == "$ref") {
                        Some(to) => drop(found.insert(to.to_owned())),
                        None => referred(value, found),
                    }
                }),
                Value::Array(values) => values.iter().for_each(|value| referred(value, found)),
                _ => {}
            }
        }
        let schema = Value::Object(output());
        assert_eq!(schema["type"], "object");
        let mut found = BTreeSet::new();
        referred(&schema, &mut found);
        assert!(found.contains("#/$defs/Citation"), "{found:?}");
        for to in found {
            let part = schema.pointer(to.trim_start_matches('#'));
            assert!(part.is_some_and(Value::is_object), "{to}");
        }
    }
}
