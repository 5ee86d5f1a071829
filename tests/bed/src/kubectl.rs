//! What people type.

use std::process::Command;

use crate::{ControlPlane, Error, Result};

const VARIABLE: &str = "LOCI_TEST_KUBECTL";

impl ControlPlane {
    /// `kubectl`, as the administrator.
    ///
    /// # Errors
    /// When `LOCI_TEST_KUBECTL` does not say where it is.
    pub fn kubectl(&self) -> Result<Command> {
        let program = std::env::var_os(VARIABLE).ok_or_else(|| Error::Missing {
            program: "kubectl",
            looked: format!("{VARIABLE} is not set"),
        })?;
        let mut command = Command::new(program);
        command.env("KUBECONFIG", self.kubeconfig());
        Ok(command)
    }
}
