//! Which source a request is about.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, header};
use loci_push::check_id;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::super::body::shorten;
use super::super::error::ApiError;
use crate::documents::{Documents, PushSource};
use crate::recall::{BODIES_KIB, Recall};

pub(super) type Pathed<T> = Result<Path<T>, PathRejection>;
pub(super) type Queried = Result<Query<Which>, QueryRejection>;

/// The parameters of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    pub pipeline: Option<String>,
}

/// A push source, and who keeps its documents.
pub(super) struct Place {
    pub at: PushSource,
    pub documents: Arc<dyn Documents>,
}

impl Place {
    pub(super) fn of_source(
        recall: &Recall,
        path: Pathed<String>,
        query: Queried,
    ) -> Result<Self, ApiError> {
        let Path(source) = path.map_err(unreadable)?;
        Self::find(recall, &source, query)
    }

    /// The source, and the id of the document, which was checked.
    pub(super) fn of_document(
        recall: &Recall,
        path: Pathed<(String, String)>,
        query: Queried,
    ) -> Result<(Self, String), ApiError> {
        let Path((source, id)) = path.map_err(unreadable)?;
        let place = Self::find(recall, &source, query)?;
        check_id(&id).map_err(|reason| ApiError::field("document", reason))?;
        Ok((place, id))
    }

    fn find(recall: &Recall, source: &str, query: Queried) -> Result<Self, ApiError> {
        let Query(Which { pipeline }) = query.map_err(|e| {
            ApiError::field(
                "query",
                format!("{}: only `pipeline` is known", e.body_text()),
            )
        })?;
        let documents = recall.options().documents.clone();
        let Some(documents) = documents.filter(|d| !d.sources().is_empty()) else {
            let message =
                "source: no pipeline here takes documents: declare a source with push: {}";
            return Err(unknown(message.to_owned()));
        };
        let sources = documents.sources();
        let mut fits = sources
            .iter()
            .filter(|at| at.source == source && is_of(at, pipeline.as_deref()));
        match (fits.next(), fits.next()) {
            (Some(at), None) => Ok(Self {
                at: at.clone(),
                documents,
            }),
            (None, _) => Err(unknown(format!(
                "source: there is no push source \"{}\"{}; there are {}",
                shorten(source),
                pipeline.map_or_else(String::new, |p| format!(" of {}", shorten(&p))),
                named(&sources)
            ))),
            (Some(_), Some(_)) => {
                let same: Vec<_> = sources.iter().filter(|at| at.source == source).collect();
                let pipelines: Vec<&str> = same.iter().map(|at| at.pipeline.as_str()).collect();
                let reason = format!(
                    "several pipelines have a source \"{source}\": name one of {}",
                    pipelines.join(", ")
                );
                Err(ApiError::field("pipeline", reason))
            }
        }
    }
}

/// Whether a source is of a pipeline, whose namespace may be left out.
fn is_of(at: &PushSource, pipeline: Option<&str>) -> bool {
    let bare = at.pipeline.split_once('/').map(|(_, name)| name);
    pipeline.is_none_or(|name| at.pipeline == name || bare == Some(name))
}

fn named(sources: &[PushSource]) -> String {
    let names: Vec<String> = sources
        .iter()
        .map(|at| format!("{} of {}", at.source, at.pipeline))
        .collect();
    names.join(", ")
}

fn unknown(message: String) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "unknown_source", message).at("source")
}

fn unreadable(rejection: PathRejection) -> ApiError {
    ApiError::field("document", rejection.body_text())
}

/// Room for a body while it is received and written, until the result is dropped.
pub(super) fn room(
    recall: &Recall,
    headers: &HeaderMap,
    limit: usize,
) -> Result<OwnedSemaphorePermit, ApiError> {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let kib = length
        .map_or(limit, |length| length.min(limit))
        .div_ceil(1024);
    let kib = u32::try_from(kib.clamp(1, BODIES_KIB)).unwrap_or(1);
    let bodies = recall.bodies().clone();
    bodies.try_acquire_many_owned(kib).map_err(|_| {
        ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "overloaded",
            "too many documents are being received: send it again after Retry-After",
        )
    })
}
