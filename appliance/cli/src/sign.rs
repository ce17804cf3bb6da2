//! A person's own keys. They are opened here, in the person's own process, and go nowhere else.

use std::path::PathBuf;

use clap::Args;
use cloister_attest::dsse::Envelope;
use cloister_domain::Principal;
use cloister_signer::{Opened, Passphrases, Spec};

use crate::Failure;

/// Whose signature.
#[derive(Debug, Args)]
pub struct Signing {
    /// Your key: PATH, tpm:PATH, credential:NAME or pkcs11:…; once for each half.
    #[arg(long, value_name = "KEY", required = true)]
    pub(crate) key: Vec<Spec>,
    /// A file with one passphrase or PIN a line, instead of the terminal.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// One person's open keys.
pub(crate) struct Keys {
    pub(crate) person: Principal,
    keys: Vec<Opened>,
}

impl Signing {
    /// Opens the keys.
    pub(crate) fn open(&self) -> Result<Keys, Failure> {
        let mut ask = Passphrases::from_file_or_terminal(self.passphrase_file.as_deref())
            .map_err(|error| Failure::of(&error))?;
        let keys = self.key.iter().map(|spec| cloister_signer::open(spec, &mut ask));
        let keys: Vec<_> = keys.collect::<Result<_, _>>().map_err(|error| Failure::of(&error))?;
        let holder = keys.first().ok_or_else(|| Failure::usage("give your key with --key"))?;
        if keys.iter().any(|key| key.person != holder.person) {
            return Err(Failure::usage("the keys are of different persons; each signs alone"));
        }
        Ok(Keys { person: holder.person.clone(), keys })
    }
}

impl Keys {
    /// The envelope's JSON text with a signature by each key.
    pub(crate) fn sign(&self, mut envelope: Envelope) -> Result<String, Failure> {
        for key in &self.keys {
            envelope = envelope.sign_by(&key.signer).map_err(|error| Failure::of(&error))?;
        }
        String::from_utf8(envelope.to_json()).map_err(|_bytes| Failure::output())
    }
}
