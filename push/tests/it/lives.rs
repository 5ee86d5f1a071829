use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_answered_is_there_for_who_comes_later() {
    let bed = Bed::new().await;
    let log = bed.log().await;
    let mut commits = log.commits();
    let first = put(&log, "a", "one").await;
    assert!(first.changed() && first.before.is_none());
    assert!(commits.has_changed().unwrap());
    commits.mark_unchanged();
    // The same once more writes nothing, and tells nobody.
    let again = put(&log, "a", "one").await;
    assert_eq!((again.changed(), again.version), (false, first.version));
    assert!(!commits.has_changed().unwrap());
    assert_eq!(bed.commits(), [1]);
    put(&log, "b", "two").await;
    let gone = one(&log, delete("b")).await.unwrap();
    assert!(gone.changed() && gone.version.is_none());
    assert!(!one(&log, delete("b")).await.unwrap().changed());
    let later = bed.log().await.read().await.unwrap();
    assert_eq!(digests(&later), [("a", Digest::of("one"))]);
    assert_eq!((later.commit, &*later), (3, &*log.read().await.unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_of_several_processes_lose_nothing() {
    let bed = Bed::new().await;
    let (mut tasks, mut logs) = (Vec::new(), Vec::new());
    for process in 0..3 {
        let log = bed.log().await;
        logs.push(log.clone());
        for task in 0..4 {
            let log = log.clone();
            tasks.push(tokio::spawn(async move {
                for i in 0..30 {
                    let id = format!("{process}/{task}/{i}");
                    assert!(put(&log, &id, &id).await.changed());
                    put(&log, "everybody", &id).await;
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    let last = bed.log().await.read().await.unwrap();
    assert_eq!(last.documents.len(), 3 * 4 * 30 + 1);
    for log in logs {
        assert_eq!(log.read().await.unwrap(), last);
    }
    for kept in last.documents.values() {
        assert!(bed.store.contains(&kept.document.content).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_those_who_create_the_same_one_does() {
    let bed = Bed::new().await;
    let (one_log, other) = (bed.log().await, bed.log().await);
    let create = |log: PushLog, text: &'static str| async move {
        log.put_content(text.into()).await.unwrap();
        let condition = Condition::Absent;
        one(
            &log,
            Change {
                condition,
                ..change("a", text)
            },
        )
        .await
        .is_ok()
    };
    let made = tokio::join!(
        create(one_log.clone(), "1"),
        create(one_log.clone(), "2"),
        create(other.clone(), "3"),
        create(other.clone(), "4")
    );
    let made = [made.0, made.1, made.2, made.3];
    assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    assert_eq!(one_log.read().await.unwrap(), other.read().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_log_is_saved_whole_and_does_not_grow_for_ever() {
    let bed = Bed::new().await;
    let log = bed.log().await;
    for i in 0..150 {
        put(&log, &format!("{}", i % 7), &format!("text {i}")).await;
    }
    // The turn of the last writer ends with what is tidied up.
    let state = log.read().await.unwrap();
    assert_eq!((state.commit, state.documents.len()), (150, 7));
    assert!(bed.commits().len() < 64, "{:?}", bed.commits());
    assert!(bed.directory().join("head.json").exists());
    let later = bed.log().await;
    assert_eq!(later.read().await.unwrap(), state);
    put(&later, "new", "new").await;
    assert_eq!(log.read().await.unwrap().commit, 151);
}

/// Who has slept while others wrote and tidied up finds the number of its next commit free again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_was_away_for_long_loses_nothing_and_undoes_nothing() {
    let bed = Bed::new().await;
    let (awake, asleep) = (bed.log().await, bed.log().await);
    for i in 0..64 {
        put(&awake, &format!("{i}"), &format!("text {i}")).await;
    }
    awake.read().await.unwrap();
    assert_eq!(bed.commits(), [0_u64; 0], "all are saved");
    assert!(put(&asleep, "late", "late").await.changed());
    assert!(!put(&asleep, "7", "text 7").await.changed());
    let state = bed.log().await.read().await.unwrap();
    assert_eq!(state.documents.len(), 65);
    assert_eq!(asleep.read().await.unwrap(), state);
    assert_eq!(awake.read().await.unwrap(), state);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_keeps_the_state_that_it_has() {
    let bed = Bed::new().await;
    let log = bed.log().await;
    put(&log, "a", "one").await;
    let before = log.read().await.unwrap();
    put(&log, "a", "two").await;
    assert_eq!(digests(&before), [("a", Digest::of("one"))]);
    let after = log.read().await.unwrap();
    assert_ne!(before.content(), after.content());
    put(&log, "a", "one").await;
    assert_eq!(log.read().await.unwrap().content(), before.content());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn too_many_that_wait_are_refused_until_they_are_indexed() {
    let bed = Bed::new().await;
    let bounds = Bounds {
        documents: 100,
        pending: 2,
    };
    let log = PushLog::open(bed.store.clone(), PIPELINE, "notes", bounds);
    let log = log.await.unwrap();
    put(&log, "a", "one").await;
    put(&log, "b", "one").await;
    let third = change("c", "one");
    assert!(matches!(
        one(&log, third.clone()).await,
        Err(Refused::Backlog {
            pending: 2,
            limit: 2
        })
    ));
    // What waits may change, and what would be refused is foreseen.
    put(&log, "b", "two").await;
    assert!(log.foresee(std::slice::from_ref(&third)).await.unwrap()[0].is_err());
    let state = log.read().await.unwrap();
    let versions = state.documents.iter();
    let versions: BTreeMap<_, _> = versions.map(|(id, k)| (id.clone(), k.version)).collect();
    log.indexed(Arc::new(versions)).await;
    assert_eq!(log.pending().await, 0);
    assert!(one(&log, third).await.unwrap().changed());
    assert_eq!(log.pending().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn garbage_is_what_no_document_has_any_more() {
    const HOUR: Duration = Duration::from_secs(3600);
    let bed = Bed::new().await;
    let log = bed.log().await;
    put(&log, "kept", "kept").await;
    put(&log, "gone", "gone").await;
    one(&log, delete("gone")).await.unwrap();
    let collect = async || {
        for area in ["blobs", "manifests"] {
            age(&bed.dir.path().join(area), 2 * HOUR);
        }
        bed.store.gc(&[], HOUR).await.unwrap();
        let there = async |text: &str| bed.store.contains(&Digest::of(text)).await.unwrap();
        (there("kept").await, there("gone").await)
    };
    // As long as the commit that put it is there, so is what it put.
    assert_eq!(collect().await, (true, true));
    for i in 0..64 {
        put(&log, "busy", &format!("{i}")).await;
    }
    log.read().await.unwrap();
    assert_eq!(collect().await, (true, false));
    let kept = bed.log().await.read().await.unwrap();
    let content = kept.documents["kept"].document.content;
    assert_eq!(log.content(&content).await.unwrap(), "kept");

    loci_push::forget(&bed.store, PIPELINE).await.unwrap();
    assert!(bed.store.documents().await.unwrap().is_empty());
    assert_eq!(collect().await, (false, false));
    assert_eq!(bed.log().await.read().await.unwrap().documents.len(), 0);
}

/// Makes all files below look as if they were last used so long ago.
fn age(dir: &std::path::Path, by: Duration) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => age(&path, by),
            false => {
                let file = File::open(path).unwrap();
                file.set_modified(SystemTime::now() - by).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn what_another_process_has_deleted_is_put_anew() {
    let bed = Bed::new().await;
    let (ours, theirs) = (bed.log().await, bed.log().await);
    put(&ours, "a", "one").await;
    theirs.read().await.unwrap();
    one(&theirs, delete("a")).await.unwrap();
    // As far as the first one knows it is there.
    let again = change("a", "one");
    let seen = ours.foresee(std::slice::from_ref(&again)).await.unwrap();
    assert!(seen[0].as_ref().unwrap().changed());
    assert!(one(&ours, again).await.unwrap().changed());
    assert!(theirs.read().await.unwrap().documents.contains_key("a"));
    one(&theirs, delete("a")).await.unwrap();
    assert!(one(&ours, change("a", "one")).await.unwrap().changed());
}
