//! Looks at a source: does it differ from a snapshot?

use jiff::Timestamp;
use loci_plan::{Difference, Look, Probe};
use loci_store::Store;
use loci_worker::source::{self, SourceSpec};
use loci_worker::step::{SNAPSHOT, Snapshot};

/// Probes `spec`, which is absent when the source is not declared any more.
pub(crate) async fn look(store: &Store, spec: Option<&SourceSpec>, probe: Probe) -> Look {
    let time = Timestamp::now();
    let result = differs(store, spec, &probe).await;
    Look {
        probe,
        time,
        result,
    }
}

async fn differs(
    store: &Store,
    spec: Option<&SourceSpec>,
    probe: &Probe,
) -> Result<Difference, String> {
    let spec = spec.ok_or_else(|| "the source is not declared any more".to_owned())?;
    let basis: Snapshot = store
        .get_manifest(SNAPSHOT, &probe.basis)
        .await
        .map_err(|e| e.to_string())?;
    let before = basis
        .sources
        .get(&probe.source)
        .and_then(|s| s.listing.as_ref())
        .map(|l| &l.state);
    match source::probe(spec, before).await {
        Ok(source::Probe::Unchanged) => Ok(Difference::Unchanged),
        Ok(source::Probe::Changed(_)) => Ok(Difference::Changed),
        Err(error) => Err(error.to_string()),
    }
}
