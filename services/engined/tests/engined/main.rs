//! The real daemon, as a process of its own, over its real socket, with models of the parity
//! fixtures.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "fixtures are small and our own")]

mod bench;
#[expect(dead_code, reason = "the comparison is used elsewhere; the weights are used here")]
#[path = "../../../../packaging/xtask/src/parity.rs"]
mod parity;

use std::{fs, time::Duration};

use bench::{Bench, Engine, answer, problem};
use cloister_domain::{ByteCount, Digest, GenerationId, Sensitive, TokenCount};
use cloister_wire::engine::{Event, FinishReason, Request, Role};

const CUDA: &str = "[engine]\ndevice = \"cuda\"\n";

#[test]
fn a_generation_is_loaded_and_answers_like_the_model_alone() {
    let bench = Bench::new();
    let generation = bench.generation("one");
    let engine = bench.start();
    let status = engine.status();
    assert_eq!((status.generation, status.model, status.running), (None, None, 0));
    assert_eq!(
        problem(&engine.ask(&bench.chat(generation, "hi", 9))),
        "engine.generation.mismatch"
    );

    let status = engine.load(generation, true).unwrap();
    assert_eq!(status.generation, Some(generation));
    assert_eq!(status.model.as_deref(), Some("one"));
    assert_eq!((status.embedding_width, status.device.as_str()), (Some(256), "cpu"));
    assert_eq!(status.embedding_model, Some(bench.digest("one", "embed/model.safetensors")));
    assert!(status.peak_memory > ByteCount(1 << 20));
    assert_eq!(status.context, TokenCount(256));

    let events = engine.ask(&bench.chat(generation, "Grüße, 世界!", 24));
    let answer = answer(&events);
    assert_eq!(answer.text, bench.greedy("one", "Grüße, 世界!", 24));
    assert_eq!((answer.reason, answer.tokens), (FinishReason::Length, 24));
    assert_eq!(answer.prompt_tokens, bench.prompt_length("Grüße, 世界!"));
    let other = GenerationId(Digest::of(b"another"));
    assert_eq!(problem(&engine.ask(&bench.chat(other, "hi", 9))), "engine.generation.mismatch");
}

#[test]
fn many_answers_at_a_time_are_what_each_would_be_alone() {
    let bench = Bench::new();
    let generation = bench.generation("one");
    let engine = bench.start();
    engine.load(generation, false).unwrap();
    let prompts: Vec<String> = (1..8).map(|n| "many words ".repeat(n * n)).collect();
    let prompts: Vec<&str> =
        prompts.iter().map(|text| text.split_at(text.len().min(180)).0).collect();
    let together = std::thread::scope(|scope| {
        let (engine, bench) = (&engine, &bench);
        let ask = |prompt| scope.spawn(move || engine.ask(&bench.chat(generation, prompt, 20)));
        let threads: Vec<_> = prompts.iter().copied().map(ask).collect();
        threads.into_iter().map(|thread| answer(&thread.join().unwrap()).text).collect::<Vec<_>>()
    });
    for (prompt, text) in prompts.iter().zip(together) {
        assert_eq!(text, bench.greedy("one", prompt, 20));
    }
}

#[test]
fn the_same_seed_draws_the_same_answer() {
    let bench = Bench::new();
    let generation = bench.generation("one");
    let engine = bench.start();
    engine.load(generation, false).unwrap();
    let ask = |seed| {
        let mut chat = bench.chat_of(generation, "dice", 40);
        chat.sampling.temperature = 1.5;
        chat.sampling.seed = seed;
        answer(&engine.ask(&Request::Chat(chat))).text
    };
    assert_eq!(ask(7), ask(7));
    assert_ne!(ask(7), ask(8));
}

#[test]
fn an_answer_ends_before_a_stop_text() {
    let bench = Bench::new();
    let generation = bench.generation("one");
    let engine = bench.start();
    engine.load(generation, false).unwrap();
    let prompt = "Grüße, 世界!";
    let whole = bench.greedy("one", prompt, 24);
    let middle: String = whole.chars().skip(8).take(3).collect();
    assert_eq!(middle.chars().count(), 3, "the answer is long enough");
    let mut chat = bench.chat_of(generation, prompt, 24);
    chat.stop = Sensitive::new(vec![middle.clone()]);
    let stopped = answer(&engine.ask(&Request::Chat(chat.clone())));
    assert_eq!(stopped.text, whole.split(&middle).next().unwrap());
    assert_eq!(stopped.reason, FinishReason::Stop);
    chat.stop = Sensitive::new(vec!["x".to_owned(); 17]);
    assert_eq!(problem(&engine.ask(&Request::Chat(chat))), "engine.stop-texts");
}

