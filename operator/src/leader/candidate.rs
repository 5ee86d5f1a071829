//! Stands for election: asks the API server what the [`Elector`] wants to know or have written.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, Client, Config, Resource};
use tokio_util::sync::CancellationToken;

use super::elector::{Elector, Step};
use super::{Election, Standing};
use crate::MANAGER;

pub struct Candidate {
    api: Api<Lease>,
    accounts: Api<ServiceAccount>,
    election: Election,
    elector: Elector,
    standing: Standing,
    /// What was told last, so that it is told once.
    holder: Option<String>,
    trouble: Option<String>,
}

enum Answer {
    Read(Option<Lease>),
    Written(Lease),
}

impl Candidate {
    /// The Lease is asked for by a way of its own: its writes are what leading is.
    pub fn new(mut config: Config, election: &Election, standing: Standing) -> Result<Self> {
        config.default_retry = false;
        let client = Client::try_from(config)?;
        Ok(Self {
            api: Api::namespaced(client.clone(), &election.namespace),
            accounts: Api::namespaced(client, &election.namespace),
            elector: Elector::new(&election.identity, election.timing),
            election: election.clone(),
            standing,
            holder: None,
            trouble: None,
        })
    }

    /// Until `stop`; the Lease is given back then.
    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        loop {
            match self.elector.next(Instant::now(), Timestamp::now()) {
                Step::Wait(until) => tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep_until(until.into()) => {}
                },
                Step::Lost(lost) => {
                    self.standing.end();
                    let lease = self.lease();
                    return Err(anyhow!("leadership is lost: the Lease {lease}: {lost}"));
                }
                step => tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.ask(step) => {}
                },
            }
        }
        self.standing.end();
        self.release().await;
        Ok(())
    }

    async fn ask(&mut self, step: Step) {
        let asked = Instant::now();
        let answer = tokio::time::timeout(self.patience(asked), self.request(step)).await;
        let now = Instant::now();
        match answer {
            Ok(Ok(Answer::Read(lease))) => self.elector.saw(now, lease),
            Ok(Ok(Answer::Written(lease))) => self.elector.wrote(asked, now, lease),
            Ok(Err(error)) if outdated(&error) => self.elector.refused(now),
            Ok(Err(error)) => return self.failed(now, error.to_string()),
            Err(_) => return self.failed(now, "the API server does not answer".to_owned()),
        }
        self.trouble = None;
        self.tell();
    }

    /// How long an answer is waited for: long enough for a slow API server, short enough for a second try.
    fn patience(&self, now: Instant) -> Duration {
        let half = self.election.timing.renew_deadline / 2;
        let left = self.elector.held().map(|held| held.until - now);
        left.map_or(half, |left| left.min(half))
    }

    async fn request(&self, step: Step) -> kube::Result<Answer> {
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let name = &self.election.lease;
        match step {
            Step::Create(spec) => {
                let lease = self.made(spec).await?;
                Ok(Answer::Written(self.api.create(&params, &lease).await?))
            }
            Step::Write(mut lease) => {
                // One that an earlier build made has no owner.
                if lease.metadata.owner_references.is_none() {
                    lease.metadata.owner_references = self.owner().await.unwrap_or_default();
                }
                let written = self.api.replace(name, &params, &lease).await?;
                Ok(Answer::Written(written))
            }
            _ => Ok(Answer::Read(self.api.get_opt(name).await?)),
        }
    }

    /// A new Lease, which goes when the operators' account does.
    async fn made(&self, spec: LeaseSpec) -> kube::Result<Lease> {
        let labels = [("app.kubernetes.io/managed-by", MANAGER)];
        Ok(Lease {
            metadata: ObjectMeta {
                name: Some(self.election.lease.clone()),
                labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
                owner_references: self.owner().await?,
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        })
    }

    async fn owner(&self) -> kube::Result<Option<Vec<OwnerReference>>> {
        let owner = match &self.election.account {
            Some(account) => self.accounts.get(account).await?.owner_ref(&()),
            None => None,
        };
        Ok(owner.map(|owner| vec![owner]))
    }

    fn failed(&mut self, now: Instant, trouble: String) {
        self.elector.failed(now);
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(lease = self.lease(), "the Lease cannot be had: {trouble}");
            self.trouble = Some(trouble);
        }
    }

    /// Says on transitions who leads.
    fn tell(&mut self) {
        let (lease, me) = (self.lease(), &self.election.identity);
        if let Some(held) = self.elector.held() {
            if self.standing.lead(held.term, held.until) {
                tracing::info!(
                    lease,
                    identity = me,
                    term = held.term,
                    "this operator leads"
                );
            }
            return;
        }
        let holder = self.elector.holder().map(str::to_owned);
        if holder.is_some() && holder != self.holder {
            tracing::info!(
                lease,
                identity = me,
                leader = holder,
                "this operator stands by"
            );
        }
        self.holder = holder;
    }

    /// Gives the Lease back, so that another need not wait for it to expire.
    async fn release(&mut self) {
        for _ in 0..3 {
            let now = Instant::now();
            let Some(lease) = self.elector.released(now, Timestamp::now()) else {
                return;
            };
            let request = self.request(Step::Write(lease));
            let refused = match tokio::time::timeout(self.patience(now), request).await {
                Ok(Ok(_)) => {
                    return tracing::info!(lease = self.lease(), "the Lease is given back");
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the API server does not answer".to_owned(),
            };
            tracing::debug!(refused, "the Lease is read again");
            let read = self.request(Step::Look);
            if let Ok(Ok(Answer::Read(lease))) =
                tokio::time::timeout(self.patience(now), read).await
            {
                self.elector.saw(Instant::now(), lease);
            }
        }
        tracing::warn!(
            lease = self.lease(),
            "the Lease is not given back: it will expire"
        );
    }

    fn lease(&self) -> String {
        format!("{}/{}", self.election.namespace, self.election.lease)
    }
}

/// Whether somebody else was faster.
fn outdated(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    status.is_conflict() || status.is_already_exists() || status.is_not_found()
}
