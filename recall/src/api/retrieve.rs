//! `POST /v1/retrieve`: passages with citations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use loci_index::Hit;
use loci_rerank::Outcome;

use super::body::{self, Fields};
use super::error::ApiError;
use super::{from_release, millis, within};
use crate::auth::Access;
use crate::engine::{Answer, Engine, EngineError, Question};
use crate::metrics::Stages;
use crate::recall::Recall;
use crate::release::Loaded;
use crate::wire::{
    Citation, DEFAULT_K, ErrorBody, Explain, FusionWeights, MAX_BODY_BYTES, MAX_K, MAX_QUERY_BYTES,
    MIN_K, Rerank, RerankSettings, RetrieveRequest, RetrieveResponse, RetrievedPassage, Scores,
    Timings,
};

/// Fields of a request.
pub(super) const FIELDS: [&str; 5] = ["query", "k", "filters", "pipeline", "explain"];

struct Wanted {
    question: Question,
    pipeline: Option<String>,
    explain: bool,
}

/// Passages that answer a question.
#[utoipa::path(
    post, path = "/v1/retrieve", tag = "recall", operation_id = "retrieve", security(("bearer" = [])),
    request_body = RetrieveRequest,
    responses(
        (status = 200, body = RetrieveResponse, description = "Passages, the best first", headers(("loci-release" = String, description = "The release that answered"))),
        (status = 400, body = ErrorBody, description = "A field is unknown, missing or refused; `param` names it"),
        (status = 401, body = ErrorBody, description = "No token, or another one"),
        (status = 404, body = ErrorBody, description = "There is no such pipeline"),
        (status = 413, body = ErrorBody, description = "The body or the query is too long"),
        (status = 415, body = ErrorBody, description = "The body is not JSON by its Content-Type"),
        (status = 503, body = ErrorBody, description = "Overloaded, or no release serves yet; ask again after Retry-After"),
        (status = 504, body = ErrorBody, description = "Took too long"),
    )
)]
pub(super) async fn retrieve(
    State(recall): State<Recall>,
    Extension(access): Extension<Access>,
    request: Request,
) -> Result<Response, ApiError> {
    within(recall.options().request_timeout, async {
        let fields = Fields::parse(&body::read(request, MAX_BODY_BYTES).await?, &FIELDS)?;
        let (loaded, response) = answer(&recall, access, fields).await?;
        Ok(from_release(&loaded, Json(response).into_response()))
    })
    .await
}

/// Answers a question, by whatever way it came; `fields` are some of [`FIELDS`].
pub(super) async fn answer(
    recall: &Recall,
    access: Access,
    fields: Fields,
) -> Result<(Arc<Loaded>, RetrieveResponse), ApiError> {
    let wanted = parse(fields, access)?;
    let start = Instant::now();
    let loaded = recall
        .find(wanted.pipeline.as_deref())
        .map_err(|e| ApiError::lookup("pipeline", e))?;
    let engine = loaded.clone();
    let (mut question, explain) = (wanted.question, wanted.explain);
    let answer = move |waited| {
        let budget = engine.latency_budget;
        question.left = budget.map(|budget| budget.saturating_sub(waited));
        let engine = &engine.engine;
        let visible = explain
            .then(|| engine.visible(&question.access))
            .transpose()?;
        Ok::<_, EngineError>((engine.answer(question)?, visible, waited))
    };
    let (answer, visible, queue) = recall.lanes().query(answer).await??;
    let stages = Stages {
        queue,
        embed: answer.embed,
        search: answer.search,
        rerank: answer.rerank.as_ref().map(|rerank| rerank.time),
        total: start.elapsed(),
    };
    recall
        .metrics()
        .retrieved(&loaded.pipeline, &stages, loaded.latency_budget);
    if let Some(rerank) = &answer.rerank {
        let applied = matches!(rerank.outcome, Outcome::Applied(_));
        recall.metrics().reranked(&loaded.pipeline, applied);
    }
    let response = response(&loaded, answer, &stages, visible);
    Ok((loaded, response))
}