#[test]
fn what_cannot_be_answered_is_refused_by_name() {
    let bench = Bench::new();
    let generation = bench.generation("one");
    let engine = bench.start();
    engine.load(generation, false).unwrap();
    let long = engine.ask(&bench.chat(generation, &"x".repeat(250), 9));
    assert_eq!(problem(&long), "engine.context.exceeded");
    let [Event::Problem(refusal)] = long.as_slice() else { panic!("one refusal: {long:?}") };
    assert!(refusal.message.contains("256 tokens"), "{}", refusal.message);
    assert_eq!(problem(&engine.ask(&bench.chat(generation, "x", 0))), "engine.request.empty");
    let mut chat = bench.chat_of(generation, "x", 1);
    chat.sampling.temperature = 2.5;
    assert_eq!(problem(&engine.ask(&Request::Chat(chat))), "engine.sampling.temperature");
    let mut chat = bench.chat_of(generation, "x", 1);
    chat.messages.clear();
    assert_eq!(problem(&engine.ask(&Request::Chat(chat))), "template.empty");
    let texts = Sensitive::new(vec![String::new(); 257]);
    let embed = Request::Embed { generation, texts };
    assert_eq!(problem(&engine.ask(&embed)), "engine.embedding.texts");
}

#[test]
fn closing_the_connection_ends_the_answer() {
    let bench = Bench::new();
    let generation = bench.generation("one");
    let engine = bench.start();
    engine.load(generation, false).unwrap();
    // An answer may be over before it is seen to run; then the next one is looked at.
    let was_running = |_try| {
        let connection = engine.connect();
        connection.write(&bench.chat(generation, "long", 200)).unwrap();
        for _first_events in 0..2 {
            connection.read::<Event>().unwrap().unwrap();
        }
        let was_running = engine.status().running == 1;
        drop(connection);
        bench::until("nobody is answered", || engine.status().running == 0);
        was_running
    };
    assert!((0..100).any(was_running), "no answer was seen to run");
}

