//! What `kubectl explain` has to say.

use serde_json::Value;

use crate::definitions::{definitions, installed};

/// The path of everything in a schema that a person can ask about, and whether something is said of it.
fn fields(path: &str, schema: &Value, found: &mut Vec<(String, bool)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let said = property["description"].as_str().unwrap_or_default();
        found.push((path.clone(), !said.trim().is_empty()));
        fields(&path, property, found);
        for inner in ["items", "additionalProperties"] {
            fields(&path, &property[inner], found);
        }
    }
}

#[tokio::test]
async fn kubectl_explain_has_text_for_every_field() {
    let plane = installed().await;
    let mut all = 0;
    for definition in definitions() {
        let name = definition["spec"]["names"]["singular"].as_str().unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut expected = Vec::new();
        fields(name, schema, &mut expected);
        let silent: Vec<_> = expected.iter().filter(|(_, said)| !said).collect();
        assert!(silent.is_empty(), "nothing is said of {silent:?}");
        all += expected.len();

        let explain = |args: &[&str]| {
            let output = plane
                .kubectl()
                .unwrap()
                .arg("explain")
                .args(args)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let wrong = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{args:?}: {wrong}");
            text
        };
        // All names, as the API server publishes them.
        let tree = explain(&[name, "--recursive"]);
        for (path, _) in &expected {
            let (_, field) = path.rsplit_once('.').unwrap();
            assert!(tree.contains(&format!("  {field}\t")), "{path}: {tree}");
        }
        // And texts, level by level at the top.
        for path in [
            name.to_owned(),
            format!("{name}.spec"),
            format!("{name}.status"),
        ] {
            let text = explain(&[&path]);
            assert!(!text.contains("<no description>"), "{text}");
            let documented = expected
                .iter()
                .filter(|(p, _)| p.rsplit_once('.').unwrap().0 == path);
            for (field, _) in documented {
                let (_, field) = field.rsplit_once('.').unwrap();
                assert!(text.contains(&format!("  {field}\t")), "{field}: {text}");
            }
        }
    }
    assert!(all > 100, "{all} fields in all");
}
