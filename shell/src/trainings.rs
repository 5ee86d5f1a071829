//! Looks after what trainings have written down of themselves: it is kept as long as a run that wants it lives.
//!
//! Whether it does, a pipeline's record says: it holds what the steps of live runs made, and the Snapshot with which each
//! run begins was in it before the run's training was sent out. So nothing has to be under way: a run may wait for its
//! worker, its window or its budget as long as it likes, and who restarts knows no less.

use anyhow::Result;
use loci_plan::PipelineRecord;
use loci_store::Store;
use loci_worker::step::Training;

/// Deletes those of the documents `names` that no live run wants. What they named is garbage then. What fails is told in
/// the log; false when anything did.
pub(crate) async fn sweep(store: &Store, names: &[String]) -> bool {
    let mut whole = true;
    for name in names {
        if let Err(error) = look(store, name).await {
            tracing::warn!(training = name, "it is looked at again later: {error:#}");
            whole = false;
        }
    }
    whole
}

async fn look(store: &Store, name: &str) -> Result<()> {
    let Some((training, version)) = store.document::<Training>(name).await? else {
        return Ok(());
    };
    let record = store.document::<PipelineRecord>(&training.pipeline).await?;
    let record = record.map(|(record, _)| record);
    // A run that has joined meanwhile has written its name there, and the version is another.
    if !is_wanted(&training, record.as_ref()) && store.delete_document(name, &version).await? {
        tracing::info!(
            pipeline = training.pipeline,
            step = training.step,
            "a training that no run wants is dropped"
        );
    }
    Ok(())
}

fn is_wanted(training: &Training, record: Option<&PipelineRecord>) -> bool {
    let of_run = |run: &String| training.runs.contains_key(run);
    record.is_some_and(|record| {
        record.missing_since.is_none() && record.results.iter().any(|o| of_run(&o.key.run))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use jiff::Timestamp;
    use loci_crds::run::StepName;
    use loci_digest::Digest;
    use loci_plan::{Snapshot, StepKey, StepOutcome, StepResult};

    use super::*;

    const PIPELINE: &str = "agents/support";

    fn snapshot_of(run: &str) -> StepOutcome {
        StepOutcome {
            key: StepKey {
                run: run.to_owned(),
                step: StepName::Snapshot,
                attempt: 1,
            },
            time: Timestamp::UNIX_EPOCH,
            result: Ok(StepResult::Snapshot(Snapshot {
                output: Digest::of("snapshot"),
                sources: BTreeMap::new(),
                summary: String::new(),
            })),
        }
    }

    async fn keep(store: &Store, record: &PipelineRecord) {
        let found = store.document::<PipelineRecord>(PIPELINE).await.unwrap();
        let over = found.map(|(_, version)| version);
        let put = store.put_document(PIPELINE, &[], record, over.as_ref());
        assert!(put.await.unwrap().is_some());
    }

    /// A training of `runs`, and what its document names.
    async fn train(store: &Store, key: &str, runs: &[&str]) -> (String, Digest) {
        let checkpoint = store.put(format!("checkpoint of {key}").into()).await;
        let checkpoint = checkpoint.unwrap();
        let name = Training::name(&Digest::of(key));
        let training = Training {
            pipeline: PIPELINE.to_owned(),
            runs: runs.iter().map(|run| ((*run).to_owned(), 1.5)).collect(),
            checkpoint,
            step: 7,
        };
        let roots = [checkpoint];
        let put = store.put_document(&name, &roots, &training, None);
        assert!(put.await.unwrap().is_some());
        (name, checkpoint)
    }

    #[tokio::test]
    async fn a_training_is_kept_while_a_run_that_wants_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_local(dir.path()).await.unwrap();
        let (first, of_first) = train(&store, "first", &["support-1"]).await;
        let (both, of_both) = train(&store, "both", &["support-1", "support-2"]).await;
        let names = [first, both];
        let left = async |record: &PipelineRecord| {
            keep(&store, record).await;
            assert!(sweep(&store, &names).await);
            store.gc(&[], Duration::ZERO).await.unwrap();
            let mut left = Vec::new();
            for checkpoint in [of_first, of_both] {
                left.push(store.contains(&checkpoint).await.unwrap());
            }
            left
        };
        let live = |runs: &[&str]| PipelineRecord {
            results: runs.iter().map(|run| snapshot_of(run)).collect(),
            ..PipelineRecord::default()
        };
        assert_eq!(left(&live(&["support-1"])).await, [true, true]);
        assert_eq!(left(&live(&["support-2", "other-1"])).await, [false, true]);
        let gone = PipelineRecord {
            missing_since: Some(Timestamp::UNIX_EPOCH),
            ..live(&["support-2"])
        };
        assert_eq!(left(&gone).await, [false, false]);
        // Of a pipeline without a record, too.
        let (name, _) = train(&store, "again", &["support-9"]).await;
        let elsewhere = Training {
            pipeline: "agents/other".to_owned(),
            ..store.document(&name).await.unwrap().unwrap().0
        };
        let (_, version) = store.document::<Training>(&name).await.unwrap().unwrap();
        let put = store.put_document(&name, &[], &elsewhere, Some(&version));
        assert!(put.await.unwrap().is_some());
        assert!(sweep(&store, std::slice::from_ref(&name)).await);
        assert_eq!(store.documents().await.unwrap(), [PIPELINE]);
    }
}
