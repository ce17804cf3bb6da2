//! The promises of the daemon, kept by its real process over its real socket.

mod house;

use std::{fs, path::Path};

use cloister_domain::{Class, Digest, GenerationId};
use cloister_wire::corpus::{Answer, Request};
use house::{House, PUMP, REACTOR, canaries};

#[test]
fn a_generation_is_staged_searched_cited_and_dropped() {
    let house = House::new();
    let first = house.release(1, PUMP);
    house.engine("a", Some(first));
    let staged = house.stage(first);
    assert_eq!(staged, Answer::Staged { documents: 3, chunks: 4, vectors: 4 });
    assert_eq!(house.stage(first), staged, "a second time changes nothing");
    let hits = house.search(first, "Which valve opens before the coolant pump starts?", &["open"]);
    let best = hits.first().expect("an answer");
    assert!(best.text.expose().contains("V-12") && !best.words_only);
    let open = |labels: &[&str]| house.open(best.citation, first, labels);
    let Ok(Answer::Passage(passage)) = open(&["open"]) else { panic!("it can be opened") };
    assert_eq!((passage.chunk, &passage.text), (best.chunk, &best.text));
    let without = open(&["reactor"]).expect_err("not without the label");
    let mut unknown = best.citation;
    unknown.document.0 = Digest::of(b"unknown");
    let unknown = house.open(unknown, first, &["open"]).expect_err("unknown");
    assert_eq!(without, unknown, "wrong label and unknown are the same answer");
    assert_eq!(without.code, "corpus.citation.absent");
    let asked = house.ask(&Request::Verify).expect("whole");
    assert_eq!(asked, Answer::Verified { documents: 3, chunks: 4, vectors: 4 });
    assert_eq!(house.ask(&Request::Drop { generation: first }), Ok(Answer::Dropped));
    assert!(house.search(first, "coolant pump valve", &["open"]).is_empty());
}

#[test]
fn a_reader_without_the_label_gets_nothing_in_a_thousand_questions() {
    let house = House::new();
    let first = house.release(1, PUMP);
    house.engine("b", Some(first));
    house.stage(first);
    let words: Vec<&str> = REACTOR.split(' ').collect();
    for variant in 0..1000usize {
        let chosen: Vec<&str> = (0..words.len())
            .filter(|index| (variant * 31 + 7) >> (index % 11) & 1 == 1)
            .map(|index| words[index])
            .collect();
        let question = format!("{} {variant}", chosen.join(" "));
        let hits = house.search(first, &question, &["open"]);
        assert!(hits.iter().all(|hit| hit.label.as_str() == "open"), "variant {variant}");
    }
    let control = house.search(first, REACTOR, &["open", "reactor"]);
    assert_eq!(control.first().expect("the control is found").label.as_str(), "reactor");
}

#[test]
fn an_unrelated_question_has_no_evidence() {
    let house = House::new();
    let first = house.release(1, PUMP);
    house.engine("a", Some(first));
    house.stage(first);
    for question in [
        "What is the capital of Mongolia?",
        "Who composed the ninth symphony?",
        "How long do penguins live?",
        "Tell me about it, please",
    ] {
        let hits = house.search(first, question, &["open", "reactor"]);
        assert!(hits.is_empty(), "{} hits for {question}", hits.len());
    }
}

#[test]
fn going_back_a_generation_never_shows_the_newer_document() {
    let house = House::new();
    let first = house.release(1, PUMP);
    let second = house.release(2, "Open valve V-99 before the coolant pump starts.");
    house.engine("a", Some(first));
    house.engine("b", Some(second));
    house.stage(first);
    let Answer::Staged { documents, .. } = house.stage(second) else { panic!("staged") };
    assert_eq!(documents, 3);
    let question = "Which valve opens before the coolant pump starts?";
    for (generation, own, other) in
        [(first, "V-12", "V-99"), (second, "V-99", "V-12"), (first, "V-12", "V-99")]
    {
        let hits = house.search(generation, question, &["open"]);
        assert!(hits[0].text.expose().contains(own));
        assert!(hits.iter().all(|hit| !hit.text.expose().contains(other)));
    }
    let newer = house.search(second, question, &["open"])[0].citation;
    let refused = house.open(newer, first, &["open"]).expect_err("not in the first");
    assert_eq!(refused.code, "corpus.citation.absent");
}

#[test]
fn words_alone_decide_until_an_engine_answers() {
    let house = House::new();
    let first = house.release(1, PUMP);
    let Answer::Staged { vectors: 0, .. } = house.stage(first) else { panic!("no engine yet") };
    house.activate(first);
    house.add("note", "open", "Spare keys lie in the turquoise drawer.").expect("added");
    let question = "Where are the spare keys?";
    assert!(house.search(first, question, &["open"])[0].words_only);
    house.engine("a", Some(first));
    assert!(!house.search(first, question, &["open"])[0].words_only);
    let mut vectors = 0;
    // Each question lets the daemon know that the engine is there; it catches up beside them.
    for _ in 0..2000 {
        house.search(first, question, &["open"]);
        if let Ok(Answer::Verified { vectors: now, .. }) = house.ask(&Request::Verify) {
            vectors = now;
        }
        if vectors == 5 {
            break;
        }
    }
    assert_eq!(vectors, 5, "the release's and the facility's passages");
}

