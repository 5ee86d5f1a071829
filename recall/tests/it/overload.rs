//! Too much at once, too slow, and the end.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Server, options};

/// A request whose body never comes.
async fn stalled(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /v1/retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn rest(mut stream: TcpStream) -> String {
    let mut buffer = vec![0; 4096];
    let length = timeout(Duration::from_secs(60), stream.read(&mut buffer))
        .await
        .expect("an answer comes")
        .unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_queue_requests_are_told_to_come_back() {
    let mut options = options();
    (options.concurrency, options.queue) = (1, 2);
    let server = Server::start(options).await;
    let request = server
        .client
        .post(server.url("/v1/retrieve"))
        .json(&json!({"query": "refunds ".repeat(500)}));
    let send = |_| tokio::spawn(request.try_clone().unwrap().send());
    let (mut served, mut refused) = (0, 0);
    for response in (0..40).map(send).collect::<Vec<_>>() {
        let response = response.await.unwrap().unwrap();
        match response.status().as_u16() {
            200 => served += 1,
            503 => {
                assert_eq!(response.headers()["retry-after"], "1");
                assert_eq!(
                    response.json::<Value>().await.unwrap()["error"]["code"],
                    "overloaded"
                );
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(
        served >= 3 && refused >= 1,
        "{served} served, {refused} refused"
    );
    assert_eq!(
        server.ask(json!({"query": "refunds"})).await["release"],
        "one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_pass_bulk_work() {
    let mut options = options();
    options.concurrency = 1;
    let server = Server::start(options).await;
    let texts: Vec<String> = (0..600).map(|i| format!("{i} ").repeat(200)).collect();
    let bulk = server
        .client
        .post(server.url("/v1/embeddings"))
        .json(&json!({"input": texts}));
    let bulk = tokio::spawn(bulk.send());
    while server.metric("loci_http_requests_in_flight").await < 2.0 {}
    for _ in 0..20 {
        server.ask(json!({"query": "refunds"})).await;
    }
    assert!(
        !bulk.is_finished(),
        "twenty queries are answered while the bulk request goes on"
    );
    // Given up, it frees its place: another one is served.
    bulk.abort();
    let small = server
        .post("/v1/embeddings", &json!({"input": vec!["a"; 5]}))
        .await;
    assert_eq!(
        small.json::<Value>().await.unwrap()["data"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_given_up() {
    let mut options = options();
    options.request_timeout = Duration::from_millis(300);
    let server = Server::start(options).await;
    let answer = rest(stalled(&server).await).await;
    assert!(
        answer.starts_with("HTTP/1.1 504") && answer.contains("\"code\":\"timeout\""),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn at_shutdown_requests_in_flight_are_answered() {
    let mut options = options();
    options.concurrency = 1;
    let server = Server::start(options).await;
    let queries = server.occupy(40).await;
    // The request for metrics is in flight itself; queries that have not arrived yet may be
    // turned away.
    let admitted = server.metric("loci_http_requests_in_flight").await as usize - 1;
    server.shutdown.cancel();
    let mut answered = 0;
    for query in queries {
        if let Ok(response) = query.await.unwrap() {
            assert_eq!(response.status(), 200);
            assert_eq!(response.json::<Value>().await.unwrap()["release"], "one");
            answered += 1;
        }
    }
    assert!(
        admitted > 0 && answered >= admitted,
        "{answered} of {admitted} answered"
    );
    server.serving.await.unwrap().unwrap();
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_does_not_wait_for_ever() {
    let mut options = options();
    options.drain_timeout = Duration::from_millis(300);
    let server = Server::start(options).await;
    let stream = stalled(&server).await;
    while server.metric("loci_http_requests_in_flight").await < 2.0 {}
    server.shutdown.cancel();
    let answer = rest(stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("shutting_down"),
        "{answer}"
    );
    timeout(Duration::from_secs(60), server.serving)
        .await
        .expect("it ends")
        .unwrap()
        .unwrap();
}
