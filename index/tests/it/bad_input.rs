//! Bad input gets an error that names it; what was there stays.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use loci_digest::Digest;
use loci_index::{
    Fusion, Identity, IndexError, IndexedDocument, MANIFEST, MetaValue, Mode, Phase, Query,
    RerankMethod, Reranking, Revision, assemble, compact,
};

use crate::{document, embed, fresh, identity, make, upsert, with_metadata};

fn damaged(dir: &Path) -> String {
    let error = Revision::open_verified(dir)
        .err()
        .expect("a damaged revision was opened");
    assert!(matches!(error, IndexError::Damaged { .. }), "{error}");
    error.to_string()
}

fn file(dir: &Path, extension: &str) -> PathBuf {
    let mut files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .find(|path| path.extension().is_some_and(|e| e == extension))
        .unwrap()
}

/// Puts `bytes` in the place of a file that may be shared.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_missing_short_or_altered_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fresh(dir.path(), vec![document("d", &["one", "two"])]);
    for extension in ["store", "idx", "fast", "vec", "docs"] {
        let path = file(dir.path(), extension);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let good = fs::read(&path).unwrap();

        fs::remove_file(&path).unwrap();
        let error = damaged(dir.path());
        assert!(
            error.contains(&name) && error.contains("missing"),
            "{error}"
        );

        fs::write(&path, &good[..good.len() - 1]).unwrap();
        let error = damaged(dir.path());
        assert!(
            error.contains(&name) && error.contains("bytes instead of"),
            "{error}"
        );
        assert!(Revision::open(dir.path()).is_err());

        let mut altered = good.clone();
        altered[good.len() / 2] ^= 1;
        replace(&path, &altered);
        let error = damaged(dir.path());
        assert!(error.contains(&name) && error.contains("digest"), "{error}");
        replace(&path, &good);
    }
    Revision::open_verified(dir.path()).unwrap();
}

#[test]
fn a_manifest_of_another_format_or_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Revision::open(dir.path()),
        Err(IndexError::NoRevision(_))
    ));
    fresh(dir.path(), vec![document("d", &["one"])]);
    let manifest = dir.path().join(MANIFEST);
    let good = fs::read_to_string(&manifest).unwrap();
    fs::write(
        &manifest,
        good.replacen("\"format\": 1", "\"format\": 2", 1),
    )
    .unwrap();
    let error = Revision::open(dir.path()).err().unwrap();
    assert!(
        matches!(error, IndexError::Format { found: 2, .. })
            && error.to_string().contains("rebuild"),
        "{error}"
    );
    fs::write(&manifest, &good[..good.len() / 2]).unwrap();
    assert!(damaged(dir.path()).contains(MANIFEST));
    fs::write(
        &manifest,
        good.replacen("\"passages\": 1", "\"passages\": 2", 1),
    )
    .unwrap();
    assert!(damaged(dir.path()).contains("promises"));
}

#[test]
fn tombstones_of_another_revision_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let all = (0..9)
        .map(|i| document(&format!("d{i}"), &["text"]))
        .collect();
    make(None, upsert(all), &path("a")).unwrap();
    for (name, gone) in [("b", "d1"), ("c", "d2")] {
        let delta = loci_index::Delta {
            remove: vec![loci_index::DocumentKey::new("s", gone)],
            upsert: vec![],
        };
        make(Some(&path("a")), delta, &path(name)).unwrap();
    }
    replace(
        &file(&path("b"), "del"),
        &fs::read(file(&path("c"), "del")).unwrap(),
    );
    assert!(Revision::open(&path("b")).is_err());
}

#[test]
fn documents_that_cannot_be_found_again_are_refused_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = |documents: Vec<IndexedDocument>, field: &str| {
        let out = dir.path().join("out");
        let error = make(None, upsert(documents), &out).unwrap_err();
        assert!(
            matches!(&error, IndexError::Document { field: f, .. } if f == field),
            "{error}"
        );
        assert!(
            error.to_string().contains("\"d\" of source \"s\"") && !out.exists(),
            "{error}"
        );
    };
    let good = document("d", &["one"]);
    let changed = |change: fn(&mut IndexedDocument)| {
        let mut indexed = good.clone();
        change(&mut indexed);
        vec![indexed]
    };
    refuse(changed(|d| d.vectors.truncate(3)), "vectors");
    refuse(changed(|d| d.vectors[0] = f32::NAN), "vectors");
    refuse(changed(|d| d.document.uri = "x".repeat(70_000)), "uri");
    refuse(
        vec![with_metadata(good.clone(), &[("a\0b", &[1.into()])])],
        "metadata.a\0b",
    );
    refuse(
        vec![with_metadata(
            good.clone(),
            &[("when", &[MetaValue::Time("soon".into())])],
        )],
        "metadata.when",
    );
    refuse(vec![good.clone(), good.clone()], "key");
}

