//! Whether a release fits beside the one that answers, told before it is loaded, and not by the kernel afterwards.
//!
//! A release needs disk for the files that are not here yet. It needs memory for the files that what answers does not
//! share: they are mapped, and a query that finds them elsewhere than in memory waits for the disk. To these come a tenth
//! for the tables made of them, the encoder and the cross-encoder unless they are loaded, at twice their weights, and what probing takes. A release
//! with adapters needs their base, too, unless it is loaded, keys and values of as many chats as are answered at once, each
//! as long as it may get, and its adapters at twice their files.
//!
//! Free is what the control groups of this process leave: their limit, less what is in use and cannot be dropped at once.
//! Where they have no limit it is what the machine has available.

use std::fmt::Write;
use std::fs;
use std::ops::Add;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use loci_store::Tree;

/// What probing and the first queries take.
const PROBING: u64 = 32 << 20;

/// What there may be used.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Bytes of memory, when less than the control group's limit.
    pub memory: Option<u64>,
    /// Bytes below the state directory, when less than its file system holds.
    pub disk: Option<u64>,
}

/// Bytes that a release takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    pub memory: u64,
    pub disk: u64,
}

impl Need {
    /// Of `tree`, beside what answers. `fetched` bytes of it are here; its encoder and its cross-encoder take `model`.
    pub fn of(tree: &Tree, beside: Option<&Tree>, fetched: u64, model: u64) -> Self {
        let shared = |digest| beside.is_some_and(|b| b.values().any(|file| file.digest == digest));
        let all: u64 = tree.values().map(|file| file.size).sum();
        let own = tree.values().filter(|file| !shared(file.digest));
        let own: u64 = own.map(|file| file.size).sum();
        Self {
            memory: own + own / 10 + model + PROBING,
            disk: all.saturating_sub(fetched),
        }
    }

    /// Of adapters whose files are `adapters`, of which `fetched` bytes are here: their base takes `model`, and all chats
    /// that it answers at once take `chats`.
    pub fn of_adapters<'a>(
        adapters: impl Iterator<Item = &'a Tree>,
        fetched: u64,
        (model, chats): (u64, u64),
    ) -> Self {
        let all: u64 = adapters.flat_map(Tree::values).map(|file| file.size).sum();
        Self {
            memory: (2 * all).saturating_add(model).saturating_add(chats),
            disk: all.saturating_sub(fetched),
        }
    }
}

impl Add for Need {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            memory: self.memory.saturating_add(more.memory),
            disk: self.disk.saturating_add(more.disk),
        }
    }
}

/// What is free, and of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Free {
    bytes: u64,
    of: u64,
}

/// Compares needs with what is there.
#[derive(Clone, Debug)]
pub struct Budget {
    limits: Limits,
    state: PathBuf,
    /// `/`, but for tests.
    root: PathBuf,
}

impl Budget {
    /// Of a replica whose files are in `state`.
    pub fn new(limits: Limits, state: PathBuf) -> Self {
        Self {
            limits,
            state,
            root: "/".into(),
        }
    }

    /// Fails when `need` is more than is free, with both numbers.
    pub fn check(&self, need: Need) -> Result<()> {
        let (memory, disk) = (self.memory(), self.disk()?);
        let mut short = String::new();
        if let Some(free) = memory.filter(|free| free.bytes < need.memory) {
            let (needs, free, of) = (size(need.memory), size(free.bytes), size(free.of));
            write!(
                short,
                "it needs {needs} of memory beside what answers, and {free} of {of} are free: raise recall.resources"
            )?;
        }
        if disk.bytes < need.disk {
            let (needs, free, of) = (size(need.disk), size(disk.bytes), size(disk.of));
            let also = if short.is_empty() {
                "it needs"
            } else {
                "; and"
            };
            write!(
                short,
                "{also} {needs} of disk, and {free} of {of} are free in {}: give it more room",
                self.state.display()
            )?;
        }
        if !short.is_empty() {
            bail!(short);
        }
        Ok(())
    }

