use std::env::consts::ARCH;

use burn::tensor::Device;

use crate::ModelError;
use crate::kernels::Isa;

/// Which device computes. It is chosen when the model is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceRequest {
    /// The best device of this build: the CPU.
    #[default]
    Auto,
    /// The CPU, with AVX-512, AVX2 or portable code as the processor allows.
    Cpu,
    /// An NVIDIA GPU. Refused: no GPU is built in yet.
    Cuda,
}

impl DeviceRequest {
    /// Whether this build can compute there, on this machine.
    ///
    /// # Errors
    /// [`ModelError::Device`] says why not.
    pub fn check(self) -> Result<(), ModelError> {
        self.open().map(drop)
    }

    pub(crate) fn open(self) -> Result<Device, ModelError> {
        match self {
            Self::Auto | Self::Cpu => Ok(Device::flex()),
            Self::Cuda => Err(ModelError::Device {
                requested: "cuda",
                reason: "this build computes on the CPU only; ask for cpu or auto",
            }),
        }
    }
}

/// How many threads compute on the CPU, in all encoders of this process; as many as the machine has, if
/// nothing is said. To be called before the first computation.
///
/// # Errors
/// [`ModelError::Compute`] when the threads were started already.
pub fn limit_threads(threads: usize) -> Result<(), ModelError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| ModelError::Compute(e.to_string()))
}

/// What decides how the CPU rounds what this process computes: the build, the processor's instructions, the threads.
/// Where all of it is the same, the same seed trains the same adapter to the bit.
pub fn arithmetic() -> String {
    let (version, isa) = (env!("CARGO_PKG_VERSION"), Isa::detect());
    let threads = rayon::current_num_threads();
    format!("loci {version}, {ARCH} {isa}, {threads} threads")
}
