//! Loci on a whole Kubernetes, as its users have it: Helm, kubectl, and HTTP through the Service. `make e2e` makes the
//! cluster and runs this inside its network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod load;
mod story;
