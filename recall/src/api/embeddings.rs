//! `POST /v1/embeddings`: vectors, as OpenAI's API has it.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use loci_models::Role;
use serde_json::Value;

use super::body::{self, Fields};
use super::error::ApiError;
use super::{base64, from_release, within};
use crate::recall::Recall;
use crate::wire::{
    Embedding, EmbeddingsRequest, EmbeddingsResponse, EncodingFormat, ErrorBody,
    MAX_EMBEDDINGS_BODY_BYTES, MAX_INPUTS, Usage, Vector,
};

/// Fields of a request.
pub(super) const FIELDS: [&str; 5] = [
    "input",
    "model",
    "encoding_format",
    "dimensions",
    "input_type",
];

/// A request with at most so many texts ...
const QUERY_INPUTS: usize = 4;
/// ... and bytes of text is as urgent as a query; more is bulk work.
const QUERY_BYTES: usize = 8 * 1024;

struct Wanted {
    texts: Vec<String>,
    model: Option<String>,
    format: EncodingFormat,
    dimensions: Option<u64>,
    role: Role,
}

/// The vectors of texts.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "recall", operation_id = "embeddings", security(("bearer" = [])),
    request_body = EmbeddingsRequest,
    responses(
        (status = 200, body = EmbeddingsResponse, description = "A vector for each text, in their order", headers(("loci-release" = String, description = "The release whose embedder it was"))),
        (status = 400, body = ErrorBody, description = "A field is unknown, missing or refused; `param` names it"),
        (status = 401, body = ErrorBody, description = "No token, or another one"),
        (status = 404, body = ErrorBody, description = "There is no such pipeline"),
        (status = 413, body = ErrorBody, description = "The body is too long"),
        (status = 415, body = ErrorBody, description = "The body is not JSON by its Content-Type"),
        (status = 503, body = ErrorBody, description = "Overloaded, or no release serves yet; ask again after Retry-After"),
        (status = 504, body = ErrorBody, description = "Took too long"),
    )
)]
pub(super) async fn embeddings(
    State(recall): State<Recall>,
    request: Request,
) -> Result<Response, ApiError> {
    let options = recall.options();
    let body = within(
        options.request_timeout,
        body::read(request, MAX_EMBEDDINGS_BODY_BYTES),
    )
    .await?;
    let Wanted {
        texts,
        model,
        format,
        dimensions,
        role,
    } = parse(&body)?;
    drop(body);
    let loaded = recall
        .find(model.as_deref())
        .map_err(|e| ApiError::lookup("model", e))?;
    let own = loaded.engine.dimensions();
    if let Some(asked) = dimensions.filter(|&asked| asked != own as u64) {
        return Err(ApiError::field(
            "dimensions",
            format!("{asked} is not available: this embedder's vectors have {own}; leave it out"),
        ));
    }
    let bytes: usize = texts.iter().map(String::len).sum();
    let bulk = texts.len() > QUERY_INPUTS || bytes > QUERY_BYTES;
    let limit = if bulk {
        options.bulk_timeout
    } else {
        options.request_timeout
    };
    let engine = loaded.clone();
    let embeddings = within(limit, async {
        let lanes = recall.lanes();
        let embedded = if bulk {
            lanes
                .bulk(move |proceed| engine.engine.embed(&texts, role, proceed))
                .await?
        } else {
            lanes
                .query(move |_| {
                    engine
                        .engine
                        .embed(&texts, role, &mut || std::ops::ControlFlow::Continue(()))
                })
                .await?
        };
        embedded.map_err(ApiError::from)
    })
    .await?;
    recall.metrics().embedded(embeddings.tokens);
    let tokens = embeddings.tokens as u64;
    let data = (0..)
        .zip(embeddings.vectors.chunks(own))
        .map(|(index, vector)| Embedding {
            object: "embedding".to_owned(),
            index,
            embedding: match format {
                EncodingFormat::Float => Vector::Float(vector.to_vec()),
                EncodingFormat::Base64 => Vector::Base64(base64::encode_floats(vector)),
            },
        });
    let response = EmbeddingsResponse {
        object: "list".to_owned(),
        data: data.collect(),
        model: loaded.pipeline.clone(),
        usage: Usage {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
        truncated: embeddings.truncated as u64,
    };
    Ok(from_release(&loaded, Json(response).into_response()))
}

fn parse(body: &[u8]) -> Result<Wanted, ApiError> {
    let mut fields = Fields::parse(body, &FIELDS)?;
    let input = fields
        .take("input")
        .ok_or_else(|| body::missing("input", "it is the text, a string or a list of strings"))?;
    let formats = [
        ("float", EncodingFormat::Float),
        ("base64", EncodingFormat::Base64),
    ];
    let roles = [("passage", Role::Passage), ("query", Role::Query)];
    Ok(Wanted {
        texts: texts(input)?,
        model: fields.string("model")?,
        format: fields.one_of("encoding_format", &formats, EncodingFormat::Float)?,
        dimensions: fields.integer("dimensions", 1, u64::MAX)?,
        role: fields.one_of("input_type", &roles, Role::Passage)?,
    })
}

fn texts(input: Value) -> Result<Vec<String>, ApiError> {
    let items = match input {
        Value::String(text) => return Ok(vec![text_at("input", Value::String(text))?]),
        Value::Array(items) => items,
        other => {
            return Err(ApiError::field(
                "input",
                format!(
                    "{} is neither a string nor a list of strings",
                    body::kind(&other)
                ),
            ));
        }
    };
    if items.is_empty() || items.len() > MAX_INPUTS {
        return Err(ApiError::field(
            "input",
            format!("{} texts: send 1 to {MAX_INPUTS} at a time", items.len()),
        ));
    }
    if items.iter().any(|item| item.is_number() || item.is_array()) {
        return Err(ApiError::field(
            "input",
            "token arrays are not supported, they belong to one tokenizer: send the text",
        ));
    }
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| text_at(&format!("input[{i}]"), item))
        .collect()
}

fn text_at(place: &str, item: Value) -> Result<String, ApiError> {
    match item {
        Value::String(text) if text.is_empty() => {
            Err(ApiError::field(place, "empty: leave it out"))
        }
        Value::String(text) => Ok(text),
        other => Err(ApiError::field(
            place,
            format!("{} is not a string", body::kind(&other)),
        )),
    }
}