    /// The least of what the option, the control groups and the machine leave.
    fn memory(&self) -> Option<Free> {
        let mut all = self.groups();
        all.extend(self.machine());
        if let (Some(of), Some(used)) = (self.limits.memory, self.resident()) {
            let bytes = of.saturating_sub(used);
            all.push(Free { bytes, of });
        }
        all.into_iter().min_by_key(|free| free.bytes)
    }

    fn disk(&self) -> Result<Free> {
        let stat = rustix::fs::statvfs(&self.state)
            .with_context(|| format!("the file system of {}", self.state.display()))?;
        let there = Free {
            bytes: stat.f_bavail * stat.f_frsize,
            of: stat.f_blocks * stat.f_frsize,
        };
        let Some(of) = self.limits.disk else {
            return Ok(there);
        };
        let used = used(&self.state, &mut Default::default())
            .with_context(|| format!("the files in {}", self.state.display()))?;
        let bytes = of.saturating_sub(used).min(there.bytes);
        Ok(Free { bytes, of })
    }

    /// What this process has in memory.
    fn resident(&self) -> Option<u64> {
        let status = self.read("proc/self/status")?;
        kibibytes(&status, "VmRSS:")
    }

    fn machine(&self) -> Option<Free> {
        let all = self.read("proc/meminfo")?;
        Some(Free {
            bytes: kibibytes(&all, "MemAvailable:")?,
            of: kibibytes(&all, "MemTotal:")?,
        })
    }

    /// What each control group of this process leaves that has a limit.
    fn groups(&self) -> Vec<Free> {
        let groups = self.read("proc/self/cgroup").unwrap_or_default();
        let mut all = Vec::new();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next(), parts.next(), parts.next());
            let (Some(controllers), Some(path)) = (controllers, path) else {
                continue;
            };
            let (mount, files) = match controllers {
                "" => ("sys/fs/cgroup", &V2),
                list if list.split(',').any(|c| c == "memory") => ("sys/fs/cgroup/memory", &V1),
                _ => continue,
            };
            // In a container the path may be the host's, and the mount the container's own.
            let path = Path::new(path.trim_start_matches('/'));
            for group in path.ancestors() {
                all.extend(self.group(&Path::new(mount).join(group), files));
            }
        }
        all
    }

    fn group(&self, group: &Path, files: &Files) -> Option<Free> {
        let number = |name: &str| self.read(group.join(name))?.trim().parse::<u64>().ok();
        // v2 says "max", v1 a number beyond any machine.
        let of = number(files.limit).filter(|limit| *limit < 1 << 60)?;
        let stat = self.read(group.join("memory.stat"))?;
        let idle = stat.lines().find_map(|line| line.strip_prefix(files.idle));
        let idle = idle.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
        let used = number(files.used)?.saturating_sub(idle);
        Some(Free {
            bytes: of.saturating_sub(used),
            of,
        })
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }
}

/// What a kind of control groups calls things.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// Of `memory.stat`: file pages that nobody has used for a while.
    idle: &'static str,
}

const V2: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    idle: "inactive_file ",
};
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    idle: "total_inactive_file ",
};

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    let value: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(value * 1024)
}

/// Bytes of all files below a directory; a file with several names counts once.
fn used(dir: &Path, seen: &mut std::collections::HashSet<u64>) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Files come and go.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_dir() {
            bytes += used(&entry.path(), seen).unwrap_or(0);
        } else if seen.insert(metadata.ino()) {
            bytes += metadata.len();
        }
    }
    Ok(bytes)
}

/// For people.
fn size(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1024. {
        format!("{mebibytes:.0} MiB")
    } else {
        format!("{:.1} GiB", mebibytes / 1024.)
    }
}

#[cfg(test)]
mod tests {
    use loci_digest::Digest;
    use loci_store::FileEntry;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn tree(files: &[(&str, u64)]) -> Tree {
        let entry = |(name, size): &(&str, u64)| {
            let digest = Digest::of(name);
            (
                (*name).to_owned(),
                FileEntry {
                    digest,
                    size: *size,
                },
            )
        };
        files.iter().map(entry).collect()
    }

