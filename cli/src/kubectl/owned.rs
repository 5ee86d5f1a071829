//! Fields of a pipeline that a person sets beside what Git says, by server-side apply.
//!
//! Each has a field manager of its own: an apply takes back what its manager applied before. No manager's name begins
//! with `kubectl`: Flux takes the fields of such managers for leftovers of `kubectl apply` and removes them.

use anyhow::{Result, bail};
use kube::api::{Patch, PatchParams};
use kube::{Resource, ResourceExt};
use loci_crds::MemoryPipeline;
use serde_json::{Value, json};

use super::cluster::Cluster;

/// A field, and who applies it.
pub struct Owned {
    manager: &'static str,
    path: &'static [&'static str],
}

/// The release that a person went back to.
pub const ROLLBACK: Owned = Owned {
    manager: "loci-rollback",
    path: &["metadata", "annotations", loci_operator::ROLLBACK],
};
/// The runs that may delete.
pub const APPROVE: Owned = Owned {
    manager: "loci-approve",
    path: &["metadata", "annotations", loci_operator::APPROVE],
};
/// The adapters that start no runs.
pub const SUSPEND_ADAPTERS: Owned = Owned {
    manager: "loci-suspend-adapters",
    path: &["metadata", "annotations", loci_operator::SUSPEND],
};
/// Whether runs are started.
pub const SUSPEND: Owned = Owned {
    manager: "loci-suspend",
    path: &["spec", "suspend"],
};

impl Owned {
    /// An object with nothing but this field.
    fn with(&self, value: Value) -> Value {
        let parts = self.path.iter().rev();
        parts.fold(value, |below, part| json!({ *part: below }))
    }

    /// The field's value, when it has one.
    fn of(&self, pipeline: &MemoryPipeline) -> Result<Option<Value>> {
        let object = serde_json::to_value(pipeline)?;
        let found = self.path.iter().try_fold(&object, |at, part| at.get(part));
        Ok(found.cloned())
    }

    /// Others that apply the field, again and again: what they say stands.
    fn appliers<'a>(&'a self, pipeline: &'a MemoryPipeline) -> impl Iterator<Item = &'a str> {
        let others = pipeline.managed_fields().iter().filter(|m| {
            m.operation.as_deref() == Some("Apply") && m.manager.as_deref() != Some(self.manager)
        });
        let applies = others.filter(|m| {
            let fields = m.fields_v1.as_ref().map(|f| &f.0);
            let field = |at: &'a Value, part: &&str| at.get(format!("f:{part}"));
            let found = fields.and_then(|f| self.path.iter().try_fold(f, field));
            found.is_some()
        });
        applies.filter_map(|m| m.manager.as_deref())
    }

    fn refuse_others(&self, pipeline: &MemoryPipeline) -> Result<()> {
        let Some(other) = self.appliers(pipeline).next() else {
            return Ok(());
        };
        let field = self.path.join(".");
        bail!(
            "{field} of {} is applied by {other}, which would set it again: change it where that comes from",
            pipeline.name_any()
        )
    }

    /// Sets the field.
    pub async fn set(
        &self,
        cluster: &Cluster,
        pipeline: &MemoryPipeline,
        value: Value,
    ) -> Result<()> {
        self.refuse_others(pipeline)?;
        self.apply(cluster, pipeline, self.with(value)).await?;
        Ok(())
    }

    /// Takes the field back, whoever set it by hand.
    pub async fn unset(&self, cluster: &Cluster, pipeline: &MemoryPipeline) -> Result<()> {
        let left = self.apply(cluster, pipeline, json!({})).await?;
        if self.of(&left)?.is_none() {
            return Ok(());
        }
        self.refuse_others(&left)?;
        let (api, name) = (cluster.api::<MemoryPipeline>(), pipeline.name_any());
        let params = PatchParams {
            field_manager: Some(self.manager.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(self.with(Value::Null));
        let patched = api.patch(&name, &params, &patch).await;
        patched.map_err(|e| cluster.explain(e))?;
        Ok(())
    }

    async fn apply(
        &self,
        cluster: &Cluster,
        pipeline: &MemoryPipeline,
        fields: Value,
    ) -> Result<MemoryPipeline> {
        let name = pipeline.name_any();
        let mut object = fields;
        object["apiVersion"] = json!(MemoryPipeline::api_version(&()));
        object["kind"] = json!(MemoryPipeline::kind(&()));
        object["metadata"]["name"] = json!(name);
        // Of this very pipeline, not of one that was made anew meanwhile.
        object["metadata"]["uid"] = json!(pipeline.uid());
        let params = PatchParams::apply(self.manager).force();
        let api = cluster.api::<MemoryPipeline>();
        let applied = api.patch(&name, &params, &Patch::Apply(&object)).await;
        applied.map_err(|e| cluster.explain(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flux_leaves_alone_what_people_set() {
        for owned in [ROLLBACK, APPROVE, SUSPEND, SUSPEND_ADAPTERS] {
            assert!(!owned.manager.starts_with("kubectl"), "{}", owned.manager);
        }
    }

    #[test]
    fn a_field_stands_where_it_belongs() {
        let key = loci_operator::ROLLBACK;
        assert_eq!(
            ROLLBACK.with(json!("3")),
            json!({"metadata": {"annotations": {key: "3"}}})
        );
        assert_eq!(
            SUSPEND.with(json!(true)),
            json!({"spec": {"suspend": true}})
        );
    }
}
