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

/// A file on the medium, which may go away: where it ends before the place where it ended when it was
/// opened, that is an error of reading and not its end. What was read of it is worth keeping then.
#[derive(Debug)]
pub(crate) struct OnMedium<'a> {
    file: &'a File,
    /// Its length when it was opened, a device's too.
    bytes: u64,
}

impl<'a> OnMedium<'a> {
    /// From its beginning on, however far it was read before.
    fn new(mut file: &'a File) -> io::Result<Self> {
        file.rewind()?;
        Ok(Self { file, bytes: length(file)? })
    }
}

impl Read for OnMedium<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count == 0 && !buffer.is_empty() && length(self.file)? < self.bytes {
            return Err(io::Error::other("the medium is shorter than it was"));
        }
        Ok(count)
    }
}

impl Seek for OnMedium<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// How long a file or a device is now. It stands where it stood.
fn length(mut file: &File) -> io::Result<u64> {
    let place = file.stream_position()?;
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(place))?;
    Ok(end)
}

/// The bytes of one volume.
#[derive(Debug)]
pub(crate) enum Reader<'a> {
    /// As they lie there.
    Plain(OnMedium<'a>),
    /// Behind a seal that this appliance opens.
    Sealed(Box<Opened<OnMedium<'a>>>),
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
        let file = OnMedium::new(file).map_err(QuarantineError::Medium)?;
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use cloister_sealed::{Chance, seal};

    use super::*;

    /// What reading to the end comes to when the file is cut to `left` bytes after the first few.
    fn read(content: &[u8], left: u64, identities: &[Identity]) -> io::Result<usize> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        file.rewind().expect("rewound");
        let mut reader = Reader::open(&file, Ending::File, identities).expect("opened");
        reader.read_exact(&mut [0; 100]).expect("there");
        file.set_len(left).expect("cut");
        reader.read_to_end(&mut Vec::new())
    }

    #[test]
    fn a_medium_that_goes_away_is_no_end_of_the_volume() {
        let plain = vec![7; 300_000];
        let identity = Identity::from_random([7; 32]);
        let chance = Chance { file_key: [1; 16], nonce: [2; 16], shares: vec![[3; 32]] };
        let mut sealed = Vec::new();
        seal(plain.as_slice(), &[identity.recipient()], &chance, &mut sealed).expect("sealed");
        for content in [&plain, &sealed] {
            let bytes = content.len() as u64;
            let whole = read(content, bytes, std::slice::from_ref(&identity));
            assert_eq!(whole.expect("whole"), plain.len() - 100);
            for left in [bytes - 1, 150_000, 0] {
                let error = read(content, left, std::slice::from_ref(&identity));
                let error = QuarantineError::of_medium(error.expect_err("cut"));
                assert!(error.is_resumable(), "{left}: {error}");
            }
            // A file that was cut before it was opened has its end where it is.
            let cut = &content[..content.len() - 1];
            let outcome = read(cut, cut.len() as u64, std::slice::from_ref(&identity));
            let resumable =
                outcome.is_err_and(|error| QuarantineError::of_medium(error).is_resumable());
            assert!(!resumable);
        }
    }
}
