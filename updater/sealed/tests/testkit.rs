//! The test vectors of age itself (C2SP CCTV, `age/`), those for X25519, header and payload; and
//! damage of every kind to files of our own.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test reads the small files beside it")]

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::Path,
};

use cloister_domain::{Coded as _, Digest, Secret};
use cloister_sealed::{Chance, Identity, Opened, Recipient, SealedError, is_sealed, seal};

/// What opening and reading to the end came to, and the digest of what was read before.
fn outcome(file: &[u8], identities: &[Identity]) -> (&'static str, Digest) {
    let mut opened = match Opened::new(Cursor::new(file), identities) {
        Ok(opened) => opened,
        Err(error) => return (error.code(), Digest::of(b"")),
    };
    let mut plain = Vec::new();
    let read = opened.read_to_end(&mut plain);
    let code = match read {
        Ok(_count) => "success",
        Err(error) => error.get_ref().unwrap().downcast_ref::<SealedError>().unwrap().code(),
    };
    (code, Digest::of(&plain))
}

#[test]
fn every_vector_of_age_comes_out_as_it_must() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testkit");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == "README.md" {
            continue;
        }
        let bytes = fs::read(entry.path()).unwrap();
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let text = std::str::from_utf8(&bytes[..end]).unwrap();
        let fields: BTreeMap<&str, &str> =
            text.lines().map(|line| line.split_once(": ").unwrap()).collect();
        let mut file = bytes[end + 2..].to_vec();
        if fields.get("compressed") == Some(&"zlib") {
            let packed = std::mem::take(&mut file);
            flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut file).unwrap();
        }
        let identities: Vec<Identity> = fields
            .get("identity")
            .map(|text| Identity::from_file(&Secret::new(text.as_bytes().to_vec())).unwrap())
            .into_iter()
            .collect();
        let (code, payload) = outcome(&file, &identities);
        let expected = match fields["expect"] {
            "success" => "success",
            "no match" => "sealed.recipient",
            "HMAC failure" => "sealed.header.mac",
            "header failure" => "sealed.header",
            "payload failure" => "sealed.payload",
            other => panic!("{other}"),
        };
        assert_eq!(code, expected, "{name}");
        if let Some(digest) = fields.get("payload") {
            assert_eq!(payload.to_string(), *digest, "{name}");
        }
        count += 1;
    }
    assert!(count > 60, "{count} vectors");
}

fn identity(seed: u8) -> Identity {
    Identity::from_random([seed; 32])
}

fn sealed(plain: &[u8], recipients: &[Recipient]) -> Vec<u8> {
    let shares = (0..recipients.len()).map(|n| [u8::try_from(n).unwrap() + 9; 32]).collect();
    let chance = Chance { file_key: [1; 16], nonce: [2; 16], shares };
    let mut out = Vec::new();
    seal(plain, recipients, &chance, &mut out).unwrap();
    out
}

fn plain(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n * 31 % 251).unwrap()).collect()
}

#[test]
fn each_recipient_opens_and_nobody_else() {
    let recipients = [identity(1).recipient(), identity(2).recipient()];
    for length in [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let plain = plain(length);
        let file = sealed(&plain, &recipients);
        assert!(is_sealed(&file));
        for seed in [1, 2] {
            assert_eq!(outcome(&file, &[identity(seed)]), ("success", Digest::of(&plain)));
        }
        assert_eq!(outcome(&file, &[identity(3)]).0, "sealed.recipient");
        assert_eq!(outcome(&file, &[]).0, "sealed.recipient");
    }
    let nobody = Chance { file_key: [1; 16], nonce: [2; 16], shares: Vec::new() };
    assert!(seal(&b""[..], &[], &nobody, &mut Vec::new()).is_err());
}

#[test]
fn what_is_cut_moved_or_changed_is_refused() {
    let text = plain(200_000);
    let file = sealed(&text, &[identity(1).recipient()]);
    let refused = |bytes: &[u8], what: &str| {
        let (code, _) = outcome(bytes, &[identity(1)]);
        assert_ne!(code, "success", "{what}");
    };
    for cut in (0..file.len()).step_by(997).chain([file.len() - 1, file.len() - 16]) {
        refused(&file[..cut], "cut");
    }
    for at in (0..file.len()).step_by(499).chain(0..300) {
        let mut other = file.clone();
        other[at] ^= 1;
        refused(&other, "a flipped bit");
    }
    let begin = file.len() - (200_000 + 4 * 16);
    let block = 65_536 + 16;
    let mut swapped = file.clone();
    let (first, second) = swapped[begin..].split_at_mut(block);
    first.swap_with_slice(&mut second[..block]);
    refused(&swapped, "two blocks swapped");
    let mut dropped = file.clone();
    dropped.drain(begin..begin + block);
    refused(&dropped, "a block dropped");
    refused(&[&file[..], b"x"].concat(), "something behind the end");
    refused(&file[..begin + 3 * block], "cut between two blocks");
}

