//! What this machine computes on beside its processor: which GPUs there are, whether a class of workers may use them, how
//! much they compute at once, and what becomes of a worker whose GPU fails.

mod batches;
mod card;
mod driver;
mod fit;
mod health;
mod library;
mod trouble;
mod version;

pub use batches::{Batches, in_batches};
pub use card::Card;
pub use driver::Inventory;
pub use fit::{Fit, Requires, fit};
pub use health::{After, Health, Item};
pub use library::Library;
pub use trouble::Unusable;
pub use version::Version;

/// The CUDA that this build is bound to, by `cudarc`'s feature: the oldest whose driver it runs on, and the one whose
/// libraries it loads.
pub const CUDA: Version = Version {
    major: 12,
    minor: 0,
};

/// The first drivers for Linux that know a CUDA, by NVIDIA's release notes of each.
const DRIVERS: [(Version, &str); 10] = [
    (CUDA, "525.60.13"),
    (
        Version {
            major: 12,
            minor: 1,
        },
        "530.30.02",
    ),
    (
        Version {
            major: 12,
            minor: 2,
        },
        "535.54.03",
    ),
    (
        Version {
            major: 12,
            minor: 3,
        },
        "545.23.06",
    ),
    (
        Version {
            major: 12,
            minor: 4,
        },
        "550.54.14",
    ),
    (
        Version {
            major: 12,
            minor: 5,
        },
        "555.42.02",
    ),
    (
        Version {
            major: 12,
            minor: 6,
        },
        "560.28.03",
    ),
    (
        Version {
            major: 12,
            minor: 8,
        },
        "570.26",
    ),
    (
        Version {
            major: 12,
            minor: 9,
        },
        "575.51.03",
    ),
    (
        Version {
            major: 13,
            minor: 0,
        },
        "580.65.06",
    ),
];

/// The driver to install for a CUDA, for people.
fn driver_for(cuda: Version) -> String {
    let known = DRIVERS.iter().find(|(knows, _)| *knows >= cuda);
    known.map_or_else(
        || format!("a driver that knows CUDA {cuda}"),
        |(_, driver)| format!("driver {driver} or later"),
    )
}
