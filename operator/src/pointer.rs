//! Writing the ConfigMap `<pipeline>-serving`: what is to be served outlives every leader, so a leader that is over must
//! not write over its successor.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Resource, ResourceExt};

/// The highest term of those who wrote it; none without an election.
const TERM: &str = "loci.dev/term";
/// Others write parts of their own to it, so the version may have to be read again.
const TRIES: usize = 5;

/// Applies `map` as `manager`, over exactly the version whose term was looked at; gives it as it is then.
///
/// # Errors
/// When a later leader has written it, or the API server refuses.
pub async fn write(
    api: &Api<ConfigMap>,
    manager: &str,
    term: u64,
    mut map: ConfigMap,
) -> Result<ConfigMap> {
    let name = map.name_any();
    if term > 0 {
        map.annotations_mut()
            .insert(TERM.to_owned(), term.to_string());
    }
    for _ in 0..TRIES {
        let there = api.get_metadata_opt(&name).await?;
        if let Some(there) = &there {
            admit(there, term)?;
        }
        map.meta_mut().resource_version = there.and_then(|t| t.resource_version());
        let written = match map.resource_version() {
            Some(_) => {
                let params = PatchParams::apply(manager).force();
                api.patch(&name, &params, &Patch::Apply(&map)).await
            }
            None => {
                let params = PostParams {
                    field_manager: Some(manager.to_owned()),
                    ..PostParams::default()
                };
                api.create(&params, &map).await
            }
        };
        match written {
            // Also one that exists by now, or does not any more.
            Err(kube::Error::Api(s))
                if s.is_conflict() || s.is_already_exists() || s.is_not_found() => {}
            written => return written.map_err(Into::into),
        }
    }
    bail!("the ConfigMap {name} could not be written: somebody changes it all the time")
}

fn admit(there: &PartialObjectMeta<ConfigMap>, term: u64) -> Result<()> {
    let Some(seen) = there.annotations().get(TERM) else {
        return Ok(());
    };
    let name = there.name_any();
    let seen: u64 = seen
        .parse()
        .with_context(|| format!("the annotation {TERM} of the ConfigMap {name} is no number"))?;
    if seen > term {
        bail!(
            "the ConfigMap {name} was written in term {seen} and this is term {term}: another operator has come to lead since. \
             If none is to be elected any more, remove its annotation {TERM}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_that_is_over_is_refused_and_named() {
        let mut there = PartialObjectMeta::<ConfigMap>::default();
        there.metadata.name = Some("shop-serving".to_owned());
        assert!(admit(&there, 0).is_ok());
        there
            .annotations_mut()
            .insert(TERM.to_owned(), "8".to_owned());
        assert!(admit(&there, 8).is_ok() && admit(&there, 9).is_ok());
        for over in [0, 7] {
            let refused = admit(&there, over).unwrap_err().to_string();
            assert!(
                refused.contains("shop-serving was written in term 8"),
                "{refused}"
            );
        }
    }
}