#[test]
fn on_a_device_the_last_block_is_found_whatever_follows() {
    let opened = |file: &[u8]| {
        let mut opened = Opened::on_device(Cursor::new(file), &[identity(1)]).unwrap();
        let mut read = Vec::new();
        opened.read_to_end(&mut read).map(|_| read)
    };
    for records in [1, 2, 127, 128, 129, 255, 256, 391] {
        let text = plain(records * 512);
        let file = sealed(&text, &[identity(1).recipient()]);
        for behind in [vec![], vec![0; 100], vec![b'x'; 600], vec![0; 200_000]] {
            let device = [&file[..], &behind].concat();
            assert_eq!(opened(&device).unwrap(), text, "{records} and {}", behind.len());
            let as_file = outcome(&device, &[identity(1)]).0;
            assert_eq!(as_file == "success", behind.is_empty(), "a file has nothing behind it");
            // What would be the end of a shorter one is not: a bit is wrong, or something is missing.
            let mut flipped = device.clone();
            flipped[file.len() - 20] ^= 1;
            assert!(opened(&flipped).is_err());
            let mut cut = device.clone();
            cut.drain(file.len() - 528..file.len() - 16);
            assert!(opened(&cut).is_err());
        }
    }
    // Nothing but whole records was sealed as a volume.
    let file = sealed(&plain(700), &[identity(1).recipient()]);
    assert!(opened(&[&file[..], &[0; 100]].concat()).is_err());
}

#[test]
fn seeking_reads_the_same_bytes() {
    let text = plain(200_000);
    let file = sealed(&text, &[identity(1).recipient()]);
    let mut opened = Opened::new(Cursor::new(&file), &[identity(1)]).unwrap();
    let mut at = 0usize;
    for far in [0usize, 70_000, 3, 100_000, 12_345] {
        opened.seek(SeekFrom::Current(i64::try_from(far).unwrap())).unwrap();
        let mut some = [0; 512];
        opened.read_exact(&mut some).unwrap();
        at += far;
        assert_eq!(some, text[at..at + 512]);
        at += 512;
    }
    // Beyond the end there is no end that was authenticated.
    opened.seek(SeekFrom::Start(300_000)).unwrap();
    assert!(opened.read(&mut [0]).is_err());
}

/// Bytes that count how many of them were read.
struct Counted<R> {
    inner: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += u64::try_from(count).unwrap();
        Ok(count)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn a_header_is_read_as_far_as_one_may_be_long_and_no_further() {
    let many: Vec<Recipient> = (1..=200).map(|seed| identity(seed).recipient()).collect();
    let text = plain(100);
    let file = sealed(&text, &many);
    assert!(file.len() < 64 << 10);
    assert_eq!(outcome(&file, &[identity(200)]), ("success", Digest::of(&text)));
    let more: Vec<Recipient> = many.iter().cycle().take(800).copied().collect();
    let shares = (0..800u32).map(|number| *Digest::of(&number.to_le_bytes()).as_bytes()).collect();
    let chance = Chance { file_key: [1; 16], nonce: [2; 16], shares };
    let mut file = Vec::new();
    seal(text.as_slice(), &more, &chance, &mut file).unwrap();
    assert!(file.len() > 64 << 10);
    let mut counted = Counted { inner: Cursor::new(&file), read: 0 };
    let opened = Opened::new(&mut counted, &[identity(1)]);
    assert_eq!(opened.map(drop).unwrap_err().code(), "sealed.header");
    assert!(counted.read <= 64 << 10, "{} bytes were read", counted.read);
}

#[test]
fn nothing_is_sealed_without_a_share_for_each() {
    let recipients = [identity(1).recipient(), identity(2).recipient()];
    let chance = Chance { file_key: [1; 16], nonce: [2; 16], shares: vec![[9; 32]] };
    let mut out = Vec::new();
    assert!(seal(&b"text"[..], &recipients, &chance, &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn a_file_holds_one_identity_in_capitals() {
    let (one, other) = (identity(7).to_file(), identity(8).to_file());
    let read = |bytes: Vec<u8>| Identity::from_file(&Secret::new(bytes)).map(drop);
    assert!(read([one.expose(), b"\n# a remark\n"].concat()).is_ok());
    assert!(read([one.expose(), other.expose()].concat()).is_err());
    assert!(read(one.expose().to_ascii_lowercase()).is_err());
    assert!(read(b"# a remark\n".to_vec()).is_err());
}

#[test]
fn identities_and_recipients_are_text() {
    let one = identity(7);
    let file = one.to_file();
    let again = Identity::from_file(&file).unwrap();
    assert_eq!(again.recipient(), one.recipient());
    let text = one.recipient().to_string();
    assert_eq!(text.parse::<Recipient>().unwrap(), one.recipient());
    assert!(text.starts_with("age1") && format!("{one:?}") == "[secret]");
    for wrong in ["", "age1", text.trim_start_matches('a'), &text.to_ascii_uppercase(), "age1qqqq"]
    {
        assert!(wrong.parse::<Recipient>().is_err());
        assert!(Identity::from_file(&Secret::new(wrong.as_bytes().to_vec())).is_err());
    }
}
