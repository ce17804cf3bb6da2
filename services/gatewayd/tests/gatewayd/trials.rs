//! Who is answered by what during a trial, and what is counted.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use cloister_daemon::clock::Stopwatch;
use cloister_domain::{Class, Sensitive, TokenCount};
use cloister_wire::{
    Problem,
    engine::{Event, Request},
    trial::{Counted, Kind, Report, Scope, Trial},
};
use serde_json::json;

use crate::{
    question,
    support::{LIMIT, Stage, generation, hit, say, two_words},
};

/// A trial of `two` on `ada`.
fn trial(kind: Kind, number: u64) -> Vec<u8> {
    lasting(kind, number, 3600)
}

/// The same, for so long.
fn lasting(kind: Kind, number: u64, seconds: u32) -> Vec<u8> {
    let scope = Scope::Principals(["ada".parse().unwrap()].into());
    let trial = Trial { trial: number, kind, generation: generation("two"), scope, seconds };
    serde_json::to_vec(&trial).unwrap()
}

/// `one` is active and answers; `two` is on trial on `ada`.
fn stage(kind: Kind) -> Stage {
    let stage = Stage::ready("one");
    stage.engine("a", "one", two_words);
    stage.try_out(&trial(kind, 7));
    stage
}

/// The release that answered.
fn answered_by(stage: &Stage, key: &str) -> serde_json::Value {
    let answer = stage.chat(key, &question(&json!({})));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["cloister"]["generation"].clone()
}

fn report(stage: &Stage) -> Report {
    let Some(text) = stage.counted() else { return Report::default() };
    let counted: Counted = serde_json::from_str(&text).unwrap();
    assert_eq!(counted.trial, 7);
    counted.report
}

