//! The configuration of an appliance: one TOML text to one validated [`Config`].
//!
//! Every key has a default with its reason; unknown keys are refused with the nearest known one.
//! The same definitions make `docs/reference/config.md` ([`reference_page`]), so the page and the
//! program cannot differ. Secrets are named by path, never by value.
//!
//! Pure: reads no file and no environment; the daemons pass the text in.

mod error;
mod page;
mod paths;
mod role;
mod section;
mod setting;

pub use error::{ConfigError, Hint};
pub use page::reference_page;
pub use role::Role;
pub use section::{Corpus, Engine, Gateway, Log, Operators, Paths, Peers, Record, Update};
pub use setting::{Device, Level, Operator, User};

use cloister_domain::Digest;
use section::SECTIONS;

/// Everything that a facility can set. There is no `Default`: a configuration is parsed, from an
/// empty text if need be, and passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where state and sockets lie.
    pub paths: Paths,
    /// The HTTP edge.
    pub gateway: Gateway,
    /// The language model's process.
    pub engine: Engine,
    /// Imports, approvals and activation.
    pub update: Update,
    /// The facility's documents.
    pub corpus: Corpus,
    /// The log of signed records.
    pub record: Record,
    /// What the journal is told.
    pub log: Log,
    /// Which users may connect to which daemon.
    pub peers: Peers,
    /// Which further users may ask a daemon what an operator asks.
    pub operators: Operators,
    digest: Digest,
}

impl Config {
    /// Reads `text` (TOML 1.0); the empty text gives every default.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] if it is not TOML, [`ConfigError::UnknownSection`] and
    /// [`ConfigError::UnknownKey`] for a name that is not known, [`ConfigError::Value`] for a
    /// value of the wrong kind or outside its range, [`ConfigError::Unnamed`] for the empty name that the
    /// package's own text has.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut document: toml::Table =
            text.parse().map_err(|error| ConfigError::syntax(text, &error))?;
        let known = || SECTIONS.iter().map(|section| section.name);
        if let Some(name) = document.keys().find(|name| !known().any(|known| known == *name)) {
            return Err(ConfigError::unknown_section(name, known()));
        }
        let origin = document.get("record").and_then(|record| record.get("origin"));
        if origin.is_some_and(|name| name.as_str() == Some("")) {
            return Err(ConfigError::Unnamed);
        }
        let settings = serde_json::to_string(&document).expect("keys are texts");
        let text = format!("cloister {}\n{settings}", env!("CARGO_PKG_VERSION"));
        Ok(Self {
            digest: Digest::of(text.as_bytes()),
            paths: Paths::take(&mut document)?,
            gateway: Gateway::take(&mut document)?,
            engine: Engine::take(&mut document)?,
            update: Update::take(&mut document)?,
            corpus: Corpus::take(&mut document)?,
            record: Record::take(&mut document)?,
            log: Log::take(&mut document)?,
            peers: Peers::take(&mut document)?,
            operators: Operators::take(&mut document)?,
        })
    }

    /// Names what the programs do: SHA-256 of `cloister VERSION`, a newline, and the settings of the text
    /// as JSON with sorted keys. Space and comments of the text do not matter.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cloister_domain::{ByteCount, Coded, TokenCount};

    use super::*;

    fn refused(text: &str) -> String {
        match Config::parse(text) {
            Ok(_config) => panic!("accepted: {text}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_empty_text_gives_every_default() {
        let config = Config::parse("").expect("defaults are valid");
        assert_eq!(config.paths.state, Path::new("/var/lib/cloister"));
        assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:8000");
        assert_eq!(config.engine.context_tokens_max, TokenCount(4096));
        assert_eq!(config.update.approvals_needed_min, 2);
        assert_eq!(config.update.reserve_bytes, ByteCount(1 << 30));
        assert_eq!(config.record.key, None);
        assert_eq!(config.log.level, Level::Info);
        assert!(config.peers.of(Role::Recordd).is_empty());
    }

    #[test]
    fn the_digest_is_that_of_what_is_set() {
        let digest = |text: &str| Config::parse(text).expect("valid").digest();
        let one = digest("[engine]\nthreads = 2\n[log]\nlevel = \"warn\"\n");
        let same = "# The same.\n[log]\nlevel   = \"warn\"\n\n[engine]\nthreads = 2\n";
        assert_eq!(digest(same), one);
        assert_ne!(digest("[engine]\nthreads = 3\n[log]\nlevel = \"warn\"\n"), one);
        assert_ne!(digest(""), one);
    }

    #[test]
    fn set_values_replace_defaults_one_by_one() {
        let text =
            "[engine]\ndevice = \"cuda\"\ncpu_fallback = false\n[peers]\nrecordd = [7, \"op\"]\n";
        let config = Config::parse(text).expect("valid");
        assert_eq!(config.engine.device, Device::Cuda);
        assert!(!config.engine.cpu_fallback);
        assert_eq!(config.engine.threads, 0);
        assert_eq!(config.peers.of(Role::Recordd), [User::Id(7), User::Name("op".to_owned())]);
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest_known_one() {
        assert_eq!(
            refused("[engine]\nthread = 2"),
            "the configuration has no key engine.thread; did you mean engine.threads?"
        );
        assert_eq!(
            refused("[gatway]\n"),
            "the configuration has no section [gatway]; did you mean [gateway]?"
        );
        assert_eq!(
            refused("zzz = 1"),
            "the configuration has no section [zzz]; docs/reference/config.md lists all"
        );
    }

    #[test]
    fn values_of_a_wrong_kind_or_range_are_refused_with_what_is_wanted() {
        for (text, wanted) in [
            (
                "[engine]\nsequences_max = 0",
                "engine.sequences_max must be a whole number from 1 to 1024",
            ),
            ("[engine]\nthreads = \"4\"", "engine.threads must be a whole number from 0 to 1024"),
            ("[engine]\ndevice = \"gpu\"", "engine.device must be \"auto\", \"cpu\" or \"cuda\""),
            ("[update]\nimport_bytes_max = -1", "update.import_bytes_max must be a whole number"),
            ("[paths]\nstate = \"relative\"", "paths.state must be an absolute path"),
            ("[gateway]\nlisten = \"0.0.0.0:80\"", "gateway.listen must be a loopback address"),
            ("[record]\norigin = \"a b\"", "record.origin must be"),
            ("[peers]\nrecordd = [-1]", "peers.recordd must be a list of user names and ids"),
            ("engine = 3", "[engine] must be a section"),
        ] {
            let message = refused(text);
            assert!(message.starts_with(wanted), "{message}");
        }
    }

    /// What the package lays down begins no log under a name that nobody gave it.
    #[test]
    fn the_packaged_text_is_refused_until_the_log_has_a_name() {
        let packaged = include_str!("../../../packaging/units/cloister.toml");
        let error = Config::parse(packaged).expect_err("no name yet");
        assert_eq!(error.code(), "config.unnamed");
        let named = packaged.replace("origin = \"\"", "origin = \"hospital-north/appliance-1\"");
        let config = Config::parse(&named).expect("the rest of it is valid");
        assert_eq!(config.record.origin, "hospital-north/appliance-1");
        assert_eq!(config.peers.of(Role::Updaterd), [User::Name("cloister-intaked".to_owned())]);
    }

    #[test]
    fn syntax_errors_name_the_place_and_quote_nothing() {
        let error = Config::parse("[engine]\nthreads = canary canary").expect_err("not TOML");
        assert_eq!(error.code(), "config.syntax");
        assert!(error.to_string().contains("line 2"), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
