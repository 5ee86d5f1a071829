//! The JSON of requests and answers, for servers and clients.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

mod chat;
mod documents;

pub use chat::{
    ChatAnswer, ChatChoice, ChatChunk, ChatChunkChoice, ChatCitation, ChatContent, ChatDelta,
    ChatMessage, ChatPart, ChatRequest, ChatResponse, ChatRole, ChatStop, ChatStreamOptions,
    ChatUsage, MAX_CHAT_K, MAX_STOP_BYTES, MAX_STOPS,
};
pub use documents::{
    BatchAnswer, BatchDocument, BatchItem, DocumentPhase, DocumentState, DocumentWritten,
    MAX_BATCH_BODY_BYTES, MAX_BATCH_DOCUMENTS, MAX_METADATA_BYTES, MAX_METADATA_FIELDS,
    SourceState,
};

/// Fewest passages that can be asked for.
pub const MIN_K: u64 = 1;
/// Most passages that can be asked for.
pub const MAX_K: u64 = 1000;
/// Passages given when a request does not say.
pub const DEFAULT_K: u64 = loci_prompt::PASSAGES as u64;
/// Longest query, in bytes of UTF-8.
pub const MAX_QUERY_BYTES: usize = loci_prompt::QUESTION_BYTES;
/// Most texts in one request for embeddings.
pub const MAX_INPUTS: usize = 2048;
/// Longest body of a request, in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// Longest body of a request for embeddings, in bytes.
pub const MAX_EMBEDDINGS_BODY_BYTES: usize = 8 << 20;

/// What to look for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetrieveRequest {
    /// The question, in plain text; no character is an operator. At most 32 KiB.
    pub query: String,
    /// Passages wanted, 1 to 1000; 5 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000, default = 5)]
    pub k: Option<u64>,
    /// Which passages may be returned: `{"field": value}` for equality, `[values]` for any of
    /// them, `{"gt"|"gte"|"lt"|"lte"|"prefix"|"exists": …}`, and `and`, `or`, `not` of filters.
    /// Fields are `source`, `document`, `uri`, `memory`, `version` and metadata; one that no document has is refused. A
    /// token's own filter holds besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub filters: Option<Map<String, Value>>,
    /// The pipeline; may be absent when there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Whether the answer says how it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = false)]
    pub explain: Option<bool>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RetrieveResponse {
    /// The release that answered.
    pub release: String,
    /// Passages, the best first.
    pub passages: Vec<RetrievedPassage>,
    /// Whether they have been put into another order; absent where the pipeline has no re-ranking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<Rerank>,
    /// How long it took.
    pub timings: Timings,
    /// How it was found, when the request asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<Explain>,
}

/// What re-ranking did: the best passages of the search are compared with the query anew, and put into another order,
/// where the time allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rerank {
    /// Whether there is another order than that of the search.
    pub applied: bool,
    /// How many of the best passages were compared.
    pub candidates: u64,
    /// Why none were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A passage and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RetrievedPassage {
    /// The text.
    pub text: String,
    /// The score that ranks: of passages that were compared anew that of the comparison, which is of another scale, and of
    /// those behind them the fused one.
    pub score: f32,
    /// The scores behind it.
    pub scores: Scores,
    /// Where the text stands.
    pub citation: Citation,
    /// The document's metadata: values by field.
    pub metadata: BTreeMap<String, Vec<Value>>,
}

/// The scores of a passage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Scores {
    /// Inner product of the vectors of query and passage: the cosine, for embedders that
    /// normalise.
    pub dense: Option<f32>,
    /// BM25 score; 0 without a word in common.
    pub bm25: Option<f32>,
    /// Both, brought to one scale among the candidates, weighed and added: by default at most 1.
    pub fused: f32,
    /// What re-ranking gives, where it compared the passage: with late interaction the sum of cosines, at most one for
    /// each token of the query; with a cross-encoder its logit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<f32>,
}

/// Where a passage stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Citation {
    /// The source, as the pipeline names it.
    pub source: String,
    /// The document within the source.
    pub document: String,
    /// Where a person finds the document.
    pub uri: String,
    /// The document's version.
    pub version: String,
    /// First byte in the document, and the byte after the last; in what was read of it, where that is no text (PDF, Office).
    pub span: [u64; 2],
    /// Headings above the passage, outermost first.
    pub headings: Vec<String>,
    /// The document's title, when it has one.
    pub title: Option<String>,
}

/// How long an answer took, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// Embedding the query.
    pub embed_ms: f64,
    /// Searching.
    pub search_ms: f64,
    /// Re-ranking, tried or done; absent where the pipeline has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank_ms: Option<f64>,
    /// From the whole request to the answer, waiting included.
    pub total_ms: f64,
}

