//! Brings a namespace's fetcher to what is needed.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::OfNamespace;
use super::objects::{FetcherTemplate, NAME, objects};
use crate::apply::apply;
use crate::facts::Known;
use crate::fleet::{Applied, hash, place_of};

/// What was applied, at the Deployment: what is there as it was applied is not applied again.
const APPLIED: &str = "loci.dev/applied";

/// Applies what is not as it was applied.
pub(super) async fn arrange(
    client: &Client,
    namespace: &str,
    needs: &OfNamespace,
    template: &FetcherTemplate,
    known: &Known,
) -> Result<()> {
    let mut objects = objects(namespace, needs, template);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let there = deployments.get_metadata_opt(NAME).await?;
    let record = there.and_then(|there| Applied::parse(there.annotations().get(APPLIED)?));
    let record = record.unwrap_or_default();
    let mut now = Applied {
        objects: hash(&objects),
        ..record.clone()
    };
    let stands = |place: u8, fields: u64| {
        now.objects == record.objects && known.facts().fields(place) == Some(fields)
    };
    let mut deployment = objects.pop().unwrap_or_default();
    let mut ours = record.fields;
    for object in &objects {
        let place = place_of(object);
        if let Some(of) = ours.get_mut(usize::from(place))
            && !stands(place, *of)
        {
            *of = apply(client, namespace, object, known).await?.1;
        }
    }
    let place = place_of(&deployment);
    let own = ours.get(usize::from(place)).copied().unwrap_or_default();
    if ours == record.fields && stands(place, own) {
        return Ok(());
    }
    now.fields = ours;
    // Once more when its own fields are others: they are part of what it says of itself.
    loop {
        deployment["metadata"]["annotations"] = json!({APPLIED: now.to_string()});
        let (_, written) = apply(client, namespace, &deployment, known).await?;
        match now.fields.get_mut(usize::from(place)) {
            Some(of) if *of != written => *of = written,
            _ => return Ok(()),
        }
    }
}
