//! What the errors of a GPU mean for who computes on it, and which kernels could not be compiled there.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use crate::ModelError;

/// Its memory is full: CUDA's driver and its libraries, burn, wgpu.
const FULL: [&str; 7] = [
    "cuda_error_out_of_memory",
    "cublas_status_alloc_failed",
    "out of memory",
    "out of device memory",
    "out-of-memory error",
    "outofmemory",
    "not enough memory left",
];

/// After these nothing that this process does on the device succeeds any more.
const FAILED: [&str; 20] = [
    "cuda_error_illegal_address",
    "cuda_error_illegal_instruction",
    "cuda_error_misaligned_address",
    "cuda_error_invalid_address_space",
    "cuda_error_invalid_pc",
    "cuda_error_hardware_stack_error",
    "cuda_error_launch_failed",
    "cuda_error_launch_timeout",
    "cuda_error_assert",
    "cuda_error_ecc_uncorrectable",
    "cuda_error_nvlink_uncorrectable",
    "cuda_error_context_is_destroyed",
    "cuda_error_device_unavailable",
    "cuda_error_devices_unavailable",
    "cuda_error_no_device",
    "cuda_error_system_not_ready",
    "cuda_error_unknown",
    "device is poisoned",
    "device was poisoned",
    "device is lost",
];

/// Kernels that fell back, and how often.
static FALLBACKS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// What became of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its memory is full: less at once may fit.
    OutOfMemory,
    /// This process cannot compute on it any more.
    Failed,
}

impl Fault {
    /// What an error's text says of its device, as CUDA's driver and libraries, burn and wgpu word it. None: nothing.
    pub fn of(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if has(&FAILED) {
            Some(Self::Failed)
        } else if has(&FULL) {
            Some(Self::OutOfMemory)
        } else {
            None
        }
    }
}

impl ModelError {
    /// Of an error of the tensors' backend.
    pub(crate) fn computing(error: impl Display) -> Self {
        let text = error.to_string();
        match Fault::of(&text) {
            Some(Fault::OutOfMemory) => Self::OutOfMemory(text),
            Some(Fault::Failed) => Self::DeviceFailed(text),
            None => Self::Compute(text),
        }
    }
}

/// Counts that `kernel` could not be compiled on this machine, so that a slower way was taken, and says so the first time.
pub fn kernel_fell_back(kernel: &str, reason: impl Display) {
    let mut all = FALLBACKS.lock().unwrap_or_else(PoisonError::into_inner);
    match all.get_mut(kernel) {
        Some(count) => *count += 1,
        None => {
            all.insert(kernel.to_owned(), 1);
            drop(all);
            tracing::warn!(
                kernel,
                %reason,
                "a kernel does not compile here: burn's own operation is used instead, which is slower and gives the same"
            );
        }
    }
}

/// How often each kernel of this process fell back.
pub fn kernel_fallbacks() -> BTreeMap<String, u64> {
    let all = FALLBACKS.lock().unwrap_or_else(PoisonError::into_inner);
    all.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_devices_are_told_from_others() {
        let full = [
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "An error happened during execution\nCaused by:\n  out of device memory allocating 1073741824 bytes",
            "An out-of-memory error happened during launch",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "wgpu error: Out of Memory",
        ];
        for text in full {
            assert_eq!(Fault::of(text), Some(Fault::OutOfMemory), "{text}");
            let error = ModelError::computing(text);
            assert!(matches!(error, ModelError::OutOfMemory(_)), "{error}");
        }
        let failed = [
            "DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access was encountered\")",
            "The device is poisoned\nCaused by:\n  the launch before ran out of memory",
            "CUDA_ERROR_ECC_UNCORRECTABLE",
            "Parent device is lost",
        ];
        for text in failed {
            assert_eq!(Fault::of(text), Some(Fault::Failed), "{text}");
            let error = ModelError::computing(text);
            assert!(matches!(error, ModelError::DeviceFailed(_)), "{error}");
        }
        let other = [
            "the weights yield vectors that are not finite",
            "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
            "A compilation error happened during launch",
        ];
        for text in other {
            assert_eq!(Fault::of(text), None, "{text}");
            let error = ModelError::computing(text);
            assert!(matches!(error, ModelError::Compute(_)), "{error}");
        }
    }

    #[test]
    fn a_kernel_that_falls_back_is_counted_by_its_name() {
        let count = |name: &str| kernel_fallbacks().get(name).copied();
        assert_eq!(count("of-this-test"), None);
        kernel_fell_back("of-this-test", "ptxas: out of registers");
        kernel_fell_back("of-this-test", "ptxas: out of registers");
        kernel_fell_back("another-of-this-test", "NVRTC is not here");
        assert_eq!(count("of-this-test"), Some(2));
        assert_eq!(count("another-of-this-test"), Some(1));
    }
}
