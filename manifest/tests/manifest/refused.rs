//! Documents that are refused.

use loci_manifest::load_str;

use crate::{GOOD, bad, with};

/// Each text, and its problems without the file's name.
fn expect(cases: &[(String, &[&str])]) {
    for (text, expected) in cases {
        let expected: Vec<_> = expected
            .iter()
            .map(|e| format!("pipeline.yaml:{e}"))
            .collect();
        assert_eq!(bad(text), expected);
    }
}

#[test]
fn fields_that_do_not_exist_are_refused_with_the_nearest() {
    expect(&[
        (
            with("  sources:", "  sorces:"),
            &["7:3: spec.sorces: unknown field; did you mean \"sources\"?"],
        ),
        (
            with("configMap: {name: notes}", "configmap: {name: notes}"),
            &["16:5: spec.sources[2].configmap: unknown field; did you mean \"configMap\"?"],
        ),
        (
            with("ref: {branch: main}", "revision: main"),
            &[
                "10:56: spec.sources[0].git.revision: unknown field; the fields here are: allowPrivate, exclude, include, ref, secretRef, url",
            ],
        ),
        (
            with(
                "metadata: {name: support, namespace: agents",
                "metadata: {nmae: support",
            ),
            &["4:12: metadata.nmae: unknown field; did you mean \"name\"?"],
        ),
    ]);
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    expect(&[
        (
            with("branch: main", "branch: 7"),
            &[
                "10:70: spec.sources[0].git.ref.branch: expected text, got a number; put it in quotes",
            ],
        ),
        (
            with("floor: \"0.80\"", "floor: 0.80"),
            &[
                "25:44: spec.gates[0].floor: expected text, got a number; put it in quotes, for example \"0.80\"",
            ],
        ),
        (
            with("historyLimit: 05", "historyLimit: \"5\""),
            &[
                "26:28: spec.releases.historyLimit: expected a whole number, got text; write it without quotes, fraction or unit",
            ],
        ),
        (
            with("historyLimit: 05", "historyLimit: 99999999999999999999"),
            &[
                "26:28: spec.releases.historyLimit: expected a whole number, got a number; write it without quotes, fraction or unit",
            ],
        ),
        (
            with("include: [\"**/*.md\"]", "include: \"**/*.md\""),
            &[
                "10:86: spec.sources[0].git.include: expected a list, got text; begin each item with \"- \"",
            ],
        ),
        (
            with("refresh: {interval: 10m}", "refresh: 10m"),
            &[
                "18:14: spec.index.refresh: expected a mapping, got text; its fields are cron, interval, jitter, startingDeadline, timeZone",
            ],
        ),
        (
            with("data: {a.md: \"A note.\"}", "data: {a.md: no}"),
            &[
                "39:14: data[\"a.md\"]: expected text, got a boolean; put it in quotes: YAML reads yes, no, on, off, y and n as true and false",
            ],
        ),
    ]);
}

#[test]
fn values_out_of_bounds_are_refused() {
    expect(&[
        (
            with("historyLimit: 05", "historyLimit: 0"),
            &["26:28: spec.releases.historyLimit: 0 is out of range; 1 to 100 is allowed"],
        ),
        (
            with("interval: 10m", "interval: 10 minutes"),
            &[
                "18:25: spec.index.refresh.interval: \"10 minutes\" is not written as it must be; it must match ^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$, for example \"10m\"",
            ],
        ),
        (
            with("memory: episodic", "memory: episodc"),
            &[
                "15:13: spec.sources[2].memory: \"episodc\" is not allowed; did you mean \"episodic\"? allowed are factual, episodic, profile, working, procedural",
            ],
        ),
        (
            with("- name: status", "- name: handbook"),
            &[
                "11:11: spec.sources[1].name: the same name as in spec.sources[0]; each may stand once",
            ],
        ),
        (
            with("\"https://status.example.com/\"", ""),
            &["13:12: spec.sources[1].http.urls: empty; give at least 1"],
        ),
        (
            with("    configMap: {name: notes}", "    configMap: {}"),
            &[
                "16:5: spec.sources[2].configMap.name: required, but missing; add it: The ConfigMap's name.",
            ],
        ),
        (
            with("name: support", "name: My_Agent"),
            &[
                "4:18: metadata.name: \"My_Agent\" is not written as it must be; it must match ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$, for example \"support\"",
            ],
        ),
    ]);
}

