//! Policies that are read, those that are not, and what each asks of a checkpoint.

use cloister_attest::SigningKey;
use cloister_domain::{Digest, Secret};
use proptest::prelude::*;

use super::*;
use crate::with_signatures;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new(vec![seed; 32])).expect("32 bytes")
}

fn log() -> VerifierKey {
    VerifierKey::new("log", key(1).public()).expect("a name")
}

fn witness(seed: u8) -> WitnessKey {
    WitnessKey::new(&format!("w{seed}"), key(seed).public()).expect("a name")
}

/// A checkpoint with cosignatures by the witnesses of these seeds.
fn note(seeds: &[u8]) -> String {
    let checkpoint = Checkpoint { origin: "log".to_owned(), size: 1, root: Digest::of(b"root") };
    let mut note = checkpoint.sign(&key(1)).expect("a good origin");
    for seed in seeds {
        let text = Note::parse(&note).expect("a note").text().to_owned();
        let signature = key(*seed).sign(WitnessKey::message(&text, 7).as_bytes());
        note = with_signatures(&note, &witness(*seed).line(7, &signature)).expect("a line");
    }
    note
}

/// Six witnesses as the example of the specification groups them.
fn example() -> String {
    let mut text = format!("# the example\n\n\tlog {} https://log.example/\n", log());
    for (name, seed) in ["X1", "X2", "X3", "Y1", "Y2", "Y3"].iter().zip(2..) {
        text += &format!("witness {name}  {} \n", witness(seed));
    }
    text + "group X-witnesses 2 X1 X2 X3\ngroup Y-witnesses any Y1 Y2 Y3\n\
        group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
}

fn code(text: impl AsRef<[u8]>) -> &'static str {
    Policy::parse(text.as_ref()).map_or_else(|error| error.code(), |_policy| "read")
}

#[test]
fn the_example_of_the_specification_asks_for_two_and_one() {
    let policy = Policy::parse(example().as_bytes()).expect("a policy");
    assert_eq!(policy.logs("log").collect::<Vec<_>>(), [&log()]);
    assert_eq!(policy.logs("other").next(), None);
    let check = |seeds: &[u8]| policy.check(&note(seeds), &log()).map(|good| good.by.len());
    for short in [&[][..], &[2], &[2, 3], &[2, 5], &[5, 6, 7], &[2, 5, 6, 7], &[9, 10, 11]] {
        assert_eq!(check(short), Err(RecordError::Quorum), "{short:?}");
    }
    for enough in [&[2, 3, 5][..], &[3, 4, 7], &[2, 3, 4, 5, 6, 7]] {
        assert_eq!(check(enough), Ok(enough.len()), "{enough:?}");
    }
    // One witness twice counts once, and one that nobody knows not at all.
    assert_eq!(check(&[2, 2, 5]), Err(RecordError::Quorum));
    assert_eq!(check(&[2, 3, 5, 9]), Ok(3));
}

#[test]
fn a_wrong_signature_in_a_witnesss_name_spoils_the_checkpoint() {
    let policy = Policy::parse(example().as_bytes()).expect("a policy");
    let good = note(&[2, 3, 5]);
    let text = Note::parse(&good).expect("a note").text().to_owned();
    // Of another checkpoint, and without the header that keeps it apart.
    for message in [WitnessKey::message("log\n2\n", 7), text] {
        let line = witness(6).line(7, &key(6).sign(message.as_bytes()));
        let note = with_signatures(&good, &line).expect("a line");
        assert_eq!(policy.check(&note, &log()), Err(RecordError::Cosignature));
    }
}

#[test]
fn a_log_that_is_not_named_is_refused_unless_none_is() {
    let other = VerifierKey::new("log", key(9).public()).expect("a name");
    let policy = format!("log {other}\nquorum none\n");
    let policy = Policy::parse(policy.as_bytes()).expect("a policy");
    assert_eq!(policy.check(&note(&[]), &log()), Err(RecordError::PolicyLog));
    assert_eq!(policy.check(&note(&[]), &other), Err(RecordError::NoteSignature));
    let policy = Policy::parse(b"quorum none\n").expect("a policy");
    assert_eq!(policy.check(&note(&[]), &log()).map(|good| good.checkpoint.size), Ok(1));
}

#[test]
fn a_key_of_an_unknown_type_signs_for_nobody() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    // ML-DSA-44 has 1312 bytes; whatever it is, it is passed over.
    let quantum = BASE64_STANDARD.encode([&[6][..], &[7; 1312]].concat());
    let policy = format!(
        "log log+00000001+{quantum}\nwitness a a+00000002+{quantum}\nwitness b {}\n\
         group any any a b\nquorum any\n",
        witness(2)
    );
    let policy = Policy::parse(policy.as_bytes()).expect("a policy");
    // The only log is of a type that nobody here can check.
    assert_eq!(policy.check(&note(&[2]), &log()), Err(RecordError::PolicyLog));
    let any = format!(
        "witness a a+00000002+{quantum}\nwitness b {}\ngroup any any a b\nquorum any\n",
        witness(2)
    );
    let any = Policy::parse(any.as_bytes()).expect("a policy");
    assert_eq!(any.check(&note(&[2]), &log()).map(|good| good.by.len()), Ok(1));
    assert_eq!(any.check(&note(&[]), &log()), Err(RecordError::Quorum));
}