#[test]
fn another_re_ranking_is_another_revision_of_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let plain = fresh(&dir.path().join("plain"), vec![document("d", &["one"])]);
    let plain = plain.info().clone();
    assert_eq!(plain.rerank, None);
    let late = Reranking {
        method: RerankMethod::LateInteraction,
        model: None,
        candidates: 20,
        budget_ms: 200,
    };
    let cross = |model: &str| Reranking {
        method: RerankMethod::CrossEncoder,
        model: Some(Digest::of(model)),
        ..late.clone()
    };
    let fewer = Reranking {
        candidates: 10,
        ..late.clone()
    };
    let mut seen = vec![plain.content_id];
    for (i, rerank) in [late.clone(), fewer, cross("a"), cross("b")]
        .into_iter()
        .enumerate()
    {
        let identity = Identity {
            rerank: Some(rerank.clone()),
            ..identity()
        };
        let out = dir.path().join(i.to_string());
        let delta = upsert(vec![]);
        let previous = dir.path().join("plain");
        let info = assemble(
            Some(&previous),
            delta,
            &identity,
            Fusion::default(),
            &out,
            &mut |_| ControlFlow::Continue(()),
        );
        let info = info.unwrap();
        assert!(!seen.contains(&info.content_id), "{rerank:?}");
        seen.push(info.content_id);
        assert_eq!(info.passages, plain.passages);
        assert_eq!(
            Revision::open(&out).unwrap().info().rerank,
            Some(rerank.clone())
        );
        let one = dir.path().join(format!("{i}-compact"));
        let compacted = compact(&out, &one, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(compacted.content_id, info.content_id);
        assert_eq!(compacted.rerank, Some(rerank));
    }
}

#[test]
fn revisions_of_different_embedders_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    fresh(&dir.path().join("a"), vec![document("d", &["one"])]);
    let other = [
        (
            Identity {
                embedder: Digest::of("other"),
                ..identity()
            },
            "embedder",
        ),
        (
            Identity {
                chunker: Digest::of("other"),
                ..identity()
            },
            "chunker",
        ),
        (
            Identity {
                dimensions: 8,
                ..identity()
            },
            "dimension",
        ),
    ];
    for (identity, what) in other {
        let out = dir.path().join("b");
        let error = assemble(
            Some(&dir.path().join("a")),
            upsert(vec![]),
            &identity,
            Fusion::default(),
            &out,
            &mut |_| ControlFlow::Continue(()),
        )
        .unwrap_err();
        assert!(
            error.to_string().contains(what) && error.to_string().contains("without a previous"),
            "{error}"
        );
        assert!(!out.exists());
    }
}

#[test]
fn a_directory_in_use_is_left_alone_and_a_stopped_assemble_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("mine"), "x").unwrap();
    assert!(matches!(
        make(None, upsert(vec![]), &out),
        Err(IndexError::OutputInUse(_))
    ));
    assert!(out.join("mine").exists());

    let out = dir.path().join("stopped");
    let mut seen = Vec::new();
    let result = assemble(
        None,
        upsert(vec![document("d", &["one"]), document("e", &["two"])]),
        &identity(),
        Fusion::default(),
        &out,
        &mut |progress| {
            seen.push(progress);
            ControlFlow::Break(())
        },
    );
    assert!(matches!(result, Err(IndexError::Cancelled)) && !out.exists());
    assert_eq!(
        (seen.len(), seen[0].phase, seen[0].done, seen[0].total),
        (1, Phase::Text, 1, 2)
    );
}

#[test]
fn queries_that_cannot_be_answered_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let revision = fresh(dir.path(), vec![document("d", &["one"])]);
    let good = embed("x");
    let bad = [f32::NAN; crate::DIMENSIONS];
    let ask = |vector: Option<&[f32]>, k| {
        revision.search(&Query {
            text: "one",
            vector,
            k,
            mode: Mode::Hybrid,
            ..Query::default()
        })
    };
    assert_eq!(ask(Some(&good), 1).unwrap().hits.len(), 1);
    for (result, reason) in [
        (ask(Some(&good), 0), "query: k: 0 passages"),
        (ask(None, 1), "query: vector: missing"),
        (
            ask(Some(&good[..3]), 1),
            "query: vector: 3 dimensions, but the index has 16",
        ),
        (ask(Some(&bad), 1), "query: vector: a number is infinite"),
    ] {
        assert!(
            result.as_ref().unwrap_err().to_string().starts_with(reason),
            "{result:?}"
        );
    }
}
