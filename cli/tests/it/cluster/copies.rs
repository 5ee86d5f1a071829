//! Copies of a pipeline, as the API server would hold them had each been built.

use std::collections::HashMap;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Cluster;

/// Its name is in the names and messages of all that belongs to it.
pub(super) const PROTOTYPE: &str = "prototype";
/// Pipelines of one namespace.
const TENANT: usize = 100;
/// Copies made at the same time.
const HANDS: usize = 24;

/// Resource versions by namespace and name.
type Versions = HashMap<(String, String), Option<String>>;

/// What is copied.
pub(super) struct Prototype<'a> {
    pub cluster: &'a Cluster,
    pub pipeline: MemoryPipeline,
    pub runs: Vec<MemoryRun>,
    pub releases: Vec<MemoryRelease>,
    pub pointer: ConfigMap,
    pub data: Vec<ConfigMap>,
}

impl Prototype<'_> {
    /// Makes so many copies; gives their namespaces and names.
    pub(super) async fn copies(&self, number: usize) -> Vec<(String, String)> {
        let client = &self.cluster.client;
        let namespaces: Vec<String> = (0..=number / TENANT)
            .map(|n| format!("{}-{n}", self.cluster.namespace))
            .collect();
        let mut versions = Versions::new();
        for namespace in &namespaces {
            let object = json!({"metadata": {"name": namespace}});
            let object: Namespace = serde_json::from_value(object).unwrap();
            let all: Api<Namespace> = Api::all(client.clone());
            all.create(&PostParams::default(), &object).await.unwrap();
            // No controllers run that would make it.
            let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
            accounts
                .create(&PostParams::default(), &account)
                .await
                .unwrap();
            for map in &self.data {
                let copy = self.copy(map, namespace, &map.name_any(), None).await;
                versions.insert((namespace.clone(), map.name_any()), copy.resource_version());
            }
        }
        let versions = &versions;
        let copies = (0..number).map(|n| {
            let namespace = namespaces[n / TENANT].clone();
            async move {
                let name = format!("copy-{n}");
                self.one(&namespace, &name, versions).await;
                (namespace, name)
            }
        });
        futures::stream::iter(copies)
            .buffer_unordered(HANDS)
            .collect()
            .await
    }

    async fn one(&self, namespace: &str, name: &str, versions: &Versions) {
        let pipeline = self.copy(&self.pipeline, namespace, name, None).await;
        let owner = pipeline.controller_owner_ref(&());
        let owner = Some(serde_json::to_value(owner).unwrap());
        for release in &self.releases {
            self.copy(release, namespace, name, owner.clone()).await;
        }
        for run in &self.runs {
            self.copy(run, namespace, name, owner.clone()).await;
        }
        let pointer = self.pointer_to(namespace, versions);
        self.copy(&pointer, namespace, name, owner).await;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{PROTOTYPE}-recall-1"),
                "labels": {"app.kubernetes.io/component": "recall", "loci.dev/pipeline": PROTOTYPE},
            },
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "recall", "image": "loci"}]},
            // Nobody answers there.
            "status": {
                "podIP": "127.0.0.9", "podIPs": [{"ip": "127.0.0.9"}], "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.copy(&pod, namespace, name, None).await;
    }

    /// What was seen of the spec's ConfigMaps is what is seen of their copies. What was applied is another's.
    fn pointer_to(&self, namespace: &str, versions: &Versions) -> ConfigMap {
        let mut pointer = self.pointer.clone();
        let data = pointer.data.as_mut().unwrap();
        data.remove("applied").unwrap();
        let mut references: Value = serde_json::from_str(&data["references"]).unwrap();
        for (name, seen) in references["maps"].as_object_mut().unwrap() {
            let version = &versions[&(namespace.to_owned(), name.clone())];
            *seen = version.as_ref().unwrap().parse::<u64>().unwrap().into();
        }
        data.insert("references".to_owned(), references.to_string());
        pointer
    }

    /// Creates an object as that of another pipeline, and its status.
    async fn copy<K>(&self, object: &K, namespace: &str, name: &str, owner: Option<Value>) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let text = serde_json::to_string(object).unwrap();
        let mut copy: Value = serde_json::from_str(&text.replace(PROTOTYPE, name)).unwrap();
        copy["metadata"] = json!({
            "name": copy["metadata"]["name"],
            "labels": copy["metadata"]["labels"],
            "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
        });
        let api: Api<K> = Api::namespaced(self.cluster.client.clone(), namespace);
        let params = PostParams {
            field_manager: Some("loci-operator".to_owned()),
            ..PostParams::default()
        };
        let typed = serde_json::from_value(copy.clone()).unwrap();
        let created = api.create(&params, &typed).await.unwrap();
        if copy["status"].is_null() {
            return created;
        }
        let status = json!({"status": copy["status"]});
        let (params, status) = (PatchParams::default(), Patch::Merge(&status));
        api.patch_status(&created.name_any(), &params, &status)
            .await
            .unwrap()
    }
}
