use loci_crds::adapter::ConcurrencyPolicy;

use super::*;
use crate::schedule::Hours;

/// A pipeline with an adapter.
fn adapted(change: impl FnOnce(&mut Value)) -> Result<Pipeline, Vec<String>> {
    let resource = resource(|s| {
        with_adapter(s);
        change(s);
    });
    let told = |errors: Vec<FieldError>| errors.iter().map(ToString::to_string).collect();
    Pipeline::from_resource(&resource).map_err(told)
}

fn pipeline(change: impl FnOnce(&mut Value)) -> Pipeline {
    adapted(change).unwrap()
}

#[test]
fn an_adapter_has_defaults() {
    let p = pipeline(|_| {});
    let a = p.adapter("escalation").unwrap();
    assert_eq!(
        (a.min_examples, a.min_new_examples, a.held_out),
        (32, 1, 10)
    );
    assert_eq!((a.lora.rank, a.lora.alpha, a.lora.dropout), (8, 16, 0.0));
    assert_eq!(a.lora.target_modules, ["q_proj", "v_proj"]);
    assert_eq!(
        (
            a.training.epochs,
            a.training.batch,
            a.training.learning_rate
        ),
        (3, 8, 2e-4)
    );
    assert_eq!(
        (a.schedule.is_none(), a.trigger, a.suspend),
        (true, None, false)
    );
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(Hours::at(&a.windows, now), Hours::Open(None));
    let names = |adapter| -> Vec<_> { p.read_by(adapter).map(|s| s.name.clone()).collect() };
    assert_eq!(names(None), ["handbook"]);
    assert_eq!(names(Some("escalation")), ["runbooks"]);
    assert!(names(Some("other")).is_empty());

    let p = pipeline(|s| {
        s["adapters"][0]["schedule"] = json!({
            "cron": "0 3 * * 0", "timeZone": "Europe/Berlin", "concurrencyPolicy": "Replace",
        });
    });
    let a = p.adapter("escalation").unwrap();
    assert_eq!(a.cron.as_deref(), Some("0 3 * * 0 Europe/Berlin"));
    assert_eq!(a.concurrency, ConcurrencyPolicy::Replace);
}

#[test]
fn a_vllm_answers_chats_and_loads_no_larger_ranks_than_it_says() {
    let vllm = |more: Value| {
        move |s: &mut Value| {
            let mut vllm = json!({"service": "support-vllm"});
            let vllm_fields = vllm.as_object_mut().unwrap();
            vllm_fields.extend(more.as_object().unwrap().clone());
            s["serving"] = json!({"runtime": {"vllm": vllm}});
            s["adapters"][0]["lora"] = json!({"rank": 32});
        }
    };
    let p = pipeline(vllm(json!({"port": 80, "maxLoraRank": 32})));
    let told = p.vllm.unwrap();
    assert_eq!(
        (told.service.as_str(), told.port, told.max_lora_rank),
        ("support-vllm", 80, 32)
    );
    assert_eq!(told.model, "base");
    assert_eq!(pipeline(|_| {}).vllm, None);
    for (more, field) in [
        (
            json!({}),
            "spec.adapters[0].lora.rank: 32 is more than the 16",
        ),
        (json!({"maxLoraRank": 31}), "spec.adapters[0].lora.rank: 32"),
        (
            json!({"maxLoraRank": 32, "service": "support.agents"}),
            "spec.serving.runtime.vllm.service",
        ),
        (
            json!({"maxLoraRank": 32, "port": 0}),
            "spec.serving.runtime.vllm.port",
        ),
        (
            json!({"maxLoraRank": 32, "model": ""}),
            "spec.serving.runtime.vllm.model",
        ),
    ] {
        let told = adapted(vllm(more)).unwrap_err();
        assert!(told.len() == 1 && told[0].starts_with(field), "{told:?}");
    }
}

