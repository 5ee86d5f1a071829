//! Schemas are described, bounded and strict.

use kube::core::cel::{compile_schema, estimate_rule_cost};
use serde_json::json;

use crate::{each_schema, schemas, walk};

#[test]
fn every_field_is_described() {
    each_schema(|path, schema| {
        let described = schema["description"]
            .as_str()
            .is_some_and(|d| !d.trim().is_empty());
        assert!(
            described || path.ends_with("[]") && schema["type"] != "object",
            "{path} has no description: write a doc comment"
        );
    });
}

#[test]
fn there_are_no_floats_and_nothing_is_nullable() {
    each_schema(|path, schema| {
        assert_ne!(
            schema["type"], "number",
            "{path}: the API has no floats: use a decimal string"
        );
        if schema["type"] == "integer" {
            assert!(
                ["int32", "int64"].contains(&schema["format"].as_str().unwrap_or("")),
                "{path}: {}",
                schema["format"]
            );
        }
        assert!(
            schema.get("nullable").is_none(),
            "{path} is nullable: has() would be true for a null"
        );
    });
}

#[test]
fn all_that_rules_can_iterate_is_bounded() {
    for (file, schema) in schemas() {
        walk(
            file,
            &schema["properties"]["spec"],
            &mut |path, schema| match schema["type"].as_str() {
                Some("array") => assert!(schema["maxItems"].is_u64(), "{path} has no maxItems"),
                Some("string") => assert!(
                    schema["maxLength"].is_u64()
                        || schema["enum"].is_array()
                        || schema["format"] == "date-time",
                    "{path} has no maxLength"
                ),
                Some("object") => assert!(
                    !schema["additionalProperties"].is_object(),
                    "{path} is a map: bound it by maxProperties"
                ),
                _ => {}
            },
        );
    }
}

#[test]
fn unknown_fields_are_kept_only_where_a_rule_refuses_the_field() {
    let mut refused = 0;
    each_schema(|path, schema| {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let open = [property, &property["items"]]
                .iter()
                .any(|s| s["x-kubernetes-preserve-unknown-fields"] == true);
            if open {
                let rules = schema["x-kubernetes-validations"].to_string();
                assert!(
                    rules.contains(&format!("!has(self.{name})")),
                    "{path}.{name} takes anything, and no rule refuses it"
                );
                let required = schema["required"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|r| r == name);
                assert!(!required, "{path}.{name} is required and refused");
                refused += 1;
            }
        }
    });
    assert_eq!(refused, 6, "fields that are named and refused");
}

#[test]
fn rules_compile_and_are_cheap() {
    each_schema(|path, schema| {
        let compiled = compile_schema(schema);
        assert!(
            !compiled.has_errors(),
            "{path}: {:?}",
            compiled.compilation_errors()
        );
        for rule in schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let warnings = estimate_rule_cost(rule["rule"].as_str().unwrap(), &compiled);
            assert!(warnings.is_empty(), "{path}: {warnings:?}");
        }
    });
}

#[test]
fn a_pipeline_nobody_looked_at_says_so() {
    let (_, pipelines) = &schemas()[0];
    assert_eq!(
        pipelines["properties"]["status"]["default"],
        json!({"observedGeneration": -1})
    );
}
