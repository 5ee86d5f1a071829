//! What is told of workers and their devices.

use loci_bus::Worker;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Own, gauge};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Class {
    class: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfWorker {
    class: String,
    worker: String,
    version: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Named {
    class: String,
    worker: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Without {
    class: String,
    worker: String,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfDevice {
    class: String,
    worker: String,
    device: String,
    compute_capability: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Device {
    device: String,
    uuid: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kernel {
    kernel: String,
}

/// Of all workers that are there.
pub(super) fn all<'a>(registry: &mut Registry, workers: impl Iterator<Item = &'a Worker>) {
    let count = Family::<Class, Gauge>::default();
    let slots = Family::<OfWorker, Gauge>::default();
    let mut state = State::default();
    for worker in workers {
        let class = Class {
            class: worker.class.clone(),
        };
        let count = count.get_or_create_owned(&class);
        count.inc_by(i64::from(!worker.idle));
        let of = OfWorker {
            class: worker.class.clone(),
            worker: worker.id.clone(),
            version: worker.version.clone(),
        };
        slots
            .get_or_create_owned(&of)
            .set(gauge(worker.slots as u64));
        state.add(worker);
    }
    registry.register("workers", "Workers that take steps", count);
    registry.register("worker_slots", "Steps that a worker does at once", slots);
    state.register(registry);
}

/// Of the worker of this process.
pub(super) fn own(registry: &mut Registry, own: &Own) {
    let mut state = State::default();
    state.add(&own.told.borrow());
    state.register(registry);
    let (halvings, failures) = (
        Family::<Device, Counter>::default(),
        Family::<Device, Counter>::default(),
    );
    if let Some(card) = &own.card {
        let device = Device {
            device: card.device().name.clone(),
            uuid: card.device().uuid.clone(),
        };
        let [halved, failed] = card.counts();
        halvings.get_or_create_owned(&device).inc_by(halved);
        failures.get_or_create_owned(&device).inc_by(failed);
    }
    let fallbacks = Family::<Kernel, Counter>::default();
    for (kernel, count) in loci_models::kernel_fallbacks() {
        fallbacks
            .get_or_create_owned(&Kernel { kernel })
            .inc_by(count);
    }
    let help = "How often a device's memory ran out, so that it computes less at once";
    registry.register("worker_batch_halvings", help, halvings);
    let help = "How often a device failed";
    registry.register("worker_device_failures", help, failures);
    let help = "How often a kernel that does not compile was replaced by a slower operation";
    registry.register("worker_kernel_fallbacks", help, fallbacks);
}

/// How workers are, and what they compute on.
#[derive(Default)]
struct State {
    ready: Family<Named, Gauge>,
    without: Family<Without, Gauge>,
    memory: Family<OfDevice, Gauge>,
}

impl State {
    fn add(&mut self, worker: &Worker) {
        let (class, id) = (&worker.class, &worker.id);
        let named = Named {
            class: class.clone(),
            worker: id.clone(),
        };
        let ready = self.ready.get_or_create_owned(&named);
        ready.set(i64::from(!worker.idle));
        if let Some(trouble) = &worker.trouble {
            let without = Without {
                class: class.clone(),
                worker: id.clone(),
                reason: trouble.reason.clone(),
            };
            self.without.get_or_create_owned(&without).set(1);
        }
        for device in &worker.devices {
            let of = OfDevice {
                class: class.clone(),
                worker: id.clone(),
                device: device.name.clone(),
                compute_capability: device.compute_capability.clone(),
            };
            let memory = self.memory.get_or_create_owned(&of);
            memory.inc_by(gauge(device.memory_bytes));
        }
    }

    fn register(self, registry: &mut Registry) {
        let help = "1 while a worker takes steps, 0 while something keeps it from that";
        registry.register("worker_ready", help, self.ready);
        let help = "1 for a worker that computes on no GPU, with the reason";
        registry.register("worker_without_device", help, self.without);
        let help = "Memory of the GPUs that a worker sees, in bytes";
        registry.register("worker_device_memory_bytes", help, self.memory);
    }
}
