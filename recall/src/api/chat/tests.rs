//! What requests mean, and how they are refused.

use serde_json::{Value, json};

use super::request::{FIELDS, Wanted, parse};
use super::stream::Usage;
use crate::auth::Access;
use crate::wire::{
    ChatContent, ChatMessage, ChatPart, ChatRequest, ChatRole, ChatStop, ChatStreamOptions,
};

/// A chat with these fields besides.
fn with(fields: Value) -> Value {
    let mut request = json!({"messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in fields.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

fn read(request: &Value) -> Wanted {
    let parsed = parse(request.to_string().as_bytes(), Access::everything());
    parsed.unwrap_or_else(|e| panic!("{request}: {}", e.into_body().error.message))
}

/// The code and the message with which a request is refused.
fn refusal(request: &Value) -> (String, String) {
    let Err(error) = parse(request.to_string().as_bytes(), Access::everything()) else {
        panic!("taken: {request}");
    };
    let error = error.into_body().error;
    assert_eq!(error.kind, "invalid_request_error");
    let param = error.param.unwrap();
    assert!(error.message.starts_with(&param), "{}", error.message);
    (error.code, error.message)
}

#[test]
fn a_request_means_what_openais_api_says() {
    let plain = read(&with(json!({})));
    assert_eq!((plain.k, plain.max_tokens, plain.streamed), (5, None, None));
    assert_eq!(
        (plain.sampling.temperature, plain.sampling.top_p),
        (1.0, 1.0)
    );
    assert_ne!(plain.sampling.seed, read(&with(json!({}))).sampling.seed);
    let request = ChatRequest {
        model: Some("support:escalation".to_owned()),
        messages: vec![
            ChatMessage {
                role: ChatRole::Developer,
                content: ChatContent::Text("Be brief.".to_owned()),
            },
            ChatMessage {
                role: ChatRole::User,
                content: ChatContent::Parts(
                    ["Hi ", "there"]
                        .map(|text| ChatPart {
                            kind: "text".to_owned(),
                            text: text.to_owned(),
                        })
                        .into(),
                ),
            },
        ],
        max_tokens: Some(9),
        max_completion_tokens: Some(9),
        temperature: Some(0.5),
        top_p: Some(0.25),
        seed: Some(7),
        stop: Some(ChatStop::Many(vec!["END".to_owned()])),
        stream: Some(true),
        stream_options: Some(ChatStreamOptions {
            include_usage: Some(true),
        }),
        k: Some(0),
        filters: serde_json::from_value(json!({"topic": "bread"})).unwrap(),
    };
    let request = serde_json::to_value(request).unwrap();
    let fields = request.as_object().unwrap();
    assert!(FIELDS.iter().all(|name| fields.contains_key(*name)));
    let wanted = read(&request);
    let turns = wanted.messages.iter();
    let turns: Vec<(&str, &str)> = turns
        .map(|m| (m.role.as_str(), m.content.as_str()))
        .collect();
    assert_eq!(turns, [("system", "Be brief."), ("user", "Hi there")]);
    assert_eq!(wanted.model.as_deref(), Some("support:escalation"));
    assert_eq!((wanted.k, wanted.max_tokens), (0, Some(9)));
    assert_eq!(
        (wanted.stop, wanted.streamed),
        (vec!["END".to_owned()], Some(Usage(true)))
    );
    let sampling = wanted.sampling;
    assert_eq!(
        (sampling.temperature, sampling.top_p, sampling.seed),
        (0.5, 0.25, 7)
    );
    assert!(wanted.filter.is_some());
}

#[test]
fn values_that_ask_for_nothing_are_taken() {
    read(&with(json!({
        "n": 1, "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "logprobs": false, "top_logprobs": 0,
        "tools": [], "tool_choice": "auto", "parallel_tool_calls": true, "response_format": {"type": "text"},
        "modalities": ["text"], "store": false, "metadata": {}, "service_tier": "default", "user": null, "audio": null,
        "stop": null, "temperature": null, "seed": null,
    })));
    let answer = json!({"role": "assistant", "content": "Hello", "refusal": null, "tool_calls": null, "annotations": []});
    let ask = json!({"role": "user", "content": "Hi"});
    assert_eq!(
        read(&json!({"messages": [ask, answer, ask]}))
            .messages
            .len(),
        3
    );
    for (given, stop) in [
        (json!("a"), vec!["a"]),
        (json!([]), vec![]),
        (json!(["a", "b"]), vec!["a", "b"]),
    ] {
        assert_eq!(read(&with(json!({"stop": given}))).stop, stop);
    }
    let quiet = json!({"stream": true, "stream_options": {"include_usage": false, "include_obfuscation": false}});
    assert_eq!(read(&with(quiet)).streamed, Some(Usage(false)));
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    for (fields, start) in [
        (json!({"n": 2}), "n: not supported: each request has one"),
        (
            json!({"frequency_penalty": 0.5}),
            "frequency_penalty: not supported",
        ),
        (json!({"logit_bias": {"5": 1}}), "logit_bias: not supported"),
        (json!({"logprobs": true}), "logprobs: not supported"),
        (
            json!({"tools": [{"type": "function"}]}),
            "tools: not supported",
        ),
        (
            json!({"tool_choice": "required"}),
            "tool_choice: not supported",
        ),
        (
            json!({"response_format": {"type": "json_object"}}),
            "response_format: not supported",
        ),
        (
            json!({"modalities": ["text", "audio"]}),
            "modalities: not supported",
        ),
        (
            json!({"user": "me"}),
            "user: not supported: nothing of a request is kept",
        ),
        (json!({"store": true}), "store: not supported"),
        (
            json!({"service_tier": "flex"}),
            "service_tier: not supported",
        ),
        (
            json!({"stream": true, "stream_options": {"include_all": true}}),
            "stream_options.include_all: not supported",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}),
            "messages[0].tool_calls: not supported",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x", "name": "me"}]}),
            "messages[0].name: not supported",
        ),
    ] {
        let (code, message) = refusal(&with(fields));
        assert_eq!(code, "unsupported_parameter", "{message}");
        assert!(message.starts_with(start), "{message}");
    }
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let long = "x".repeat(257);
    for (fields, start) in [
        (
            json!({"max_tokens": 0}),
            "max_tokens: 0 is not a whole number from 1",
        ),
        (
            json!({"max_tokens": 3, "max_completion_tokens": 4}),
            "max_tokens: 3, and max_completion_tokens is 4",
        ),
        (
            json!({"temperature": 2.5}),
            "temperature: 2.5 is not a number from 0 to 2",
        ),
        (
            json!({"temperature": "hot"}),
            "temperature: a string is not a number",
        ),
        (json!({"top_p": 0}), "top_p: 0 is not a number above 0"),
        (json!({"seed": 1.5}), "seed: 1.5 is not a whole number"),
        (
            json!({"stop": ["a", "b", "c", "d", "e"]}),
            "stop: 5 strings: send up to 4",
        ),
        (json!({"stop": ["a", ""]}), "stop[1]: empty"),
        (json!({"stop": long}), "stop: 257 bytes"),
        (json!({"stop": 5}), "stop: a number is neither"),
        (
            json!({"stream": "yes"}),
            "stream: a string is not true or false",
        ),
        (
            json!({"stream_options": {}}),
            "stream_options: it is for streamed answers",
        ),
        (
            json!({"stream": true, "stream_options": {"include_usage": 1}}),
            "stream_options.include_usage: a number",
        ),
        (json!({"k": 51}), "k: 51 is not a whole number from 0 to 50"),
        (
            json!({"filters": {"b": {"like": 1}}}),
            "filters.b.like: no such operator",
        ),
        (
            json!({"messages": "Hi"}),
            "messages: a string is not a list",
        ),
        (json!({"messages": []}), "messages: no turn is the user's"),
        (
            json!({"messages": [{"role": "system", "content": "x"}]}),
            "messages: no turn is the user's",
        ),
        (
            json!({"messages": ["Hi"]}),
            "messages[0]: a string is not an object",
        ),
        (
            json!({"messages": [{"role": "me", "content": "x"}]}),
            "messages[0].role: \"me\" is none of system",
        ),
        (
            json!({"messages": [{"role": 1, "content": "x"}]}),
            "messages[0].role: a number is not a string",
        ),
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].role: tool is not supported",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
            "messages[0].content[0].type: image_url is not supported",
        ),
        (
            json!({"messages": [{"role": "user", "content": 1}]}),
            "messages[0].content: a number is neither",
        ),
    ] {
        let (code, message) = refusal(&with(fields));
        assert_eq!(code, "invalid_value", "{message}");
        assert!(message.starts_with(start), "{message}");
    }
    for (fields, start) in [
        (json!({"messages": null}), "messages: missing"),
        (
            json!({"messages": [{"content": "x"}]}),
            "messages[0].role: missing",
        ),
        (
            json!({"messages": [{"role": "user", "content": null}]}),
            "messages[0].content: missing",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
            "messages[0].content[0].text: missing",
        ),
    ] {
        let (code, message) = refusal(&with(fields));
        assert_eq!(code, "missing_field", "{message}");
        assert!(message.starts_with(start), "{message}");
    }
    let (code, message) = refusal(&with(json!({"max_token": 5})));
    assert_eq!(code, "unknown_field");
    assert!(message.contains("did you mean max_tokens?"), "{message}");
}
