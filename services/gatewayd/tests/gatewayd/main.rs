//! gatewayd when the daemons behind it, or its callers, misbehave. That it serves real models and
//! documents is shown in tests/flows.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test helper fails by panicking and reads its own files"
)]

mod support;
mod trials;

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
};

use cloister_domain::{Class, Sensitive, TokenCount};
use cloister_wire::{
    Problem,
    corpus::{Answer as Found, Request as Sought},
    engine::Event,
    gateway,
};
use serde_json::{Value, json};
use support::{Answer, LIMIT, Stage, generation, hit, recorded, two_words};

fn question(more: &Value) -> Value {
    let turn = json!({"role": "user", "content": "canary-prompt"});
    let mut body = json!({"model": "default", "messages": [turn]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn a_key_that_cannot_be_recorded_is_not_made() {
    let stage = Stage::new("", || {
        Err(Problem::new(Class::Fault, "record.disk", "the record cannot be written"))
    });
    let request = gateway::Request::CreateKey {
        principal: "ada".parse().unwrap(),
        labels: ["open".parse().unwrap()].into(),
        value: None,
    };
    assert_eq!(stage.admin(&request).unwrap_err().code, "record.disk");
    assert_eq!(stage.admin(&gateway::Request::ListKeys), Ok(gateway::Answer::Keys(Vec::new())));
}

#[test]
fn refusals_have_one_form_and_are_not_to_be_sent_again() {
    let stage = Stage::new("body_bytes_max = 2000\n", recorded);
    stage.activate("one");
    stage.engine("a", "one", two_words);
    let key = stage.key();
    let good = question(&json!({}));
    let check = |answer: &Answer, status: u16, code: &str| {
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.body);
        let error = &answer.json()["error"];
        let mut fields: Vec<&str> = error.as_object().unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["code", "details", "message", "param", "type"]);
        assert_eq!(answer.headers["x-should-retry"], "false");
        assert!(!answer.body.contains("canary"), "{}", answer.body);
    };
    for path in ["/v1/models", "/v1/models/default", "/v1/citations/x"] {
        check(&stage.ask("clk_0_0", "GET", path, ""), 401, "invalid_api_key");
    }
    for path in ["/v1/chat/completions", "/v1/embeddings"] {
        check(&stage.ask("", "POST", path, &good.to_string()), 401, "invalid_api_key");
    }
    check(&stage.ask(&key, "GET", "/v1/canary", ""), 404, "unknown_route");
    check(&stage.ask(&key, "GET", "/v1/chat/completions", ""), 405, "method_not_allowed");
    check(&stage.ask(&key, "GET", "/v1/models/canary", ""), 404, "model_not_found");
    check(&stage.chat(&key, &question(&json!({"model": "canary"}))), 404, "model_not_found");
    check(&stage.chat(&key, &question(&json!({"canary": 1}))), 400, "unknown_parameter");
    let part = json!({"type": "text", "text": "canary-prompt", "canary": 1});
    let parts = json!({"messages": [{"role": "user", "content": [part]}]});
    check(&stage.chat(&key, &question(&parts)), 400, "unknown_parameter");
    let usage = json!({"stream": true, "stream_options": {"include_usage": "canary"}});
    check(&stage.chat(&key, &question(&usage)), 400, "value_out_of_range");
    check(&stage.chat(&key, &question(&json!({"n": 2}))), 400, "unsupported_parameter");
    check(&stage.chat(&key, &question(&json!({"top_p": 0}))), 400, "value_out_of_range");
    let long = question(&json!({"stop": "canary".repeat(400)}));
    check(&stage.chat(&key, &long), 413, "body_too_large");
    let named = stage.chat(&key, &good);
    assert!(named.headers["x-request-id"].starts_with("req_"));
    // The key is withdrawn at once.
    let id = key.split('_').nth(1).unwrap().to_owned();
    assert_eq!(stage.admin(&gateway::Request::RevokeKey { id }), Ok(gateway::Answer::Revoked));
    check(&stage.chat(&key, &good), 401, "invalid_api_key");
}

#[test]
fn a_stream_has_the_pieces_of_the_api() {
    let stage = Stage::ready("one");
    stage.engine("a", "one", two_words);
    let key = stage.key();
    let whole = stage.chat(&key, &question(&json!({}))).json();
    assert_eq!(whole["choices"][0]["message"]["content"], "Good day.");
    assert_eq!(whole["usage"]["total_tokens"], 7);
    assert_eq!(whole["cloister"]["ignored"], json!([]));
    let fingerprint = format!("gen_{}", generation("one").0.short());
    assert_eq!(whole["system_fingerprint"], fingerprint.as_str());

    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = stage.chat(&key, &question(&options));
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let events = answer.events();
    let (done, events) = events.split_last().unwrap();
    assert_eq!(*done, "[DONE]");
    let events: Vec<Value> =
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert_eq!(events.len(), 5);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let text: Vec<&Value> =
        events[1..3].iter().map(|event| &event["choices"][0]["delta"]["content"]).collect();
    assert_eq!(text, [&json!("Good "), &json!("day.")]);
    assert_eq!(events[3]["choices"][0]["finish_reason"], "stop");
    assert_eq!(events[3]["cloister"]["generation"], json!(generation("one")));
    assert!(events[..4].iter().all(|event| event["usage"].is_null()));
    assert_eq!(
        (&events[4]["choices"], &events[4]["usage"]["total_tokens"]),
        (&json!([]), &json!(7))
    );
    assert!(events.iter().all(|event| event["id"] == events[0]["id"]));

    let vectors = json!({"model": "default", "input": ["a", "b"], "encoding_format": "base64"});
    let vectors = stage.ask(&key, "POST", "/v1/embeddings", &vectors.to_string()).json();
    assert_eq!(vectors["data"][1]["embedding"], "AACAPgAAgL8=");
}

#[test]
fn what_had_no_effect_is_named_in_the_answer() {
    let stage = Stage::ready("one");
    stage.engine("a", "one", two_words);
    let key = stage.key();
    let turn = json!({"role": "user", "content": [{"type": "text", "text": "a"}], "name": "ada"});
    let body = json!({
        "messages": [turn], "user": "u", "parallel_tool_calls": false,
        "stream_options": {"include_usage": true},
    });
    let answer = stage.chat(&key, &question(&body)).json();
    let named = json!(["user", "parallel_tool_calls", "messages.name", "stream_options"]);
    assert_eq!(answer["cloister"]["ignored"], named, "{answer}");
}

#[test]
fn a_request_waits_for_the_generation_that_a_switch_brings() {
    let stage = Stage::ready("one");
    let key = stage.key();
    assert_eq!(stage.ask("", "GET", "/readyz", "").status, 503);
    assert_eq!(stage.ask("", "GET", "/livez", "").status, 200);
    // Neither engine holds what is active yet; asked twice, the pointer moves.
    let stage = Arc::new(stage);
    let asked = Arc::new(AtomicU32::new(0));
    let (mover, counter) = (Arc::downgrade(&stage), Arc::clone(&asked));
    stage.serve("engined-a.sock", move |connection| {
        while let Ok(Some(request)) = connection.read::<cloister_wire::engine::Request>() {
            let chats = matches!(request, cloister_wire::engine::Request::Chat(_));
            if chats && counter.fetch_add(1, Ordering::SeqCst) == 1 {
                mover.upgrade().unwrap().activate("two");
            }
            connection.write(&Event::Problem(support::mismatch())).unwrap();
        }
    });
    stage.engine("b", "two", two_words);
    let answer = stage.chat(&key, &question(&json!({})));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["cloister"]["generation"], json!(generation("two")));
    assert!(asked.load(Ordering::SeqCst) >= 2);
    assert_eq!(stage.ask("", "GET", "/readyz", "").status, 200);
}

