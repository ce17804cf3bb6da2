//! The payload: blocks of 64 KiB, each authenticated with its number and with whether it is the last
//! (STREAM; Hoang et al. 2015, as in C2SP `age.md`, "Payload").

use std::io::{self, Read, Seek, SeekFrom, Write};

use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _, Nonce};
use zeroize::Zeroizing;

use crate::{
    Identity, Recipient, SealedError,
    header::{self, HEADER_BYTES_MAX},
    keys::{FileKey, derived},
};

/// Plain bytes of a block.
const BLOCK_BYTES: usize = 64 << 10;
const WIDTH: u64 = 64 << 10;
/// What the plain bytes of a volume are a multiple of (tar's records).
const RECORD_BYTES: usize = 512;
/// Bytes of a block's tag, and of the payload's own nonce.
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 16;

/// A sealed file, read as what was sealed. Seeking reads nothing; a block is decrypted when a byte of
/// it is read.
///
/// A block that was changed, and an end that is not the end, are errors of the kind
/// [`io::ErrorKind::InvalidData`] whose cause is a [`SealedError`].
pub struct Opened<R> {
    inner: R,
    cipher: ChaCha20Poly1305,
    /// Where the first block begins in the file.
    begin: u64,
    /// Whether the file goes on behind what was sealed, who knows where.
    goes_on: bool,
    /// The next byte that is read.
    position: u64,
    block: Zeroizing<Vec<u8>>,
    /// The number of `block`, and whether it is the last.
    held: Option<(u64, bool)>,
}

impl<R> std::fmt::Debug for Opened<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({} bytes read)", self.position)
    }
}

impl<R: Read + Seek> Opened<R> {
    /// Reads the header of `inner`, which stands at its start.
    ///
    /// # Errors
    /// [`SealedError::Header`], [`SealedError::NoMatch`], [`SealedError::Mac`],
    /// [`SealedError::Read`]; [`SealedError::Payload`] for a file that ends before its first block.
    pub fn new(mut inner: R, identities: &[Identity]) -> Result<Self, SealedError> {
        let mut start = Vec::new();
        let most = u64::try_from(HEADER_BYTES_MAX).unwrap_or(u64::MAX);
        inner.by_ref().take(most).read_to_end(&mut start).map_err(SealedError::Read)?;
        let (key, end) = header::open(&start, identities)?;
        let end = u64::try_from(end).map_err(|_large| SealedError::Header)?;
        inner.seek(SeekFrom::Start(end)).map_err(SealedError::Read)?;
        let mut nonce = [0; NONCE_BYTES];
        // A nonce that is cut off belongs to the header still (the format's own test vectors).
        inner.read_exact(&mut nonce).map_err(|_short| SealedError::Header)?;
        let begin = end.saturating_add(16);
        let cipher = payload_cipher(&key, &nonce);
        let block = Zeroizing::new(Vec::new());
        Ok(Self { inner, cipher, begin, goes_on: false, position: 0, block, held: None })
    }

    /// The same on a device that is longer than what was written to it, which must be a volume: its plain
    /// bytes are whole records of 512, so the last block has one of 128 lengths, and its tag tells which.
    ///
    /// # Errors
    /// As [`Opened::new`].
    pub fn on_device(inner: R, identities: &[Identity]) -> Result<Self, SealedError> {
        Self::new(inner, identities).map(|opened| Self { goes_on: true, ..opened })
    }

    /// Reads and decrypts block `number`.
    fn load(&mut self, number: u64) -> io::Result<()> {
        let damaged = || invalid(SealedError::Payload { block: number });
        self.held = None;
        let stride = u64::try_from(BLOCK_BYTES + TAG_BYTES).unwrap_or(u64::MAX);
        let at = number.checked_mul(stride).and_then(|far| far.checked_add(self.begin));
        self.inner.seek(SeekFrom::Start(at.ok_or_else(damaged)?))?;
        self.block.clear();
        self.inner.by_ref().take(stride).read_to_end(&mut self.block)?;
        let plain_bytes = self.block.len().checked_sub(TAG_BYTES).ok_or_else(damaged)?;
        // Only the last block may be short, and it may be empty only if it is the first.
        let lasts: &[bool] = match plain_bytes {
            BLOCK_BYTES => &[false, true],
            0 if number > 0 => &[],
            _ => &[true],
        };
        let shorter = if self.goes_on { RECORD_BYTES..plain_bytes } else { 0..0 };
        let whole = lasts.iter().map(|last| (plain_bytes, *last));
        let mut ends = whole.chain(shorter.step_by(RECORD_BYTES).map(|bytes| (bytes, true)));
        if ends.any(|(plain_bytes, last)| self.opens(number, plain_bytes, last)) {
            Ok(())
        } else {
            Err(damaged())
        }
    }

