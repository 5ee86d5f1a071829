use super::*;

fn with(rerank: Value) -> MemoryPipeline {
    resource(|s| s["retrieval"] = json!({"rerank": rerank}))
}

#[test]
fn re_ranking_is_off_unless_it_is_declared() {
    assert_eq!(pipeline(|_| {}).rerank, None);
    assert_eq!(pipeline(|s| s["retrieval"] = json!({})).rerank, None);
    let read = |rerank| Pipeline::from_resource(&with(rerank)).unwrap().rerank;
    let late = Rerank {
        method: RerankMethod::LateInteraction,
        model: None,
        candidates: 20,
        budget_ms: 200,
    };
    assert_eq!(read(json!({"method": "lateInteraction"})), Some(late));
    let cross = Rerank {
        method: RerankMethod::CrossEncoder,
        model: Some("hf://org/cross@main".to_owned()),
        candidates: 50,
        budget_ms: 1500,
    };
    let said = json!({
        "method": "crossEncoder", "model": "hf://org/cross@main", "candidates": 50, "budget": "1.5s",
    });
    assert_eq!(read(said), Some(cross));
}

#[test]
fn what_cannot_be_accepted_of_re_ranking_is_named() {
    let late = |more: Value| {
        let mut rerank = json!({"method": "lateInteraction"});
        let fields = rerank.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        rerank
    };
    for (rerank, leaf, part) in [
        (json!({"method": "crossEncoder"}), "model", "of its own"),
        (
            json!({"method": "crossEncoder", "model": "org/cross"}),
            "model",
            "@revision",
        ),
        (
            late(json!({"model": "hf://org/cross@main"})),
            "model",
            "by the embedder",
        ),
        (late(json!({"candidates": 1})), "candidates", "2 to 200"),
        (late(json!({"candidates": 201})), "candidates", "2 to 200"),
        (late(json!({"budget": "0s"})), "budget", "no duration"),
        (late(json!({"budget": "soon"})), "budget", "duration"),
        (late(json!({"budget": "0.5ms"})), "budget", "1ms"),
    ] {
        let errors = Pipeline::from_resource(&with(rerank)).unwrap_err();
        let field = format!("spec.retrieval.rerank.{leaf}");
        let named = |e: &FieldError| e.field == field && e.reason.contains(part);
        assert!(errors.len() == 1 && errors.iter().all(named), "{errors:?}");
    }
}

#[test]
fn another_re_ranking_is_another_build_and_not_another_verdict_of_the_same() {
    let old = pipeline(|_| {});
    let new = Pipeline::from_resource(&with(json!({"method": "lateInteraction"}))).unwrap();
    let other = with(json!({"method": "lateInteraction", "budget": "300ms"}));
    let other = Pipeline::from_resource(&other).unwrap();
    for (old, new) in [(&old, &new), (&new, &other)] {
        let set_off: Vec<_> = impact(old, new).into_iter().collect();
        assert_eq!(set_off, [(Impact::Refresh, "spec.retrieval.rerank")]);
        assert_ne!(old.build_inputs(), new.build_inputs());
        assert_eq!(old.gate_inputs(), new.gate_inputs());
    }
    let weighed = |s: &mut Value| s["index"]["fusion"] = json!({"denseWeight": "0.25"});
    let fused = pipeline(weighed);
    let both = pipeline(|s| {
        weighed(s);
        s["retrieval"] = json!({"rerank": {"method": "lateInteraction"}});
    });
    let inputs = [&old, &new, &other, &fused, &both].map(Pipeline::build_inputs);
    let different: std::collections::HashSet<_> = inputs.iter().collect();
    assert_eq!(different.len(), inputs.len());
}
