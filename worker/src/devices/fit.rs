//! Whether the devices of a machine are what a class of workers asks for.

use loci_bus::Device;
use loci_models::DeviceRequest;

use super::{CUDA, Inventory, Unusable, Version};

/// What a class asks of each device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requires {
    /// Memory in bytes, as the driver counts it: some of what is printed on the card.
    pub memory: Option<u64>,
    /// Compute capability.
    pub capability: Option<Version>,
}

impl Requires {
    /// Whether anything is asked for. Who asks for something asks for a device.
    pub fn anything(&self) -> bool {
        *self != Self::default()
    }

    /// What `device` has too little of: what it has, what is asked for, and the value that says so.
    fn lacking(&self, device: &Device) -> Option<(String, String, &'static str)> {
        if let Some(wanted) = self.memory.filter(|wanted| device.memory_bytes < *wanted) {
            let has = format!("{} of memory", gibibytes(device.memory_bytes));
            return Some((has, gibibytes(wanted), "memory"));
        }
        let wanted = self.capability?;
        let found = device.compute_capability.parse::<Version>().ok();
        if found.is_some_and(|found| found >= wanted) {
            return None;
        }
        let has = format!("compute capability {}", device.compute_capability);
        Some((has, wanted.to_string(), "computeCapability"))
    }
}

/// What a worker computes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The machine's devices.
    Devices,
    /// What it was asked for, or the CPU where there is a reason for it.
    Without(Option<Unusable>),
    /// Nothing: its class does not want it.
    Refused(Unusable),
}

/// What a worker computes on that was asked for `request`, of a class that asks for `requires`, on a machine with this
/// inventory. `built` is why this build computes on no CUDA device, if it does not.
pub fn fit(
    request: DeviceRequest,
    requires: &Requires,
    inventory: &Inventory,
    built: Result<(), String>,
) -> Fit {
    let needed = request == DeviceRequest::Cuda || requires.anything();
    if !needed && request != DeviceRequest::Auto {
        return Fit::Without(None);
    }
    match usable(requires, inventory, built) {
        Ok(()) => Fit::Devices,
        Err(why) if needed => Fit::Refused(why),
        Err(why) => Fit::Without(Some(why)),
    }
}

fn usable(
    requires: &Requires,
    inventory: &Inventory,
    built: Result<(), String>,
) -> Result<(), Unusable> {
    if let Some(absent) = &inventory.absent {
        return Err(absent.clone());
    }
    built.map_err(|why| Unusable::NotBuilt { why })?;
    for library in &inventory.libraries {
        let name = library.name;
        match library.version {
            Some(found) if found.major != CUDA.major => {
                return Err(Unusable::OtherLibrary {
                    library: name,
                    found,
                });
            }
            None if library.compiles => return Err(Unusable::NoLibrary { library: name }),
            _ => {}
        }
        let compiles = library.version.filter(|_| library.compiles);
        if let (Some(compiles), Some(found)) = (compiles, inventory.driver)
            && compiles > found
        {
            return Err(Unusable::DriverOlderThanCompiler {
                library: name,
                compiles,
                found,
            });
        }
    }
    suffices(requires, &inventory.devices)
}

/// All of them have to: which one is computed on is the backend's choice.
fn suffices(requires: &Requires, devices: &[Device]) -> Result<(), Unusable> {
    let below = |device: &&Device| requires.lacking(device).is_some();
    let Some(first) = devices.iter().find(below) else {
        return Ok(());
    };
    let Some((has, wants, field)) = requires.lacking(first) else {
        return Ok(());
    };
    let enough = devices.iter().filter(|device| !below(device));
    let enough: Vec<&str> = enough.map(|device| device.uuid.as_str()).collect();
    let mut way_out = format!(
        "send the class to nodes with such cards (workers[].nodeSelector), or lower workers[].requires.{field}"
    );
    if !enough.is_empty() {
        let visible = enough.join(",");
        way_out += &format!("; or show the others alone: CUDA_VISIBLE_DEVICES={visible}");
    }
    Err(Unusable::BelowClass {
        device: named(first),
        has,
        wants,
        way_out,
    })
}

