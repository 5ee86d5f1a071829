//! Manifests that no schema can judge: each says what is wrong with it by the field, recovers by itself when that is
//! mended, and disturbs nobody meanwhile.

use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use loci_crds::MemoryPipeline;
use loci_testbed::{git, hub};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::site::{Site, condition};

/// A spec that was refused is tried again within this time although nothing was heard, and so is a failed step.
const RECOVERY: Duration = Duration::from_secs(180);
/// How soon a change of a healthy pipeline serves.
const PROMPT: Duration = Duration::from_secs(30);
const HOURS: &str = "# Hours\n\nThe workshop opens at nine.\n";
const TOKEN: &str = "tok-right";

/// A pipeline that is not as it has to be.
struct Case {
    name: &'static str,
    spec: Value,
    /// What its condition names.
    field: &'static str,
    mended: Mended,
}

/// What makes it good.
enum Mended {
    /// The spec is this instead.
    Spec(Value),
    /// This is there, or is so.
    Object(Value),
}

fn spec(source: &Value) -> Value {
    json!({
        "embedder": {"model": hub::MODEL},
        "sources": [source],
        "index": {"refresh": {"interval": "1h"}},
    })
}

fn map(name: &str) -> Value {
    json!({"name": "docs", "memory": "factual", "configMap": {"name": name}})
}

fn http(url: &str, secret: Option<&str>) -> Value {
    let mut http = json!({"urls": [url], "allowPrivate": true});
    if let Some(name) = secret {
        http["secretRef"] = json!({"name": name});
    }
    json!({"name": "docs", "memory": "factual", "http": http})
}

fn git(url: &str, secret: Option<&str>) -> Value {
    let mut git = json!({"url": url, "allowPrivate": true});
    if let Some(name) = secret {
        git["secretRef"] = json!({"name": name});
    }
    json!({"name": "docs", "memory": "factual", "git": git})
}

/// One that reads what is there, but for this.
fn but(at: &str, value: Value) -> Value {
    let mut spec = spec(&map("docs"));
    *spec.pointer_mut(at).unwrap() = value;
    spec
}

fn object(kind: &str, name: &str, data: Value) -> Value {
    let field = if kind == "Secret" {
        "stringData"
    } else {
        "data"
    };
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: data})
}

/// A page for who has the token. Gives its URL.
async fn page() -> String {
    let answer = |headers: HeaderMap| async move {
        let right = format!("Bearer {TOKEN}");
        let given = headers.get(header::AUTHORIZATION);
        let known = given.is_some_and(|given| given.as_bytes() == right.as_bytes());
        let code = match known {
            true => StatusCode::OK,
            false => StatusCode::UNAUTHORIZED,
        };
        (code, [(header::CONTENT_TYPE, "text/markdown")], HOURS)
    };
    let url = serve(Router::new().route("/hours.md", get(answer))).await;
    format!("{url}/hours.md")
}

/// A Git server that knows nobody. Gives a repository's URL.
async fn strange() -> String {
    let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
    let router = Router::new().fallback(move || async move { (StatusCode::UNAUTHORIZED, ask) });
    let url = serve(router).await;
    format!("{url}/bare.git")
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Wrong by what the spec says.
fn declared() -> Vec<Case> {
    let good = spec(&map("docs"));
    let refresh = "/index/refresh";
    let case = |name, field, spec| Case {
        name,
        spec,
        field,
        mended: Mended::Spec(good.clone()),
    };
    let zone = json!({"cron": "0 3 * * *", "timeZone": "Mars/Base"});
    vec![
        case(
            "model",
            "spec.embedder.model",
            but("/embedder/model", json!("hf://org/tiny@gone")),
        ),
        case(
            "cron",
            "spec.index.refresh.cron",
            but(refresh, json!({"cron": "0 0 30 2 *"})),
        ),
        case("zone", "spec.index.refresh.timeZone", but(refresh, zone)),
    ]
}

/// Wrong by what the spec names and the namespace does not have.
fn named(open: &str, guarded: &str) -> Vec<Case> {
    let mut judged = spec(&map("docs"));
    let data = json!({"configMap": {"name": "suite", "key": "faq.jsonl"}});
    judged["suites"] = json!([{"name": "faq", "retrieval": {"data": data}}]);
    judged["gates"] = json!([{"suite": "faq", "metric": "recallAt5", "floor": "0.10"}]);
    let question = json!({"question": "workshop", "expected": [{"document": "hours.md"}]});
    let there = Mended::Object;
    vec![
        Case {
            name: "map",
            spec: spec(&map("late")),
            field: "spec.sources[0].configMap",
            mended: there(object("ConfigMap", "late", json!({"hours.md": HOURS}))),
        },
        Case {
            name: "suite",
            spec: judged,
            field: "spec.suites[0]",
            mended: there(object(
                "ConfigMap",
                "suite",
                json!({"faq.jsonl": question.to_string()}),
            )),
        },
        Case {
            name: "http-secret",
            spec: spec(&http(guarded, Some("late"))),
            field: "spec.sources[0].http.secretRef",
            mended: there(object("Secret", "late", json!({"token": TOKEN}))),
        },
        Case {
            name: "git-secret",
            spec: spec(&git("https://git.invalid/a.git", Some("never"))),
            field: "spec.sources[0].git.secretRef",
            mended: Mended::Spec(spec(&git(open, None))),
        },
    ]
}

/// Wrong by what others answer.
fn answered(closed: &str, guarded: &str, strange: &str, open: &str) -> Vec<Case> {
    let case = |name, wrong: &Value, right: &Value| Case {
        name,
        spec: spec(wrong),
        field: "spec.sources[0]",
        mended: Mended::Spec(spec(right)),
    };
    let right = http(guarded, Some("right"));
    vec![
        case("unreachable", &http(closed, None), &right),
        case("http-token", &http(guarded, Some("wrong")), &right),
        case("git-user", &git(strange, None), &git(open, None)),
    ]
}

async fn apply(site: &Site, name: &str, spec: &Value) {
    let manifest = json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline",
        "metadata": {"name": name}, "spec": spec,
    });
    let applied = site.apply::<MemoryPipeline>(name, manifest).await;
    applied.unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// What stands in the way of what is declared now, if it names the field.
