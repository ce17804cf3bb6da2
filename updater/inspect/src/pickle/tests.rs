//! Pickles of every protocol, and texts whose letters are instructions.

use super::*;

fn whole(bytes: &[u8]) -> bool {
    // A small buffer, so that arguments lie across its end.
    is_one(std::io::BufReader::with_capacity(7, bytes), true).expect("memory")
}

/// What runs `id`.
const RUNS: &str = "cos\nsystem\n(S'id'\ntR.";

/// What CPython 3.11 writes; see each line's comment.
#[test]
fn pickles_of_every_protocol_are_known() {
    for pickle in [
        // os.system("id"), by hand, protocol 0.
        &b"cos\nsystem\n(S'id'\ntR."[..],
        b"cos\nsystem\n(S'id'\ntR",
        b"cos\nsystem\n(S'id'\ntR and then a mistake",
        b"cos\nsystem\n(S'id'\ntR.\n  and then a text that hides it",
        // Things before it that are thrown away: a mark, and numbers in spellings of Python's.
        b"(0cos\nsystem\n(S'id'\ntR.",
        b"I 1\n0cos\nsystem\n(S'id'\ntR.",
        b"I1_0\n0cos\nsystem\n(S'id'\ntR.",
        b"I+1\n0cos\nsystem\n(S'id'\ntR.",
        b"L0x10L\n0cos\nsystem\n(S'id'\ntR.",
        b"F 1_0.5e3 \n0cos\nsystem\n(S'id'\ntR.",
        // It takes away what it made, so nothing is left for the end.
        b"cos\nsystem\n(S'id'\ntR0.",
        // The same with the instruction INST.
        b"(S'id'\nios\nsystem\n.",
        // pickle.dumps({"a": [1, 2.5, None]}, 0)
        b"(dp0\nVa\np1\n(lp2\nI1\naF2.5\naNas.",
        // pickle.dumps({"a": 1}, 1)
        b"}q\0X\x01\0\0\0aq\x01K\x01s.",
        // pickle.dumps({"a": 1}, 2)
        b"\x80\x02}q\0X\x01\0\0\0aq\x01K\x01s.",
        // pickle.dumps({"a": 1}, 4)
        b"\x80\x04\x95\x0a\0\0\0\0\0\0\0}\x94\x8c\x01a\x94K\x01s.",
        // torch.save before version 1.6: a number, then more pickles.
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
    ] {
        assert!(whole(pickle), "{pickle:?}");
    }
}

#[test]
fn a_pickle_longer_than_what_is_at_hand_is_known() {
    let mut long = b"\x80\x02]q\0(".to_vec();
    long.extend(b"K\x07".repeat(40_000));
    let front = long.get(..65_536).expect("longer");
    assert!(is_one(front, false).expect("memory"));
    assert!(whole(["(lp0\n", &"I7\na".repeat(20_000), "."].concat().as_bytes()));
}

/// Whatever stands before what runs: it is thrown away, kept, or the pickle before.
#[test]
fn a_pickle_behind_anything_of_any_length_is_known() {
    let many = 70_000;
    for before in [
        format!("V{}\n0", "Pumps are checked. ".repeat(5000)),
        format!("S'{}'\n0", "a".repeat(many)),
        format!("I{}\n0", "1".repeat(many)),
        format!("L{}L\n0", "9".repeat(many)),
        format!("F{}\n0", "1".repeat(many)),
        format!("V{}\n0", "a".repeat(2200)).repeat(40),
        format!("V{}\np1\n0g1\n0", "a".repeat(many)),
        format!("UA{}0", "a".repeat(65)).repeat(1000),
        format!("N{}", "2".repeat(many)),
        format!("{}1", "(".repeat(3000)),
        "N.".to_owned(),
        "I1\n.\n ".to_owned(),
        "N.".repeat(many),
    ] {
        let pickle = [before.as_str(), RUNS].concat();
        let start: String = before.chars().take(9).collect();
        assert!(whole(pickle.as_bytes()), "{start}");
    }
    let marks = ["(".repeat(many), "1".repeat(many), RUNS.to_owned()].concat();
    assert!(whole(marks.as_bytes()), "more marks than are followed");
    assert!(whole("N".repeat(5_000_000).as_bytes()), "more instructions than are followed");
    // Without a call: what was named is changed.
    for pickle in
        ["Pfunction\n(tR and so on", "cos\nenviron\nS'PATH'\nS'x'\ns", "csys\npath\nS'x'\na"]
    {
        assert!(whole(pickle.as_bytes()), "{pickle}");
    }
}

