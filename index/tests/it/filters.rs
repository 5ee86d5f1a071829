//! Filters against a plain reading of what they mean.

use std::cmp::Ordering;

use loci_index::{
    BUILT_IN_FIELDS, Bounds, Delta, Document, DocumentKey, Filter, MetaValue, Mode, Query, Revision,
};
use proptest::prelude::*;
use serde_json::json;

use crate::{document, embed, fresh, make, upsert, with_metadata};

const FIELDS: [&str; 4] = ["team", "a.b\\c", "year", "on"];

fn value() -> impl Strategy<Value = MetaValue> {
    prop_oneof![
        (-3i64..4).prop_map(MetaValue::Integer),
        any::<bool>().prop_map(MetaValue::Bool),
        prop::sample::select(vec!["red", "redder", "blue", "Red", ""]).prop_map(MetaValue::from),
        prop::sample::select(vec![
            "2026-01-01",
            "2026-01-01T01:00:00+01:00",
            "2026-01-01T00:00:00.5Z",
            "2025-06-01"
        ])
        .prop_map(MetaValue::from),
    ]
}

fn field() -> impl Strategy<Value = String> {
    prop::sample::select(FIELDS.to_vec()).prop_map(str::to_owned)
}

fn range() -> impl Strategy<Value = Filter> {
    let bounds = |a: MetaValue, b: MetaValue, shape: u8| match shape {
        0 => Bounds {
            gt: Some(a),
            ..Bounds::default()
        },
        1 => Bounds {
            lte: Some(a),
            ..Bounds::default()
        },
        2 => Bounds {
            gte: Some(a),
            lt: Some(b),
            ..Bounds::default()
        },
        _ => Bounds {
            gt: Some(a),
            lte: Some(b),
            ..Bounds::default()
        },
    };
    (field(), value(), value(), 0u8..4).prop_map(move |(field, a, b, shape)| {
        let same = kind(&a) == kind(&b) && kind(&a) != Kind::Bool;
        if same {
            Filter::Range(field, bounds(a, b, shape))
        } else {
            Filter::Range(field, bounds(1.into(), 3.into(), shape))
        }
    })
}

fn filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        (field(), value()).prop_map(|(f, v)| Filter::Equals(f, v)),
        (field(), prop::collection::vec(value(), 0..3)).prop_map(|(f, v)| Filter::In(f, v)),
        range(),
        field().prop_map(Filter::Exists),
        (field(), prop::sample::select(vec!["", "re", "red", "2026"]))
            .prop_map(|(f, p)| Filter::Prefix(f, p.to_owned())),
        prop::sample::select(vec!["d1", "d2", "nothing"])
            .prop_map(|d| Filter::Equals("document".into(), d.into())),
        prop::sample::select(vec!["file:///d1", "file:"])
            .prop_map(|p| Filter::Prefix("uri".into(), p.into())),
        Just(Filter::Range(
            "document".into(),
            Bounds {
                gte: Some("d1".into()),
                lt: Some("d3".into()),
                ..Bounds::default()
            }
        )),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::Or),
            inner.prop_map(|f| Filter::Not(Box::new(f))),
        ]
    })
}

#[derive(PartialEq, Clone, Copy, Debug)]
enum Kind {
    Text,
    Time,
    Integer,
    Bool,
}

fn kind(value: &MetaValue) -> Kind {
    match value {
        MetaValue::Text(_) => Kind::Text,
        MetaValue::Time(_) => Kind::Time,
        MetaValue::Integer(_) => Kind::Integer,
        MetaValue::Bool(_) => Kind::Bool,
    }
}

/// A value that orders as its kind does; the four times of [`value`] by hand.
fn ordered(value: &MetaValue) -> (i64, String) {
    match value {
        MetaValue::Integer(n) => (*n, String::new()),
        MetaValue::Bool(b) => (i64::from(*b), String::new()),
        MetaValue::Text(text) => (0, text.clone()),
        MetaValue::Time(text) => (
            ["2025-06-01", "2026-01-01", "2026-01-01T00:00:00.5Z"]
                .iter()
                .position(|t| t == text)
                .unwrap_or(1) as i64,
            String::new(),
        ),
    }
}