/// What was counted, once `done` says that all is.
fn until(stage: &Stage, done: impl Fn(&Report) -> bool) -> Report {
    let clock = Stopwatch::start();
    loop {
        let now = report(stage);
        if done(&now) {
            return now;
        }
        assert!(clock.elapsed() < LIMIT, "{now:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_canary_answers_whom_it_covers_and_nobody_else() {
    let stage = stage(Kind::Canary);
    let (ada, bob) = (stage.key(), stage.key_of("bob"));
    stage.engine("b", "two", |connection| say(connection, ["Bad ", "day."]));
    assert_eq!(answered_by(&stage, &ada), json!(generation("two")));
    assert_eq!(answered_by(&stage, &bob), json!(generation("one")));
    assert_eq!(answered_by(&stage, &ada), json!(generation("two")));
    let counts = report(&stage);
    assert_eq!((counts.candidate.answered, counts.active.answered), (2, 1));
    assert_eq!((counts.candidate.tokens, counts.candidate.failed), (4, 0));
    assert!(counts.candidate.answer_microseconds >= counts.candidate.first_piece_microseconds);
    assert!(counts.candidate.first_piece_microseconds > 0);
    let models = |key: &str| {
        let listed = stage.ask(key, "GET", "/v1/models", "").json();
        listed["data"][0]["cloister"]["generation"].clone()
    };
    assert_eq!((models(&ada), models(&bob)), (json!(generation("two")), json!(generation("one"))));
    let embed = |key: &str| {
        let body = json!({"model": "default", "input": "words"}).to_string();
        stage.ask(key, "POST", "/v1/embeddings", &body).json()["cloister"]["generation"].clone()
    };
    assert_eq!((embed(&ada), embed(&bob)), (json!(generation("two")), json!(generation("one"))));
    // It ends without anybody telling the gateway.
    stage.try_out(b"");
    assert_eq!(answered_by(&stage, &ada), json!(generation("one")));
    assert_eq!(report(&stage), counts, "no trial, no counts");
}

#[test]
fn what_a_canary_cannot_answer_the_active_release_does() {
    let stage = stage(Kind::Canary);
    let ada = stage.key();
    // Nobody is there.
    assert_eq!(answered_by(&stage, &ada), json!(generation("one")));
    assert_eq!(report(&stage).candidate.failed, 0, "updaterd sees that its engine is away");
    let turn = Arc::new(AtomicU32::new(0));
    let turns = Arc::clone(&turn);
    stage.engine("b", "two", move |connection| match turns.fetch_add(1, Ordering::SeqCst) {
        0 => {
            let problem = Problem::new(Class::Fault, "engine.broken", "it cannot");
            connection.write(&Event::Problem(problem)).unwrap();
        }
        // It dies of the question.
        1 => connection.shut(),
        _ => {
            connection.write(&Event::Started { prompt_tokens: TokenCount(5) }).unwrap();
            let text = Sensitive::new("Half".to_owned());
            connection.write(&Event::Delta { text }).unwrap();
            connection.shut();
        }
    });
    assert_eq!(answered_by(&stage, &ada), json!(generation("one")));
    assert_eq!(report(&stage).candidate.failed, 1);
    assert_eq!(answered_by(&stage, &ada), json!(generation("one")));
    assert_eq!(report(&stage).candidate.failed, 2);
    // What was begun cannot be taken back.
    let broken = stage.chat(&ada, &question(&json!({})));
    assert_eq!(broken.status, 500, "{}", broken.body);
    let report = report(&stage);
    assert_eq!((report.candidate.failed, report.active.answered), (3, 3));
    assert_eq!(turn.load(Ordering::SeqCst), 3);
}

#[test]
fn a_canary_that_nobody_ends_answers_nobody_when_its_time_is_over() {
    let stage = stage(Kind::Canary);
    let ada = stage.key();
    stage.engine("b", "two", two_words);
    stage.try_out(&lasting(Kind::Canary, 7, 1));
    let clock = Stopwatch::start();
    while answered_by(&stage, &ada) != json!(generation("one")) {
        assert!(clock.elapsed() < LIMIT, "it goes on");
    }
    let counts = report(&stage);
    assert_eq!(answered_by(&stage, &ada), json!(generation("one")));
    assert_eq!(report(&stage), counts, "nothing is counted any more");
    // Another one has its own time.
    stage.try_out(&lasting(Kind::Canary, 8, 3600));
    assert_eq!(answered_by(&stage, &ada), json!(generation("two")));
}

#[test]
fn a_canarys_time_goes_on_where_an_earlier_run_left_it() {
    let stage = stage(Kind::Canary);
    let ada = stage.key();
    stage.engine("b", "two", two_words);
    let kept = |trial, lasted_s| {
        let counted = Counted { trial, run: 1, lasted_s, report: Report::default() };
        stage.keep_counts(&serde_json::to_vec(&counted).unwrap());
    };
    // Of another trial.
    kept(6, 3600);
    assert_eq!(answered_by(&stage, &ada), json!(generation("two")));
    stage.try_out(&lasting(Kind::Canary, 9, 3600));
    kept(9, 3000);
    assert_eq!(answered_by(&stage, &ada), json!(generation("two")));
    let counted: Counted = serde_json::from_str(&stage.counted().unwrap()).unwrap();
    assert!(counted.lasted_s >= 3000, "{counted:?}");
    stage.try_out(&lasting(Kind::Canary, 10, 3600));
    kept(10, 3600);
    assert_eq!(answered_by(&stage, &ada), json!(generation("one")));
}

#[test]
fn a_canary_whose_counts_cannot_be_kept_answers_nobody() {
    let stage = stage(Kind::Canary);
    let (ada, bob) = (stage.key(), stage.key_of("bob"));
    stage.engine("b", "two", two_words);
    let kept = stage.keep_no_counts();
    assert_eq!(answered_by(&stage, &ada), json!(generation("two")), "nothing was counted yet");
    for _ in 0..2 {
        assert_eq!(answered_by(&stage, &ada), json!(generation("one")));
    }
    assert_eq!(stage.counted(), None);
    drop(kept);
    assert_eq!(answered_by(&stage, &bob), json!(generation("one")));
    assert_eq!(answered_by(&stage, &ada), json!(generation("two")), "it is counted again");
    assert_eq!(report(&stage).candidate.answered, 2, "what was counted meanwhile is not lost");
}

#[test]
fn an_answer_that_takes_too_long_is_a_failure_of_the_canary() {
    let stage = Stage::new("answer_s = 1\n", crate::support::recorded);
    stage.activate("one");
    stage.try_out(&trial(Kind::Canary, 7));
    let ada = stage.key();
    stage.engine("b", "two", |connection| {
        connection.write(&Event::Started { prompt_tokens: TokenCount(5) }).unwrap();
        // It says no more, and stays as long as somebody listens.
        drop(connection.read::<Request>());
    });
    let answer = stage.chat(&ada, &question(&json!({})));
    assert_eq!((answer.status, answer.code().as_str()), (504, "answer_timeout"));
    let report = until(&stage, |report| report.candidate.failed > 0);
    assert_eq!((report.candidate.failed, report.candidate.answered), (1, 0));
}

#[test]
fn what_is_asked_wrongly_is_no_failure_of_the_canary() {
    let stage = stage(Kind::Canary);
    let ada = stage.key();
    stage.engine("b", "two", |connection| {
        let problem = Problem::new(Class::Refused, "engine.context.exceeded", "too long");
        connection.write(&Event::Problem(problem)).unwrap();
    });
    let refused = stage.chat(&ada, &question(&json!({"max_tokens": 60})));
    assert_eq!((refused.status, refused.code().as_str()), (400, "context_length_exceeded"));
    assert_eq!(report(&stage), Report::default());
}

#[test]
fn a_shadow_is_asked_the_same_and_nobody_sees_what_it_says() {
    let stage = stage(Kind::Shadow);
    let (ada, bob) = (stage.key(), stage.key_of("bob"));
    let turn = Arc::new(AtomicU32::new(0));
    let turns = Arc::clone(&turn);
    stage.serve("engined-b.sock", move |connection| {
        while let Ok(Some(request)) = connection.read::<Request>() {
            let Request::Chat(chat) = request else { continue };
            assert_eq!(chat.generation, generation("two"));
            assert_eq!((chat.principal.as_str(), chat.messages.len()), ("ada", 1));
            match turns.fetch_add(1, Ordering::SeqCst) {
                0 => two_words(&connection),
                1 => say(&connection, ["Canary-", "word."]),
                _ => connection.shut(),
            }
        }
    });
    // Whom the trial does not cover is not put to the shadow, which would take the first turn.
    assert_eq!(answered_by(&stage, &bob), json!(generation("one")));
    for (count, same) in [(1, 1), (2, 1)] {
        assert_eq!(answered_by(&stage, &ada), json!(generation("one")));
        let report = until(&stage, |report| report.candidate.answered == count);
        assert_eq!((report.same, report.active.answered), (same, count));
    }
    // One that breaks off harms nobody.
    assert_eq!(answered_by(&stage, &ada), json!(generation("one")));
    let counts = until(&stage, |report| report.candidate.failed == 1);
    assert_eq!((counts.candidate.answered, counts.active.answered), (2, 3));
    assert_eq!(counts.passed_over, 0);
    assert_eq!(turn.load(Ordering::SeqCst), 3);
    let left = stage.counted().unwrap() + &stage.said();
    assert!(!left.contains("Canary-"), "what a shadow says is discarded");
}

#[test]
fn a_shadow_answers_one_question_at_a_time() {
    let stage = stage(Kind::Shadow);
    let ada = stage.key();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    stage.engine("b", "two", move |connection| {
        held.lock().unwrap().recv().unwrap();
        two_words(connection);
    });
    assert_eq!(answered_by(&stage, &ada), json!(generation("one")));
    assert_eq!(answered_by(&stage, &ada), json!(generation("one")));
    until(&stage, |report| report.passed_over == 1);
    release.send(()).unwrap();
    let report = until(&stage, |report| report.candidate.answered == 1);
    assert_eq!((report.passed_over, report.active.answered), (1, 1));
}

#[test]
fn a_canarys_passages_are_those_of_its_release_and_can_be_opened() {
    let stage = stage(Kind::Canary);
    let ada = stage.key();
    let bob = stage.key_of("bob");
    stage.engine("b", "two", two_words);
    stage.corpus(|request| {
        use cloister_wire::corpus::{Answer, Request};
        let of = match request {
            Request::Search(search) => search.generation,
            Request::Open { generation, .. } => *generation,
            _ => panic!("not asked"),
        };
        let refused = Problem::new(Class::Refused, "corpus.citation", "not there");
        match request {
            _ if of != generation("two") => Err(refused),
            Request::Search(_) => Ok(Answer::Hits(vec![hit("Passage.")])),
            _ => Ok(Answer::Passage(hit("Passage."))),
        }
    });
    let grounded = question(&json!({"cloister": {"collections": []}}));
    let answer = stage.chat(&ada, &grounded);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let open = |key: &str| {
        let id = hit("Passage.").citation;
        stage.ask(key, "GET", &format!("/v1/citations/{id}"), "").status
    };
    assert_eq!((open(&ada), open(&bob)), (200, 404));
}

#[test]
fn what_cannot_be_read_is_no_trial() {
    let stage = stage(Kind::Canary);
    let ada = stage.key();
    stage.engine("b", "two", two_words);
    let good = String::from_utf8(trial(Kind::Canary, 7)).unwrap();
    for bad in [
        "{}".to_owned(),
        good.replace("\"trial\":7", "\"trial\":-7"),
        good.replace("canary", "parrot"),
        good.replacen('{', "{\"more\":1,", 1),
        format!("{good}{}", " ".repeat(70_000)),
    ] {
        stage.try_out(bad.as_bytes());
        assert_eq!(answered_by(&stage, &ada), json!(generation("one")), "{bad:.40}");
    }
    stage.try_out(good.as_bytes());
    assert_eq!(answered_by(&stage, &ada), json!(generation("two")));
}