#[test]
fn an_engine_that_vanishes_is_not_asked_again_and_again() {
    let stage = Stage::ready("one");
    let key = stage.key();
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    // It dies of the question, before a word.
    stage.engine("a", "one", move |connection| {
        counter.fetch_add(1, Ordering::SeqCst);
        connection.shut();
    });
    let answer = stage.chat(&key, &question(&json!({})));
    assert_eq!((answer.status, answer.code().as_str()), (503, "model_loading"));
    assert_eq!(answer.headers["x-should-retry"], "true");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn an_answer_that_breaks_off_ends_with_an_error_and_without_done() {
    let stage = Stage::ready("one");
    let key = stage.key();
    let turn = AtomicU32::new(0);
    stage.engine("a", "one", move |connection| {
        connection.write(&Event::Started { prompt_tokens: TokenCount(5) }).unwrap();
        let text = Sensitive::new("canary-answer".to_owned());
        connection.write(&Event::Delta { text }).unwrap();
        if turn.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            connection.shut();
        } else {
            let problem = Problem::new(Class::Fault, "engine.model", "failed");
            connection.write(&Event::Problem(problem)).unwrap();
        }
    });
    for _ in 0..2 {
        let answer = stage.chat(&key, &question(&json!({"stream": true})));
        let events = answer.events();
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], "internal", "{}", answer.body);
        assert!(!events.contains(&"[DONE]"));
    }
    for _ in 0..2 {
        let answer = stage.chat(&key, &question(&json!({})));
        assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    }
}