fn means(filter: &Filter, document: &Document) -> bool {
    let values = |field: &str| match field {
        "document" => vec![document.key.document.as_str().into()],
        "uri" => vec![document.uri.as_str().into()],
        _ => document.metadata.get(field).cloned().unwrap_or_default(),
    };
    let equal = |a: &MetaValue, b: &MetaValue| kind(a) == kind(b) && ordered(a) == ordered(b);
    match filter {
        Filter::Equals(field, wanted) => values(field).iter().any(|v| equal(v, wanted)),
        Filter::In(field, wanted) => values(field)
            .iter()
            .any(|v| wanted.iter().any(|w| equal(v, w))),
        Filter::Range(field, bounds) => values(field).iter().any(|v| {
            // A bound that is no time compares with the text of times, too.
            let comparable = |b: &MetaValue| match kind(b) {
                Kind::Text => v.as_str().map(|text| (ordered(b), (0, text.to_owned()))),
                same => (same == kind(v)).then(|| (ordered(b), ordered(v))),
            };
            let side = |bound: &Option<MetaValue>, holds: fn(Ordering) -> bool| {
                bound.as_ref().is_none_or(|b| {
                    comparable(b).is_some_and(|(bound, value)| holds(value.cmp(&bound)))
                })
            };
            side(&bounds.gt, Ordering::is_gt)
                && side(&bounds.gte, Ordering::is_ge)
                && side(&bounds.lt, Ordering::is_lt)
                && side(&bounds.lte, Ordering::is_le)
        }),
        Filter::Exists(field) => !values(field).is_empty(),
        Filter::Prefix(field, prefix) => values(field)
            .iter()
            .any(|v| v.as_str().is_some_and(|text| text.starts_with(prefix))),
        Filter::And(all) => all.iter().all(|f| means(f, document)),
        Filter::Or(any) => any.iter().any(|f| means(f, document)),
        Filter::Not(inner) => !means(inner, document),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pass_what_they_mean(
        metadata in prop::collection::vec(prop::collection::btree_map(field(), prop::collection::vec(value(), 0..3), 0..4), 1..8),
        filters in prop::collection::vec(filter(), 20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for (i, metadata) in metadata.into_iter().enumerate() {
            let mut indexed = document(&format!("d{i}"), &["same word", "same again"]);
            indexed.document.metadata = metadata;
            all.push(indexed);
        }
        let documents: Vec<Document> = all.iter().map(|indexed| indexed.document.clone()).collect();
        let revision = fresh(dir.path(), all);
        let vector = embed("same");
        for filter in filters {
            let expected: Vec<&str> = documents.iter().filter(|d| means(&filter, d)).map(|d| d.key.document.as_str()).collect();
            for mode in [Mode::Bm25, Mode::Dense, Mode::Hybrid] {
                let query = Query { text: "same", vector: Some(&vector), k: 100, filter: Some(filter.clone()), mode, exact: false };
                let result = revision.search(&query).unwrap();
                prop_assert_eq!(result.passing, Some(2 * expected.len() as u64), "{:?}", &filter);
                let mut found: Vec<_> = result.hits.iter().map(|hit| hit.key.document.as_str()).collect();
                found.sort_unstable();
                found.dedup();
                prop_assert_eq!(&found, &expected, "{:?} of {:?}", mode, &filter);
                prop_assert_eq!(result.hits.len(), 2 * expected.len());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_widens_what_a_second_filter_leaves(
        metadata in prop::collection::vec(prop::collection::btree_map(field(), prop::collection::vec(value(), 0..3), 0..4), 1..8),
        pairs in prop::collection::vec((filter(), filter()), 20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for (i, metadata) in metadata.into_iter().enumerate() {
            let mut indexed = document(&format!("d{i}"), &["same word", "same again"]);
            indexed.document.metadata = metadata;
            all.push(indexed);
        }
        let documents: Vec<Document> = all.iter().map(|indexed| indexed.document.clone()).collect();
        let revision = fresh(dir.path(), all);
        let vector = embed("same");
        for (mandatory, asked) in pairs {
            let visible = documents.iter().filter(|d| means(&mandatory, d)).count() as u64;
            prop_assert_eq!(revision.count(&mandatory).unwrap(), 2 * visible);
            let both = Filter::And(vec![mandatory.clone(), asked.clone()]);
            for mode in [Mode::Bm25, Mode::Dense, Mode::Hybrid] {
                let query = Query { text: "same", vector: Some(&vector), k: 100, filter: Some(both.clone()), mode, exact: false };
                let result = revision.search(&query).unwrap();
                prop_assert!(result.passing.unwrap() <= 2 * visible);
                for hit in &result.hits {
                    let document = documents.iter().find(|d| d.key == hit.key).unwrap();
                    prop_assert!(means(&mandatory, document), "{:?} by {:?}", document, &both);
                }
            }
            // Which fields there are is told by what the mandatory filter leaves alone.
            let seen = |field: &str| documents.iter().any(|d| means(&mandatory, d) && d.metadata.get(field).is_some_and(|v| !v.is_empty()));
            let known = asked.fields().into_iter().all(|field| BUILT_IN_FIELDS.contains(&field) || seen(field));
            let checked = revision.check_fields(&asked, Some(&mandatory));
            prop_assert_eq!(checked.is_ok(), known || visible == 0, "{:?} within {:?}", &asked, &mandatory);
            if let Err(error) = checked {
                for (field, _) in documents.iter().flat_map(|d| &d.metadata).filter(|(field, _)| !seen(field)) {
                    let named = error.to_string();
                    let (_, listed) = named.split_once("there are").unwrap();
                    prop_assert!(!listed.split(", ").any(|name| name.trim() == field), "{}", named);
                }
            }
        }
    }
}

#[test]
fn a_field_that_no_document_has_is_named_with_those_that_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("0");
    let tenant = |name: &str, tenant: &str, field: &str| {
        with_metadata(
            document(name, &["word"]),
            &[("tenant", &[tenant.into()]), (field, &[1.into()])],
        )
    };
    make(
        None,
        upsert(vec![
            tenant("a", "acme", "tier"),
            tenant("b", "umbrella", "virus"),
        ]),
        &first,
    )
    .unwrap();
    let check = |revision: &Revision, filter: serde_json::Value, within: Option<&Filter>| {
        let filter = Filter::from_json(&filter, "filters").unwrap();
        let checked = revision.check_fields(&filter, within);
        checked.map_err(|e| e.to_string())
    };
    let revision = Revision::open(&first).unwrap();
    let acme = Filter::Equals("tenant".into(), "acme".into());
    for known in [
        json!({"tier": 1, "source": "x"}),
        json!({"or": [{"virus": 2}, {"not": {"tier": {"exists": true}}}]}),
    ] {
        assert_eq!(check(&revision, known, None), Ok(()));
    }
    let all = "source, document, uri, memory, version, tenant, tier, virus";
    assert_eq!(
        check(&revision, json!({"not": {"teir": 1}}), None),
        Err(format!("teir: no document has this field; there are {all}"))
    );
    assert_eq!(
        check(&revision, json!({"virus": 1}), Some(&acme)),
        Err(format!(
            "virus: no document has this field; there are {}",
            all.trim_end_matches(", virus")
        )),
        "whoever sees acme's documents hears nothing of the other's"
    );
    let nobody = Filter::Equals("tenant".into(), "nobody".into());
    assert_eq!(check(&revision, json!({"x": 1}), Some(&nobody)), Ok(()));

    // Deleted documents have no fields.
    let gone = Delta {
        remove: vec![DocumentKey::new("s", "b")],
        upsert: vec![],
    };
    let second = dir.path().join("1");
    make(Some(&first), gone, &second).unwrap();
    let revision = Revision::open(&second).unwrap();
    assert!(check(&revision, json!({"virus": 1}), None).is_err());
    assert_eq!(check(&revision, json!({"tier": 1}), None), Ok(()));
}

fn count(revision: &Revision, filter: serde_json::Value) -> Result<u64, String> {
    let filter = Filter::from_json(&filter, "filters").map_err(|e| e.to_string())?;
    let query = Query {
        text: "word",
        k: 1,
        filter: Some(filter),
        mode: Mode::Bm25,
        ..Query::default()
    };
    revision
        .search(&query)
        .map(|result| result.passing.unwrap())
        .map_err(|e| e.to_string())
}

#[test]
fn requests_filter_by_json() {
    let dir = tempfile::tempdir().unwrap();
    let revision = fresh(
        dir.path(),
        vec![
            with_metadata(
                document("a", &["word"]),
                &[
                    ("year", &[2024.into(), 2026.into()]),
                    ("team", &["red".into()]),
                ],
            ),
            with_metadata(
                document("b", &["word"]),
                &[
                    ("year", &[2025.into()]),
                    ("published", &["2026-03-01T10:00:00Z".into()]),
                ],
            ),
        ],
    );
    assert_eq!(
        count(&revision, json!({"year": {"gt": 2024, "lt": 2026}})),
        Ok(1),
        "no single value of a lies between"
    );
    assert_eq!(
        count(
            &revision,
            json!({"year": [2026, 2025], "memory": "factual"})
        ),
        Ok(2)
    );
    assert_eq!(
        count(
            &revision,
            json!({"published": {"gte": "2026-03-01T11:00:00+01:00"}})
        ),
        Ok(1)
    );
    assert_eq!(count(&revision, json!({"not": {"team": "red"}})), Ok(1));
    assert_eq!(count(&revision, json!({"no such field": 1})), Ok(0));
    for (filter, reason) in [
        (json!({"memory": 1}), "memory: 1 is an integer"),
        (json!({"year": {"gt": 1, "lt": "x"}}), "year: the bounds"),
        (json!({"year": {"gt": true}}), "year: true has no order"),
        (json!({"year": {"gt": 1, "gte": 2}}), "year: gt and gte"),
    ] {
        assert!(
            count(&revision, filter).unwrap_err().starts_with(reason),
            "{reason}"
        );
    }
}
