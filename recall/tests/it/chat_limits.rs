//! Chats across switches, too many of them, given up, and at the end.

use std::time::Duration;

use loci_recall::wire::ErrorBody;
use loci_recall::{Auth, RecallOptions};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::chat_support::{
    CONTEXT, Stream, TALKATIVE, ask, chat_request, escalation, talkative, text,
};
use crate::support::{Server, options, write_revision};

/// Tokens of an answer that takes long enough for something else to happen meanwhile.
const LONG: usize = 6000;
/// Chats that are written or wait.
const CHATS: &str = "loci_chats_in_flight";

async fn server(options: RecallOptions) -> Server {
    let server = Server::empty(options, Auth::Off).await;
    server.chat_release("one", &TALKATIVE).await;
    server
}

fn long(max_tokens: usize) -> Value {
    let mut request = ask("When are refunds paid?", max_tokens);
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    request
}

/// An answer that is being written: its first token has come.
async fn begun(server: &Server) -> Stream {
    let mut stream = Stream::new(server.post_chat(&long(LONG)).await);
    for _ in 0..2 {
        stream.next().await.expect("a piece");
    }
    stream
}

async fn refused(response: Response) -> (u16, Option<String>, ErrorBody) {
    let status = response.status().as_u16();
    let after = response.headers().get("retry-after");
    let after = after.map(|after| after.to_str().unwrap().to_owned());
    (status, after, response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_finishes_on_the_release_that_it_began_with() {
    let server = server(options()).await;
    let directory = server.dir.path().join("two");
    write_revision(&directory, "two", |vectors| vectors);
    // The same decoder, loaded once more: both releases share one.
    let again = talkative(CONTEXT);
    let request = chat_request("two", directory, &again, escalation());
    let prepared = server.recall.prepare(request).await.unwrap();

    let stream = begun(&server).await;
    let mut drained = Box::pin(server.recall.switch(prepared).unwrap().drained());
    assert!(futures::poll!(&mut drained).is_pending(), "it is used");
    let beside = server.chat(ask("When are refunds paid?", 5)).await;
    assert_eq!(beside.release, "two");
    assert!(beside.citations[0].text.ends_with("(two)"));

    let chunks = stream.rest().await;
    assert!(chunks.iter().all(|chunk| chunk.release == "one"));
    let last = chunks.last().unwrap();
    let usage = last.usage.unwrap();
    assert_eq!(usage.completion_tokens, LONG as u64);
    let cited = last.citations.as_ref().unwrap();
    assert!(cited.iter().all(|cited| cited.text.ends_with("(one)")));
    timeout(Duration::from_secs(60), drained)
        .await
        .expect("the old release is let go");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_chats_are_told_to_come_back() {
    let mut options = options();
    (options.chats, options.chat_queue) = (1, 1);
    let server = server(options).await;
    let written = begun(&server).await;
    let mut waiting = Stream::new(server.post_chat(&long(4)).await);
    assert!(waiting.next().await.unwrap().contains("\"assistant\""));
    let (status, after, body) = refused(server.post_chat(&ask("a", 3)).await).await;
    assert_eq!((status, after.as_deref()), (429, Some("1")));
    assert_eq!(
        (body.error.kind.as_str(), body.error.code.as_str()),
        ("rate_limit_error", "too_many_chats")
    );
    // Queries have nothing to do with that.
    assert_eq!(
        server.ask(json!({"query": "refunds"})).await["release"],
        "one"
    );
    assert_eq!(server.metric(CHATS).await, 2.0);
    let first = written.rest().await;
    assert_eq!(
        first.last().unwrap().usage.unwrap().completion_tokens,
        LONG as u64
    );
    let second = waiting.rest().await;
    assert_eq!(second.last().unwrap().usage.unwrap().completion_tokens, 4);
    server.until(CHATS, 0.0).await;
    assert_eq!(server.chat(ask("a", 3)).await.usage.completion_tokens, 3);
    assert!(server.metric("loci_generated_tokens_total").await >= (LONG + 7) as f64);
    assert_eq!(
        server.metric("loci_chat_first_token_seconds_count").await,
        3.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_frees_the_place() {
    let mut options = options();
    (options.chats, options.chat_queue) = (1, 1);
    let server = server(options).await;
    let streamed = begun(&server).await;
    let mut whole = long(LONG);
    whole["stream"] = json!(false);
    whole["stream_options"] = Value::Null;
    let whole = server
        .client
        .post(server.url("/v1/chat/completions"))
        .json(&whole);
    let whole = tokio::spawn(whole.send());
    server.until(CHATS, 2.0).await;
    whole.abort();
    server.until(CHATS, 1.0).await;
    drop(streamed);
    server.until(CHATS, 0.0).await;
    assert!(server.metric("loci_generated_tokens_total").await < LONG as f64);
    assert_eq!(server.chat(ask("a", 3)).await.usage.completion_tokens, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_chats_are_written_together_and_queries_answered_meanwhile() {
    let server = server(options()).await;
    let ones = [begun(&server).await, begun(&server).await];
    for _ in 0..5 {
        assert_eq!(
            server.ask(json!({"query": "refunds"})).await["release"],
            "one"
        );
        server.chat(ask("Can penguins fly?", 2)).await;
    }
    assert_eq!(server.metric(CHATS).await, 2.0, "they still go on");
    let mut texts = Vec::new();
    for stream in ones {
        texts.push(text(&stream.rest().await));
    }
    assert_eq!(texts[0], texts[1], "each is written as it would be alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_its_time() {
    let mut options = options();
    options.chat_timeout = Duration::from_millis(200);
    let server = server(options).await;
    let mut whole = long(LONG);
    whole["stream"] = json!(false);
    whole["stream_options"] = Value::Null;
    let (status, _, body) = refused(server.post_chat(&whole).await).await;
    assert_eq!((status, body.error.code.as_str()), (504, "timeout"));
    let mut stream = Stream::new(server.post_chat(&long(LONG)).await);
    let mut last = String::new();
    while let Some(data) = stream.next().await {
        last = data;
    }
    let body: ErrorBody = serde_json::from_str(&last).unwrap();
    assert_eq!(body.error.code, "timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_shutdown_streams_have_their_time() {
    let server = server(options()).await;
    let stream = begun(&server).await;
    server.shutdown.cancel();
    let chunks = stream.rest().await;
    assert_eq!(
        chunks.last().unwrap().usage.unwrap().completion_tokens,
        LONG as u64
    );
    let ended = timeout(Duration::from_secs(60), server.serving).await;
    ended.expect("it ends").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_shutdown_streams_are_not_waited_for_for_ever() {
    let mut options = options();
    options.stream_drain = Duration::from_millis(100);
    let server = server(options).await;
    let mut stream = begun(&server).await;
    server.shutdown.cancel();
    let mut last = String::new();
    while let Some(data) = stream.next().await {
        last = data;
    }
    let body: ErrorBody = serde_json::from_str(&last).unwrap();
    assert_eq!(
        (body.error.kind.as_str(), body.error.code.as_str()),
        ("server_error", "shutting_down")
    );
    let ended = timeout(Duration::from_secs(60), server.serving).await;
    ended.expect("it ends").unwrap().unwrap();
}
