//! Where a person's private key is kept, and how it comes to sign: a key file, one under a
//! passphrase, one that a TPM sealed, a token, a credential of systemd.
//!
//! Only the tools that a person starts use it (`cloister-mint`, `cloister`). A token's driver is
//! loaded into the process by path, so no daemon may ever depend on this crate; `tests/tidy` sees to
//! that. It never takes a passphrase or a PIN from the command line or the environment, where every
//! process of the machine could read it.

mod error;
mod file;
mod passphrase;
mod sealed;
mod spec;
mod token;
mod tpm;

use cloister_attest::Signer;
use cloister_domain::Principal;

pub use error::SignerError;
pub use file::{key_file, protect, protect_with_tpm, write_new};
pub use passphrase::Passphrases;
pub use spec::{Spec, TokenKey};

/// A key that is ready to sign, with its holder.
pub struct Opened {
    /// Who holds the key, by the name that the trust metadata gives it.
    pub person: Principal,
    /// The key.
    pub signer: Box<dyn Signer>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({} {})", self.person, self.signer.public().algorithm())
    }
}

/// Opens the key at `spec`, asking for its passphrase or PIN where it has one.
///
/// # Errors
/// [`SignerError`], which says what the person can do about it.
pub fn open(spec: &Spec, passphrases: &mut Passphrases) -> Result<Opened, SignerError> {
    match spec {
        Spec::File(path) => file::ready(&key_file(path, passphrases)?),
        Spec::Credential(name) => file::open_credential(name, passphrases),
        Spec::Tpm { path, device } => tpm::open(path, device.as_deref()),
        Spec::Token(key) => token::open(key, passphrases),
    }
}