    /// A machine as its files say.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Budget) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut budget = Budget::new(Limits::default(), root.path().to_owned());
        budget.root = root.path().to_owned();
        (root, budget)
    }

    #[test]
    fn what_is_shared_with_what_answers_is_not_needed_twice() {
        let (old, new) = (
            tree(&[("vectors-1", 100 * MIB), ("text-1", 50 * MIB)]),
            tree(&[("vectors-1", 100 * MIB), ("vectors-2", 20 * MIB)]),
        );
        let alone = Need::of(&new, None, 0, 40 * MIB);
        assert_eq!((alone.memory, alone.disk), (172 * MIB + PROBING, 120 * MIB));
        let beside = Need::of(&new, Some(&old), 100 * MIB, 0);
        assert_eq!((beside.memory, beside.disk), (22 * MIB + PROBING, 20 * MIB));
        let adapters = [tree(&[("a", MIB), ("b", MIB)]), tree(&[("c", 4 * MIB)])];
        let adapters = Need::of_adapters(adapters.iter(), 4 * MIB, (500 * MIB, 80 * MIB));
        let both = beside + adapters;
        assert_eq!((adapters.memory, adapters.disk), (592 * MIB, 2 * MIB));
        assert_eq!((both.memory, both.disk), (614 * MIB + PROBING, 22 * MIB));
    }

    #[test]
    fn the_narrowest_control_group_counts_without_pages_that_can_go() {
        let (_root, budget) = machine(&[
            (
                "proc/meminfo",
                "MemTotal: 16777216 kB\nMemAvailable:   8388608 kB\n",
            ),
            ("proc/self/cgroup", "0::/pods/one\n"),
            ("sys/fs/cgroup/pods/one/memory.max", "max\n"),
            ("sys/fs/cgroup/pods/one/memory.current", "1\n"),
            ("sys/fs/cgroup/pods/one/memory.stat", "anon 1\n"),
            ("sys/fs/cgroup/pods/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/pods/memory.current", "943718400\n"),
            (
                "sys/fs/cgroup/pods/memory.stat",
                "active_file 5\ninactive_file 104857600\n",
            ),
        ]);
        let free = budget.memory().unwrap();
        assert_eq!((free.bytes, free.of), (224 * MIB, 1024 * MIB));
        let need = |memory| Need { memory, disk: 0 };
        budget.check(need(200 * MIB)).unwrap();
        let refused = budget.check(need(1300 * MIB)).unwrap_err().to_string();
        assert_eq!(
            refused,
            "it needs 1.3 GiB of memory beside what answers, and 224 MiB of 1.0 GiB are free: raise recall.resources"
        );
    }

    #[test]
    fn control_groups_of_the_first_kind_and_none_at_all_are_understood() {
        let old = [
            (
                "proc/meminfo",
                "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n",
            ),
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x\n0::/x\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "268435456\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "total_inactive_file 0\n",
            ),
        ];
        let (_root, budget) = machine(&old);
        assert_eq!(budget.memory().unwrap().bytes, 256 * MIB);
        let (_root, budget) = machine(&old[..2]);
        assert_eq!(budget.memory().unwrap().bytes, 8192 * MIB);
    }

    #[test]
    fn limits_of_ones_own_are_kept_to() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("file"), vec![0; 3 << 20]).unwrap();
        fs::hard_link(state.path().join("file"), state.path().join("again")).unwrap();
        let limits = Limits {
            memory: Some(MIB),
            disk: Some(5 * MIB),
        };
        let budget = Budget::new(limits, state.path().to_owned());
        let need = |memory, disk| Need { memory, disk };
        budget.check(need(0, 2 * MIB)).unwrap();
        let refused = budget.check(need(1, 3 * MIB)).unwrap_err().to_string();
        for part in [
            "0 MiB of 1 MiB",
            "; and 3 MiB of disk, and 2 MiB of 5 MiB are free in",
        ] {
            assert!(refused.contains(part), "{refused}");
        }
    }
}
