//! The data of `examples/escalation`, as Collect reads it.

use std::path::PathBuf;
use std::process::Command;

use loci_worker::dataset::{Case, Located, Origin, Read, Rules, build, cases};
use loci_worker::document::Media;
use loci_worker::example::{Role, parse};

fn folder() -> PathBuf {
    loci_testbed::root().join("examples/escalation")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// Everything that the two files of the source hold.
fn read() -> Read {
    let mut read = Read::default();
    read.documents.insert("runbooks".to_owned(), 2);
    for (media, document) in [
        (Media::Markdown, "triage.md"),
        (Media::Jsonl, "tickets.jsonl"),
    ] {
        let bytes = text(&format!("runbooks/{document}"));
        let examples = parse(media, bytes.as_bytes(), document);
        assert!(examples.problems.is_empty(), "{:?}", examples.problems);
        read.found.extend(examples.found.into_iter().map(|found| {
            let origin = Origin {
                source: "runbooks".to_owned(),
                document: document.to_owned(),
                version: "v".to_owned(),
                line: Some(found.line),
                id: found.id,
            };
            Located {
                origin,
                example: found.example,
            }
        }));
    }
    read
}

fn suite() -> Vec<Case> {
    cases("escalation", &text("suite.jsonl")).unwrap()
}

#[test]
fn the_escalation_source_is_collected_whole_and_shares_nothing_with_its_suite() {
    let (read, suite) = (read(), suite());
    for located in &read.found {
        let roles: Vec<Role> = located.example.messages.iter().map(|m| m.role).collect();
        let of = &located.origin;
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant], "{of}");
        assert!(of.id.is_some(), "{of}");
    }
    assert!(suite.len() >= 300);
    assert!(
        suite
            .iter()
            .all(|c| c.prompt.is_some() && c.answers.len() == 1)
    );
    let dataset = build(read, &suite, &Rules::default());
    assert!(dataset.rejected.is_empty(), "{:?}", dataset.rejected);
    assert_eq!((dataset.train.len(), dataset.held_out.len()), (200, 0));
    // Not even forms of words are shared.
    assert_eq!(dataset.report.common, 0);
}

#[test]
fn an_example_that_the_suite_asks_would_be_left_out() {
    let (mut read, suite) = (read(), suite());
    let asked = suite[7].prompt.clone().unwrap();
    read.found[150].example.messages[1].content = asked;
    let dataset = build(read, &suite, &Rules::default());
    assert_eq!(dataset.report.total.contaminated, 1);
    assert_eq!(dataset.train.len(), 199);
}

/// The script holds that the files are what generate.py writes, that all of them follow the protocol, and the shares.
#[test]
fn the_escalation_data_is_what_its_script_makes_and_follows_the_protocol() {
    let python = std::env::var("LOCI_TEST_PYTHON")
        .expect("LOCI_TEST_PYTHON names no Python: run `make test`");
    let output = Command::new(python)
        .arg("-B")
        .arg(folder().join("make/check.py"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    assert!(
        said.starts_with("200 examples, 41.0% not escalated; 360 cases"),
        "{said}"
    );
}
