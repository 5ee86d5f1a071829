use serde::{Deserialize, Serialize};

use crate::wire;

/// A worker, as it tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// Unlike that of any other worker.
    pub id: String,
    /// The class of items that it takes.
    pub class: String,
    /// How many it does at once.
    pub slots: usize,
    /// Its build.
    pub version: String,
    /// What it computes on beside its processor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// The newest CUDA that its NVIDIA driver knows: `12.4`. None without a driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Why it computes on no device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// It takes nothing as long as it has that trouble.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// It takes no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

/// Why a worker computes on no device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// A CamelCase word for programs, such as `NoDriver`.
    pub reason: String,
    /// A sentence for people: what, why, the way out.
    pub message: String,
}

/// A device that computes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// What its maker calls it.
    pub name: String,
    /// Unlike that of any other device: `GPU-` and a UUID. Empty where a worker of an older build tells of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// Its memory.
    pub memory_bytes: u64,
    /// What was free of that when it was asked; none when it cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// What it can: `9.0`.
    pub compute_capability: String,
}

impl wire::Message for Worker {
    const KIND: &'static str = "Worker";
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn worker() -> Worker {
        Worker {
            id: "worker-7".to_owned(),
            class: "gpu".to_owned(),
            slots: 1,
            version: "1.2.3".to_owned(),
            ..Worker::default()
        }
    }

    #[test]
    fn a_worker_tells_of_its_devices_and_of_what_keeps_it_from_them() {
        let full = Worker {
            devices: vec![Device {
                name: "NVIDIA L4".to_owned(),
                uuid: "GPU-1".to_owned(),
                memory_bytes: 24,
                free_bytes: Some(23),
                compute_capability: "8.9".to_owned(),
            }],
            driver: Some("12.4".to_owned()),
            trouble: Some(Trouble {
                reason: "BelowClass".to_owned(),
                message: "too small".to_owned(),
            }),
            idle: true,
            ..worker()
        };
        let json = wire::encode(&full).unwrap();
        assert_eq!(wire::decode::<Worker>(&json).unwrap(), full);
        let body = serde_json::from_slice::<serde_json::Value>(&json).unwrap()["body"].clone();
        let expected = json!({
            "id": "worker-7", "class": "gpu", "slots": 1, "version": "1.2.3", "driver": "12.4", "idle": true,
            "devices": [{"name": "NVIDIA L4", "uuid": "GPU-1", "memoryBytes": 24, "freeBytes": 23, "computeCapability": "8.9"}],
            "trouble": {"reason": "BelowClass", "message": "too small"},
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn what_an_older_build_tells_is_understood() {
        let body = json!({
            "id": "worker-7", "class": "gpu", "slots": 1, "version": "1.2.3",
            "devices": [{"name": "NVIDIA L4", "memoryBytes": 24, "computeCapability": "8.9"}],
        });
        let message = json!({"version": 1, "kind": "Worker", "body": body});
        let heard = wire::decode::<Worker>(message.to_string().as_bytes()).unwrap();
        let device = Device {
            name: "NVIDIA L4".to_owned(),
            memory_bytes: 24,
            compute_capability: "8.9".to_owned(),
            ..Device::default()
        };
        let devices = vec![device];
        assert_eq!(
            heard,
            Worker {
                devices,
                ..worker()
            }
        );
    }
}
