//! Every byte counts: a volume cut at any length, and any bit of what is signed, is refused.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use cloister_domain::Digest;
use cloister_hostile::{Base, Enclave, base::pack, mutants};
use cloister_verify::enrol;

fn learned() -> (Base, Enclave) {
    let base = Base::new().unwrap();
    let mut enclave = Enclave::new(&base.root).unwrap();
    enclave.learn(&base.bytes);
    assert!(enclave.offer(&base.bytes).is_ok());
    (base, enclave)
}

/// Calls `check` with each bit of `bytes` flipped.
fn each_bit(bytes: &[u8], mut check: impl FnMut(&[u8], usize)) {
    let mut damaged = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        damaged[bit / 8] ^= 1 << (bit % 8);
        check(&damaged, bit);
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_volume_cut_at_any_length_is_refused() {
    let (base, enclave) = learned();
    for length in 0..base.bytes.len() {
        let refusal = enclave.offer(&base.bytes[..length]).expect_err("a cut volume");
        assert_eq!(refusal.code, "bundle.container.truncated", "cut at {length}");
    }
}

#[test]
fn a_volume_with_any_byte_changed_is_refused() {
    let (base, enclave) = learned();
    let mut damaged = base.bytes;
    for at in 0..damaged.len() {
        damaged[at] ^= 1 << (at % 8);
        assert!(enclave.offer(&damaged).is_err(), "bit {} of byte {at}", at % 8);
        damaged[at] ^= 1 << (at % 8);
    }
}

#[test]
fn a_larger_volume_with_a_bit_flipped_anywhere_is_refused() {
    let counts = mutants::bits(1, 0, 500).unwrap();
    let refused: u64 = counts.values().sum();
    assert_eq!(refused, 500);
    assert!(counts.get("bundle.digest") > Some(&400), "most of it is chunks: {counts:?}");
}

#[test]
fn a_root_with_any_bit_flipped_is_not_enrolled() {
    let (base, enclave) = learned();
    let digest = Digest::of(&base.root);
    each_bit(&base.root, |damaged, bit| {
        // Nobody can be shown the right digest for other bytes, nor do those pass under their own.
        assert!(enrol(damaged, digest).is_err(), "bit {bit}");
        assert!(enrol(damaged, Digest::of(damaged)).is_err(), "bit {bit}, its own digest");
    });
    assert_eq!(enclave.trust().root_digest(), digest);
}

#[test]
fn metadata_with_any_bit_flipped_is_refused() {
    let (base, enclave) = learned();
    for (number, (name, text)) in base.meta.iter().enumerate() {
        assert!(text.len() <= 64 << 10, "each bit of every signed file up to 64 KiB");
        let mut meta = base.meta.clone();
        each_bit(text, |damaged, bit| {
            meta[number].1 = damaged.to_vec();
            assert!(enclave.trust().refresh(&pack(&meta)).is_err(), "bit {bit} of {name}");
        });
    }
}

#[test]
fn a_manifest_with_any_bit_flipped_is_refused() {
    let (base, enclave) = learned();
    let trust = enclave.trust().refresh(base.member("clb/10-meta").unwrap()).unwrap();
    let envelope = base.member("clb/20-manifest").unwrap();
    assert!(trust.judge(envelope).is_ok());
    each_bit(envelope, |damaged, bit| assert!(trust.judge(damaged).is_err(), "bit {bit}"));
}