#[test]
fn texts_are_not_pickles() {
    for text in [
        &b""[..],
        b"Pumps are checked each week.\n",
        b"I am a text.\nSo I am.\n",
        b"(see below)\n",
        b"Version 1\nNothing else.\n",
        b"Version 1\n.hidden files\n",
        b"[1, 2]\n",
        b"{}\n",
        b"]\n",
        b"None\n",
        b"Kelvin.\n",
        b"cats\nand dogs\n",
        b"-- a list\n1. one\n2. two\n",
    ] {
        assert!(!whole(text), "{text:?}");
    }
    let long = "It was the best of times. ".repeat(10_000);
    assert!(!whole(long.as_bytes()));
}

/// Texts whose first letters are instructions.
#[test]
fn texts_that_could_begin_a_pickle_are_texts() {
    for text in [
        "I am the pump's manual.\n",
        "I 1\nI 2\n",
        "I\n1\n",
        "(a) first\n(b) second\n",
        "(a)",
        "(i am\nhere)\n",
        "N. Pole\n",
        "N.B. check the pumps.\n",
        "V. Chapter\nI. Section\n",
        "V. Chapter\n\nPumps.\n",
        "Vorwort\n\nDie Pumpen.\n",
        "V1\nV2\nV3\n",
        "U.S. pumps, as of 2020, are checked each week by two persons, and twice a month by one.\n",
        "Chapter 1. It was the best of times, it was the worst of times, it was the age of wisdom, and so on.\n",
        "Couverture. Il était une fois, dans un pays lointain, une pompe qui ne marchait plus du tout, hélas.\n",
        "S'il vous plaît\nRien.\n",
        "'tis\n",
        "La pompe est en marche.\n",
        "Le 3 mai\n",
        "Los sistemas (todos).\n",
        "Für die Pumpe.\n",
        "Pompa\n.\nacqua",
        "Gebrauchsanweisung der Pumpe\n",
        "Кавитация насоса\n",
        "ポンプの説明。\n",
        "1\n2\n3\n",
        "0\n0\n",
        "0.5\n0.25\n",
        "1,2\n3,4\n",
        "2\n1\n",
        "category\npump\nvalve\n",
        "category\r\npump\r\nvalve\r\n",
        "cos\n0.5\n0.25\n",
        "cat\ndog\n",
        "config.json\nmodel.safetensors\n",
        "cats\ndogs\n(and others)\n",
        "import os\n",
        "class Pump:\n    pass\n",
        "def f():\n    return []\n",
        "print('x')\n",
        "Foo\nbar\n",
        "e.g.\n",
        "# Pumps\n",
        "- a\n- b\n",
        "]]\n",
        ")))\n",
        "}\n",
        "NNN\n",
        "NORTH\n",
        "2R",
        "hello\n",
        "good\n",
        "pumps\n",
        "[{\"a\": 1}]\n",
    ] {
        assert!(!whole(text.as_bytes()), "{text:?}");
    }
    let numbers: String = (0..30_000).map(|number| format!("V{number:05}\n")).collect();
    assert!(!whole(numbers.as_bytes()), "a list of part numbers");
    let names = "I1\nI2\nL3\n".repeat(20_000);
    assert!(!whole(names.as_bytes()));
    assert!(!whole("(".repeat(3000).as_bytes()));
    let column = ["category\n", &"valve\nVentil\n".repeat(20_000)].concat();
    assert!(!whole(column.as_bytes()));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_followed_to_an_end(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        let _either = whole(&bytes);
    }
}
