//! Steps in worker processes.

use rustix::process::Signal;

use super::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn steps_go_to_workers_over_nats_and_whatever_is_killed_the_release_comes() {
    let cluster = Cluster::new("cluster").await;
    cluster.documents("The workshop opens at nine.").await;
    cluster.pipeline().await;

    // No worker yet: the work waits for one.
    let operator = cluster.operator();
    cluster.at_work("Embed").await;
    let worker = cluster.worker();
    cluster.serving(1).await;
    cluster.settled(1).await;

    // The operator is killed while a step waits; another finds it in the queue.
    worker.kill();
    cluster.documents("The workshop opens at ten.").await;
    cluster.at_work("Embed").await;
    operator.kill();
    let (_operator, worker) = (cluster.operator(), cluster.worker());
    cluster.serving(2).await;
    cluster.settled(2).await;

    // NATS is killed and loses all that it had.
    worker.signal(Signal::TERM);
    cluster.documents("The workshop opens at eleven.").await;
    cluster.at_work("Embed").await;
    cluster.nats.kill();
    cluster.nats.delete_store();
    cluster.nats.start_again();
    let _worker = cluster.worker();
    cluster.serving(3).await;
    cluster.settled(3).await;
}
