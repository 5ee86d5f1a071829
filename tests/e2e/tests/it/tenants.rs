//! Two namespaces with a pipeline each, of the same name.

use std::sync::Arc;

use serde_json::Value;

use crate::cluster::{AGENTS, RIVALS, SYSTEM, field, try_kubectl};
use crate::objects::{self, CONFIG_MAP};
use crate::story::{Story, blocking, rivals, rolled_out};

/// Where the release that serves is to be had, and the key to it.
async fn revision(story: &Story, namespace: &str) -> (String, String) {
    let map = objects::get(&story.client, namespace, CONFIG_MAP, "shop-serving")
        .await
        .unwrap();
    let releases: Value = serde_json::from_str(map["data"]["releases"].as_str().unwrap()).unwrap();
    let desired = &releases[map["data"]["desired"].as_str().unwrap()];
    let text = |key: &str| desired[key].as_str().unwrap().to_owned();
    // The test is on the node, which has no cluster DNS.
    let (_, path) = text("url")
        .split_once("/v1/")
        .map(|(h, p)| (h.to_owned(), p.to_owned()))
        .unwrap();
    let address = field("service/loci-artifacts", SYSTEM, "{.spec.clusterIP}");
    (format!("http://{address}:7710/v1/{path}"), text("key"))
}

pub async fn none_reads_what_is_anothers(story: Arc<Story>) {
    blocking(|| {
        rivals("The rival never opens.");
        rolled_out(RIVALS, "deployment/shop-recall");
    });
    let (ours, our_key) = revision(&story, AGENTS).await;
    let (theirs, their_key) = revision(&story, RIVALS).await;
    assert_ne!((&ours, &our_key), (&theirs, &their_key));
    let code = async |url: &str, key: &str| {
        story
            .asking
            .get(url)
            .bearer_auth(key)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(
        (code(&ours, &our_key).await, code(&theirs, &their_key).await),
        (200, 200)
    );
    assert_eq!(
        (code(&theirs, &our_key).await, code(&ours, &their_key).await),
        (403, 403)
    );
    let manifest = story
        .asking
        .get(&theirs)
        .bearer_auth(&their_key)
        .send()
        .await
        .unwrap();
    let manifest: Value = manifest.json().await.unwrap();
    let tree = manifest["body"]["tree"].as_object().unwrap();
    let ours_tree = story
        .asking
        .get(&ours)
        .bearer_auth(&our_key)
        .send()
        .await
        .unwrap();
    let ours_tree = ours_tree.text().await.unwrap();
    let digests = tree.values().filter_map(|e| e["digest"].as_str());
    // Files are shared where they are the same.
    let private: Vec<&str> = digests.filter(|d| !ours_tree.contains(*d)).collect();
    assert!(!private.is_empty());
    for digest in private {
        assert_eq!(
            code(&format!("{theirs}/files/{digest}"), &their_key).await,
            200
        );
        assert_eq!(
            code(&format!("{theirs}/files/{digest}"), &our_key).await,
            403
        );
        assert_eq!(code(&format!("{ours}/files/{digest}"), &our_key).await, 404);
    }
    blocking(|| {
        for (what, namespace) in [
            ("get configmaps/shop-serving", RIVALS),
            ("list configmaps", RIVALS),
            ("list configmaps", AGENTS),
            ("get configmaps/docs", AGENTS),
            ("get secrets", AGENTS),
            ("list pods", AGENTS),
            ("list memorypipelines.loci.dev", AGENTS),
        ] {
            let who = format!("--as=system:serviceaccount:{AGENTS}:shop-recall");
            let words: Vec<&str> = what.split(' ').collect();
            let may =
                try_kubectl(&[&["-n", namespace, "auth", "can-i", &who][..], &words].concat());
            assert!(may.is_err(), "a replica may {what} in {namespace}");
        }
    });
}
