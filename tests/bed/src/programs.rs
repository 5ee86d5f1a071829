//! Where the programs are.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::{Error, Result};

const VARIABLE: &str = "LOCI_TEST_KUBE";

/// The programs of a control plane, in one directory.
#[derive(Clone, Debug)]
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// The directory that `LOCI_TEST_KUBE` names.
    pub(crate) fn find() -> Result<Self> {
        Self::of(std::env::var_os(VARIABLE))
    }

    fn of(named: Option<OsString>) -> Result<Self> {
        let Some(named) = named.filter(|n| !n.is_empty()) else {
            return Err(Error::Missing {
                program: "kube-apiserver",
                looked: format!("{VARIABLE} is not set"),
            });
        };
        let all = Self(PathBuf::from(named));
        for program in ["etcd", "kube-apiserver"] {
            all.path(program)?;
        }
        Ok(all)
    }

    /// One program.
    pub(crate) fn path(&self, program: &'static str) -> Result<PathBuf> {
        let path = self.0.join(program);
        match path.is_file() {
            true => Ok(path),
            false => Err(Error::Missing {
                program,
                looked: format!("{VARIABLE} names {}", self.0.display()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_way_out() {
        let unset = Programs::of(None).unwrap_err().to_string();
        assert!(
            unset.contains("LOCI_TEST_KUBE is not set") && unset.contains("make tools"),
            "{unset}"
        );

        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("etcd"), "").unwrap();
        let half = Programs::of(Some(dir.path().into()))
            .unwrap_err()
            .to_string();
        assert!(
            half.contains("no kube-apiserver") && half.contains("make tools"),
            "{half}"
        );
    }
}
