//! What each role may do on a server, by the permissions that the chart gives: its own part, and nothing of others'.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use futures::StreamExt;
use loci_bus::{Cancelled, Dispatcher, Outcome, Priority, Recorded, WorkItem, WorkQueue};
use loci_nats::{NatsBus, NatsOptions};
use loci_testbed::{Nats, root};
use serde_json::json;

use crate::contract::{SOON, done, item};

/// A user as the chart's server knows it.
fn user(name: &str, role: &str, mark: &str, of: &str) -> String {
    let file = root().join(format!("charts/loci/files/nats/{role}.conf"));
    let permissions = std::fs::read_to_string(file).unwrap().replace(mark, of);
    format!("{{user: {name}, password: secret, permissions: {permissions}}}")
}

fn server() -> Nats {
    let users = [
        user("operator", "operator", "", ""),
        user("worker", "worker", "@CLASS@", "gpu"),
        user("agents", "fetcher", "@NAMESPACE@", "agents"),
        user("others", "fetcher", "@NAMESPACE@", "others"),
    ];
    let users = users.join("\n");
    Nats::with(&format!("authorization {{ users: [\n{users}\n] }}"))
}

fn url(server: &Nats, user: &str) -> String {
    let url = server.url();
    url.replace("nats://", &format!("nats://{user}:secret@"))
}

async fn bus(server: &Nats, user: &str, name: &str, tenant: Option<&str>) -> NatsBus {
    let options = NatsOptions {
        ack_wait: Duration::from_secs(2),
        tenant: tenant.map(str::to_owned),
        ..NatsOptions::new(url(server, user), name)
    };
    NatsBus::connect(options).await.unwrap()
}

fn of(namespace: &str, class: &str, id: &str) -> WorkItem {
    WorkItem {
        pipeline: format!("{namespace}/support"),
        class: class.to_owned(),
        ..item(id, Priority::P1)
    }
}

