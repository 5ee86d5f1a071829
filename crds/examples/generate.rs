//! Writes the CustomResourceDefinitions to `crds/yaml`.

use std::error::Error;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder())?;
    for (name, definition) in loci_crds::definitions() {
        std::fs::write(
            folder().join(name),
            yaml(serde_json::to_value(definition)?)?,
        )?;
    }
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("yaml")
}

fn yaml(mut definition: Value) -> Result<String, Box<dyn Error>> {
    whole_numbers(&mut definition);
    Ok(serde_saphyr::to_string(&definition)?)
}

/// The Rust types hold `minimum` and `maximum` as floats: 32.0 is written as 32.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(n) => {
            if let Some(f) = n
                .as_f64()
                .filter(|f| n.is_f64() && f.fract() == 0.0 && f.abs() < 9e15)
            {
                *n = (f as i64).into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: &str = "cargo run --release -p loci-crds --example generate";

    #[test]
    fn yaml_has_not_drifted() {
        let mut names = Vec::new();
        for (name, definition) in loci_crds::definitions() {
            let mut expected = serde_json::to_value(definition).unwrap();
            whole_numbers(&mut expected);
            let text = std::fs::read_to_string(folder().join(name))
                .unwrap_or_else(|e| panic!("{name}: {e}: run {COMMAND}"));
            let parsed: Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(
                parsed, expected,
                "{name} is not what the types say: run {COMMAND}"
            );
            assert_eq!(
                text,
                yaml(expected).unwrap(),
                "{name} is not written as generated: run {COMMAND}"
            );
            names.push(name);
        }
        let mut found: Vec<_> = std::fs::read_dir(folder())
            .unwrap()
            .map(|f| f.unwrap().file_name())
            .collect();
        found.sort();
        assert_eq!(
            found, names,
            "a file in crds/yaml is of no definition: delete it"
        );
    }
}