fn parse(mut fields: Fields, access: Access) -> Result<Wanted, ApiError> {
    let text = fields
        .string("query")?
        .ok_or_else(|| body::missing("query", "it is the question, a string"))?;
    if text.trim().is_empty() {
        return Err(ApiError::field("query", "empty: ask something"));
    }
    if text.len() > MAX_QUERY_BYTES {
        let message = format!(
            "query: {} bytes are more than the {MAX_QUERY_BYTES} that are taken: ask a shorter question",
            text.len()
        );
        return Err(
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "query_too_long", message).at("query"),
        );
    }
    let k = fields.integer("k", MIN_K, MAX_K)?.unwrap_or(DEFAULT_K) as usize;
    let filter = fields
        .object("filters")?
        .map(|filters| Engine::filter(&filters))
        .transpose()?;
    let (pipeline, explain) = (
        fields.string("pipeline")?,
        fields.boolean("explain")?.unwrap_or(false),
    );
    Ok(Wanted {
        question: Question {
            text,
            k,
            filter,
            access,
            left: None,
        },
        pipeline,
        explain,
    })
}

fn response(
    loaded: &Arc<Loaded>,
    answer: Answer,
    stages: &Stages,
    visible: Option<u64>,
) -> RetrieveResponse {
    let (embed_ms, search_ms, total_ms) = (
        millis(stages.embed),
        millis(stages.search),
        millis(stages.total),
    );
    RetrieveResponse {
        release: loaded.release.clone(),
        explain: visible.map(|visible| explanation(loaded, &answer, visible, stages.queue)),
        rerank: answer.rerank.as_ref().map(|rerank| said(rerank.outcome)),
        passages: passages(answer),
        timings: Timings {
            embed_ms,
            search_ms,
            rerank_ms: stages.rerank.map(millis),
            total_ms,
        },
    }
}

fn passages(answer: Answer) -> Vec<RetrievedPassage> {
    let scores = answer
        .rerank
        .map(|rerank| rerank.scores)
        .unwrap_or_default();
    let scores = scores.into_iter().chain(std::iter::repeat(None));
    let passages = answer.hits.into_iter().map(passage).zip(scores);
    let scored = |(mut passage, score): (RetrievedPassage, Option<f32>)| {
        passage.scores.rerank = score;
        passage
    };
    passages.map(scored).collect()
}

fn said(outcome: Outcome) -> Rerank {
    let (candidates, reason) = match outcome {
        Outcome::Applied(candidates) => (candidates as u64, None),
        Outcome::Skipped(skip) => (0, Some(skip.to_string())),
    };
    Rerank {
        applied: reason.is_none(),
        candidates,
        reason,
    }
}

pub(super) fn passage(hit: Hit) -> RetrievedPassage {
    let value = |value| serde_json::to_value(value).unwrap_or_default();
    RetrievedPassage {
        text: hit.passage.text,
        score: hit.score,
        scores: Scores {
            dense: hit.dense,
            bm25: hit.bm25,
            fused: hit.fused,
            rerank: None,
        },
        citation: Citation {
            source: hit.key.source,
            document: hit.key.document,
            uri: hit.uri,
            version: hit.version,
            span: [hit.passage.span.start, hit.passage.span.end],
            headings: hit.passage.headings,
            title: hit.title,
        },
        metadata: hit
            .metadata
            .into_iter()
            .map(|(name, values)| (name, values.into_iter().map(value).collect()))
            .collect(),
    }
}

fn explanation(loaded: &Loaded, answer: &Answer, visible: u64, queue: Duration) -> Explain {
    let info = loaded.engine.info();
    let fusion = loaded.engine.fusion();
    let dense = fusion.dense_weight();
    Explain {
        pipeline: loaded.pipeline.clone(),
        content_id: info.content_id.to_string(),
        strategy: answer.strategy.to_owned(),
        passages: visible,
        passing: answer.passing,
        fusion: FusionWeights {
            normalization: fusion.normalization().name().to_owned(),
            dense,
            bm25: 1.0 - dense,
        },
        rerank: info.rerank.as_ref().map(|rerank| RerankSettings {
            method: rerank.method.name().to_owned(),
            model: rerank.model.map(|model| model.to_string()),
            candidates: rerank.candidates as u64,
            budget_ms: rerank.budget_ms,
        }),
        truncated: answer.truncated,
        queue_ms: millis(queue),
    }
}