#[test]
fn rules_refuse_with_their_message_at_the_field() {
    expect(&[
        (
            with("memory: episodic", "memory: working"),
            &[
                "15:13: spec.sources[2].memory: memory class working is not built yet: use factual, episodic or profile",
            ],
        ),
        (
            with("    configMap: {name: notes}", "    configMap:"),
            &[
                "14:5: spec.sources[2]: give exactly one of git, http, bucket, configMap, directory, push",
            ],
        ),
        (
            with("interval: 10m", "interval: 10m, cron: \"0 3 * * 0\""),
            &["18:5: spec.index.refresh: give interval or cron, not both"],
        ),
        (
            with(
                "  runs:\n",
                "  adapters: [{name: a, base: \"hf://org/base@main\", sources: [notes]}]\n",
            ),
            &[
                "27:3: spec.adapters: an adapter is trained on procedural sources only: what changes or must be cited is looked up, so leave it to the index",
            ],
        ),
        (
            with("name: support", &format!("name: {}", "a".repeat(41))),
            &[
                "4:18: metadata.name: a pipeline's name has at most 40 characters: run and release names start with it",
            ],
        ),
        (
            with("{suite: faq", "{suite: fak"),
            &["25:13: spec.gates[0].suite: no suite has the name \"fak\"; did you mean \"faq\"?"],
        ),
    ]);
}

#[test]
fn all_that_is_wrong_is_said_once_and_in_order() {
    let text = with("memory: episodic", "memory: working")
        .replace("  suites:\n", "  suspend: \"no\"\n  suites:\n")
        .replace(
            "    http: {urls",
            "    gti: {}\n    memory: factual\n    http: {urls",
        )
        .replace("name: faq, namespace: agents", "name: f/q");
    expect(&[(
        text,
        &[
            "13:5: spec.sources[1].gti: unknown field; did you mean \"git\"?",
            "14:5: spec.sources[1].memory: written twice; it stands in line 12 already: keep one of them",
            "17:13: spec.sources[2].memory: memory class working is not built yet: use factual, episodic or profile",
            "24:12: spec.suspend: expected true or false, got text; write it without quotes, fraction or unit",
            "34:18: metadata.name: \"f/q\" is not written as it must be; it must match ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$, for example \"support\"",
        ],
    )]);
}

#[test]
fn malformed_yaml_is_refused_where_it_breaks_and_hides_no_other_document() {
    let unclosed = "metadata: {name: faq, namespace: agents\ndata:";
    expect(&[
        (
            with("metadata: {name: faq, namespace: agents}\ndata:", unclosed)
                .replace("interval: 10m", "intervall: 10m")
                .replace("{a.md: \"A note.\"}", "[]"),
            &[
                "18:15: spec.index.refresh.intervall: unknown field; did you mean \"interval\"?",
                "32:5: malformed YAML: while parsing a flow mapping, did not find expected ',' or '}'",
                "39:1: data: expected a mapping, got a list; write fields below it",
            ],
        ),
        (
            with("  index:\n", "\tindex:\n"),
            &["17:2: malformed YAML: tabs disallowed within this context (block indentation)"],
        ),
        (
            with("  index:\n", "  index: *nowhere\n"),
            &["17:10: malformed YAML: reference to unknown value"],
        ),
        (
            "? [a]\n: b\n".into(),
            &["1:3: malformed YAML: a field name must be text"],
        ),
    ]);
}

