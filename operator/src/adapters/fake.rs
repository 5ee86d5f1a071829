//! A server on loopback that speaks those endpoints of vLLM that the agent needs, as its documentation has them. The weights
//! of an adapter are a number here: see `made`.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::made::WEIGHTS;

/// What the model without adapter gives to every token.
const ALONE: f64 = -9.0;

/// What it has loaded: directories by names.
#[derive(Default)]
pub struct Engine {
    pub loaded: Mutex<BTreeMap<String, String>>,
    /// How often it was told to load one.
    pub loads: AtomicUsize,
    /// Whether it is away.
    pub away: AtomicBool,
}

pub type Shared = Arc<Engine>;

/// Its endpoints.
pub fn router(engine: &Shared) -> Router {
    Router::new()
        .route("/v1/models", get(cards))
        .route("/v1/load_lora_adapter", post(load))
        .route("/v1/unload_lora_adapter", post(unload))
        .route("/tokenize", post(tokenize))
        .route("/v1/completions", post(complete))
        .layer(from_fn_with_state(engine.clone(), gate))
        .with_state(engine.clone())
}

fn refuse(status: StatusCode, message: String) -> Response {
    let error = json!({"message": message, "type": "x", "param": null, "code": status.as_u16()});
    (status, Json(json!({"error": error}))).into_response()
}

async fn cards(State(engine): State<Shared>) -> Json<Value> {
    let loaded = engine.loaded.lock().unwrap();
    let adapter = |(id, root): (&String, &String)| json!({"id": id, "object": "model", "root": root, "parent": "base"});
    let mut data = vec![
        json!({"id": "base", "object": "model", "root": "/model", "parent": null, "max_model_len": 64}),
    ];
    data.extend(loaded.iter().map(adapter));
    Json(json!({"object": "list", "data": data}))
}

async fn load(State(engine): State<Shared>, Json(asked): Json<Value>) -> Response {
    engine.loads.fetch_add(1, Ordering::SeqCst);
    let text = |field: &str| asked[field].as_str().unwrap().to_owned();
    let (name, path) = (text("lora_name"), text("lora_path"));
    if !fs::exists(format!("{path}/{WEIGHTS}")).unwrap() {
        let message = format!("No adapter found for {path}");
        return refuse(StatusCode::NOT_FOUND, message);
    }
    let mut loaded = engine.loaded.lock().unwrap();
    if loaded.contains_key(&name) && asked["load_inplace"] != true {
        let message = format!("The lora adapter '{name}' has already been loaded.");
        return refuse(StatusCode::BAD_REQUEST, message);
    }
    loaded.insert(name.clone(), path);
    format!("Success: LoRA adapter '{name}' added successfully.").into_response()
}

async fn unload(State(engine): State<Shared>, Json(asked): Json<Value>) -> Response {
    let name = asked["lora_name"].as_str().unwrap();
    match engine.loaded.lock().unwrap().remove(name) {
        Some(_) => format!("Success: LoRA adapter '{name}' removed successfully.").into_response(),
        None => refuse(
            StatusCode::NOT_FOUND,
            format!("The lora adapter '{name}' cannot be found."),
        ),
    }
}

/// The numbers of a text.
async fn tokenize(Json(asked): Json<Value>) -> Json<Value> {
    assert_eq!(
        (&asked["model"], &asked["add_special_tokens"]),
        (&json!("base"), &json!(false))
    );
    let words = asked["prompt"].as_str().unwrap().split_whitespace();
    let tokens: Vec<u32> = words.map(|word| word.parse().unwrap()).collect();
    Json(json!({"count": tokens.len(), "max_model_len": 64, "tokens": tokens}))
}

async fn complete(State(engine): State<Shared>, Json(asked): Json<Value>) -> Response {
    let model = asked["model"].as_str().unwrap();
    let path = engine.loaded.lock().unwrap().get(model).cloned();
    let value: f64 = match (path, model) {
        (Some(path), _) => fs::read_to_string(format!("{path}/{WEIGHTS}"))
            .unwrap()
            .parse()
            .unwrap(),
        (None, "base") => ALONE,
        (None, other) => {
            let message = format!("The model `{other}` does not exist.");
            return refuse(StatusCode::NOT_FOUND, message);
        }
    };
    assert_eq!(asked["prompt_logprobs"], 1);
    let scored = |id: &Value| {
        let likeliest = json!({"logprob": -0.001, "rank": 1, "decoded_token": "x"});
        let own = json!({"logprob": value, "rank": 9, "decoded_token": "y"});
        json!({"99": likeliest, id.to_string(): own})
    };
    let prompt = asked["prompt"].as_array().unwrap();
    let mut all = vec![Value::Null];
    all.extend(prompt[1..].iter().map(scored));
    let choice =
        json!({"index": 0, "text": "x", "finish_reason": "length", "prompt_logprobs": all});
    Json(json!({"id": "cmpl-1", "object": "text_completion", "choices": [choice]})).into_response()
}

/// While it is away, nobody is answered anything that makes sense.
async fn gate(State(engine): State<Shared>, request: Request, next: Next) -> Response {
    match engine.away.load(Ordering::SeqCst) {
        true => StatusCode::BAD_GATEWAY.into_response(),
        false => next.run(request).await,
    }
}
