use std::fs;

use loci_push::PushError;

use super::*;

/// What a crash leaves of a commit that nobody was answered for: a part of a file under another name.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_was_being_written_is_not_there_however_far_it_got() {
    let bed = Bed::new().await;
    let log = bed.log().await;
    put(&log, "a", "one").await;
    put(&log, "b", "two").await;
    let state = log.read().await.unwrap();
    put(&log, "c", "three").await;
    let whole = fs::read(bed.file(3)).unwrap();
    fs::remove_file(bed.file(3)).unwrap();
    let partial = bed.directory().join(format!("{:020}.json#1", 3));
    for length in 0..=whole.len() {
        fs::write(&partial, &whole[..length]).unwrap();
        let found = bed.log().await.read().await.unwrap();
        assert_eq!(found, state, "{length} of {} bytes", whole.len());
    }
    // And it is in nobody's way.
    let log = bed.log().await;
    put(&log, "c", "three").await;
    assert_eq!(bed.log().await.read().await.unwrap().documents.len(), 3);
}

/// A disk that loses what it said it had: never taken for fewer documents than there were.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_log_that_is_cut_at_any_byte_is_named_and_never_read_short() {
    let bed = Bed::new().await;
    let log = bed.log().await;
    for i in 0..70 {
        put(&log, &format!("{}", i % 5), &format!("text {i}")).await;
    }
    let state = log.read().await.unwrap();
    let last = *bed.commits().last().unwrap();
    assert_eq!(last, 70);
    for file in [bed.file(last), bed.directory().join("head.json")] {
        let whole = fs::read(&file).unwrap();
        for length in 0..whole.len() {
            replace(&file, &whole[..length]);
            let error = bed.open().await.unwrap_err();
            let name = file.file_stem().unwrap().to_str().unwrap();
            assert!(error.to_string().contains(name), "{length}: {error}");
        }
        replace(&file, &whole);
        assert_eq!(bed.log().await.read().await.unwrap(), state);
    }
}

/// A change within that leaves it readable is noticed by its sum.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_says_something_else_is_damaged() {
    let bed = Bed::new().await;
    put(&bed.log().await, "abc", "one").await;
    let text = fs::read_to_string(bed.file(1)).unwrap();
    replace(&bed.file(1), text.replace("abc", "abd").as_bytes());
    let error = bed.open().await.unwrap_err();
    assert!(matches!(error, PushError::Damaged { .. }), "{error}");
}

/// A crash while what is saved is tidied up, and a process that wrote where a commit had been: the head is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commits_that_are_saved_already_are_not_read() {
    let bed = Bed::new().await;
    let log = bed.log().await;
    let mut files = Vec::new();
    for i in 0..64 {
        put(&log, &format!("{}", i % 5), &format!("text {i}")).await;
        if i < 60 {
            files.push((bed.file(i + 1), fs::read(bed.file(i + 1)).unwrap()));
        }
    }
    let state = log.read().await.unwrap();
    assert!(bed.commits().is_empty());
    for left in [1, 20, 60] {
        // Those with the highest numbers were not deleted yet, or with the lowest.
        for range in [60 - left..60, 0..left] {
            for (file, content) in &files[range.clone()] {
                fs::write(file, content).unwrap();
            }
            let found = bed.log().await.read().await.unwrap();
            assert_eq!(found, state, "{range:?}");
            for (file, _) in &files[range] {
                fs::remove_file(file).unwrap();
            }
        }
    }
    // Written over a number that is saved: void, and deleted with the next that are saved.
    fs::write(bed.file(64), &files[0].1).unwrap();
    fs::write(bed.file(1), &files[9].1).unwrap();
    let log = bed.log().await;
    assert_eq!(log.read().await.unwrap(), state);
    for i in 0..64 {
        put(&log, "busy", &format!("{i}")).await;
    }
    assert_eq!(log.read().await.unwrap().documents.len(), 6);
    assert!(bed.commits().is_empty());
}

/// Content that was stored for a commit that never came is garbage, and the log is as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn content_without_a_commit_is_nothing() {
    let bed = Bed::new().await;
    let log = bed.log().await;
    put(&log, "a", "one").await;
    log.put_content("two".into()).await.unwrap();
    let found = bed.log().await.read().await.unwrap();
    assert_eq!(digests(&found), [("a", Digest::of("one"))]);
}

/// Who gives up waiting takes nobody along: the change is made all the same, or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_hangs_up_interrupts_nobody() {
    let bed = Bed::new().await;
    let log = bed.log().await;
    for i in 0..50_u64 {
        let text = format!("text {i}");
        log.put_content(text.clone().into()).await.unwrap();
        let (left, stayed) = (format!("left {i}"), format!("stayed {i}"));
        let hung_up = {
            let (log, text) = (log.clone(), text.clone());
            tokio::spawn(async move { log.write(vec![change(&left, &text)]).await })
        };
        tokio::time::sleep(std::time::Duration::from_micros(i * 40)).await;
        hung_up.abort();
        assert!(one(&log, change(&stayed, &text)).await.unwrap().changed());
    }
    let state = bed.log().await.read().await.unwrap();
    assert_eq!(state, log.read().await.unwrap());
    for i in 0..50 {
        assert!(state.documents.contains_key(&format!("stayed {i}")));
    }
}

/// Writes in place, as a failing disk would.
fn replace(file: &std::path::Path, content: &[u8]) {
    fs::remove_file(file).unwrap();
    fs::write(file, content).unwrap();
}