#[test]
fn what_adapters_cannot_be_is_named_with_its_reason() {
    let cases: [Wrong; 18] = [
        (
            |s| s["adapters"][0]["sources"] = json!(["handbook", "runbooks"]),
            "spec.adapters[0].sources[0]",
            "\"handbook\" is factual: an adapter is trained on procedural sources only",
        ),
        (
            |s| s["adapters"][0]["sources"] = json!(["runboks"]),
            "spec.adapters[0].sources[0]",
            "not in spec.sources",
        ),
        (
            |s| s["adapters"][0]["sources"] = json!(["runbooks", "runbooks"]),
            "spec.adapters[0].sources[1]",
            "twice",
        ),
        (
            |s| s["adapters"] = json!([]),
            "spec.sources[1]",
            "none names it",
        ),
        (
            |s| {
                s["adapters"] = json!([]);
                s["serving"] = json!({"runtime": {"vllm": {"service": "support-vllm"}}});
            },
            "spec.serving.runtime",
            "the pipeline has none",
        ),
        (
            |s| s["sources"][0]["memory"] = json!("procedural"),
            "spec.sources",
            "a release has an index",
        ),
        (
            |s| {
                let twin = s["adapters"][0].clone();
                s["adapters"].as_array_mut().unwrap().push(twin)
            },
            "spec.adapters[1]",
            "twice",
        ),
        (
            |s| {
                let mut other = s["adapters"][0].clone();
                other["name"] = json!("tone");
                other["base"] = json!("hf://org/base@v2");
                s["adapters"].as_array_mut().unwrap().push(other)
            },
            "spec.adapters[1].base",
            "all adapters of a pipeline have the same",
        ),
        (
            |s| {
                s["adapters"] = json!([]);
                s["suites"] = json!([{"name": "a", "behavior": {"builtin": "ability"}}]);
            },
            "spec.suites[0].behavior",
            "the pipeline has none",
        ),
        (
            |s| {
                let behavior = json!({"builtin": "ability", "adapters": ["escalation", "tone"]});
                s["suites"] = json!([{"name": "a", "behavior": behavior}]);
            },
            "spec.suites[0].behavior.adapters[1]",
            "not in spec.adapters",
        ),
        (
            |s| s["adapters"][0]["name"] = json!("base"),
            "spec.adapters[0].name",
            "another name",
        ),
        (
            |s| s["adapters"][0]["base"] = json!("hf://org/base"),
            "spec.adapters[0].base",
            "@revision",
        ),
        (
            |s| s["adapters"][0]["heldOut"] = json!("60%"),
            "spec.adapters[0].heldOut",
            "half",
        ),
        (
            |s| s["adapters"][0]["schedule"] = json!({"cron": "0 0 30 2 *"}),
            "spec.adapters[0].schedule.cron",
            "never comes",
        ),
        (
            |s| {
                s["adapters"][0]["windows"] =
                    json!([{"cron": "0 22 * * *", "timeZone": "Mars", "duration": "8h"}])
            },
            "spec.adapters[0].windows[0].timeZone",
            "IANA",
        ),
        (
            |s| s["adapters"][0]["training"] = json!({"learningRate": "0"}),
            "spec.adapters[0].training.learningRate",
            "learns nothing",
        ),
        (
            |s| s["adapters"][0]["training"] = json!({"warmup": "100%"}),
            "spec.adapters[0].training.warmup",
            "never reach its height",
        ),
        (
            |s| s["adapters"][0]["lora"] = json!({"rank": 0}),
            "spec.adapters[0].lora.rank",
            "1 to 256",
        ),
    ];
    for (change, field, part) in cases {
        let errors = adapted(change).unwrap_err();
        let told = |e: &String| e.starts_with(&format!("{field}: ")) && e.contains(part);
        assert!(errors.iter().any(told), "{field}: {errors:?}");
    }
}

#[test]
fn an_adapter_changes_nothing_for_the_index() {
    let resource = resource(|_| {});
    let without = Pipeline::from_resource(&resource).unwrap();
    let with = pipeline(|_| {});
    assert_eq!(without.build_inputs(), with.build_inputs());
    assert_ne!(without.gate_inputs(), with.gate_inputs());
    let bare = pipeline(|s| s["adapters"][0]["guard"] = json!("none"));
    assert_eq!(without.gate_inputs(), bare.gate_inputs());
}

