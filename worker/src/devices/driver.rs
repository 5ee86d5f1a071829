//! What NVIDIA's driver tells of its devices.

use cudarc::driver::sys::CUdevice_attribute_enum as Attribute;
use cudarc::driver::{DriverError, result, sys};
use loci_bus::{Device, Trouble};
use serde::{Serialize, Serializer};

use super::library::{Library, libraries};
use super::{CUDA, Unusable, Version};

/// What is asked of the driver. `cudarc` ends the thread that calls a function which the library lacks.
const FUNCTIONS: [&str; 14] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetUuid",
    "cuDeviceTotalMem_v2",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuMemGetInfo_v2",
];

/// The GPUs of this machine, as this process sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The newest CUDA that NVIDIA's driver knows; none without a driver.
    pub driver: Option<Version>,
    /// CUDA's libraries that computing takes beside the driver; looked for where there is a device.
    pub libraries: Vec<Library>,
    /// The devices, in the driver's order.
    pub devices: Vec<Device>,
    /// Why there are none.
    #[serde(rename = "trouble", serialize_with = "told")]
    pub absent: Option<Unusable>,
}

fn told<S: Serializer>(absent: &Option<Unusable>, serializer: S) -> Result<S::Ok, S::Error> {
    absent.as_ref().map(Trouble::from).serialize(serializer)
}

impl Inventory {
    /// Asks the driver. Takes a moment, and some memory of each device meanwhile: what is free is known within a
    /// context only.
    pub fn take() -> Self {
        let mut inventory = Self {
            driver: None,
            libraries: Vec::new(),
            devices: Vec::new(),
            absent: None,
        };
        match inventory.look() {
            Ok(devices) => {
                inventory.libraries = libraries();
                inventory.devices = devices;
            }
            Err(why) => inventory.absent = Some(why),
        }
        inventory
    }

    fn look(&mut self) -> Result<Vec<Device>, Unusable> {
        // SAFETY: the driver's library is looked for by its name; loading it has no other effect.
        if !unsafe { sys::is_culib_present() } {
            return Err(Unusable::NoDriver);
        }
        for function in FUNCTIONS {
            // SAFETY: the library is there, and what is found is not called.
            let found = unsafe { sys::culib().get::<unsafe extern "C" fn()>(function.as_bytes()) };
            found.map_err(|_| Unusable::OtherDriver { function })?;
        }
        self.driver = version().map_err(failed)?;
        if let Some(found) = self.driver.filter(|found| *found < CUDA) {
            return Err(Unusable::DriverTooOld { found });
        }
        let devices = result::init().and_then(|()| devices());
        let devices = devices.map_err(failed)?;
        if devices.is_empty() {
            return Err(Unusable::NoDevice);
        }
        Ok(devices)
    }
}

fn version() -> Result<Option<Version>, DriverError> {
    let mut number = 0;
    // SAFETY: the driver writes one number, into a place that outlives the call.
    unsafe { sys::cuDriverGetVersion(&mut number) }.result()?;
    Ok(Version::of_driver(number))
}

fn failed(error: DriverError) -> Unusable {
    use sys::CUresult as E;
    let hint = match error.0 {
        E::CUDA_ERROR_NO_DEVICE => return Unusable::NoDevice,
        E::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "the driver's library and its kernel module are of different versions: restart the node"
        }
        E::CUDA_ERROR_STUB_LIBRARY => {
            "the library found is the stub that programs are linked with: take its directory out of LD_LIBRARY_PATH"
        }
        E::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "a cuda-compat package is installed that this card does not allow: take it out of LD_LIBRARY_PATH, or install a newer driver on the node"
        }
        _ => "run nvidia-smi on the node, and look at its log",
    };
    let name = error.error_name().ok().and_then(|name| name.to_str().ok());
    let said = name.map_or_else(|| format!("{:?}", error.0), str::to_owned);
    Unusable::DriverFailed { said, hint }
}

fn devices() -> Result<Vec<Device>, DriverError> {
    (0..result::device::get_count()?)
        .map(|ordinal| device(result::device::get(ordinal)?))
        .collect()
}

fn device(handle: sys::CUdevice) -> Result<Device, DriverError> {
    // SAFETY: the handle is of the driver, as all that calls this has it.
    let attribute = |which| unsafe { result::device::get_attribute(handle, which) };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    // SAFETY: as above.
    let memory = unsafe { result::device::total_mem(handle)? };
    Ok(Device {
        name: result::device::get_name(handle)?,
        uuid: uuid(
            result::device::get_uuid(handle)?
                .bytes
                .map(|b| b.to_ne_bytes()[0]),
        ),
        memory_bytes: memory as u64,
        // Others may have the device to themselves: it is there all the same.
        free_bytes: free(handle).ok(),
        compute_capability: format!("{major}.{minor}"),
    })
}

fn free(handle: sys::CUdevice) -> Result<u64, DriverError> {
    // SAFETY: the handle is of the driver, and the context is held while it is asked; it is this thread's no more when it is
    // let go.
    unsafe {
        let context = result::primary_ctx::retain(handle)?;
        let asked = result::ctx::set_current(context).and_then(|()| result::mem_get_info());
        let left = result::ctx::set_current(std::ptr::null_mut());
        result::primary_ctx::release(handle)?;
        left?;
        Ok(asked?.0 as u64)
    }
}

/// As `nvidia-smi -L` writes it.
fn uuid(bytes: [u8; 16]) -> String {
    let hex = |part: &[u8]| part.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let parts = [0..4, 4..6, 6..8, 8..10, 10..16].map(|range| hex(&bytes[range]));
    format!("GPU-{}", parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Here there is a driver or there is none: either way it can be asked.
    #[test]
    fn a_machine_is_asked_for_its_devices_and_says_why_it_has_none() {
        let inventory = Inventory::take();
        assert_eq!(inventory.devices.is_empty(), inventory.absent.is_some());
        for device in &inventory.devices {
            assert!(
                !device.name.is_empty() && device.memory_bytes > 0,
                "{device:?}"
            );
            assert!(device.uuid.starts_with("GPU-"), "{device:?}");
            assert!(
                device
                    .free_bytes
                    .is_none_or(|free| free <= device.memory_bytes)
            );
            device.compute_capability.parse::<Version>().unwrap();
        }
        let json = serde_json::to_value(&inventory).unwrap();
        if let Some(why) = inventory.absent {
            assert_eq!(json["trouble"]["reason"], why.reason());
            assert!(why.to_string().starts_with("no CUDA device: "), "{why}");
        }
    }

    #[test]
    fn a_uuid_is_written_as_nvidia_writes_it() {
        let bytes = std::array::from_fn(|i| 16 * i as u8 + 15 - i as u8);
        assert_eq!(uuid(bytes), "GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0");
    }

    #[test]
    fn a_driver_that_shows_nothing_is_no_failure_of_it() {
        use sys::CUresult as E;
        assert_eq!(
            failed(DriverError(E::CUDA_ERROR_NO_DEVICE)),
            Unusable::NoDevice
        );
    }
}
