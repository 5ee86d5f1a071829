//! Chats that a vLLM answers: the operator has an agent load adapters in it, and replicas send chats there. This test plays
//! the vLLM, with a decoder that is asked by vLLM's endpoints, and the names of the cluster: replicas reach the Service by
//! a proxy, which is the vLLM.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use loci_models::{Adapter, Continuation, Decoder, DeviceRequest, Generation, Message, Prompt};
use serde_json::{Value, json};

use super::adapters::{chat, declare};
use super::plugin::{plugin, said};
use super::replicas::{Replica, address, runs};
use super::{Cluster, Process};

/// An adapter that was loaded, and from where.
type Loaded = BTreeMap<String, (String, Arc<Adapter>)>;

struct Engine {
    decoder: Decoder,
    loaded: Mutex<Loaded>,
    /// Who was to answer each chat.
    asked: Mutex<Vec<String>>,
}

type Shared = Arc<Engine>;

impl Engine {
    /// One that answers on loopback, and where.
    async fn start() -> (Shared, String) {
        let tiny = loci_testbed::root().join("models/tests/reference/decoder/tiny");
        let engine = Arc::new(Self {
            decoder: Decoder::load(&tiny, DeviceRequest::Cpu).unwrap(),
            loaded: Mutex::default(),
            asked: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/models", get(cards))
            .route("/v1/load_lora_adapter", post(load))
            .route("/v1/unload_lora_adapter", post(unload))
            .route("/tokenize", post(tokenize))
            .route("/v1/completions", post(complete))
            .route("/v1/chat/completions", post(write))
            .with_state(engine.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());
        (engine, url)
    }

    fn names(&self) -> Vec<String> {
        self.loaded.lock().unwrap().keys().cloned().collect()
    }

    /// The adapter that answers by a name; none for the base, and an error for what it does not have.
    fn who(&self, model: &Value) -> Result<Option<Arc<Adapter>>, Box<Response>> {
        let name = model.as_str().unwrap();
        let found = self.loaded.lock().unwrap().get(name).cloned();
        match found {
            Some((_, adapter)) => Ok(Some(adapter)),
            None if name == "base" => Ok(None),
            None => {
                let message = format!("The model `{name}` does not exist.");
                Err(Box::new(refuse(StatusCode::NOT_FOUND, &message)))
            }
        }
    }

    /// A chat in tokens.
    fn chat(&self, messages: &Value) -> Vec<u32> {
        let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
        self.decoder.chat_tokens(&messages, true).unwrap()
    }
}

fn refuse(status: StatusCode, message: &str) -> Response {
    let error = json!({"message": message, "type": "x", "param": null, "code": status.as_u16()});
    (status, Json(json!({"error": error}))).into_response()
}

async fn cards(State(engine): State<Shared>) -> Json<Value> {
    let own = json!({"id": "base", "object": "model", "root": "/model", "parent": null});
    let loaded = engine.loaded.lock().unwrap();
    let card = |(id, (root, _)): (&String, &(String, Arc<Adapter>))| json!({"id": id, "object": "model", "root": root, "parent": "base"});
    let data: Vec<Value> = [own].into_iter().chain(loaded.iter().map(card)).collect();
    Json(json!({"object": "list", "data": data}))
}

async fn load(State(engine): State<Shared>, Json(asked): Json<Value>) -> Response {
    let text = |field: &str| asked[field].as_str().unwrap().to_owned();
    let (name, path) = (text("lora_name"), text("lora_path"));
    match Adapter::read(Path::new(&path), &engine.decoder) {
        Ok(adapter) => {
            let mut loaded = engine.loaded.lock().unwrap();
            loaded.insert(name, (path, Arc::new(adapter)));
            "Success".into_response()
        }
        Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn unload(State(engine): State<Shared>, Json(asked): Json<Value>) -> Response {
    let name = asked["lora_name"].as_str().unwrap();
    match engine.loaded.lock().unwrap().remove(name) {
        Some(_) => "Success".into_response(),
        None => refuse(StatusCode::NOT_FOUND, "it cannot be found"),
    }
}

async fn tokenize(State(engine): State<Shared>, Json(asked): Json<Value>) -> Response {
    if let Err(unknown) = engine.who(&asked["model"]) {
        return *unknown;
    }
    let tokens = match asked["prompt"].as_str() {
        Some(text) => engine.decoder.tokenizer().encode_bare(text).unwrap(),
        None => engine.chat(&asked["messages"]),
    };
    let context = engine.decoder.context();
    Json(json!({"count": tokens.len(), "max_model_len": context, "tokens": tokens})).into_response()
}

async fn complete(State(engine): State<Shared>, Json(asked): Json<Value>) -> Response {
    let adapter = match engine.who(&asked["model"]) {
        Ok(adapter) => adapter,
        Err(unknown) => return *unknown,
    };
    let ids: Vec<u32> = serde_json::from_value(asked["prompt"].clone()).unwrap();
    let (first, rest) = ids.split_at(1);
    let scores = engine.decoder.log_probabilities(&[Continuation {
        prompt: first,
        tokens: rest,
        adapter: adapter.as_deref(),
    }]);
    let scores = scores.unwrap().concat();
    let scored = |(id, score): (&u32, f32)| json!({id.to_string(): {"logprob": score, "rank": 1, "decoded_token": "x"}});
    let rest = rest.iter().zip(scores).map(scored);
    let all: Vec<Value> = [Value::Null].into_iter().chain(rest).collect();
    let choice =
        json!({"index": 0, "text": "x", "finish_reason": "length", "prompt_logprobs": all});
    Json(json!({"id": "cmpl-1", "object": "text_completion", "choices": [choice]})).into_response()
}

async fn write(State(engine): State<Shared>, Json(asked): Json<Value>) -> Response {
    let name = asked["model"].as_str().unwrap().to_owned();
    engine.asked.lock().unwrap().push(name);
    let adapter = match engine.who(&asked["model"]) {
        Ok(adapter) => adapter,
        Err(unknown) => return *unknown,
    };
    let (read, options) = (
        engine.chat(&asked["messages"]),
        Generation {
            max_tokens: 8,
            ..Generation::default()
        },
    );
    let prompt = Prompt {
        tokens: &read,
        options: &options,
        adapter: adapter.as_deref(),
    };
    let made = engine
        .decoder
        .generate(&[prompt], &mut |_| ControlFlow::Continue(()));
    let made = made.unwrap().remove(0);
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": asked["model"], "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let choice = |content: &str, finish: Value| json!([{"index": 0, "delta": {"content": content}, "finish_reason": finish}]);
    let (before, after) = (read.len(), made.tokens.len());
    let usage = json!({"prompt_tokens": before, "completion_tokens": after, "total_tokens": before + after});
    let events = [
        chunk(choice(&made.text, Value::Null), Value::Null),
        chunk(choice("", json!("stop")), Value::Null),
        chunk(json!([]), usage),
        "data: [DONE]\n\n".to_owned(),
    ];
    ([("content-type", "text/event-stream")], events.concat()).into_response()
}

/// The pod of the vLLM, whose agent is a process of its own.
async fn agent(cluster: &Cluster, vllm: &str) -> Process {
    let labels = json!({
        "app.kubernetes.io/name": "loci", "app.kubernetes.io/component": "vllm", "loci.dev/pipeline": "shop",
    });
    let pod = json!({
        "metadata": {"name": "shop-vllm", "labels": labels},
        "spec": {"serviceAccountName": "shop-recall", "automountServiceAccountToken": false, "containers": [{"name": "vllm", "image": "vllm"}]},
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let pods = cluster.api::<Pod>();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let address = address();
    runs(cluster, "shop-vllm", &address, true).await;
    let (status, namespace) = (format!("{address}:7701"), cluster.namespace.as_str());
    let of = ["adapters", "--pipeline", "shop", "--namespace", namespace];
    let beside = ["--vllm", vllm, "--status", &status];
    let terms = ["--tolerance", "0.002", "--drain", "1s"];
    cluster.spawn("agent", &[&of[..], &beside, &terms].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_is_loaded_in_a_vllm_answers_there_and_is_unloaded() {
    let (engine, url) = Engine::start().await;
    let mut cluster = Cluster::new("vllm").await;
    let outside = [("HTTP_PROXY", url.as_str()), ("NO_PROXY", "127.0.0.0/8")];
    let outside = outside.map(|(name, value)| (name.to_owned(), value.to_owned()));
    cluster.of_replicas.extend(outside);
    cluster.documents("The workshop opens at nine.").await;
    declare(
        &cluster,
        json!({"runtime": {"vllm": {"service": "shop-vllm"}}}),
    )
    .await;
    let _operator = cluster.operator_with_replicas();
    let (_worker, _fetcher) = (cluster.worker(), cluster.fetcher());
    cluster
        .until("a deployment is made", async || {
            let found = cluster.api::<Deployment>().get_opt("shop-recall").await;
            found.unwrap().is_some()
        })
        .await;
    let _agent = agent(&cluster, &url).await;
    let replica = Replica::start(&cluster, "shop", 1).await;
    replica.ready(&cluster).await;
    cluster.serving(1).await;
    assert_eq!((chat(&replica).await.0, engine.names()), (404, vec![]));

    said(plugin(&cluster, &["run", "finetune", "--wait"]));
    cluster.serving(2).await;
    let (status, answer) = chat(&replica).await;
    assert_eq!(
        (status, &answer["release"]),
        (200, &json!("shop-2")),
        "{answer}"
    );
    let said_there = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(["Yes.", "No."].contains(&said_there), "{answer}");
    let model = answer["model"].as_str().unwrap();
    let (_, name) = model.split_once(':').unwrap();
    assert_eq!(engine.names(), [name]);
    assert_eq!(*engine.asked.lock().unwrap(), [name]);

    // A vLLM that starts anew has lost it, and gets it back.
    engine.loaded.lock().unwrap().clear();
    cluster
        .until("it is loaded again", async || engine.names() == [name])
        .await;
    assert_eq!(chat(&replica).await.0, 200);

    said(plugin(&cluster, &["rollback", "shop", "1"]));
    cluster
        .until("it is unloaded", async || engine.names().is_empty())
        .await;
    assert_eq!(chat(&replica).await.0, 404);
}