#[test]
fn what_is_no_policy_is_refused_with_its_line() {
    let (w, other) = (witness(2), witness(3));
    let plus = |end: &str| format!("witness a {w}\nwitness b {other}\n{end}\n");
    for (text, expected) in [
        (String::new(), "record.policy.quorum"),
        ("quorum none\n".repeat(2), "record.policy.quorum"),
        ("quorum none".to_owned(), "record.policy.text"),
        ("quorum none\r\n".to_owned(), "record.policy.text"),
        ("# \u{7f}\nquorum none\n".to_owned(), "record.policy.text"),
        ("quorum\n".to_owned(), "record.policy.line"),
        ("quorum none none\n".to_owned(), "record.policy.line"),
        ("Quorum none\n".to_owned(), "record.policy.line"),
        ("log\n".to_owned(), "record.policy.line"),
        (format!("log {} u v\n", log()), "record.policy.line"),
        (format!("log {w}\n"), "record.policy.key"),
        (format!("log {}=\n", log()), "record.policy.key"),
        ("log log\n".to_owned(), "record.policy.key"),
        (format!("log {}\nlog {}\n", log(), log()), "record.policy.key-twice"),
        (format!("witness a {}\n", log()), "record.policy.key"),
        (format!("witness a {w}\nwitness b {w}\n"), "record.policy.key-twice"),
        (format!("witness a {w}\nwitness a {other}\n"), "record.policy.name"),
        (format!("witness none {w}\n"), "record.policy.name"),
        (plus("group a any b"), "record.policy.name"),
        (plus("group none any b"), "record.policy.name"),
        (plus("group g any"), "record.policy.count"),
        (plus("group g 0 a b"), "record.policy.count"),
        (plus("group g 3 a b"), "record.policy.count"),
        (plus("group g 01 a b"), "record.policy.count"),
        (plus("group g +1 a b"), "record.policy.count"),
        (plus("group g most a b"), "record.policy.count"),
        (plus("group g any a a"), "record.policy.member-twice"),
        (plus("group g any a\ngroup h any a b"), "record.policy.member-twice"),
        (plus("group g any a g"), "record.policy.unknown"),
        (plus("group g any none"), "record.policy.unknown"),
        (plus("quorum g\ngroup g any a b"), "record.policy.unknown"),
        ("#".repeat(BYTES_MAX + 1), "record.policy.too-long"),
    ] {
        assert_eq!(code(&text), expected, "{}", text.chars().take(300).collect::<String>());
    }
    assert_eq!(Policy::parse(b"\n# x\nlog x\n"), Err(PolicyError::Key { line: 3 }));
    // Names are bytes, and a word of the language may be one.
    assert_eq!(
        code([b"witness \xff ", w.to_string().as_bytes(), b"\nquorum \xff\n"].concat()),
        "read"
    );
    assert_eq!(code(format!("witness all {w}\ngroup any all all\nquorum any\n")), "read");
}

#[test]
fn as_many_witnesses_as_the_bound_says_are_read() {
    let lines = |count: usize| -> String {
        let witness = |number: usize| {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
            let key = SigningKey::from_seed(&Secret::new(seed.to_vec())).expect("32 bytes");
            let key = WitnessKey::new("w", key.public()).expect("a name");
            format!("witness {number} {key}\n")
        };
        (0..count).map(witness).collect()
    };
    assert_eq!(code(lines(MEMBERS_MAX - 1) + "quorum 0\n"), "read");
    assert_eq!(code(lines(MEMBERS_MAX + 1)), "record.policy.too-long");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(Policy::parse(&text));
    }

    /// Against the definition, written as a recursion over a tree of two levels.
    #[test]
    fn groups_hold_as_they_are_defined(
        counts in (1usize..=3, 1usize..=3, 1usize..=2),
        signed in 0u8..64,
    ) {
        let (x, y, both) = counts;
        let text = example()
            .replace("X-witnesses 2 ", &format!("X-witnesses {x} "))
            .replace("Y-witnesses any ", &format!("Y-witnesses {y} "))
            .replace("X-and-Y all ", &format!("X-and-Y {both} "));
        let policy = Policy::parse(text.as_bytes()).expect("a policy");
        let seeds: Vec<u8> = (0..6).filter(|bit| signed >> bit & 1 == 1).map(|bit| bit + 2).collect();
        let below = seeds.iter().filter(|seed| **seed < 5).count();
        let held = usize::from(below >= x) + usize::from(seeds.len() - below >= y);
        prop_assert_eq!(policy.check(&note(&seeds), &log()).is_ok(), held >= both);
    }
}