#[test]
fn a_load_that_fails_leaves_what_is_there() {
    let bench = Bench::new();
    let generation = bench.generation("one");
    let engine = bench.start();
    engine.load(generation, false).unwrap();

    let damaged = bench.generation("two");
    let weights = bench.directory(damaged).join("tree/model/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, &bytes).unwrap();
    assert_eq!(engine.load(damaged, true).unwrap_err(), "engine.bytes");
    bytes.pop();
    fs::write(&weights, &bytes).unwrap();
    assert_eq!(engine.load(damaged, false).unwrap_err(), "engine.bytes");
    let elsewhere = GenerationId(Digest::of(b"elsewhere"));
    let directory = bench.directory(generation);
    let request = Request::Load { generation: elsewhere, directory, full_check: false };
    assert_eq!(problem(&engine.ask(&request)), "engine.manifest");
    assert_eq!(engine.load(elsewhere, false).unwrap_err(), "engine.file");

    assert_eq!(answer(&engine.ask(&bench.chat(generation, "still", 5))).tokens, 5);
    let [Event::Status(status)] = &engine.ask(&Request::Unload)[..] else { panic!("a status") };
    assert_eq!(status.generation, None);
}

#[test]
fn an_answer_that_runs_is_finished_by_the_generation_that_began_it() {
    let bench = Bench::new();
    let (one, two) = (bench.generation("one"), bench.generation("two"));
    let engine = bench.start();
    engine.load(one, false).unwrap();
    let connection = engine.connect();
    connection.write(&bench.chat(one, "across", 200)).unwrap();
    let mut events: Vec<Event> = vec![connection.read().unwrap().unwrap()];
    engine.load(two, false).unwrap();
    assert_eq!(problem(&engine.ask(&bench.chat(one, "x", 1))), "engine.generation.mismatch");
    events.extend(Engine::rest(&connection));
    assert_eq!(answer(&events).text, bench.greedy("one", "across", 200));
    let asked = answer(&engine.ask(&bench.chat(two, "across", 20)));
    assert_eq!(asked.text, bench.greedy("two", "across", 20));
}

#[test]
fn values_that_are_no_numbers_end_an_answer() {
    let bench = Bench::new();
    let generation = bench.generation("broken");
    let engine = bench.start();
    engine.load(generation, false).unwrap();
    let events = engine.ask(&bench.chat(generation, "x", 9));
    assert_eq!(problem(&events), "engine.logits.not-finite");
    let text = Sensitive::new("x".to_owned());
    let score = Request::Score { generation, text };
    assert_eq!(problem(&engine.ask(&score)), "engine.logits.not-finite");
}

#[test]
fn texts_are_scored_in_windows() {
    let bench = Bench::new();
    let generation = bench.generation("one");
    let engine = bench.start();
    engine.load(generation, false).unwrap();
    let text = "A longer text than one context. ".repeat(20);
    let request = Request::Score { generation, text: Sensitive::new(text.clone()) };
    let [Event::Scored { nats, tokens, bytes }] = engine.ask(&request)[..] else {
        panic!("a score")
    };
    assert_eq!((tokens, bytes), (TokenCount(640), ByteCount(640)));
    let expected = bench.surprise("one", &text);
    assert!((nats - expected).abs() < 1e-3 * expected, "{nats} {expected}");
    let empty = Request::Score { generation, text: Sensitive::new(String::new()) };
    let none = Event::Scored { nats: 0.0, tokens: TokenCount(0), bytes: ByteCount(0) };
    assert_eq!(engine.ask(&empty), [none]);
}

#[test]
fn texts_become_unit_vectors_in_order() {
    let bench = Bench::new();
    let generation = bench.generation("one");
    let engine = bench.start();
    engine.load(generation, false).unwrap();
    let embed = |texts: &[&str]| {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        let request = Request::Embed { generation, texts: Sensitive::new(texts) };
        match engine.ask(&request).remove(0) {
            Event::Embeddings { vectors, tokens } => (vectors, tokens.0),
            other => panic!("no vectors: {other:?}"),
        }
    };
    let long = "long words ".repeat(400);
    let (vectors, tokens) = embed(&["one", "", &long, "one"]);
    assert_eq!(tokens, 3 + 3 + 400 * 9);
    for vector in &vectors {
        let square: f32 = vector.iter().map(|value| value * value).sum();
        assert!(vector.len() == 256 && (square - 1.0).abs() < 1e-5, "{square}");
    }
    assert_eq!(vectors[0], vectors[3]);
    assert_ne!(vectors[0], vectors[2]);
    assert_eq!(embed(&[]), (Vec::new(), 0));
    let plain = bench.generation("plain");
    engine.load(plain, false).unwrap();
    let texts = Sensitive::new(vec!["x".to_owned()]);
    let request = Request::Embed { generation: plain, texts };
    assert_eq!(problem(&engine.ask(&request)), "engine.embedding.absent");
}

#[test]
fn an_engine_begins_with_what_the_shelf_has_for_its_slot() {
    let bench = Bench::new();
    let generation = bench.generation("one");
    bench.link_slot(generation);
    let engine = bench.start();
    bench::until("the slot is loaded", || engine.status().generation == Some(generation));
    assert_eq!(answer(&engine.ask(&bench.chat(generation, "hi", 3))).tokens, 3);
    assert!(engine.stop().success);
}

#[test]
fn without_a_device_one_clear_line_says_so() {
    let bench = Bench::new();
    let ended = bench.start_with(CUDA).wait();
    assert!(!ended.success);
    let lines: Vec<&str> = ended.log.lines().filter(|line| line.contains("CUDA")).collect();
    assert_eq!(lines.len(), 1, "{}", ended.log);
    assert!(lines[0].contains("model.device."), "{}", lines[0]);
    let engine = bench.start_with(&format!("{CUDA}cpu_fallback = true\n"));
    assert_eq!(engine.status().device, "cpu");
    let ended = engine.stop();
    assert!(ended.success && ended.log.contains("the CPU is instead"), "{}", ended.log);
}

#[test]
fn the_log_holds_nothing_of_what_people_say() {
    let bench = Bench::new();
    let generation = bench.generation("one");
    let engine = bench.start_with("[log]\nlevel = \"debug\"\n");
    engine.load(generation, false).unwrap();
    let canary = "canary-4711";
    let mut chat = bench.chat_of(generation, canary, 9);
    chat.stop = Sensitive::new(vec![canary.to_owned()]);
    chat.messages[0].role = Role::System;
    engine.ask(&Request::Chat(chat));
    engine.ask(&bench.chat(generation, &canary.repeat(99), 9));
    let text = Sensitive::new(canary.to_owned());
    engine.ask(&Request::Score { generation, text });
    let texts = Sensitive::new(vec![canary.to_owned(); 300]);
    engine.ask(&Request::Embed { generation, texts });
    let connection = engine.connect();
    connection.write(&canary).unwrap();
    let events = Engine::rest(&connection);
    assert_eq!(problem(&events), "socket.frame.form");
    let ended = engine.stop();
    assert!(!ended.log.contains(canary), "{}", ended.log);
    assert!(ended.log.contains("a request was refused"), "{}", ended.log);
}

#[test]
fn the_busy_are_told() {
    let bench = Bench::new();
    let generation = bench.generation("one");
    let engine = bench.start_with(
        "[engine]\ndevice = \"cpu\"\nthreads = 1\nsequences_max = 1\n\
                                   context_tokens_max = 256\n",
    );
    engine.load(generation, false).unwrap();
    // One runs and eight wait; the next is refused. Some end while the others ask, so many ask.
    let connections: Vec<_> = (0..60)
        .map(|_asker| {
            let connection = engine.connect();
            connection.set_timeout(Some(Duration::from_secs(60)));
            connection.write(&bench.chat(generation, "queue", 200)).unwrap();
            connection
        })
        .collect();
    let refused = connections.iter().find_map(|connection| {
        match connection.read::<Event>().unwrap().unwrap() {
            Event::Problem(problem) => Some(problem.code),
            _ => None,
        }
    });
    assert_eq!(refused.as_deref(), Some("engine.busy"));
}