/// A device, for people.
pub(super) fn named(device: &Device) -> String {
    format!("{} ({})", device.name, device.uuid)
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::super::library::Library;
    use super::*;

    fn device(name: &str, gibibytes: u64, capability: &str) -> Device {
        Device {
            name: format!("NVIDIA {name}"),
            uuid: format!("GPU-{name}"),
            memory_bytes: gibibytes << 30,
            free_bytes: None,
            compute_capability: capability.to_owned(),
        }
    }

    fn machine(devices: Vec<Device>) -> Inventory {
        let library = |name, version: &str, compiles| Library {
            name,
            version: Some(version.parse().unwrap()),
            compiles,
        };
        Inventory {
            driver: Some("12.8".parse().unwrap()),
            libraries: vec![
                library("NVRTC", "12.8", true),
                library("cuBLAS", "12.8", false),
            ],
            absent: devices.is_empty().then_some(Unusable::NoDevice),
            devices,
        }
    }

    fn requires(gibibytes: u64, capability: &str) -> Requires {
        Requires {
            memory: Some(gibibytes << 30),
            capability: Some(capability.parse().unwrap()),
        }
    }

    fn refused(requires: &Requires, devices: Vec<Device>) -> String {
        match fit(DeviceRequest::Auto, requires, &machine(devices), Ok(())) {
            Fit::Refused(why) => {
                assert_eq!(why.reason(), "BelowClass");
                why.to_string()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_card_below_its_class_is_refused_by_what_it_lacks() {
        let (t4, l4) = (device("T4", 15, "7.5"), device("L4", 22, "8.9"));
        let wanted = requires(20, "8.0");
        let fits = fit(
            DeviceRequest::Cuda,
            &wanted,
            &machine(vec![l4.clone()]),
            Ok(()),
        );
        assert_eq!(fits, Fit::Devices);
        let said = refused(&wanted, vec![t4.clone()]);
        for part in [
            "NVIDIA T4 (GPU-T4)",
            "15.0 GiB",
            "asks for 20.0 GiB",
            "nodeSelector",
            "requires.memory",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("CUDA_VISIBLE_DEVICES"), "{said}");
        let said = refused(&requires(10, "8.0"), vec![l4, t4.clone()]);
        for part in [
            "compute capability 7.5",
            "asks for 8.0",
            "requires.computeCapability",
            "CUDA_VISIBLE_DEVICES=GPU-L4",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        // What does not read is not enough.
        let odd = device("T4", 15, "unknown");
        assert!(refused(&requires(10, "7.5"), vec![odd]).contains("unknown"));
        let exact = fit(
            DeviceRequest::Cuda,
            &requires(15, "7.5"),
            &machine(vec![t4]),
            Ok(()),
        );
        assert_eq!(exact, Fit::Devices);
    }

    #[test]
    fn without_a_device_the_class_decides_whether_the_cpu_will_do() {
        let (none, nothing) = (machine(Vec::new()), Requires::default());
        let ask = |request, requires: &Requires| fit(request, requires, &none, Ok(()));
        let absent = Unusable::NoDevice;
        assert_eq!(
            ask(DeviceRequest::Auto, &nothing),
            Fit::Without(Some(absent.clone()))
        );
        assert_eq!(ask(DeviceRequest::Cpu, &nothing), Fit::Without(None));
        assert_eq!(
            ask(DeviceRequest::Cuda, &nothing),
            Fit::Refused(absent.clone())
        );
        // Who asks for memory of a device asks for a device.
        assert_eq!(
            ask(DeviceRequest::Auto, &requires(1, "7.0")),
            Fit::Refused(absent)
        );
    }

    #[test]
    fn a_build_without_cuda_and_libraries_of_another_major_version_are_told() {
        let nothing = Requires::default();
        let inventory = machine(vec![device("L4", 22, "8.9")]);
        let built = Err("cuda is not built in".to_owned());
        let fits = fit(DeviceRequest::Auto, &nothing, &inventory, built.clone());
        assert!(matches!(
            fits,
            Fit::Without(Some(Unusable::NotBuilt { .. }))
        ));
        let fits = fit(DeviceRequest::Cuda, &nothing, &inventory, built);
        assert!(matches!(fits, Fit::Refused(Unusable::NotBuilt { .. })));
        for (at, version, reason) in [
            (0, Some("13.0"), Some("OtherLibrary")),
            (0, Some("11.8"), Some("OtherLibrary")),
            (0, None, Some("NoLibrary")),
            (0, Some("12.1"), None),
            // What it compiles is newer than what the driver loads.
            (0, Some("12.9"), Some("DriverTooOld")),
            (1, Some("12.9"), None),
            (1, Some("13.0"), Some("OtherLibrary")),
            (1, None, None),
        ] {
            let mut inventory = inventory.clone();
            inventory.libraries[at].version = version.map(|v| v.parse().unwrap());
            let found = match fit(DeviceRequest::Cuda, &nothing, &inventory, Ok(())) {
                Fit::Refused(why) => Some(why.reason()),
                Fit::Devices => None,
                Fit::Without(why) => panic!("{why:?}"),
            };
            assert_eq!(found, reason, "{at} {version:?}");
        }
    }
}
