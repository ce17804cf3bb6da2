//! How a command fails: one line with a stable code, and an exit status that a script can use.

use std::{error::Error, io, io::Write, process::ExitCode};

use cloister_attest::AttestError;
use cloister_bundle::BundleError;
use cloister_domain::{Class, Coded, in_line, usage_line};
use cloister_inspect::Refusal;
use cloister_sealed::SealedError;
use cloister_signer::SignerError;
use cloister_tokenize::{LoadError, template::TemplateError};
use cloister_verify::VerifyError;
use cloister_weights::WeightsError;

use crate::error::{FileError, MintError};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    message: String,
    /// What concerns single files, each with its own code.
    listing: Vec<String>,
    code: &'static str,
    exit: u8,
}

impl Failure {
    /// The failure of an act. A file's error says which file and what to do, so it speaks alone; of
    /// others the outermost error with a code names the failure, as in every program of the product.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        let whole = format!("{error:#}");
        if let Some(file) = error.chain().find_map(file_error) {
            let cause = file.source().map_or_else(String::new, |cause| format!(": {cause}"));
            return Self::coded(format!("{file}{cause}"), file);
        }
        match error.chain().find_map(coded) {
            Some(named) => {
                let listing = match error.chain().find_map(<dyn Error>::downcast_ref) {
                    Some(MintError::Inspection { refused, .. }) => refused.clone(),
                    _ => Vec::new(),
                };
                Self { listing, ..Self::coded(whole, named) }
            }
            None => Self::coded(whole, &MintError::Unnamed),
        }
    }

    fn coded(message: String, error: &dyn Coded) -> Self {
        let code = error.code();
        let exit = match error.class() {
            _ if code == USAGE.code() => 2,
            Class::Refused => 7,
            Class::Corrupt => 5,
            Class::Busy | Class::Fault => 1,
        };
        Self { message, listing: Vec::new(), code, exit }
    }

    /// A command line that was not understood.
    #[must_use]
    pub fn usage(error: &clap::Error) -> Self {
        let named = error.source().and_then(coded).unwrap_or(&USAGE);
        Self {
            message: usage_line(&error.to_string()),
            listing: Vec::new(),
            code: named.code(),
            exit: 2,
        }
    }

    /// Prints the failure in one line, and below it what concerns single files.
    pub fn show(&self, stderr: &mut dyn Write) {
        let written = writeln!(stderr, "cloister-mint: {} [{}]", in_line(&self.message), self.code);
        let listed = self.listing.iter().map(|one| writeln!(stderr, "  {}", in_line(one)));
        // Nobody is left to be told when the terminal itself is gone.
        written.and(listed.collect::<io::Result<()>>()).unwrap_or_default();
    }

    /// The exit status of the process.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit)
    }
}

/// The command line itself.
const USAGE: MintError = MintError::Usage { what: "" };

/// The error itself, or the one of ours that travels inside one of the operating system's.
fn carried<'e>(cause: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(within) => within,
        None => cause,
    }
}

fn file_error<'e>(cause: &'e (dyn Error + 'static)) -> Option<&'e FileError> {
    carried(cause).downcast_ref()
}

/// An error with a code, if it is one of those that can occur here.
fn coded<'e>(cause: &'e (dyn Error + 'static)) -> Option<&'e dyn Coded> {
    fn as_a<'e, E: Coded + 'static>(cause: &'e (dyn Error + 'static)) -> Option<&'e dyn Coded> {
        cause.downcast_ref::<E>().map(|error| error as &dyn Coded)
    }
    let cause = carried(cause);
    as_a::<MintError>(cause)
        .or_else(|| as_a::<AttestError>(cause))
        .or_else(|| as_a::<BundleError>(cause))
        .or_else(|| as_a::<LoadError>(cause))
        .or_else(|| as_a::<Refusal>(cause))
        .or_else(|| as_a::<SealedError>(cause))
        .or_else(|| as_a::<SignerError>(cause))
        .or_else(|| as_a::<TemplateError>(cause))
        .or_else(|| as_a::<VerifyError>(cause))
        .or_else(|| as_a::<WeightsError>(cause))
}
