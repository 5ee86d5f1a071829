//! Objects of the API server, read and written without a process for each: what the test itself computes is taken from
//! the same two cores.

use futures::TryStreamExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::cluster::state;

/// `apiVersion` and `kind`.
pub type Kind = (&'static str, &'static str);

pub const PIPELINE: Kind = ("loci.dev/v1alpha1", "MemoryPipeline");
pub const RUN: Kind = ("loci.dev/v1alpha1", "MemoryRun");
pub const RELEASE: Kind = ("loci.dev/v1alpha1", "MemoryRelease");
pub const CONFIG_MAP: Kind = ("v1", "ConfigMap");
pub const POD: Kind = ("v1", "Pod");

/// The administrator's.
pub async fn client() -> Client {
    let file = Kubeconfig::read_from(state().unwrap().join("admin.kubeconfig")).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

fn api(client: &Client, namespace: &str, (version, kind): (&str, &str)) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// An object; none when it is not there, or nobody can be asked.
pub async fn get(client: &Client, namespace: &str, kind: Kind, name: &str) -> Option<Value> {
    let found = api(client, namespace, kind).get_opt(name).await.ok()??;
    Some(json!(found))
}

/// All of a kind; none when nobody can be asked.
pub async fn list(client: &Client, namespace: &str, kind: Kind) -> Vec<Value> {
    let found = api(client, namespace, kind)
        .list(&ListParams::default())
        .await;
    found
        .map(|all| all.iter().map(|o| json!(o)).collect())
        .unwrap_or_default()
}

/// Looks from now on at an object until it is gone; then, how it was last.
pub fn last(client: &Client, namespace: &str, kind: Kind, name: &str) -> JoinHandle<Option<Value>> {
    let api = api(client, namespace, kind);
    let one = WatchParams::default().fields(&format!("metadata.name={name}"));
    tokio::spawn(async move {
        let mut events = std::pin::pin!(api.watch(&one, "0").await.ok()?);
        while let Some(event) = events.try_next().await.ok()? {
            if let WatchEvent::Deleted(object) = event {
                return Some(json!(object));
            }
        }
        None
    })
}

/// Server-side apply, again and again while nobody can be asked.
pub async fn apply(client: &Client, object: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let metadata = &object["metadata"];
    let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
    let params = PatchParams::apply("a-person").force();
    let api = api(client, &namespace, (&version, &kind));
    for _ in 0..100 {
        match api.patch(&name, &params, &Patch::Apply(object)).await {
            Err(kube::Error::Api(status)) => panic!("{kind} {name}: {status:?}"),
            Ok(_) => return,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
        }
    }
    panic!("{kind} {name}: the API server does not answer");
}
