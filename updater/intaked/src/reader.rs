//! A volume's bytes, sealed or not: what reads the one reads the other.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt as _,
};

use cloister_config::Config;
use cloister_daemon::credentials;
use cloister_quarantine::{Ending, QuarantineError};
use cloister_sealed::{INTRO, Identity, Opened, is_sealed};

use crate::IntakeError;

/// The bytes of one volume.
#[derive(Debug)]
pub(crate) enum Reader<'a> {
    /// As they lie there.
    Plain(&'a File),
    /// Behind a seal that this appliance opens.
    Sealed(Box<Opened<&'a File>>),
}

impl<'a> Reader<'a> {
    /// Looks how `file` begins, and opens it if it is sealed.
    pub(crate) fn open(
        file: &'a File,
        ending: Ending,
        identities: &[Identity],
    ) -> Result<Self, QuarantineError> {
        let mut start = [0; INTRO.len()];
        // A file that is too short for a seal is too short for a volume too, and is told so.
        let sealed = file.read_exact_at(&mut start, 0).is_ok() && is_sealed(&start);
        if !sealed {
            return Ok(Self::Plain(file));
        }
        let opened = match ending {
            Ending::File => Opened::new(file, identities),
            Ending::Device => Opened::on_device(file, identities),
        };
        Ok(Self::Sealed(Box::new(opened?)))
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Sealed(opened) => opened.read(buffer),
        }
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Plain(file) => file.seek(to),
            Self::Sealed(opened) => opened.seek(to),
        }
    }
}

/// What this appliance opens seals with; empty where it has no key.
pub(crate) fn identities(config: &Config) -> Result<Vec<Identity>, IntakeError> {
    let key = credentials::unsealing_key(config).map_err(IntakeError::Key)?;
    let identity = key.map(|key| Identity::from_file(&key)).transpose();
    Ok(identity.map_err(QuarantineError::from)?.into_iter().collect())
}
