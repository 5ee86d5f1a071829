//! The official OpenAI client for Python against `/v1/chat/completions`.

use std::path::Path;
use std::process::Command;

use loci_recall::{Auth, Tokens};

use crate::chat_support::{ADAPTER, TALKATIVE};
use crate::support::{PIPELINE, Server, options};

const TOKEN: &str = "a-token-of-the-test-suite";

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_client_chats() {
    let python = std::env::var("LOCI_TEST_PYTHON")
        .expect("LOCI_TEST_PYTHON names no Python with `openai`: run `make test`");
    let mut options = options();
    (options.chats, options.chat_queue) = (1, 0);
    let auth = Auth::Bearer(Tokens::new([TOKEN]).unwrap());
    let server = Server::empty(options, auth).await;
    server.chat_release("one", &TALKATIVE).await;
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let script = Path::new(&here).join("../tests/python/chat.py");
    let pinned = format!("{PIPELINE}:escalation@sha256-{}", ADAPTER.digest().short());
    let mut command = Command::new(python);
    command
        .arg(script)
        .args([server.url("").as_str(), TOKEN, PIPELINE, pinned.as_str()]);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("5 citations"), "{out}");
}