fn told(pipeline: &MemoryPipeline, field: &str) -> Option<String> {
    let status = pipeline.status.as_ref()?;
    let mut all = status.conditions.iter();
    let found = all.find(|c| {
        let kind = matches!(c.type_.as_str(), "Stalled" | "Reconciling");
        kind && c.status == "True" && c.message.contains(field)
    })?;
    let seen = Some(status.observed_generation) == pipeline.metadata.generation;
    seen.then(|| found.message.clone())
}

/// Whether what is declared now serves.
fn ready(pipeline: &MemoryPipeline) -> Option<()> {
    let status = pipeline.status.as_ref()?;
    let is = |kind, truth| condition(pipeline, kind).is_some_and(|c| c.0 == truth);
    let seen = Some(status.observed_generation) == pipeline.metadata.generation;
    let good = is("Ready", "True") && is("Stalled", "False") && is("Reconciling", "False");
    (seen && good && status.serving_release.is_some()).then_some(())
}

/// Applies it, sees what it says, mends it, sees that it recovers.
async fn play(site: &Site, case: &Case) {
    let Case { name, field, .. } = *case;
    apply(site, name, &case.spec).await;
    let what = format!("a condition names {field}");
    site.until(name, &what, |p: &MemoryPipeline| told(p, field))
        .await;
    match &case.mended {
        Mended::Spec(spec) => apply(site, name, spec).await,
        Mended::Object(object) if object["kind"] == "Secret" => {
            let named = object["metadata"]["name"].as_str().unwrap();
            site.apply::<Secret>(named, object.clone()).await.unwrap();
        }
        Mended::Object(object) => {
            let named = object["metadata"]["name"].as_str().unwrap();
            site.apply::<ConfigMap>(named, object.clone())
                .await
                .unwrap();
        }
    }
    site.within(RECOVERY, name, "it recovers", ready).await;
}

/// Changes what a healthy pipeline reads again and again until `stop`; how often, each time served soon.
async fn refresh(site: &Site, stop: &CancellationToken) -> u32 {
    let mut changes = 0;
    while !stop.is_cancelled() {
        changes += 1;
        let text = format!("# News\n\nThis is number {changes}.\n");
        site.map("news", &[("news.md", &text)]).await;
        let (name, started) = (format!("steady-{}", changes + 1), Instant::now());
        let serves = |p: &MemoryPipeline| {
            let status = p.status.as_ref()?;
            (status.serving_release.as_deref() == Some(&name)).then_some(())
        };
        site.within(PROMPT, "steady", &name, serves).await;
        // Often enough to notice, and not a release each second.
        tokio::time::sleep(Duration::from_secs(5).saturating_sub(started.elapsed())).await;
    }
    changes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_by_its_field_and_mended_by_itself_beside_one_that_is_healthy() {
    let site = Site::new("wrong").await;
    let repository = git::Repository::new();
    repository.write("hours.md", HOURS);
    repository.push();
    // Bound and never listening: nobody else gets the port, and who connects is refused.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = format!("http://{}/hours.md", socket.local_addr().unwrap());
    let (open, guarded) = (repository.serve().await, page().await);
    let mut cases = declared();
    cases.extend(named(&open, &guarded));
    cases.extend(answered(&closed, &guarded, &strange().await, &open));

    site.documents(&[("hours.md", HOURS)]).await;
    site.map("news", &[("news.md", "# News\n\nNone yet.\n")])
        .await;
    site.map("suite", &[("faq.jsonl", "{\"question\": ")]).await;
    for (name, token) in [("wrong", "tok-wrong"), ("right", TOKEN)] {
        let secret = object("Secret", name, json!({"token": token}));
        site.apply::<Secret>(name, secret).await.unwrap();
    }
    let running = site.start().await;
    apply(&site, "steady", &spec(&map("news"))).await;
    site.serves("steady", 1).await;

    let stop = CancellationToken::new();
    let all = async {
        join_all(cases.iter().map(|case| play(&site, case))).await;
        stop.cancel();
    };
    let (changes, ()) = tokio::join!(refresh(&site, &stop), all);
    assert!(changes > 2, "{changes}");
    assert!(site.unready("steady").is_empty());
    let warnings = site.warnings("steady").await;
    assert!(warnings.is_empty(), "{warnings:#?}");
    site.statuses_agree().await;
    running.stop().await;
}
