//! Two namespaces with a pipeline each, of the same name.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, Event};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bus::{self, Login};
use crate::cluster::{AGENTS, RIVALS, SYSTEM, field, try_kubectl};
use crate::node::{pods, signal};
use crate::objects::{self, CONFIG_MAP};
use crate::story::{Story, blocking, documents, rivals, rolled_out};

/// An address of the operator, as the test reaches it: it is on the node, which has no cluster DNS.
fn reachable(url: &str) -> String {
    let (_, path) = url.split_once("/v1/").unwrap();
    let address = field("service/loci-artifacts", SYSTEM, "{.spec.clusterIP}");
    format!("http://{address}:7710/v1/{path}")
}

/// Where the release that serves is to be had, and the key to it.
async fn revision(story: &Story, namespace: &str) -> (String, String) {
    let map = objects::get(&story.client, namespace, CONFIG_MAP, "shop-serving")
        .await
        .unwrap();
    let releases: Value = serde_json::from_str(map["data"]["releases"].as_str().unwrap()).unwrap();
    let desired = &releases[map["data"]["desired"].as_str().unwrap()];
    let text = |key: &str| desired[key].as_str().unwrap().to_owned();
    (reachable(&text("url")), text("key"))
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

/// A fetcher's work as it was published: it waits for a fetcher that stands still.
async fn asked_to_fetch(story: &Story, namespace: &str) -> Value {
    let fetchers = blocking(|| pods(namespace, "fetcher"));
    assert!(blocking(|| signal(&fetchers, Signal::STOP)) > 0);
    objects::apply(&story.client, &documents(namespace, &story.news())).await;
    let (subject, mut found) = (
        format!("job.v1.fetch-{namespace}.*.{namespace}.shop.*"),
        None,
    );
    story
        .until("a fetcher is asked", async || {
            found = bus::job(&subject).await;
            found.is_some()
        })
        .await;
    blocking(|| signal(&fetchers, Signal::CONT));
    found.unwrap()
}

/// What a fetcher of a namespace knows: where it puts what it reads, and how it opens the snapshot before.
struct Known {
    item: String,
    url: String,
    key: String,
    snapshot: String,
    snapshot_key: String,
}

impl Known {
    async fn of(story: &Story, namespace: &str) -> Self {
        let job = asked_to_fetch(story, namespace).await;
        let payload = &job["payload"];
        let (fetch, upload) = (&payload["fetch"], &payload["upload"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let known = Self {
            item: text(&job["id"]),
            url: reachable(&text(&upload["url"])),
            key: text(&upload["key"]),
            // Of a run, and of a look between runs.
            snapshot: text(&fetch["previous"]) + &text(&fetch["basis"]),
            snapshot_key: text(&upload["snapshotKey"]),
        };
        let told = [
            &known.item,
            &known.key,
            &known.snapshot,
            &known.snapshot_key,
        ];
        assert!(
            told.iter().all(|t| !t.is_empty()),
            "a {} item",
            fetch["kind"]
        );
        known
    }

    /// The answer's code, by one's own keys.
    async fn ask(&self, story: &Story, method: Method, url: &str) -> u16 {
        let request = story.asking.request(method, url).bearer_auth(&self.key);
        let request = request.header("loci-snapshot-key", &self.snapshot_key);
        request.body("{}").send().await.unwrap().status().as_u16()
    }
}

pub async fn no_fetcher_reads_what_is_anothers(story: Arc<Story>) {
    blocking(|| rivals("The rival never opens."));
    let ours = Known::of(&story, AGENTS).await;
    let theirs = Known::of(&story, RIVALS).await;
    assert_ne!(ours.snapshot, theirs.snapshot);
    for (who, other) in [(&ours, &theirs), (&theirs, &ours)] {
        let (blobs, taken) = (
            format!("{}/blobs", other.url),
            format!("{}/taken", other.url),
        );
        let at = |url: &str| format!("{url}/snapshots/{}", other.snapshot);
        // The way is open, and only the key is wrong.
        let own = format!("{}/snapshots/{}", who.url, who.snapshot);
        assert_eq!(who.ask(&story, Method::GET, &own).await, 200);
        let put = format!("{}/blobs", who.url);
        assert_eq!(who.ask(&story, Method::PUT, &put).await, 200);
        assert_eq!(who.ask(&story, Method::PUT, &blobs).await, 403);
        assert_eq!(who.ask(&story, Method::POST, &taken).await, 403);
        assert_eq!(who.ask(&story, Method::GET, &at(&other.url)).await, 403);
        assert_eq!(who.ask(&story, Method::GET, &at(&who.url)).await, 403);
    }
    at_nats(&ours.item, &theirs.item).await;
    story.follows().await;
}

/// A connection as anybody makes it who has the rivals' password, and what the server said to it.
async fn intruder() -> (Client, Arc<Mutex<Vec<String>>>) {
    let login = blocking(|| Login::of(RIVALS, "loci-fetcher-nats"));
    let said = Arc::<Mutex<Vec<String>>>::default();
    let heard = Arc::clone(&said);
    let options = login
        .options("loci-fetcher-rivals")
        .event_callback(move |event| {
            if let Event::ServerError(error) = event {
                heard.lock().unwrap().push(error.to_string());
            }
            async {}
        });
    (options.connect(&login.url).await.unwrap(), said)
}

/// The rivals' password opens its own namespace's subjects, and none of ours.
async fn at_nats(ours: &str, theirs: &str) {
    let (client, said) = intruder().await;
    let own = format!("$JS.API.DIRECT.GET.LOCI_ITEMS.item.v1.rivals.shop.{theirs}");
    let answer = client.request(own, "".into()).await.unwrap();
    assert!(answer.payload.starts_with(b"{"), "{answer:?}");
    let refused = async |subject: &str| {
        client.flush().await.unwrap();
        let about = format!("\"{}\"", subject.to_lowercase());
        let told = || {
            let said = said.lock().unwrap();
            said.iter().any(|s| s.to_lowercase().contains(&about))
        };
        for _ in 0..500 {
            if told() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{subject} is not refused: {:?}", said.lock().unwrap());
    };
    let record = format!("item.v1.agents.shop.{ours}");
    for subject in [
        format!("$JS.API.DIRECT.GET.LOCI_ITEMS.{record}").as_str(),
        &record,
        &format!("evt.v1.agents.{ours}.1"),
        "$JS.API.STREAM.MSG.GET.LOCI_ITEMS",
        "$JS.API.STREAM.MSG.GET.LOCI_JOBS",
        "$JS.API.CONSUMER.MSG.NEXT.LOCI_JOBS.fetch-agents-p1",
        "$JS.API.CONSUMER.MSG.NEXT.LOCI_JOBS.cpu-p1",
        "$JS.API.CONSUMER.CREATE.LOCI_ITEMS",
        "$JS.API.STREAM.PURGE.LOCI_ITEMS",
        "job.v1.fetch-agents.p1.agents.shop.x",
    ] {
        let subject = subject.to_owned();
        let sent = client.publish(subject.clone(), json!({}).to_string().into());
        sent.await.unwrap();
        refused(&subject).await;
    }
    for subject in [
        "item.v1.>",
        "job.v1.>",
        "evt.v1.>",
        "_INBOX_loci-fetcher-agents.>",
    ] {
        let _subscription = client.subscribe(subject).await.unwrap();
        refused(subject).await;
    }
}
