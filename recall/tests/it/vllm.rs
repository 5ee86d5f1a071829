//! A server on loopback that speaks those endpoints of vLLM that chats need, as its documentation has them:
//! `/v1/models`, `/tokenize` and streamed `/v1/chat/completions`. It says what it is told to. `service_real` asks a real
//! one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use loci_digest::Digest;
use loci_models::Message;
use loci_prompt::Marks;
use loci_recall::{LoadRequest, LoadService, adapter_name};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::chat_support::TALKATIVE;
use crate::support::{Server, load_request, write_revision};

/// Its name for the model without adapter.
pub const BASE: &str = "base";
/// The tokens that it says it has written.
pub const WRITTEN: u64 = 7;
/// What it writes of an answer that does not come to its end.
const BEGUN: &[&str] = &["It "];

/// What it does with a chat.
#[derive(Clone)]
pub enum Says {
    /// Writes these pieces, and ends for this reason.
    Pieces(&'static [&'static str], &'static str),
    /// Writes a piece, and no more.
    Forever,
    /// Writes a piece, and breaks the connection.
    Breaks,
    /// Writes a piece, and an error.
    Fails,
    /// Answers with this status.
    Refuses(StatusCode, Value),
}

pub struct Vllm {
    pub url: Url,
    pub known: Arc<Known>,
    serving: Option<DropGuard>,
}

pub struct Known {
    pub says: Mutex<Says>,
    /// The chats that it was asked.
    pub asked: Mutex<Vec<Value>>,
    /// How often it was asked for lengths.
    pub lengths: AtomicUsize,
    /// Answers that are being sent.
    pub sending: AtomicUsize,
    pub context: AtomicUsize,
    models: BTreeSet<String>,
}

