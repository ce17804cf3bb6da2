//! A key file under a passphrase.
//!
//! ```text
//! cloister-key-v1 sealed ed25519 ada
//! argon2id 262144 3 4 6f1ff6f4d0f1a2b3c4d5e6f708192a3b
//! 1be0…  (48 bytes: the encrypted seed and its tag)
//! ```
//!
//! The passphrase and the salt of line two give a key by Argon2id (RFC 9106; memory in KiB, passes,
//! lanes), which encrypts the seed with ChaCha20-Poly1305 (RFC 8439) under an empty nonce: the salt is
//! new for each file, so the key is used once. Lines one and two are authenticated with it, so
//! that neither the person nor the algorithm can be exchanged.

use argon2::{Algorithm as Variant, Argon2, Params, Version};
use chacha20poly1305::{
    ChaCha20Poly1305, Key, KeyInit as _, Nonce,
    aead::{Aead as _, Payload},
};
use cloister_attest::{Algorithm, keyfile::KeyFile};
use cloister_domain::{Principal, Secret};
use zeroize::Zeroizing;

use crate::SignerError;

/// The first two words of the file.
const MARK: &str = "cloister-key-v1 sealed ";
/// Memory of a new file's passphrase hash, in KiB: a quarter GiB, which an officer's laptop spares for a
/// moment and a thief must spend on each guess. RFC 9106's second choice (64 MiB, three passes), times 4.
const MEMORY_KIB: u32 = 256 << 10;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// The most that a file may ask for: what opening a hostile file can cost.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
const SALT_BYTES: usize = 16;
/// The encrypted seed and its tag.
const SEALED_BYTES: usize = 32 + 16;

/// What it costs to try one passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Whether a text is such a file, judging by its first words.
pub(crate) fn is_sealed(text: &[u8]) -> bool {
    text.starts_with(MARK.as_bytes())
}

/// The text of a new file.
pub(crate) fn seal(file: &KeyFile, passphrase: &Secret) -> Result<String, SignerError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|_code| SignerError::Random)?;
    let cost = Cost { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES };
    seal_with(file, passphrase, cost, &salt)
}

fn seal_with(
    file: &KeyFile,
    passphrase: &Secret,
    cost: Cost,
    salt: &[u8],
) -> Result<String, SignerError> {
    let Cost { memory_kib, passes, lanes } = cost;
    let head = format!(
        "{MARK}{} {}\nargon2id {memory_kib} {passes} {lanes} {}\n",
        file.algorithm,
        file.person,
        hex(salt)
    );
    let payload = Payload { msg: file.seed.expose(), aad: head.as_bytes() };
    let sealed = cipher(passphrase, cost, salt)?
        .encrypt(&Nonce::default(), payload)
        .expect("32 bytes are below the cipher's limit");
    Ok(format!("{head}{}\n", hex(&sealed)))
}

/// Opens a file's text.
pub(crate) fn open(text: &[u8], passphrase: &Secret) -> Result<KeyFile, SignerError> {
    let text = std::str::from_utf8(text).map_err(|_content| SignerError::Sealed)?;
    let parts = text.strip_suffix('\n').and_then(|lines| lines.rsplit_once('\n'));
    let (head, sealed) = parts.ok_or(SignerError::Sealed)?;
    let (first, second) = head.split_once('\n').ok_or(SignerError::Sealed)?;
    let (algorithm, person) = first
        .strip_prefix(MARK)
        .and_then(|rest| rest.split_once(' '))
        .and_then(|(word, person)| Some((Algorithm::of_word(word)?, person.parse().ok()?)))
        .ok_or(SignerError::Sealed)?;
    let person: Principal = person;
    let (cost, salt) = cost_and_salt(second).ok_or(SignerError::Sealed)?;
    let sealed = unhex(sealed, SEALED_BYTES).ok_or(SignerError::Sealed)?;
    let authenticated = format!("{head}\n");
    let payload = Payload { msg: &sealed, aad: authenticated.as_bytes() };
    let seed = cipher(passphrase, cost, &salt)?
        .decrypt(&Nonce::default(), payload)
        .map_err(|_opaque| SignerError::Passphrase)?;
    Ok(KeyFile { person, algorithm, seed: Secret::new(seed) })
}

fn cost_and_salt(line: &str) -> Option<(Cost, Vec<u8>)> {
    let mut words = line.split(' ');
    if words.next() != Some("argon2id") {
        return None;
    }
    let mut number = |max: u32| -> Option<u32> {
        let number = words.next()?.parse().ok()?;
        (1..=max).contains(&number).then_some(number)
    };
    let cost = Cost {
        memory_kib: number(MEMORY_KIB_MAX)?,
        passes: number(PASSES_MAX)?,
        lanes: number(LANES_MAX)?,
    };
    let salt = unhex(words.next()?, SALT_BYTES)?;
    words.next().is_none().then_some((cost, salt))
}

