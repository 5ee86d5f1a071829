//! What this machine computes on beside its processor.

use cudarc::driver::sys::CUdevice_attribute_enum as Attribute;
use cudarc::driver::{DriverError, result, sys};
use loci_bus::Device;

/// The GPUs that NVIDIA's driver shows to this process. Without the driver there are none, which is normal.
pub fn devices() -> Vec<Device> {
    // SAFETY: the driver's library is looked for by its name; loading it has no other effect.
    let driver = unsafe { sys::is_culib_present() };
    if !driver {
        return Vec::new();
    }
    found().unwrap_or_else(|error| {
        tracing::warn!("the NVIDIA driver does not tell of its devices: {error}");
        Vec::new()
    })
}

fn found() -> Result<Vec<Device>, DriverError> {
    result::init()?;
    (0..result::device::get_count()?)
        .map(|ordinal| {
            let device = result::device::get(ordinal)?;
            // SAFETY: the handle is of the driver, from the line above.
            let (memory, major, minor) = unsafe {
                (
                    result::device::total_mem(device)?,
                    result::device::get_attribute(
                        device,
                        Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                    )?,
                    result::device::get_attribute(
                        device,
                        Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                    )?,
                )
            };
            Ok(Device {
                name: result::device::get_name(device)?,
                memory_bytes: memory as u64,
                compute_capability: format!("{major}.{minor}"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    /// Here there is a driver or there is none: either way it can be asked.
    #[test]
    fn a_machine_is_asked_for_its_devices_whether_it_has_any_or_not() {
        for device in super::devices() {
            assert!(
                !device.name.is_empty() && device.memory_bytes > 0,
                "{device:?}"
            );
            assert!(device.compute_capability.contains('.'), "{device:?}");
        }
    }
}