    /// Whether the block is `number`, with so many plain bytes, and the last or not; then it is held.
    /// Nothing is decrypted before the tag is right.
    fn opens(&mut self, number: u64, plain_bytes: usize, last: bool) -> bool {
        let Some((text, rest)) = self.block.split_at_mut_checked(plain_bytes) else { return false };
        let Some(tag) = rest.first_chunk::<TAG_BYTES>() else { return false };
        let nonce = block_nonce(number, last);
        let opened = self.cipher.decrypt_inout_detached(&nonce, b"", text.into(), &(*tag).into());
        if opened.is_err() {
            return false;
        }
        self.block.truncate(plain_bytes);
        self.held = Some((number, last));
        true
    }
}

impl<R: Read + Seek> Read for Opened<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let number = self.position / WIDTH;
        let far = usize::try_from(self.position % WIDTH).unwrap_or(usize::MAX);
        match self.held {
            Some((held, _)) if held == number => {}
            // The last block is full, and this is its end.
            Some((held, true)) if held.checked_add(1) == Some(number) && far == 0 => {
                return self.end(held);
            }
            _ => self.load(number)?,
        }
        let rest = self.block.get(far..).unwrap_or_default();
        if rest.is_empty() {
            // Only the last block is short.
            return self.end(number);
        }
        let count = rest.len().min(buffer.len());
        let (to, from) = (buffer.get_mut(..count), rest.get(..count));
        if let (Some(to), Some(from)) = (to, from) {
            to.copy_from_slice(from);
        }
        self.position = self.position.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

impl<R: Read + Seek> Opened<R> {
    /// Behind the last block nothing may follow, but on a device. The file stands there.
    fn end(&mut self, block: u64) -> io::Result<usize> {
        if self.goes_on {
            return Ok(0);
        }
        let mut more = [0];
        match self.inner.read(&mut more)? {
            0 => Ok(0),
            _ => Err(invalid(SealedError::Payload { block })),
        }
    }
}

impl<R: Read + Seek> Seek for Opened<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(far) => self.position.checked_add_signed(far),
            SeekFrom::End(_) => None,
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

fn invalid(error: SealedError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn payload_cipher(key: &FileKey, nonce: &[u8; NONCE_BYTES]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(&(*derived(nonce, key.as_slice(), b"payload")).into())
}

/// Eleven bytes of the block's number, big-endian, and one of whether it is the last.
fn block_nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    if let Some(counter) = nonce.get_mut(3..11) {
        counter.copy_from_slice(&number.to_be_bytes());
    }
    if let Some(flag) = nonce.last_mut() {
        *flag = u8::from(last);
    }
    nonce.into()
}

/// Random bytes of one sealing; used once.
#[derive(Debug)]
pub struct Chance {
    /// Becomes the file key.
    pub file_key: [u8; 16],
    /// Becomes the payload's nonce.
    pub nonce: [u8; 16],
    /// Becomes a share, for each recipient.
    pub shares: Vec<[u8; 32]>,
}

