//! The official OpenAI client for Python against `/v1/embeddings`.

use std::process::Command;

use crate::harness::{Site, text};

#[test]
fn the_openai_client_gets_embeddings() {
    let python = std::env::var("LOCI_TEST_PYTHON")
        .expect("LOCI_TEST_PYTHON names no Python with `openai`: run `make test`");
    let site = Site::new();
    site.write("tokens", "a-token-of-the-test-suite\n");
    let tokens = site.path("tokens");
    let mut up = site.up_with(&["--token-file", tokens.to_str().unwrap()]);
    let url = up.ready();
    let script = loci_testbed::root().join("tests/python/embeddings.py");
    let output = Command::new(python)
        .arg(script)
        .args([&url, "a-token-of-the-test-suite"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    assert!(text(&output.stdout).contains("384 dimensions"));
    up.stop();
}
