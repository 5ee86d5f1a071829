use loci_bus::Trouble;

use super::{CUDA, Version, driver_for};

/// Why a worker computes on no GPU: what is wrong, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// NVIDIA's driver is not installed, or its library is not shown to this process.
    #[error(
        "no CUDA device: the library of NVIDIA's driver (libcuda.so.1) is not here; on a node with a GPU ask for one in the container's limits (nvidia.com/gpu: 1), with the runtime class nvidia where the node has one"
    )]
    NoDriver,
    /// The library of the driver is of another time.
    #[error(
        "no CUDA device: the library of NVIDIA's driver has no {function}, so it is of another major version than this build loads; install {} on the node",
        driver_for(CUDA)
    )]
    OtherDriver {
        /// What it lacks.
        function: &'static str,
    },
    /// The driver knows older CUDA only.
    #[error(
        "no CUDA device: NVIDIA's driver on this node knows CUDA up to {found} and this build needs {CUDA}; install {} on the node",
        driver_for(CUDA)
    )]
    DriverTooOld {
        /// The newest CUDA that it knows.
        found: Version,
    },
    /// The driver is older than the compiler of kernels.
    #[error(
        "{library} is of CUDA {compiles}, and what it compiles is loaded by drivers of that CUDA or a later one alone, but NVIDIA's driver on this node knows CUDA up to {found}; install {} on the node, or build images/Containerfile.gpu for CUDA {found}", driver_for(*compiles)
    )]
    DriverOlderThanCompiler {
        /// The compiler.
        library: &'static str,
        /// Its version.
        compiles: Version,
        /// The newest CUDA that the driver knows.
        found: Version,
    },
    /// The driver refuses.
    #[error("no CUDA device: NVIDIA's driver says {said}; {hint}")]
    DriverFailed {
        /// The name of its error.
        said: String,
        /// What to do.
        hint: &'static str,
    },
    /// The driver shows no device.
    #[error(
        "no CUDA device: NVIDIA's driver is here and shows none to this process; ask for one in the container's limits (nvidia.com/gpu: 1), and see that CUDA_VISIBLE_DEVICES hides none"
    )]
    NoDevice,
    /// There are devices, and this build does not compute on them.
    #[error(
        "this build of loci computes on no CUDA device ({why}); use the image of images/Containerfile.gpu, which is built with --features cuda"
    )]
    NotBuilt {
        /// What the models say.
        why: String,
    },
    /// A library of CUDA is not installed.
    #[error(
        "{library} is not here, by which kernels are compiled; use the image of images/Containerfile.gpu, or install CUDA {}'s", CUDA.major
    )]
    NoLibrary {
        /// Which.
        library: &'static str,
    },
    /// A library of CUDA is of another major version.
    #[error(
        "{library} is of CUDA {found} and this build loads that of CUDA {}; use the image of images/Containerfile.gpu, or put CUDA {}'s first in LD_LIBRARY_PATH", CUDA.major, CUDA.major
    )]
    OtherLibrary {
        /// Which.
        library: &'static str,
        /// Its version.
        found: Version,
    },
    /// A device has less than its class asks for.
    #[error("{device} has {has} and the class asks for {wants}: {way_out}")]
    BelowClass {
        /// Its name and UUID.
        device: String,
        /// What it has.
        has: String,
        /// What it should have.
        wants: String,
        /// What to do.
        way_out: String,
    },
    /// A device failed as often as one may.
    #[error(
        "{device} failed twice, at last so: {said}; what it was at went back into the queue. Delete the pod, so that it starts anew; if it fails again, look at the node's log for Xid errors and take the card out of service"
    )]
    DeviceFailed {
        /// Its name and UUID.
        device: String,
        /// Its last error.
        said: String,
    },
}

impl Unusable {
    /// One CamelCase word, for metrics and programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoDriver => "NoDriver",
            Self::OtherDriver { .. } => "OtherDriver",
            Self::DriverTooOld { .. } | Self::DriverOlderThanCompiler { .. } => "DriverTooOld",
            Self::DriverFailed { .. } => "DriverFailed",
            Self::NoDevice => "NoDevice",
            Self::NotBuilt { .. } => "NotBuilt",
            Self::NoLibrary { .. } => "NoLibrary",
            Self::OtherLibrary { .. } => "OtherLibrary",
            Self::BelowClass { .. } => "BelowClass",
            Self::DeviceFailed { .. } => "DeviceFailed",
        }
    }
}

impl From<&Unusable> for Trouble {
    fn from(why: &Unusable) -> Self {
        Self {
            reason: why.reason().to_owned(),
            message: why.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_to_install_is_the_first_that_knows_the_cuda() {
        let of = |major, minor| driver_for(Version::of(major, minor).unwrap());
        assert_eq!(of(12, 0), "driver 525.60.13 or later");
        assert_eq!(of(12, 7), "driver 570.26 or later");
        assert!(of(14, 0).contains("knows CUDA 14.0"));
    }

    #[test]
    fn each_says_what_is_wrong_and_the_way_out() {
        let found = Version::of(11, 4).unwrap();
        let too_old = Unusable::DriverTooOld { found };
        let library = Unusable::OtherLibrary {
            library: "NVRTC",
            found: Version::of(13, 0).unwrap(),
        };
        let newer = Unusable::DriverOlderThanCompiler {
            library: "NVRTC",
            compiles: Version::of(12, 8).unwrap(),
            found: Version::of(12, 4).unwrap(),
        };
        for (why, parts) in [
            (
                Unusable::NoDriver,
                &["no CUDA device", "libcuda.so.1", "nvidia.com/gpu: 1"][..],
            ),
            (
                too_old,
                &["no CUDA device", "up to 11.4", "needs 12.0", "525.60.13"],
            ),
            (
                Unusable::NoDevice,
                &["no CUDA device", "CUDA_VISIBLE_DEVICES"],
            ),
            (
                newer,
                &[
                    "NVRTC is of CUDA 12.8",
                    "up to 12.4",
                    "driver 570.26 or later",
                ],
            ),
            (
                library,
                &["NVRTC is of CUDA 13.0", "CUDA 12", "Containerfile.gpu"],
            ),
        ] {
            let told = Trouble::from(&why);
            for part in parts {
                assert!(told.message.contains(part), "{part}: {}", told.message);
            }
            assert_eq!(told.reason, why.reason());
        }
    }
}