/// Seals all of `plain` into `out` for `recipients`.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] without a recipient, or without a share for each; those of reading
/// and writing.
pub fn seal(
    mut plain: impl Read,
    recipients: &[Recipient],
    chance: &Chance,
    out: &mut dyn Write,
) -> io::Result<()> {
    if recipients.is_empty() || recipients.len() != chance.shares.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let key = Zeroizing::new(chance.file_key);
    let for_each: Vec<(Recipient, [u8; 32])> =
        recipients.iter().copied().zip(chance.shares.iter().copied()).collect();
    out.write_all(&header::write(&key, &for_each))?;
    out.write_all(&chance.nonce)?;
    let cipher = payload_cipher(&key, &chance.nonce);
    let (mut block, mut next) = (Vec::new(), Vec::new());
    plain.by_ref().take(WIDTH).read_to_end(&mut block)?;
    for number in 0u64.. {
        next.clear();
        plain.by_ref().take(WIDTH).read_to_end(&mut next)?;
        let last = next.is_empty();
        let nonce = block_nonce(number, last);
        let tag = cipher.encrypt_inout_detached(&nonce, b"", block.as_mut_slice().into());
        out.write_all(&block)?;
        out.write_all(&tag.map_err(|_too_long| io::Error::from(io::ErrorKind::InvalidInput))?)?;
        if last {
            break;
        }
        std::mem::swap(&mut block, &mut next);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sealed file of which only two pieces are there: its beginning, and one far behind.
    struct Far {
        front: Vec<u8>,
        begin: u64,
        back: Vec<u8>,
        at: u64,
    }

    impl Read for Far {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (piece, begin) =
                if self.at < self.begin { (&self.front, 0) } else { (&self.back, self.begin) };
            let from = usize::try_from(self.at - begin).expect("near its beginning");
            let count = piece.get(from..).unwrap_or_default().read(buffer)?;
            self.at += count as u64;
            Ok(count)
        }
    }

    impl Seek for Far {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            let SeekFrom::Start(at) = to else { panic!("blocks lie at known places") };
            self.at = at;
            Ok(at)
        }
    }

    /// Block `number` and nothing between it and the header; `plain` is its content.
    fn far(number: u64, last: bool, plain: &[u8]) -> (Far, Identity) {
        let identity = Identity::from_random([3; 32]);
        let chance = Chance { file_key: [1; 16], nonce: [2; 16], shares: vec![[9; 32]] };
        let mut front = Vec::new();
        seal(&b""[..], &[identity.recipient()], &chance, &mut front).expect("sealed");
        front.truncate(front.len() - TAG_BYTES);
        let mut back = plain.to_vec();
        let cipher = payload_cipher(&Zeroizing::new(chance.file_key), &chance.nonce);
        let nonce = block_nonce(number, last);
        let tag = cipher.encrypt_inout_detached(&nonce, b"", back.as_mut_slice().into());
        back.extend_from_slice(&tag.expect("a block is not too long"));
        let begin = front.len() as u64 + number * (WIDTH + TAG_BYTES as u64);
        (Far { front, begin, back, at: 0 }, identity)
    }

    #[test]
    fn blocks_beyond_each_edge_are_read_by_their_own_number() {
        // Plain offsets beyond 2^31 and 2^32, and a block's number beyond 2^32.
        for number in [1 << 15, (1 << 16) + 1, 1 << 32, (1 << 33) + 5] {
            let plain = vec![7; 1000];
            let (file, identity) = far(number, true, &plain);
            let mut opened = Opened::new(file, &[identity]).expect("a header");
            opened.seek(SeekFrom::Start(number * WIDTH + 400)).expect("a place");
            let mut rest = Vec::new();
            opened.read_to_end(&mut rest).expect("the last block");
            assert_eq!(rest, plain[400..]);
            // The same bytes at the place of another number, such as one of the same low bits.
            let (mut file, identity) = far(number, true, &plain);
            let other = number & 0xffff;
            file.begin -= (number - other) * (WIDTH + TAG_BYTES as u64);
            let mut opened = Opened::new(file, &[identity]).expect("a header");
            opened.seek(SeekFrom::Start(other * WIDTH)).expect("a place");
            assert_eq!(opened.read_to_end(&mut rest).is_ok(), number == other);
        }
    }

    #[test]
    fn a_place_behind_the_end_of_all_numbers_is_an_error() {
        let (file, identity) = far(1, true, b"x");
        let mut opened = Opened::new(file, &[identity]).expect("a header");
        for place in [u64::MAX, u64::MAX - WIDTH] {
            opened.seek(SeekFrom::Start(place)).expect("seeking reads nothing");
            let error = opened.read(&mut [0]).expect_err("no such block");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        assert!(opened.seek(SeekFrom::Current(i64::MAX)).is_err());
        assert!(opened.seek(SeekFrom::End(0)).is_err());
    }
}
