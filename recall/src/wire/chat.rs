//! Chats, as OpenAI's API has them, with passages and citations.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Citation;

/// Most passages that a chat can ask for.
pub const MAX_CHAT_K: u64 = 50;
/// Most strings to stop at.
pub const MAX_STOPS: usize = 4;
/// Longest of them, in bytes of UTF-8.
pub const MAX_STOP_BYTES: usize = 256;

/// A chat to be answered. `max_tokens`, `temperature` and so on are OpenAI's; what else its API has is refused by name,
/// unless it asks for what is done anyway (`n: 1`, `frequency_penalty: 0`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatRequest {
    /// `namespace/pipeline:adapter`; with `@sha256-<12 digits>` behind it this adapter and no other;
    /// `namespace/pipeline` for the model without adapter. The namespace may be absent where that is clear, all of it
    /// when there is only one pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The chat so far. Passages are looked up for the last turn of the user, one of which there must be.
    pub messages: Vec<ChatMessage>,
    /// Tokens of the answer, at most. When absent, what the context has room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// The same, by its newer name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_completion_tokens: Option<u64>,
    /// 0 for the likeliest answer, 1 (the default) for tokens as likely as the model has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 2, default = 1)]
    pub temperature: Option<f64>,
    /// Only the likeliest tokens that together have this probability are drawn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1, default = 1)]
    pub top_p: Option<f64>,
    /// The same seed gives the same answer to the same prompt, on the same machine and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Up to four strings before which the answer ends, of up to 256 bytes each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<ChatStop>,
    /// Whether the answer comes in pieces, as server-sent events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = false)]
    pub stream: Option<bool>,
    /// How it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<ChatStreamOptions>,
    /// Passages wanted, 0 to 50; 5 when absent, 0 looks nothing up. Fewer stand in the prompt where it has no room. Not
    /// in OpenAI's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 50, default = 5)]
    pub k: Option<u64>,
    /// Which passages may be looked up, as in `/v1/retrieve`. Not in OpenAI's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub filters: Option<Map<String, Value>>,
}

/// One turn of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: ChatRole,
    /// What is said: text, or parts of text.
    pub content: ChatContent,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChatRole {
    /// Who deploys the model.
    System,
    /// The same, by its newer name.
    Developer,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ChatContent {
    /// A text.
    Text(String),
    /// Texts, one after another.
    Parts(Vec<ChatPart>),
}

/// A part of what is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatPart {
    /// `text`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    pub text: String,
}

/// Where an answer stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ChatStop {
    /// Before a string.
    One(String),
    /// Before the first of some.
    Many(Vec<String>),
}

/// How an answer is streamed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatStreamOptions {
    /// Whether a last chunk, without choices, tells the tokens read and written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_usage: Option<bool>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatResponse {
    /// Names the answer.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answered, by the name that means the same for ever.
    pub model: String,
    /// The answer, in a list of one.
    pub choices: Vec<ChatChoice>,
    /// Tokens read and written.
    pub usage: ChatUsage,
    /// The passages that stand in the prompt. Not in OpenAI's API.
    pub citations: Vec<ChatCitation>,
    /// The release that answered. Not in OpenAI's API.
    pub release: String,
}

/// What the model says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatChoice {
    /// 0.
    pub index: u64,
    /// The turn of the model.
    pub message: ChatAnswer,
    /// `stop` when the model or a string to stop at ended it, `length` when it has as many tokens as it may.
    pub finish_reason: String,
}

/// The turn of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatAnswer {
    /// `assistant`.
    pub role: String,
    /// What it says.
    pub content: String,
}

/// Tokens read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatUsage {
    /// Tokens of the prompt, passages and marks included.
    pub prompt_tokens: u64,
    /// Tokens of the answer, the one that ends it included.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

/// A passage in the prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatCitation {
    /// Its number in the prompt, by which the answer may name it: `[1]`.
    pub number: u64,
    /// The text.
    pub text: String,
    /// The score that ranks.
    pub score: f32,
    /// Where the text stands.
    pub citation: Citation,
}

/// A piece of a streamed answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatChunk {
    /// Names the answer; the same in all pieces.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answers, by the name that means the same for ever.
    pub model: String,
    /// What is added, in a list of one; empty beside `usage`.
    pub choices: Vec<ChatChunkChoice>,
    /// Tokens read and written, last and when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ChatUsage>,
    /// The passages that stand in the prompt, with the end of the answer and with `usage`. Not in OpenAI's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub citations: Option<Vec<ChatCitation>>,
    /// The release that answers. Not in OpenAI's API.
    pub release: String,
}

/// What a piece adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatChunkChoice {
    /// 0.
    pub index: u64,
    /// What is added to the turn of the model.
    pub delta: ChatDelta,
    /// Why the answer ends here, as in [`ChatChoice`]; null before its end.
    pub finish_reason: Option<String>,
}

/// What is added to the turn of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatDelta {
    /// `assistant`, first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// More of what it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}
