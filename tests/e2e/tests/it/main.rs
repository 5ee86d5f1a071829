//! Loci on a whole Kubernetes, as its users have it: Helm, kubectl, and HTTP through the Service. `make e2e` makes the
//! cluster and runs this inside its network: one cluster, on which scenario follows scenario. Arguments choose scenarios
//! by parts of their names; `chaos` and `vllm` run when they are asked for only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod adapters;
mod audit;
mod bus;
mod caught;
mod chaos;
mod cluster;
mod disturbances;
mod faults;
mod figures;
mod flux;
mod gitops;
mod install;
mod load;
mod node;
mod objects;
mod rollouts;
mod secrets;
mod story;
mod tenants;
mod tuned;
mod upgrade;
mod vllm;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;

use crate::story::Story;

type Scenario = fn(Arc<Story>) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! scenarios {
    ($($path:path),* $(,)?) => {
        [$((stringify!($path), (|story| Box::pin($path(story))) as Scenario)),*]
    };
}

fn main() {
    if cluster::state().is_none() {
        return;
    }
    comes_after_the_pods();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let failed = runtime.block_on(tell());
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// What this program and its kubectl and helm compute is computed on other machines in a cluster of several. The load is
/// not meant: its threads have a policy of their own.
fn comes_after_the_pods() {
    // Where the kernel does not schedule by session there is no such file.
    let _ = std::fs::write("/proc/self/autogroup", "10");
}

/// Runs what was asked for; gives what failed. Later scenarios go on from whatever earlier ones left.
async fn tell() -> Vec<&'static str> {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let chosen = |name: &str| match name {
        "chaos::long" => asked.iter().any(|a| a == "chaos"),
        "vllm::adapters_are_answered_with" => asked.iter().any(|a| a == "vllm"),
        _ => asked.is_empty() || asked.iter().any(|a| name.contains(a.as_str())),
    };
    let upgraded = chosen("upgrade::from_an_earlier_chart");
    let charts = if upgraded { upgrade::EARLIER } else { "charts" };
    let begun = AssertUnwindSafe(Story::begin(charts)).catch_unwind().await;
    let Ok(story) = begun else {
        println!("{}", cluster::diagnosis());
        return vec!["Story::begin"];
    };
    let mut failed = Vec::new();
    for (name, scenario) in scenarios![
        upgrade::from_an_earlier_chart,
        install::a_pipeline_is_applied_and_answers,
        install::the_quickstart_is_applied_and_asked,
        rollouts::steady,
        rollouts::fifty_releases,
        rollouts::a_worse_candidate_is_rejected,
        rollouts::one_command_rolls_back,
        disturbances::rollout,
        disturbances::eviction,
        disturbances::helm_upgrade,
        disturbances::restarts,
        faults::a_replica_is_killed,
        faults::a_worker_is_killed,
        faults::a_worker_is_told_to_end_while_it_works,
        faults::a_worker_that_is_stuck_is_followed_by_another,
        faults::nats_is_killed_and_its_store_deleted,
        faults::the_operator_is_killed,
        faults::the_api_server_is_killed,
        faults::a_leader_that_is_stuck_is_followed_by_another,
        secrets::a_planted_secret_is_found_nowhere,
        tenants::none_reads_what_is_anothers,
        tenants::no_fetcher_reads_what_is_anothers,
        gitops::flux_follows_a_repository,
        adapters::one_from_git_is_trained_and_taken_back,
        vllm::adapters_are_answered_with,
        chaos::long,
        install::resources_are_deleted_and_applied_again,
        install::uninstalled_and_reinstalled,
        audit::rights_are_those_that_are_used,
        audit::statuses_agree,
        install::nothing_is_left,
    ] {
        if !chosen(name) {
            continue;
        }
        let began = Instant::now();
        println!("{name}");
        let told = AssertUnwindSafe(scenario(story.clone())).catch_unwind();
        let held = told.await.is_ok();
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "    {} after {seconds:.1} s",
            if held { "held" } else { "FAILED" }
        );
        if !held {
            println!("{}", cluster::diagnosis());
            failed.push(name);
        }
    }
    story.figures.lock().unwrap().tell();
    failed
}