#[test]
fn documents_that_expand_without_end_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..10 {
        let ten = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{ten}]\n"));
    }
    let deep = "[".repeat(100) + &"]".repeat(100);
    let deeper = "- ".repeat(5000);
    for text in [bomb, deep, deeper] {
        let problems = bad(&text);
        let expected =
            "the document is nested too deep, has too many values or expands aliases too often";
        assert!(
            problems.len() == 1 && problems[0].ends_with(expected),
            "{problems:?}"
        );
    }
}

#[test]
fn kinds_that_cannot_be_meant_are_refused() {
    expect(&[
        (
            with("kind: MemoryPipeline", "kind: MemoryPipline"),
            &["3:7: kind: unknown kind MemoryPipline; did you mean \"MemoryPipeline\"?"],
        ),
        (
            with("kind: Secret", "kind: Secrets"),
            &["43:7: kind: unknown kind Secrets; did you mean \"Secret\"?"],
        ),
        (
            with("kind: MemoryPipeline", "kind: \"Memory\\ePipeline\""),
            &["3:7: kind: unknown kind Memory\\u{1b}Pipeline; did you mean \"MemoryPipeline\"?"],
        ),
        (
            with("kind: MemoryPipeline", "kind: MemoryRun"),
            &[
                "3:7: kind: Loci makes every MemoryRun itself; declare the MemoryPipeline that it belongs to",
            ],
        ),
        (
            with("kind: MemoryPipeline", "kind: MemoryErasure"),
            &[
                "3:7: kind: unknown kind MemoryErasure; Loci reads: MemoryPipeline, ConfigMap, Secret",
            ],
        ),
        (
            with("loci.dev/v1alpha1", "loci.dev/v1"),
            &["2:13: apiVersion: not the version of MemoryPipeline; write loci.dev/v1alpha1"],
        ),
        (
            "apiVersion: v1\n".into(),
            &[
                "1:1: kind: required, but missing; add it: Loci reads MemoryPipeline, ConfigMap, Secret",
            ],
        ),
        (
            "- a\n".into(),
            &["1:1: expected a Kubernetes object, got a list; begin with apiVersion and kind"],
        ),
    ]);
}

#[test]
fn an_object_is_declared_once() {
    expect(&[
        (
            with(
                "name: notes, namespace: agents",
                "name: faq, namespace: agents",
            ),
            &[
                "38:18: metadata.name: ConfigMap agents/faq is declared twice; it stands at pipeline.yaml:31:18 already: keep one of them",
            ],
        ),
        (
            format!(
                "{GOOD}---\n{}",
                &GOOD[..GOOD.find("--- # a comment").unwrap()]
            ),
            &[
                "54:18: metadata.name: MemoryPipeline agents/support is declared twice; it stands at pipeline.yaml:4:18 already: keep one of them",
            ],
        ),
    ]);
}

/// Numbers that look random and are the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

#[test]
fn no_text_makes_it_panic_and_every_refusal_has_a_reason() {
    const PIECES: [&str; 12] = [
        ":", "- ", "{", "}", "[", "\"", "\n", "&a ", "*a", "---\n", "<<: ", "null",
    ];
    let mut random = Random(0x10c1);
    let mut refused = 0;
    for _ in 0..3000 {
        let mut bytes = GOOD.as_bytes().to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            let end = (at + random.below(20)).min(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.below(256) as u8,
                1 => drop(bytes.drain(at..end)),
                2 => bytes.extend_from_within(at..end),
                _ => _ = bytes.splice(at..at, PIECES[random.below(12)].bytes()),
            }
        }
        if let Err(problems) = load_str("m.yaml", &String::from_utf8_lossy(&bytes)) {
            assert!(!problems.is_empty() && problems.iter().all(|p| !p.reason.is_empty()));
            assert!(
                problems.iter().all(|p| p.position.is_some()),
                "{problems:#?}"
            );
            refused += 1;
        }
    }
    assert!(refused > 1000, "most mutations are refused: {refused}");
}
