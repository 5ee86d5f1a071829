use serde_json::{Map, Value};

use super::Metadata;

/// Flattens a mapping: `{a: {b: 1}}` is `a.b`; a list gives its key several values. Fractions become
/// text, for they do not compare exactly; nulls are left out.
pub(super) fn flatten(mapping: &Map<String, Value>) -> Metadata {
    let mut metadata = Metadata::new();
    for (key, value) in mapping {
        add(&mut metadata, key, value);
    }
    metadata
}

fn add(metadata: &mut Metadata, key: &str, value: &Value) {
    let scalar = match value {
        Value::Null => return,
        Value::Array(values) => return values.iter().for_each(|value| add(metadata, key, value)),
        Value::Object(mapping) => {
            return mapping
                .iter()
                .for_each(|(inner, value)| add(metadata, &format!("{key}.{inner}"), value));
        }
        Value::Number(number) if !number.is_i64() => Value::String(number.to_string()),
        other => other.clone(),
    };
    metadata.entry(key.to_owned()).or_default().push(scalar);
}

/// Takes `title` out of the metadata when it is text.
pub(super) fn take_title(metadata: &mut Metadata) -> Option<String> {
    let title = metadata.get("title")?.first()?.as_str()?.trim().to_owned();
    metadata.remove("title");
    (!title.is_empty()).then_some(title)
}
