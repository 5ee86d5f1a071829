//! Releases whose decoder or adapters are not what they must be.

use std::collections::BTreeMap;
use std::sync::Arc;

use loci_digest::Digest;
use loci_models::{Decoder, DeviceRequest};
use loci_recall::{Auth, LoadAdapter, LoadRequest};
use serde_json::{Value, json};

use crate::chat_support::{
    ADAPTER, TALKATIVE, ask, chat_request, escalation, judged, reference, tiny,
};
use crate::support::{PIPELINE, Server, load_request, options, write_revision};

fn adapters(change: impl Fn(&mut LoadAdapter)) -> BTreeMap<String, LoadAdapter> {
    let mut adapter = judged();
    change(&mut adapter);
    [("escalation".to_owned(), adapter)].into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_was_judged_is_never_loaded() {
    let server = Server::empty(options(), Auth::Off).await;
    server.chat_release("one", &TALKATIVE).await;
    let directory = server.dir.path().join("two");
    write_revision(&directory, "two", |vectors| vectors);
    let llama3 = Decoder::load(&reference("llama3"), DeviceRequest::Cpu).unwrap();
    let template = json!("{% for m in messages %}{{ m['content'] }}{% endfor %}");
    let config = json!({"chat_template": template});
    let other_template = tiny(
        4096,
        &[
            ("chat_template.jinja", Value::Null),
            ("tokenizer_config.json", config),
        ],
    );
    let none = json!({});
    let no_template = tiny(
        4096,
        &[
            ("chat_template.jinja", Value::Null),
            ("tokenizer_config.json", none),
        ],
    );
    let whole = || adapters(|_| ());
    let other = Digest::of("another");
    let named = format!("the release names {other}");
    for (decoder, adapters, words) in [
        (
            Arc::new(llama3),
            whole(),
            ["adapter escalation", "belongs to a model with weights"],
        ),
        (
            other_template,
            whole(),
            ["adapter escalation", "another tokenizer or chat template"],
        ),
        (
            no_template,
            BTreeMap::new(),
            ["release two of agents/support", "no chat template"],
        ),
        (
            TALKATIVE.clone(),
            adapters(|own| own.digest = other),
            ["adapter escalation", named.as_str()],
        ),
        (
            TALKATIVE.clone(),
            adapters(|own| own.probes[1].log_probability += 0.1),
            ["adapter escalation", "had -"],
        ),
        (
            TALKATIVE.clone(),
            adapters(|own| own.probes.clear()),
            ["adapter escalation", "no probes were recorded"],
        ),
    ] {
        let request = chat_request("two", directory.clone(), &decoder, adapters);
        let error = server.recall.prepare(request).await.unwrap_err();
        let message = error.to_string();
        for word in words {
            assert!(message.contains(word), "\"{word}\" is not in: {message}");
        }
    }
    let request = LoadRequest {
        adapters: escalation(),
        ..load_request("two", directory)
    };
    let error = server.recall.prepare(request).await.unwrap_err();
    assert!(error.to_string().contains("no decoder"), "{error}");
    // What serves goes on.
    let mut request = ask("Is 9 even?", 3);
    request["model"] = json!("support:escalation");
    let answer = server.chat(request).await;
    let name = format!("{PIPELINE}:escalation@sha256-{}", ADAPTER.digest().short());
    assert_eq!((answer.release.as_str(), answer.model), ("one", name));
}
