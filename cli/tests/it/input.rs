//! What bad input gets: the file, the place, the reason, the way out.

use std::os::unix::fs::symlink;

use crate::harness::{Site, best, loci, model, text};

fn refused(site: &Site) -> String {
    let output = loci()
        .arg("validate")
        .arg(site.path("pipeline.yaml"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    text(&output.stderr)
}

#[test]
fn a_wrong_manifest_is_refused_at_the_place_that_is_wrong() {
    let site = Site::new();
    let good = site.manifest("");
    let cases = [
        (good.replace("  sources:", "  sorces:"), "sources"),
        (
            good.replace("memory: factual", "memory: procedural"),
            "procedural",
        ),
        (good.replace("interval: 2s", "interval: soon"), "interval"),
        (good.replace("suite: faq,", "suite: fax,"), "fax"),
        (format!("{good}  adapters: [{{name: a}}]\n"), "adapters"),
        (
            format!(
                "{good}  adapters: [{{name: a, base: \"hf://org/base@main\", sources: [docs]}}]\n"
            ),
            "an adapter is trained on procedural sources only",
        ),
        (
            good.replace(
                "retrieval: {data: {file: suite.jsonl}}",
                "behavior: {builtin: arithmetic}",
            ),
            "behavior suites judge adapters",
        ),
        (
            format!("{good}  rollout: {{index: {{canary: {{weight: 10}}}}}}\n"),
            "canar",
        ),
        (
            good.replace("directory: {path: docs}", "bucket: {url: \"ftp://a/\"}"),
            "bucket.url",
        ),
        (
            good.replace("metadata: {name: shop}", "metadata: {name: shop"),
            "pipeline.yaml",
        ),
        (
            good.replace("refresh: {interval: 2s}", "refresh: {cron: \"0 0 30 2 *\"}"),
            "cron",
        ),
    ];
    for (manifest, part) in cases {
        site.write("pipeline.yaml", &manifest);
        let error = refused(&site);
        assert!(
            error.contains(part) && error.contains("pipeline.yaml:"),
            "{part}: {error}"
        );
    }
}

#[test]
fn a_good_manifest_tells_what_its_suite_can_detect_and_a_cluster_names_its_paths() {
    let site = Site::new();
    let manifest = site.path("pipeline.yaml");
    let output = loci().arg("validate").arg(&manifest).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("faq"),
        "{}",
        text(&output.stdout)
    );
    let output = loci()
        .args(["validate", "--target", "cluster"])
        .arg(&manifest)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = text(&output.stderr);
    for field in [
        "spec.embedder.model",
        "spec.sources[0].directory",
        "spec.suites[0].retrieval.data.file",
    ] {
        assert!(error.contains(field), "{field}: {error}");
    }
}

#[test]
fn a_model_that_is_not_whole_is_named() {
    let site = Site::new();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let broken = site.path(&format!("without-{file}"));
        crate::harness::copy(&model(), &broken);
        std::fs::remove_file(broken.join(file)).unwrap();
        let manifest = site
            .manifest("")
            .replace(model().to_str().unwrap(), broken.to_str().unwrap());
        site.write("pipeline.yaml", &manifest);
        let mut up = site.up();
        up.until("the missing file is named", |_| {
            site.log().contains(file).then_some(())
        });
        up.kill();
    }
}

#[test]
fn what_is_no_document_is_left_out_and_the_rest_is_served() {
    let site = Site::new();
    std::fs::write(
        site.path("docs/binary.md"),
        [0u8, 159, 146, 150, 0, 1, 2, 3],
    )
    .unwrap();
    std::fs::write(site.path("docs/latin.md"), b"# Caf\xe9\n\nnot UTF-8\n").unwrap();
    let huge = std::fs::File::create(site.path("docs/huge.md")).unwrap();
    huge.set_len(2 << 30).unwrap();
    site.write(
        "outside.md",
        "# Outside\n\nThe secret password is swordfish.\n",
    );
    symlink(site.path("outside.md"), site.path("docs/link.md")).unwrap();
    let mut up = site.up();
    let url = up.ready();
    assert_eq!(
        best(&url, "What does a lost key cost?").unwrap().0,
        "keys.md"
    );
    assert!(
        !best(&url, "What is the secret password?")
            .unwrap()
            .1
            .contains("swordfish")
    );
    let run = &site.json(&["runs"])[0];
    let said = run["status"]["steps"].to_string();
    assert!(
        said.contains("left out") && said.contains("problems"),
        "{said}"
    );
    up.stop();
}

#[test]
fn an_empty_corpus_is_told_and_served_once_it_is_filled() {
    let site = Site::new();
    let manifest = site.manifest("");
    let without_suite: String = manifest
        .lines()
        .take_while(|l| !l.contains("suites:"))
        .map(|l| format!("{l}\n"))
        .collect();
    site.write("pipeline.yaml", &without_suite);
    std::fs::rename(site.path("docs"), site.path("later")).unwrap();
    std::fs::create_dir(site.path("docs")).unwrap();
    let mut up = site.up();
    up.until("the empty source is reported", |_| {
        site.log()
            .contains("no source holds a document")
            .then_some(())
    });
    std::fs::rename(site.path("later/keys.md"), site.path("docs/keys.md")).unwrap();
    let url = up.ready();
    up.until("the first document is served", |_| {
        (best(&url, "a lost key")?.0 == "keys.md").then_some(())
    });
    up.stop();
}

#[test]
fn beyond_loopback_it_wants_tokens() {
    let site = Site::new();
    let output = loci()
        .arg("up")
        .arg(site.path("pipeline.yaml"))
        .args(["--listen", "0.0.0.0:0", "--state"])
        .arg(site.path("state"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("token"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn who_reads_no_further_ends_a_command_and_breaks_nothing() {
    let site = Site::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = loci()
        .arg("validate")
        .arg(site.path("pipeline.yaml"))
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}