fn cipher(passphrase: &Secret, cost: Cost, salt: &[u8]) -> Result<ChaCha20Poly1305, SignerError> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32));
    let params = params.map_err(|_limits| SignerError::Sealed)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Variant::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose(), salt, key.as_mut())
        .map_err(|_limits| SignerError::Sealed)?;
    let key = Key::from(*key);
    Ok(ChaCha20Poly1305::new(&key))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `count` bytes from lower-case hexadecimal digits.
fn unhex(text: &str, count: usize) -> Option<Vec<u8>> {
    let plain = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * count || !text.bytes().all(plain) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn sealed(algorithm: Algorithm) -> (KeyFile, String) {
        let person = "ada".parse().expect("a name");
        let file = KeyFile { person, algorithm, seed: Secret::new((0..32).collect()) };
        let passphrase = Secret::new(b"correct horse".to_vec());
        let text = seal_with(&file, &passphrase, CHEAP, &[7; SALT_BYTES]).expect("sealed");
        (file, text)
    }

    #[test]
    fn the_passphrase_opens_it_and_another_does_not() {
        for algorithm in Algorithm::ALL {
            let (file, text) = sealed(algorithm);
            assert!(is_sealed(text.as_bytes()));
            let read = open(text.as_bytes(), &Secret::new(b"correct horse".to_vec()));
            let read = read.expect("the right one");
            assert_eq!((read.person, read.algorithm), (file.person, algorithm));
            assert_eq!(read.seed, file.seed);
            let wrong = open(text.as_bytes(), &Secret::new(b"correct hors".to_vec()));
            assert!(matches!(wrong, Err(SignerError::Passphrase)));
        }
    }

    /// The example of docs/formats/keys.md, which was made with Python's argon2-cffi and cryptography.
    #[test]
    fn the_page_about_the_format_shows_a_file_that_opens() {
        let page = include_str!("../../../docs/formats/keys.md");
        let example = page.split("```text\n").find(|block| is_sealed(block.as_bytes()));
        let (text, _rest) = example.and_then(|block| block.split_once("```")).expect("a block");
        let passphrase = Secret::new(b"five words chosen by dice".to_vec());
        let file = open(text.as_bytes(), &passphrase).expect("another's file");
        assert_eq!(file.person.as_str(), "ada");
        assert_eq!(file.seed, Secret::new((0..32).collect()));
    }

    #[test]
    fn nothing_of_the_file_can_be_exchanged() {
        let (_, text) = sealed(Algorithm::Ed25519);
        let passphrase = Secret::new(b"correct horse".to_vec());
        for (from, to) in
            [("ada", "bob"), ("ed25519", "ml-dsa-65"), (" 1 1 ", " 2 1 "), ("0707", "0708")]
        {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            let opened = open(changed.as_bytes(), &passphrase);
            assert!(matches!(opened, Err(SignerError::Passphrase)), "{from}");
        }
        let at = text.len() - 3;
        for (index, digit) in text.char_indices().filter(|(index, _)| *index > at - 90) {
            let other = if digit == '0' { "1" } else { "0" };
            let mut changed = text.clone();
            if digit != '\n' {
                changed.replace_range(index..=index, other);
                assert!(open(changed.as_bytes(), &passphrase).is_err(), "digit {index}");
            }
        }
    }

    #[test]
    fn a_file_that_asks_for_too_much_work_is_refused_before_it_is_done() {
        let (_, text) = sealed(Algorithm::Ed25519);
        for cost in
            ["1048577 1 1", "64 17 1", "256 1 17", "0 1 1", "64 0 1", "64 1 0", "x 1 1", "64 1 1 1"]
        {
            let changed = text.replacen("64 1 1", cost, 1);
            let opened = open(changed.as_bytes(), &Secret::new(Vec::new()));
            assert!(matches!(opened, Err(SignerError::Sealed)), "{cost}");
        }
        let salt = hex(&[7; SALT_BYTES]);
        for other in
            [salt.get(2..).expect("longer"), &format!("{salt}07"), &format!("{salt} 07"), ""]
        {
            let changed = text.replacen(&salt, other, 1);
            let opened = open(changed.as_bytes(), &Secret::new(b"correct horse".to_vec()));
            assert!(matches!(opened, Err(SignerError::Sealed)), "{other}");
        }
    }

    #[test]
    fn a_new_file_costs_a_thief_what_was_decided() {
        let (file, _) = sealed(Algorithm::Ed25519);
        let text = seal(&file, &Secret::new(b"correct horse".to_vec())).expect("sealed");
        let line = text.lines().nth(1).expect("a second line");
        assert!(line.starts_with("argon2id 262144 3 4 "), "{line}");
        let again = seal(&file, &Secret::new(b"correct horse".to_vec())).expect("sealed");
        assert_ne!(again.lines().nth(1), Some(line), "each file has a salt of its own");
    }
}
