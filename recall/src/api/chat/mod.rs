//! `POST /v1/chat/completions`: answers over the pipeline's passages, as OpenAI's API has them.

mod answer;
mod forward;
mod messages;
mod prompt;
pub(super) mod request;
mod stream;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{ConnectInfo, Extension, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use loci_models::{Adapter, Generation};

use super::body;
use super::error::ApiError;
use super::{from_release, within};
use crate::auth::Access;
use crate::chat::{Chat, Meant, Writer};
use crate::connections::Activity;
use crate::generate::{Generator, Task};
use crate::model::ModelName;
use crate::recall::Recall;
use crate::release::Loaded;
use crate::streams::Streams;
use crate::wire::{ChatChunk, ChatCitation, ChatRequest, ChatResponse, ErrorBody, MAX_BODY_BYTES};
use answer::{Answer, Head, Source};
use prompt::Prompt;
use request::Wanted;
use stream::Sending;

/// The answer to a chat.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "recall", operation_id = "chat", security(("bearer" = [])),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer; with `stream`, its pieces as server-sent events, `[DONE]` last. A piece with `error` ends an answer that cannot be finished",
            content((ChatResponse = "application/json"), (ChatChunk = "text/event-stream")),
            headers(("loci-release" = String, description = "The release that answers"))),
        (status = 400, body = ErrorBody, description = "A field is unknown, missing or refused; `param` names it"),
        (status = 401, body = ErrorBody, description = "No token, or another one"),
        (status = 404, body = ErrorBody, description = "There is no such pipeline or adapter, or the pipeline has no model to chat with"),
        (status = 413, body = ErrorBody, description = "The body is too long"),
        (status = 415, body = ErrorBody, description = "The body is not JSON by its Content-Type"),
        (status = 429, body = ErrorBody, description = "Too many chats wait; ask again after Retry-After"),
        (status = 502, body = ErrorBody, description = "The service that answers chats failed on this one"),
        (status = 503, body = ErrorBody, description = "Overloaded, no release serves yet, or the service that answers chats is away; ask again after Retry-After"),
        (status = 504, body = ErrorBody, description = "Took too long"),
    )
)]
pub(super) async fn completions(
    State(recall): State<Recall>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let sending = sending(&recall, &request);
    let asked = within(recall.options().request_timeout, async {
        let body = body::read(request, MAX_BODY_BYTES).await?;
        begin(&recall, request::parse(&body, access)?, arrived).await
    });
    let (loaded, answer, streamed) = asked.await?;
    let response = match streamed {
        Some(usage) => stream::response(answer, usage, sending),
        None => answer.whole().await?,
    };
    Ok(from_release(&loaded, response))
}

/// What lasts as long as a streamed answer is sent.
fn sending(recall: &Recall, request: &Request) -> Sending {
    let connection = request.extensions().get::<ConnectInfo<Activity>>();
    let streams = request.extensions().get::<Streams>();
    Sending::new(
        connection.map(|ConnectInfo(activity)| activity.begin()),
        recall.metrics().arrived(),
        streams.cloned().unwrap_or_default(),
    )
}

/// An answer that somebody writes.
struct Begun {
    source: Source,
    prompt_tokens: u64,
    cited: Vec<ChatCitation>,
}

/// Looks passages up, and has an answer written; with how it is streamed, if it is.
async fn begin(
    recall: &Recall,
    wanted: Wanted,
    arrived: Instant,
) -> Result<(Arc<Loaded>, Answer, Option<stream::Usage>), ApiError> {
    let chosen = choose(recall, wanted.model.as_deref())?;
    let streamed = wanted.streamed;
    let begun = match &chosen.chat.writer {
        Writer::Here(generator, adapters) => {
            let adapter = chosen.meant.adapter.as_ref();
            let adapter = adapter.and_then(|(name, _)| adapters.get(name)).cloned();
            write(recall, &chosen, (generator, adapter), wanted, arrived).await?
        }
        Writer::Service(service, base) => {
            forward::begin(
                recall,
                &chosen,
                (service.as_ref(), base.as_str()),
                wanted,
                arrived,
            )
            .await?
        }
    };
    let head = Head {
        id: format!(
            "chatcmpl-{:016x}{:016x}",
            request::random(),
            request::random()
        ),
        created: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        model: chosen.meant.pinned,
        release: chosen.loaded.release.clone(),
        prompt_tokens: begun.prompt_tokens,
        cited: begun.cited,
    };
    let answer = Answer::new(recall.clone(), head, begun.source, arrived);
    Ok((chosen.loaded, answer, streamed))
}

/// Has an answer written in this process.
async fn write(
    recall: &Recall,
    chosen: &Chosen,
    (generator, adapter): (&Arc<Generator>, Option<Arc<Adapter>>),
    wanted: Wanted,
    arrived: Instant,
) -> Result<Begun, ApiError> {
    let place = generator.enter().ok_or_else(too_many)?;
    let in_flight = recall.metrics().chat();
    let (loaded, chat) = (&chosen.loaded, &chosen.chat);
    let Prompt {
        tokens,
        room,
        cited,
    } = prompt::build(recall, loaded, (chat, generator), &wanted).await?;
    let prompt_tokens = tokens.len() as u64;
    let task = Task {
        prompt: tokens,
        options: Generation {
            max_tokens: wanted.max_tokens.map_or(room, |most| most.min(room)),
            sampling: wanted.sampling,
            stop: wanted.stop,
        },
        adapter,
        deadline: arrived + recall.options().chat_timeout,
        held: Box::new((loaded.clone(), in_flight)),
    };
    Ok(Begun {
        source: Source::Here(generator.begin(place, task)),
        prompt_tokens,
        cited,
    })
}

/// What a request's `model` means.
struct Chosen {
    loaded: Arc<Loaded>,
    chat: Arc<Chat>,
    meant: Meant,
}

fn choose(recall: &Recall, model: Option<&str>) -> Result<Chosen, ApiError> {
    let unknown = |code, message: String| {
        ApiError::new(StatusCode::NOT_FOUND, code, format!("model: {message}")).at("model")
    };
    let name = ModelName::parse(model);
    let loaded = recall
        .find(name.pipeline)
        .map_err(|e| ApiError::lookup("model", e))?;
    let Some(chat) = loaded.chat.clone() else {
        let message = format!(
            "{} has no model to chat with: declare an adapter (spec.adapters): once a release has one, it and its base answer; or ask /v1/retrieve for passages",
            loaded.pipeline
        );
        return Err(unknown("no_chat_model", message));
    };
    let meant = chat
        .meant(&loaded.pipeline, &name)
        .map_err(|message| unknown("unknown_model", message))?;
    Ok(Chosen {
        loaded,
        chat,
        meant,
    })
}

fn too_many() -> ApiError {
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_chats",
        "too many chats are waiting: ask again after Retry-After",
    )
}

#[cfg(test)]
mod tests;
