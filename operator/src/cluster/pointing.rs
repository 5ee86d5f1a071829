//! The loop's part of the pointer: which release is to be served, and what was seen.

use std::sync::MutexGuard;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::{Cluster, metadata};
use crate::facts::Fact;
use crate::fleet::config_map;
use crate::pointed::Pointer;
use crate::{MANAGER, lock, pointer};

impl Cluster {
    /// The pointer as it is, not as watches that come and go by themselves tell it: releases may be known that are newer.
    pub(super) async fn reread(&self) -> Result<Pointer> {
        let there = self.api::<ConfigMap>().get_opt(&self.pointer()).await?;
        if let Some(map) = &there {
            self.known.wrote(Fact::of_pointer(map));
        }
        let ours = |p: &Pointer| p.owner == self.pipeline.uid();
        let there = there.as_ref().map(Pointer::read).filter(ours);
        let pointer = there.unwrap_or_default();
        self.written().clone_from(&pointer);
        Ok(pointer)
    }

    /// Writes the pointer's part of this loop, if it differs.
    pub(super) async fn point(&self, pointer: Pointer) -> Result<()> {
        let there = self.known.facts().pointer(&self.pipeline).cloned();
        if there.unwrap_or_default().kept()? == pointer.kept()? {
            return Ok(());
        }
        let map = ConfigMap {
            metadata: metadata(&self.pipeline, &self.pointer()),
            data: Some(pointer.kept()?),
            ..ConfigMap::default()
        };
        let written = pointer::write(&self.api(), MANAGER, self.term, map)
            .await
            .context("cannot write which release is to be served")?;
        self.known.wrote(Fact::of_pointer(&written));
        *self.written() = pointer;
        Ok(())
    }

    fn pointer(&self) -> String {
        config_map(&self.pipeline.name_any())
    }

    pub(super) fn written(&self) -> MutexGuard<'_, Pointer> {
        lock(&self.written)
    }
}