#[test]
fn a_caller_that_leaves_ends_the_engines_work() {
    let stage = Stage::ready("one");
    let key = stage.key();
    let (began, beginning) = mpsc::channel();
    let (ended, end) = mpsc::channel();
    let ended = Mutex::new(ended);
    let turn = AtomicU32::new(0);
    stage.engine("a", "one", move |connection| {
        // Before it is admitted, and in the middle of the prompt.
        if !turn.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            connection.write(&Event::Started { prompt_tokens: TokenCount(5) }).unwrap();
        }
        began.send(()).unwrap();
        while !connection.is_closed() {
            std::thread::yield_now();
        }
        ended.lock().unwrap().send(()).unwrap();
    });
    for stream in [true, true, false, false] {
        let body = question(&json!({"stream": stream})).to_string();
        let caller = stage.send(&key, "POST", "/v1/chat/completions", &body);
        beginning.recv_timeout(LIMIT).expect("the engine was asked");
        drop(caller);
        end.recv_timeout(LIMIT).expect("the engine sees the end");
    }
}

#[test]
fn one_user_cannot_take_every_place() {
    let stage = Stage::new("requests_max = 9\n", recorded);
    stage.activate("one");
    let (ada, also_ada) = (stage.key(), stage.key());
    let (began, beginning) = mpsc::channel();
    stage.engine("a", "one", move |connection| {
        connection.write(&Event::Started { prompt_tokens: TokenCount(5) }).unwrap();
        began.send(()).unwrap();
        while !connection.is_closed() {
            std::thread::yield_now();
        }
    });
    let body = question(&json!({"stream": true})).to_string();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let caller = stage.send(&ada, "POST", "/v1/chat/completions", &body);
            beginning.recv_timeout(LIMIT).expect("admitted");
            caller
        })
        .collect();
    let answer = stage.ask(&also_ada, "POST", "/v1/chat/completions", &body);
    assert_eq!((answer.status, answer.code().as_str()), (429, "concurrency_exceeded"));
    assert_eq!(answer.headers["x-should-retry"], "true");
    drop(callers);
}

