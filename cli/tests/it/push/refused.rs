//! What is refused, and with what reason.

use super::*;

#[test]
fn what_is_wrong_is_named_and_changes_nothing() {
    let site = site("{maxDocumentBytes: 1000, maxDocuments: 2}");
    let mut up = site.up();
    let url = up.ready();
    assert_eq!(put(&url, "a", "one").0, 201);
    for id in [
        "../a",
        "%2e%2e/a",
        "a//b",
        "a/",
        "a%5Cb",
        "a%00",
        "%2Fetc%2Fpasswd",
        "a%23b",
    ] {
        let answer = put(&url, id, "x");
        assert_eq!(code(&answer), (400, "invalid_value"), "{id}: {answer:?}");
    }
    assert_eq!(put(&url, "%FF", "x").0, 400);
    let elsewhere = format!("{url}/v1/documents/nots/a");
    let plain = ["content-type: text/plain"];
    let unknown = send("PUT", &elsewhere, &plain, "x");
    assert_eq!(code(&unknown), (404, "unknown_source"));
    let message = unknown.1["error"]["message"].as_str().unwrap();
    assert!(message.contains("notes of default/shop"), "{message}");
    let docs = send("PUT", &format!("{url}/v1/documents/docs/a"), &plain, "x");
    assert_eq!(code(&docs), (404, "unknown_source"), "no push source");
    let at = format!("{url}/v1/documents/notes/a");
    for (headers, body, expected) in [
        (
            vec!["content-type: image/png"],
            "x",
            (415, "unsupported_media_type"),
        ),
        (
            vec!["content-type: application/pdf"],
            "%PDF-1.7 and nothing else",
            (422, "unreadable_document"),
        ),
        (
            vec!["content-type: text/plain"],
            " ",
            (422, "unreadable_document"),
        ),
        (
            vec!["content-type: text/plain", "if-match: \"sha256:0\""],
            "x",
            (412, "precondition_failed"),
        ),
        (
            vec!["content-type: text/plain", "loci-metadata: [1]"],
            "x",
            (400, "invalid_value"),
        ),
        (
            vec!["content-type: text/plain", "loci-uri: javascript:x"],
            "x",
            (400, "invalid_value"),
        ),
        (
            vec!["content-type: text/plain", "content-encoding: gzip"],
            "x",
            (415, "unsupported_media_type"),
        ),
    ] {
        let answer = send("PUT", &at, &headers, body);
        assert_eq!(code(&answer), expected, "{headers:?}: {answer:?}");
    }
    let huge = put(&url, "a", &"x".repeat(1001));
    assert_eq!(code(&huge), (413, "body_too_large"));
    let binary = site.path("binary");
    std::fs::write(&binary, b"\xff\xfe\x00\x01\x02\x03").unwrap();
    let file = format!("@{}", binary.display());
    let answer = send("PUT", &at, &["content-type: text/plain"], &file);
    assert_eq!(code(&answer), (422, "unreadable_document"));
    let query = send("PUT", &format!("{at}?pipelin=shop"), &plain, "x");
    assert_eq!(query.0, 400, "{query:?}");
    assert_eq!(put(&url, "b", "two").0, 201);
    assert_eq!(code(&put(&url, "c", "three")), (409, "source_full"));
    let a = state(&url, "a").1;
    assert_eq!((&a["bytes"], a["version"].is_string()), (&json!(3), true));
    up.stop();
}

#[test]
fn a_full_disk_accepts_nothing_and_loses_nothing() {
    let site = site("{maxDocumentBytes: 67108864}");
    let Some(mut up) = site.up_on_small_disk(16 << 20) else {
        eprintln!("skipped: this system lets no test mount a disk of its own");
        return;
    };
    let url = up.ready();
    assert_eq!(put(&url, "a.md", "The kettle is in the loft.").0, 201);
    let huge = site.path("huge.txt");
    std::fs::write(&huge, "All work and no play. ".repeat(1_000_000)).unwrap();
    let file = format!("@{}", huge.display());
    let at = format!("{url}/v1/documents/notes/huge.txt");
    let answer = send("PUT", &at, &["content-type: text/plain"], &file);
    assert_eq!(code(&answer), (507, "insufficient_storage"), "{answer:?}");
    assert_eq!(state(&url, "huge.txt").0, 404);
    up.until("what was there is served", |_| {
        (best(&url, "Where is the kettle?")?.0 == "a.md").then_some(())
    });
    assert_eq!(put(&url, "b.md", "The teapot is in the shed.").0, 201);
    up.until("what came after is served", |_| {
        (best(&url, "Where is the teapot?")?.0 == "b.md").then_some(())
    });
}

#[test]
fn who_may_write_has_a_token_of_its_own() {
    let site = site("{}");
    site.write("readers", "reader-0123456789abcdef\n");
    site.write("writers", "writer-0123456789abcdef\n");
    let (readers, writers) = (site.path("readers"), site.path("writers"));
    let mut up = site.up_with(&[
        "--token-file",
        readers.to_str().unwrap(),
        "--write-token-file",
        writers.to_str().unwrap(),
    ]);
    let url = up.ready();
    let at = format!("{url}/v1/documents/notes/a.md");
    let with = |token: &str| {
        let token = format!("authorization: Bearer {token}");
        send("PUT", &at, &["content-type: text/markdown", &token], "# A").0
    };
    assert_eq!(with("reader-0123456789abcdef"), 403);
    assert_eq!(with("nobody-0123456789abcdef"), 401);
    assert_eq!(with("writer-0123456789abcdef"), 201);
    assert_eq!(put(&url, "a.md", "# A").0, 401);
    up.stop();
}

#[test]
fn a_cluster_refuses_a_push_source_by_name() {
    let site = site("{}");
    let mut validate: Command = loci();
    validate.args(["validate", "--target", "cluster"]);
    let output = validate.arg(site.path("pipeline.yaml")).output().unwrap();
    assert!(!output.status.success());
    let error = text(&output.stderr);
    let told = "spec.sources[1].push: push sources are not built yet in a cluster";
    assert!(error.contains(told), "{error}");
}