impl Vllm {
    /// With adapters of these digests, all called escalation.
    pub async fn start(adapters: &[Digest]) -> Self {
        let names = adapters.iter().map(|d| adapter_name("escalation", *d));
        let known = Arc::new(Known {
            says: Mutex::new(Says::Pieces(&["It ", "is ", "42."], "stop")),
            asked: Mutex::default(),
            lengths: AtomicUsize::new(0),
            sending: AtomicUsize::new(0),
            context: AtomicUsize::new(8192),
            models: names.chain([BASE.to_owned()]).collect(),
        });
        let router = Router::new()
            .route("/v1/models", get(models))
            .route("/tokenize", post(tokenize))
            .route("/v1/chat/completions", post(chat))
            .with_state(known.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let serving = Some(stop.clone().drop_guard());
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, router).into_future() => served.unwrap(),
                () = stop.cancelled() => {}
            }
        });
        Self {
            url: url.parse().unwrap(),
            known,
            serving,
        }
    }

    /// Takes no more connections.
    pub async fn stop(&mut self) {
        self.serving.take();
        while reqwest::get(self.url.clone()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn says(&self, says: Says) {
        *self.known.says.lock().unwrap() = says;
    }

    /// The last chat that it was asked.
    pub fn asked(&self) -> Value {
        self.known.asked.lock().unwrap().last().unwrap().clone()
    }

    /// Waits until nothing is being sent any more.
    pub async fn idle(&self) {
        let idle = async {
            while self.known.sending.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let idle = tokio::time::timeout(Duration::from_secs(30), idle).await;
        idle.expect("the service goes on writing");
    }

    /// A release whose chats it answers, with this adapter.
    pub fn release(&self, server: &Server, release: &str, adapter: Digest) -> LoadRequest {
        let directory = server.dir.path().join(release);
        write_revision(&directory, release, |vectors| vectors);
        LoadRequest {
            service: Some(LoadService {
                url: self.url.clone(),
                model: BASE.to_owned(),
                marks: Marks::of(TALKATIVE.tokenizer()),
                adapters: BTreeMap::from([("escalation".to_owned(), adapter)]),
            }),
            ..load_request(release, directory)
        }
    }
}

async fn models(State(known): State<Arc<Known>>) -> Json<Value> {
    let card = |id: &String| {
        let parent = (id != BASE).then_some(BASE);
        json!({"id": id, "object": "model", "owned_by": "vllm", "root": id, "parent": parent})
    };
    let cards: Vec<Value> = known.models.iter().map(card).collect();
    Json(json!({"object": "list", "data": cards}))
}

fn unknown(model: &Value) -> Response {
    let error = json!({
        "message": format!("The model `{}` does not exist.", model.as_str().unwrap_or_default()),
        "type": "NotFoundError", "param": "model", "code": 404,
    });
    (StatusCode::NOT_FOUND, Json(json!({"error": error}))).into_response()
}

impl Known {
    fn has(&self, model: &Value) -> bool {
        model
            .as_str()
            .is_some_and(|name| self.models.contains(name))
    }
}

/// The length of a chat's prompt to the tiny decoder.
pub fn length(messages: &Value) -> usize {
    let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
    TALKATIVE.chat_tokens(&messages, true).unwrap().len()
}

async fn tokenize(State(known): State<Arc<Known>>, Json(asked): Json<Value>) -> Response {
    known.lengths.fetch_add(1, Ordering::SeqCst);
    if !known.has(&asked["model"]) {
        return unknown(&asked["model"]);
    }
    let (count, context) = (length(&asked["messages"]), &known.context);
    let context = context.load(Ordering::SeqCst);
    Json(json!({"count": count, "max_model_len": context, "tokens": vec![0; count]}))
        .into_response()
}

/// Counts an answer as long as it is sent.
struct Sent(Arc<Known>);

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn chat(State(known): State<Arc<Known>>, Json(asked): Json<Value>) -> Response {
    known.asked.lock().unwrap().push(asked.clone());
    if !known.has(&asked["model"]) {
        return unknown(&asked["model"]);
    }
    let says = known.says.lock().unwrap().clone();
    let (pieces, end): (&[&str], BoxStream<'static, io::Result<String>>) = match says {
        Says::Refuses(status, body) => return (status, Json(body)).into_response(),
        Says::Pieces(pieces, reason) => (pieces, stream::iter(ending(&asked, reason)).boxed()),
        Says::Forever => (BEGUN, stream::pending().boxed()),
        Says::Breaks => {
            // Only once the piece is sent: what is still to be written goes with its connection.
            let broken = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(io::Error::other("broken"))
            };
            (BEGUN, stream::once(broken).boxed())
        }
        Says::Fails => {
            let error = json!({"error": {"message": "EngineCore died", "type": "InternalServerError", "param": null, "code": 500}});
            let events = [Ok(event(&error)), Ok("data: [DONE]\n\n".to_owned())];
            (BEGUN, stream::iter(events).boxed())
        }
    };
    let first = json!({"role": "assistant", "content": ""});
    let mut events = vec![Ok(event(&chunk(&asked, first, None)))];
    events.extend(pieces.iter().map(|piece| {
        let delta = json!({"content": piece});
        Ok(event(&chunk(&asked, delta, None)))
    }));
    known.sending.fetch_add(1, Ordering::SeqCst);
    let sent = Sent(known);
    let events = stream::iter(events).chain(end).map(move |event| {
        let _sent = &sent;
        event
    });
    let body = Body::from_stream(events);
    ([("content-type", "text/event-stream; charset=utf-8")], body).into_response()
}

fn chunk(asked: &Value, delta: Value, finish: Option<&str>) -> Value {
    let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish, "token_ids": null});
    json!({
        "id": "chatcmpl-of-the-service", "object": "chat.completion.chunk", "created": 1,
        "model": asked["model"], "choices": [choice], "usage": null,
    })
}

fn ending(asked: &Value, reason: &str) -> Vec<io::Result<String>> {
    let last = chunk(asked, json!({"content": ""}), Some(reason));
    let read = length(&asked["messages"]) as u64;
    let mut usage = last.clone();
    usage["choices"] = json!([]);
    usage["usage"] = json!({"prompt_tokens": read, "total_tokens": read + WRITTEN, "completion_tokens": WRITTEN});
    let done = "data: [DONE]\n\n".to_owned();
    [event(&last), event(&usage), done].map(Ok).into()
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}
