//! The two verifiers of an export: ours, and the one in Python that shares no code with it.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_stage::{Unit, ask, outside, release::checkout};
use cloister_wire::{
    Reply,
    record::{Answer, Request},
};

use crate::Scene;

impl Scene {
    /// The log's verifier key.
    pub fn log_key(&self) -> Result<String> {
        let reply: Reply<Answer> = ask(&self.stage().socket(Unit::Recordd), &Request::Head)?;
        match reply? {
            Answer::Head { log_key, .. } => Ok(log_key),
            other => bail!("recordd said {other:?}"),
        }
    }

    /// What our verifier says of an export.
    pub fn first_verifier(&self, export: &Path, log_key: &str) -> Result<bool> {
        let (export, root) = (export.to_str().context("UTF-8")?, self.facility.root_file());
        let root = root.to_str().context("UTF-8")?;
        let words = ["records", "verify", export, "--log-key", log_key, "--root", root];
        Ok(self.facility.cloister(&words)?.exit == 0)
    }

    /// What the other one says.
    pub fn second_verifier(&self, export: &Path, log_key: &str) -> Result<bool> {
        let output = Command::new(outside::python()?)
            .arg(checkout().join("appliance/record/audit.py"))
            .arg(export)
            .args(["--log-key", log_key, "--root"])
            .arg(self.facility.root_file())
            .output()?;
        Ok(output.status.success())
    }

    /// Exports the log, which both must accept.
    pub fn verify_both(&self) -> Result<()> {
        let (export, key) = (self.path().join("export"), self.log_key()?);
        self.facility
            .cloister(&["records", "export", export.to_str().context("UTF-8")?])?
            .done()?;
        ensure!(self.first_verifier(&export, &key)?, "the first verifier refuses the export");
        ensure!(self.second_verifier(&export, &key)?, "the second verifier refuses the export");
        Ok(())
    }
}