#[test]
fn nothing_found_is_said_without_asking_the_model() {
    let stage = Stage::ready("one");
    let key = stage.key();
    stage.engine("a", "one", |_| panic!("the model was asked"));
    stage.corpus(|request| match request {
        Sought::Search(search) => {
            assert_eq!(search.generation, generation("one"));
            assert_eq!(search.labels, ["open".parse().unwrap()].into());
            Ok(Found::Hits(Vec::new()))
        }
        other => panic!("not a search: {other:?}"),
    });
    let grounded = json!({"cloister": {"collections": ["handbook"]}});
    let answer = stage.chat(&key, &question(&grounded)).json();
    assert_eq!(answer["cloister"]["evidence"], false);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.starts_with("No evidence"), "{content}");
}

#[test]
fn a_citation_that_may_not_be_read_is_like_one_that_is_not_there() {
    let stage = Stage::ready("one");
    let key = stage.key();
    stage.engine("a", "one", two_words);
    stage.corpus(|request| match request {
        Sought::Search(_) => Ok(Found::Hits(vec![hit("canary passage")])),
        Sought::Open { citation, .. } if citation.start == 3 => {
            Ok(Found::Passage(hit("canary passage")))
        }
        _ => Err(Problem::new(Class::Refused, "corpus.citation", "no such passage for you")),
    });
    let grounded = json!({"cloister": {"collections": []}, "stream": true});
    let answer = stage.chat(&key, &question(&grounded));
    let events = answer.events();
    let last: Value = serde_json::from_str(events[events.len() - 2]).unwrap();
    let citation = &last["cloister"]["citations"][0];
    assert_eq!((&citation["range"], &citation["label"]), (&json!([3, 9]), &json!("open")));
    let id = citation["id"].as_str().unwrap();
    let opened = stage.ask(&key, "GET", &format!("/v1/citations/{id}"), "");
    assert_eq!(opened.json()["text"], "canary passage");
    let other = stage.ask(&key, "GET", &format!("/v1/citations/{}", id.replace(":3-", ":4-")), "");
    let nonsense = stage.ask(&key, "GET", "/v1/citations/nonsense", "");
    let said = |answer: &Answer| {
        let mut error = answer.json()["error"].clone();
        error["details"] = Value::Null;
        (answer.status, error)
    };
    assert_eq!(other.status, 404);
    assert_eq!(said(&other), said(&nonsense));
}

#[test]
fn no_log_line_holds_a_callers_words() {
    let stage = Stage::ready("one");
    let key = stage.key();
    stage.corpus(|_| Ok(Found::Hits(vec![hit("canary passage")])));
    let turn = AtomicU32::new(0);
    stage.engine("a", "one", move |connection| match turn.fetch_add(1, Ordering::SeqCst) {
        0 => two_words(connection),
        1 => connection.shut(),
        _ => {
            let problem = Problem::new(Class::Fault, "engine.model", "failed");
            connection.write(&Event::Problem(problem)).unwrap();
        }
    });
    for more in [
        json!({"cloister": {"collections": ["canary-collection"]}}),
        json!({"stop": "canary-stop"}),
        json!({"canary-field": "canary"}),
        json!({"model": "canary-model"}),
        json!({"messages": "canary"}),
    ] {
        stage.chat(&key, &question(&more));
    }
    stage.ask(&key, "POST", "/v1/embeddings", "{\"input\": \"canary");
    stage.ask(&key, "GET", "/v1/citations/canary", "");
    stage.ask("canary-key", "GET", "/v1/models/canary", "");
    // A request that breaks off.
    let mut broken = std::net::TcpStream::connect(stage.address).unwrap();
    broken.write_all(b"POST /v1/canary HTTP/1.1\r\ncanary: canary\r\n\x00\r\n\r\n").unwrap();
    broken.read_to_end(&mut Vec::new()).unwrap_or_default();
    let said = stage.said();
    assert!(said.contains("answered"), "the log was read: {said}");
    assert!(!said.contains("canary"), "{said}");
    assert!(!said.contains(&key), "{said}");
}
