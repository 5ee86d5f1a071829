//! The official clients for Python: OpenAI's against `/v1/embeddings`, that of the Model Context Protocol against `/mcp`
//! and `loci mcp`.

use std::ffi::OsStr;
use std::process::Command;

use crate::harness::{Site, text};

const TOKEN: &str = "a-token-of-the-test-suite";

/// Runs a script of `tests/python`, which must succeed; gives what it prints.
fn python(script: &str, args: &[&OsStr]) -> String {
    let python = std::env::var("LOCI_TEST_PYTHON").expect(
        "LOCI_TEST_PYTHON names no Python with tests/python/requirements.txt: run `make test`",
    );
    let script = loci_testbed::root().join("tests/python").join(script);
    let output = Command::new(python)
        .arg(script)
        .args(args)
        .output()
        .unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out
}

#[test]
fn the_openai_client_gets_embeddings() {
    let site = Site::new();
    site.write("tokens", &format!("{TOKEN}\n"));
    let tokens = site.path("tokens");
    let mut up = site.up_with(&["--token-file", tokens.to_str().unwrap()]);
    let url = up.ready();
    let out = python("embeddings.py", &[url.as_ref(), TOKEN.as_ref()]);
    assert!(out.contains("384 dimensions"), "{out}");
    up.stop();
}

#[test]
fn the_mcp_client_gets_passages() {
    let site = Site::new();
    site.write("tokens", &format!("{TOKEN}\n"));
    site.write("wrong", "another-token-altogether\n");
    let (tokens, wrong) = (site.path("tokens"), site.path("wrong"));
    let mut up = site.up_with(&["--token-file", tokens.to_str().unwrap()]);
    let url = up.ready();
    let args: [&OsStr; 5] = [
        url.as_ref(),
        TOKEN.as_ref(),
        env!("CARGO_BIN_EXE_loci").as_ref(),
        tokens.as_ref(),
        wrong.as_ref(),
    ];
    let out = python("mcp_client.py", &args);
    assert!(out.contains("2 transports"), "{out}");
    up.stop();
}

#[test]
fn an_mcp_server_without_its_token_does_not_start() {
    let site = Site::new();
    let output = site.run(&["mcp", "--token-file", "absent-tokens"]);
    assert!(!output.status.success() && output.stdout.is_empty());
    let said = text(&output.stderr);
    assert!(
        said.contains("cannot read the token file absent-tokens"),
        "{said}"
    );
}