#[test]
fn a_deletion_is_recorded_before_it_is_done_or_not_done() {
    let house = House::new();
    let Ok(Answer::Added(listed)) = house.add("note", "open", "Spare keys lie in the drawer.")
    else {
        panic!("added");
    };
    let again = house.add("note", "open", "Spare keys lie in the drawer.");
    assert_eq!(again, Ok(Answer::Added(listed.clone())), "the same again is a no-op");
    let delete = Request::Delete { document: listed.document };
    let refused = house.ask(&delete).expect_err("no record, no deletion");
    assert_eq!(refused.code, "corpus.delete.not-recorded");
    assert_eq!(house.list(None, &["open"]).len(), 1);
    let entries = house.recordd();
    let Ok(Answer::Deleted(receipt)) = house.ask(&delete) else { panic!("deleted") };
    assert_eq!((receipt.chunks, receipt.document), (1, listed.document));
    let acts: Vec<String> = entries.lock().expect("entries").clone();
    let act = |stage: &str| format!("corpus/delete/1/{}/{stage}", listed.document);
    assert_eq!(acts, [act("intent"), act("receipt")]);
    assert!(house.list(None, &["open"]).is_empty());
    let unknown = house.ask(&delete).expect_err("gone");
    assert_eq!((unknown.class, unknown.code.as_str()), (Class::Refused, "corpus.document.absent"));
}

#[test]
fn releases_that_are_not_as_documented_are_refused() {
    let house = House::new();
    let id = |byte: u8| GenerationId(Digest::of(&[byte]));
    let stage = |generation: GenerationId, directory: &Path| {
        let request = Request::Stage { generation, directory: directory.to_path_buf() };
        house.ask(&request).expect_err("refused").code
    };
    assert_eq!(stage(id(1), Path::new("/etc")), "corpus.stage.directory");
    for (byte, listing, code) in [
        (
            10,
            "{\"collections\":[{\"name\":\"h\",\"label\":\"open\",\"documents\":[{\"path\":\"documents/../../manifest.json\",\"name\":\"x\"}]}]}",
            "corpus.listing.path",
        ),
        (11, "{\"collections\":{}}", "corpus.listing.form"),
        (
            12,
            "{\"collections\":[{\"name\":\"h\",\"label\":\"open\",\"documents\":[{\"path\":\"documents/none\",\"name\":\"x\"}]}]}",
            "corpus.stage.file",
        ),
        (
            13,
            "{\"collections\":[{\"name\":\"h\",\"label\":\"open\",\"documents\":[{\"path\":\"documents/link\",\"name\":\"x\"}]}]}",
            "corpus.stage.text",
        ),
        (
            14,
            "{\"collections\":[{\"name\":\"h\",\"label\":\"open\",\"documents\":[{\"path\":\"documents/binary\",\"name\":\"x\"}]}]}",
            "corpus.stage.text",
        ),
    ] {
        let folder = house.generation_folder(id(byte));
        let documents = folder.join("tree/documents");
        fs::create_dir_all(&documents).expect("made");
        fs::write(documents.join("collections.json"), listing).expect("written");
        fs::write(documents.join("binary"), [0xff, 0xfe]).expect("written");
        std::os::unix::fs::symlink("/etc/passwd", documents.join("link")).expect("linked");
        assert_eq!(stage(id(byte), &folder), code);
    }
    let long = "word ".repeat(2 << 20);
    let refused = house.add("long", "open", &long).expect_err("too long");
    assert_eq!(refused.code, "corpus.document.too-long");
    assert_eq!(
        house.add("dots", "open", "\u{2026}!?").expect_err("empty").code,
        "corpus.document.empty"
    );
    let refused = house.add("\u{7}", "open", "text").expect_err("a name");
    assert_eq!(refused.code, "corpus.document.name");
}

#[test]
fn a_killed_daemon_comes_back_whole() {
    let mut house = House::new();
    let first = house.release(1, PUMP);
    house.engine("a", Some(first));
    house.recordd();
    for round in 0..12u32 {
        house.killed_while(round, first);
        house.restart();
        house.ask(&Request::Verify).expect("whole");
        for listed in house.list(None, &["open"]) {
            let name = listed.name.expose().clone();
            let hits = house.search(first, &format!("cabinet {name}"), &["open"]);
            assert!(hits.iter().any(|hit| *hit.name.expose() == name), "what is listed is found");
        }
    }
    house.stage(first);
    assert!(!house.search(first, "coolant pump valve", &["open"]).is_empty());
}

#[test]
fn the_log_holds_no_word_of_documents_names_or_questions() {
    let mut house = House::new();
    let first = house.release(1, PUMP);
    house.engine("a", Some(first));
    house.recordd();
    house.stage(first);
    for canary in canaries() {
        let text = format!("The {canary} stands in the hall.");
        let Ok(Answer::Added(listed)) = house.add(canary, "open", &text) else { panic!("added") };
        house.search(first, canary, &["open"]);
        house.add(canary, "reactor", &text).expect_err("another label");
        house.ask(&Request::Delete { document: listed.document }).expect("deleted");
    }
    let broken = house.generation_folder(GenerationId(Digest::of(b"broken")));
    fs::create_dir_all(broken.join("tree/documents")).expect("made");
    let listing = format!("{{\"collections\":[{{\"name\":\"{}\",\"x\":1}}]}}", canaries()[0]);
    fs::write(broken.join("tree/documents/collections.json"), listing).expect("written");
    let stage =
        Request::Stage { generation: GenerationId(Digest::of(b"broken")), directory: broken };
    let refused = house.ask(&stage).expect_err("refused");
    assert!(canaries().iter().all(|canary| !refused.message.contains(canary)));
    house.raw(format!("{{\"search\":{{\"query\":\"{}\"}}}}", canaries()[1]).as_bytes());
    let log = house.stop_and_log();
    assert!(log.contains("documents staged"), "the log is read at all: {} bytes", log.len());
    for canary in canaries() {
        assert!(!log.contains(canary), "a canary is in the log");
    }
}