/// Publishes an item and does it, twice over: the first worker lets go of it.
async fn through(operator: &NatsBus, worker: &NatsBus, item: WorkItem) {
    let (id, class) = (item.id.clone(), item.class.clone());
    let mut events = operator.events().await.unwrap();
    operator.publish(item).await.unwrap();
    let lease = worker.pull(&class, SOON).await.unwrap().expect("an item");
    drop(lease);
    let lease = worker.pull(&class, SOON).await.unwrap().expect("an item");
    assert_eq!((lease.item().id.as_str(), lease.item().attempt), (&*id, 2));
    let reporter = lease.reporter();
    reporter.progress(1, None, loci_bus::Unit::Documents, None);
    assert_eq!(lease.finish(done(1)).await.unwrap(), Recorded::Won);
    let end = async {
        loop {
            match events.next().await.expect("its end") {
                loci_bus::Event::Finished {
                    id: ended, outcome, ..
                } if ended == id => {
                    return outcome;
                }
                _ => {}
            }
        }
    };
    let outcome = tokio::time::timeout(SOON, end).await.expect("its end");
    assert_eq!(outcome, done(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_its_part_with_the_permissions_of_the_chart() {
    let server = server();
    let operator = bus(&server, "operator", "loci-operator", None).await;
    let worker = bus(&server, "worker", "loci-worker-gpu", None).await;
    let fetcher = bus(&server, "agents", "loci-fetcher-agents", Some("agents")).await;
    through(&operator, &worker, of("agents", "gpu", "a")).await;
    through(&operator, &fetcher, of("agents", "fetch-agents", "b")).await;
    for (who, class) in [(&worker, "gpu"), (&fetcher, "fetch-agents")] {
        assert!(!who.urgent(class, Priority::P2).await.unwrap());
    }
    // Cancelled while it is held: the holder is told, and the item ends with its lease.
    let item = of("agents", "fetch-agents", "c");
    operator.publish(item.clone()).await.unwrap();
    let lease = fetcher.pull(&item.class, SOON).await.unwrap().unwrap();
    assert_eq!(operator.cancel("c").await.unwrap(), Cancelled::Running);
    let told = tokio::time::timeout(SOON, lease.cancelled().cancelled_owned()).await;
    told.expect("told within 20 s");
    let recorded = lease.finish(Outcome::Cancelled).await.unwrap();
    assert_eq!(recorded, Recorded::Won);
}

/// A connection as anybody makes it who has a fetcher's password, and what the server said to it.
async fn intruder(server: &Nats) -> (Client, Arc<Mutex<Vec<String>>>) {
    let said = Arc::<Mutex<Vec<String>>>::default();
    let heard = Arc::clone(&said);
    let options = ConnectOptions::new()
        .user_and_password("others".to_owned(), "secret".to_owned())
        .custom_inbox_prefix("_INBOX_loci-fetcher-others")
        .event_callback(move |event| {
            if let Event::ServerError(error) = event {
                heard.lock().unwrap().push(error.to_string());
            }
            async {}
        });
    (options.connect(server.url()).await.unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetcher_reads_and_writes_nothing_of_another_namespace() {
    let server = server();
    let operator = bus(&server, "operator", "loci-operator", None).await;
    operator
        .publish(of("agents", "fetch-agents", "a"))
        .await
        .unwrap();
    operator
        .publish(of("others", "fetch-others", "b"))
        .await
        .unwrap();
    let (client, said) = intruder(&server).await;
    let refused = async |subject: &str| {
        client.flush().await.unwrap();
        let about = format!("\"{}\"", subject.to_lowercase());
        for _ in 0..200 {
            if said
                .lock()
                .unwrap()
                .iter()
                .any(|s| s.to_lowercase().contains(&about))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{subject} is not refused: {:?}", said.lock().unwrap());
    };
    // Its own record is read, which proves that the way is open.
    let own = "$JS.API.DIRECT.GET.LOCI_ITEMS.item.v1.others.support.b";
    let answer = client.request(own, "".into()).await.unwrap();
    assert!(answer.payload.starts_with(b"{"), "{answer:?}");
    let forbidden = [
        "$JS.API.DIRECT.GET.LOCI_ITEMS.item.v1.agents.support.a",
        "$JS.API.DIRECT.GET.LOCI_ITEMS",
        "$JS.API.STREAM.MSG.GET.LOCI_ITEMS",
        "$JS.API.STREAM.MSG.GET.LOCI_JOBS",
        "$JS.API.DIRECT.GET.LOCI_JOBS.job.v1.fetch-agents.p1.agents.support.a",
        "$JS.API.CONSUMER.MSG.NEXT.LOCI_JOBS.fetch-agents-p1",
        "$JS.API.CONSUMER.MSG.NEXT.LOCI_JOBS.gpu-p1",
        "$JS.API.CONSUMER.CREATE.LOCI_ITEMS",
        "$JS.API.CONSUMER.CREATE.LOCI_JOBS.mine.job.v1.fetch-agents.p1.agents.support.a",
        "$JS.API.STREAM.PURGE.LOCI_ITEMS",
        "$JS.API.STREAM.PURGE.LOCI_JOBS",
        "$JS.API.STREAM.DELETE.LOCI_ITEMS",
        "item.v1.agents.support.a",
        "job.v1.gpu.p1.others.support.x",
        "evt.v1.agents.a.1",
    ];
    for subject in forbidden {
        client
            .publish(subject, json!({}).to_string().into())
            .await
            .unwrap();
        refused(subject).await;
    }
    for subject in [
        "item.v1.>",
        "job.v1.>",
        "evt.v1.>",
        "_INBOX.>",
        "_INBOX_loci-fetcher-agents.>",
        ">",
    ] {
        let _subscription = client.subscribe(subject).await.unwrap();
        refused(subject).await;
    }
}