/// How an answer was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explain {
    /// The pipeline.
    pub pipeline: String,
    /// Digest of what the index says.
    pub content_id: String,
    /// How vectors were compared: `scan` (all that pass), `graph`, `graph+scan` or `none`.
    pub strategy: String,
    /// Passages in the index, of those that the token's filter passes.
    pub passages: u64,
    /// Passages that pass the filters, the token's among them, when there are any.
    pub passing: Option<u64>,
    /// How the scores were fused.
    pub fusion: FusionWeights,
    /// How the best passages are put into another order, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<RerankSettings>,
    /// Whether the query was longer than the embedder's limit, and its vector is that of its
    /// beginning. Words count all the same.
    pub truncated: bool,
    /// Milliseconds that the query waited for others.
    pub queue_ms: f64,
}

/// How the best passages of a search are put into another order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RerankSettings {
    /// `lateInteraction` or `crossEncoder`.
    pub method: String,
    /// The identity of the cross-encoder, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How many of the best passages are compared at most.
    pub candidates: u64,
    /// How long that may take at most, in milliseconds.
    pub budget_ms: u64,
}

/// How the fused score came about. The weights together are 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FusionWeights {
    /// How the scores were brought to one scale: `minMax`, `theoreticalMinMax`, `zScore` or `reciprocalRank`.
    #[serde(default)]
    pub normalization: String,
    /// The dense score.
    pub dense: f32,
    /// The BM25 score.
    pub bm25: f32,
}

/// Texts to embed, as OpenAI's API has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingsRequest {
    /// A text, or 1 to 2048 of them. Token arrays are refused: they belong to one tokenizer.
    pub input: EmbeddingsInput,
    /// The pipeline whose embedder is wanted; may be absent when there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `float` (the default) or `base64`: little-endian 32-bit floats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<EncodingFormat>,
    /// Refused unless it is the length of the embedder's vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u64>,
    /// What the texts are: `passage` (the default) or `query`. Not in OpenAI's API; embedders
    /// for asymmetric retrieval tell the two apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_type: Option<InputType>,
}

/// One text or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum EmbeddingsInput {
    /// One text.
    One(String),
    /// Several texts.
    Many(Vec<String>),
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// As lists of numbers.
    #[default]
    Float,
    /// As base64 of little-endian 32-bit floats.
    Base64,
}

/// What texts are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    /// Texts to be found.
    #[default]
    Passage,
    /// Questions that look for them.
    Query,
}

/// Embedded texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EmbeddingsResponse {
    /// `list`.
    pub object: String,
    /// One for each text, in their order.
    pub data: Vec<Embedding>,
    /// The pipeline whose embedder it was.
    pub model: String,
    /// Tokens read.
    pub usage: Usage,
    /// How many texts were longer than the embedder's limit; the vector of such a text is that
    /// of its beginning. Not in OpenAI's API.
    pub truncated: u64,
}

/// An embedded text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Embedding {
    /// `embedding`.
    pub object: String,
    /// Position of the text.
    pub index: u64,
    /// The vector.
    pub embedding: Vector,
}

/// A vector, in the format asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Vector {
    /// Numbers.
    Float(Vec<f32>),
    /// Base64 of little-endian 32-bit floats.
    Base64(String),
}

/// Tokens read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens of the texts, special tokens and prompts included.
    pub prompt_tokens: u64,
    /// The same: nothing is generated.
    pub total_tokens: u64,
}

/// What can be asked, as OpenAI's API has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// One for each pipeline that serves, and one for each of its adapters.
    pub data: Vec<Model>,
}

/// What can be asked by one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// The pipeline, `namespace/name`; with `:adapter` behind it an adapter.
    pub id: String,
    /// `model`.
    pub object: String,
    /// Seconds since 1970 when its release was loaded here.
    pub created: u64,
    /// `loci`.
    pub owned_by: String,
    /// The release that serves. Not in OpenAI's API.
    pub release: String,
    /// Length of the vectors that `/v1/embeddings` gives by this name; absent for adapters, which it does not take. Not
    /// in OpenAI's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u64>,
    /// Whether `/v1/chat/completions` takes this name. Not in OpenAI's API.
    pub chat: bool,
    /// The name of the adapter that means the same for ever, `namespace/name:adapter@sha256-…`. Not in OpenAI's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
}

/// Whether every declared pipeline serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Whether none is missing.
    pub ready: bool,
    /// The releases that serve, by pipeline.
    pub serving: BTreeMap<String, String>,
    /// Pipelines that no release serves yet.
    pub missing: Vec<String>,
}

/// An error, as OpenAI's API has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// What, why and the way out.
    pub message: String,
    /// `invalid_request_error`, `authentication_error`, `permission_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of error, for programs.
    pub code: String,
    /// The offending field.
    pub param: Option<String>,
}