#[test]
fn what_comes_with_loci_guards_whom_no_gate_does() {
    let of = |change: fn(&mut Value)| {
        let p = pipeline(|s| {
            let mut tone = s["adapters"][0].clone();
            tone["name"] = json!("tone");
            s["adapters"].as_array_mut().unwrap().push(tone);
            s["suites"] = json!([{"name": "sums", "behavior": {"builtin": "arithmetic", "adapters": ["tone"]}}]);
            s["gates"] = json!([{"suite": "sums", "metric": "accuracy", "maxRegression": "0.03"}]);
            change(s);
        });
        let added: Vec<(String, Vec<String>)> = p.suites[1..]
            .iter()
            .map(|suite| (suite.name.clone(), suite.adapters.clone()))
            .collect();
        for (suite, gate) in p.suites[1..].iter().zip(&p.gates[1..]) {
            assert_eq!(gate.suite, suite.name);
            assert_eq!(
                (gate.metric, gate.max_regression),
                (Metric::Accuracy, Some(0.05))
            );
        }
        (added, ["escalation", "tone"].map(|name| p.guards(name)))
    };
    let both = |adapters: &[&str]| {
        let adapters: Vec<_> = adapters.iter().map(|a| (*a).to_owned()).collect();
        ["loci/ability", "loci/arithmetic"].map(|suite| (suite.to_owned(), adapters.clone()))
    };
    assert_eq!(of(|_| {}), (both(&["escalation"]).to_vec(), [true; 2]));
    let gained = of(|s| s["gates"][0]["minGain"] = json!("0.10"));
    assert_eq!(gained, (both(&["escalation", "tone"]).to_vec(), [true; 2]));
    let bare = of(|s| s["adapters"][0]["guard"] = json!("none"));
    assert_eq!(bare, (vec![], [false, true]));
    let own = of(|s| s["suites"][0]["behavior"]["adapters"] = json!([]));
    assert_eq!(own, (vec![], [true; 2]));
    // No suite of a spec stands in its way.
    let error = adapted(|s| {
        s["suites"] = json!([{"name": "faq", "retrieval": {"data": {"file": "faq.jsonl"}}}]);
        s["gates"] = json!([{"suite": "loci/ability", "metric": "accuracy", "floor": "0.5"}]);
    });
    let told = error.unwrap_err();
    assert!(told[0].starts_with("spec.gates[0].suite: "), "{told:?}");
}

#[test]
fn what_an_adapter_depends_on_is_what_has_it_trained_anew() {
    let old = pipeline(|_| {});
    let inputs = |p: &Pipeline| p.adapter("escalation").map(|a| p.adapter_inputs(a));
    let of = |change: fn(&mut Value)| {
        let new = pipeline(change);
        let worst = impact(&old, &new).into_iter().next_back();
        assert_eq!(
            inputs(&old) != inputs(&new),
            worst.is_some_and(|w| w.0 == Impact::Retrain),
            "{worst:?}"
        );
        worst
    };
    let settings = Some((Impact::Retrain, "spec.adapters"));
    assert_eq!(of(|_| {}), None);
    assert_eq!(
        of(|s| s["adapters"][0]["lora"] = json!({"rank": 16})),
        settings
    );
    assert_eq!(
        of(|s| s["adapters"][0]["training"] = json!({"epochs": 5})),
        settings
    );
    assert_eq!(
        of(|s| s["adapters"][0]["base"] = json!("hf://org/base@v2")),
        settings
    );
    assert_eq!(
        of(|s| s["adapters"][0]["context"] = json!("retrieved")),
        settings
    );
    assert_eq!(
        of(|s| s["sources"][1]["directory"]["path"] = json!("elsewhere")),
        Some((Impact::Retrain, "spec.sources"))
    );
    // A default that is written out changes nothing, nor does when and how often it is trained.
    assert_eq!(of(|s| s["adapters"][0]["lora"] = json!({"rank": 8})), None);
    assert_eq!(of(|s| s["adapters"][0]["context"] = json!("none")), None);
    assert_eq!(
        of(|s| {
            s["adapters"][0]["schedule"] = json!({"cron": "0 3 * * 0"});
            s["adapters"][0]["minNewExamples"] = json!(20);
        }),
        Some((Impact::None, "spec.adapters"))
    );
    // It learns the same in less memory.
    assert_eq!(
        of(|s| s["adapters"][0]["training"] = json!({"recompute": true})),
        Some((Impact::None, "spec.adapters"))
    );
    let resource = resource(|_| {});
    let without = Pipeline::from_resource(&resource).unwrap();
    let gone: Vec<_> = impact(&old, &without).into_iter().collect();
    assert!(gone.contains(&(Impact::Judge, "spec.adapters")), "{gone:?}");
}
