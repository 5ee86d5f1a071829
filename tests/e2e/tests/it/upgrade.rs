//! From an earlier chart to this one.

use std::process::Command;
use std::sync::Arc;

use loci_testbed::root;

use crate::cluster::{AGENTS, SYSTEM, field, kubectl, state, until};
use crate::story::{Story, blocking, definitions, rolled_out};

/// The charts as they were released.
pub const EARLIER: &str = "tests/fixtures/chart-0.1.0";
const IMAGE: &str = "{.spec.template.spec.containers[0].image}";

/// The image of a chart, by its appVersion.
fn image(charts: &str) -> String {
    let file = root().join(charts).join("loci/Chart.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let version = text.lines().find_map(|l| l.strip_prefix("appVersion: "));
    format!("ghcr.io/loci-dev/loci:{}", version.unwrap())
}

/// Gives the earlier charts an image under the name that they ask for: this program.
pub fn image_of_earlier() {
    let socket = state().unwrap().join("containerd.sock");
    let done = Command::new("ctr")
        .arg("-a")
        .arg(socket)
        .args(["-n", "k8s.io", "images", "tag", "--force"])
        .args([image("charts"), image(EARLIER)])
        .status()
        .unwrap();
    assert!(done.success());
}

/// Definitions first, then the chart, as the README says. Nobody who asks meanwhile is let down.
pub async fn from_an_earlier_chart(story: Arc<Story>) {
    let image_of = |namespace: &str, what: &str| field(what, namespace, IMAGE);
    let (operator, replicas) = ("deployment/loci-operator", "deployment/shop-recall");
    let (before, now) = (image(EARLIER), image("charts"));
    blocking(|| {
        assert_eq!(image_of(SYSTEM, operator), before);
        assert_eq!(image_of(AGENTS, replicas), before);
    });
    let act = async || {
        blocking(|| {
            definitions("charts");
            story.install(&[]);
            rolled_out(SYSTEM, operator);
            until("replicas are made anew", || {
                image_of(AGENTS, replicas) == now
            });
            rolled_out(AGENTS, replicas);
        });
    };
    story.unharmed("an upgrade from 0.1.0", act).await;
    blocking(|| {
        assert_eq!(image_of(SYSTEM, operator), now);
        kubectl(&["get", "validatingadmissionpolicy", "loci-machine-paths"]);
        kubectl(&["-n", AGENTS, "get", "networkpolicy", "shop-recall"]);
    });
    story.follows().await;
}
