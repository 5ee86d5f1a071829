//! What the derive cannot say about a schema.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Takes `nullable` from every field.
pub(crate) fn forbid_null(crd: &mut CustomResourceDefinition) {
    roots(crd).for_each(forbid_null_below);
}

/// Gives `status` a default.
pub(crate) fn default_status(crd: &mut CustomResourceDefinition, value: serde_json::Value) {
    for root in roots(crd) {
        if let Some(status) = root.properties.as_mut().and_then(|p| p.get_mut("status")) {
            status.default = Some(JSON(value.clone()));
        }
    }
}

fn roots(crd: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    let versions = crd.spec.versions.iter_mut();
    versions.filter_map(|v| v.schema.as_mut()?.open_api_v3_schema.as_mut())
}

fn forbid_null_below(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        forbid_null_below(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        forbid_null_below(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        forbid_null_below(values);
    }
}
