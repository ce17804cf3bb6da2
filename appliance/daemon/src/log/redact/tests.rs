//! Canaries: whatever arrives at run time does not pass, however it is printed.

use std::sync::{Arc, Mutex};

use cloister_domain::{Class, Digest, ImportId, Sensitive, Slot};
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

/// Keeps what comes through as `level target name=value …` lines.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}

impl<S: Subscriber> Layer<S> for Sink {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line(format!("{} {}", metadata.level(), metadata.target()));
        event.record(&mut line);
        self.0.lock().expect("no panic").push(line.0);
    }
}

/// What the sink got while `act` ran, at debug level.
fn logged(act: impl FnOnce()) -> String {
    let sink = Sink::default();
    let image = Image::of_this_process().expect("proc is mounted");
    let layer = Redacting::new(sink.clone(), LevelFilter::DEBUG, image);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), act);
    let lines = sink.0.lock().expect("no panic");
    lines.join("\n")
}

/// A text that exists only at run time. `word` is a literal, so it is built letter by letter.
fn canary() -> String {
    ["can", "ary"].concat() + &["-7b1", "f"].concat()
}

#[derive(Debug)]
struct Holder {
    #[expect(dead_code, reason = "printed through Debug")]
    name: String,
    #[expect(dead_code, reason = "printed through Debug")]
    prompt: Sensitive<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read {0}")]
struct Leaky(String, #[source] std::num::ParseIntError);

#[test]
fn a_text_of_run_time_does_not_pass_by_any_road() {
    let canary = canary();
    let holder = Holder { name: canary.clone(), prompt: Sensitive::new(canary.clone()) };
    let leaky = Leaky(canary.clone(), "x".parse::<u8>().expect_err("no number"));
    let chars: Vec<char> = canary.chars().collect();
    let path = std::path::Path::new(&canary);
    let not_utf8 = String::from_utf8([canary.as_bytes(), &[255]].concat()).expect_err("not text");
    let json = serde_json::from_str::<u32>(&format!("{canary:?}")).expect_err("no number");
    let lines = logged(|| {
        tracing::error!("{canary}");
        tracing::error!("the {canary} of {}", 1);
        tracing::error!(canary, "field");
        tracing::error!(%canary, "display");
        tracing::error!(?canary, "debug");
        tracing::error!(?chars, "one by one");
        tracing::error!(bytes = canary.as_bytes(), "bytes");
        tracing::error!(listed = ?canary.as_bytes(), "numbers");
        tracing::error!(?holder, "inside");
        tracing::error!(error = &leaky as &dyn Error, "chain");
        tracing::error!(error = %leaky, "shown");
        tracing::error!(?path, %not_utf8, ?not_utf8, %json, "others' errors");
        tracing::error!(code = canary, digest = %canary, import = ?canary, "known names");
        tracing::error!(target: "cloister_x", message = %canary);
        let span = tracing::error_span!("span", %canary);
        let _inside = span.enter();
        span.record("canary", &canary);
        tracing::error!("in a span");
    });
    assert_eq!(lines.lines().count(), 15, "{lines}");
    assert!(!lines.contains("7b1f") && !lines.contains("canary-"), "{lines}");
    // Not even letter by letter or as numbers.
    assert!(!lines.contains("'7'") && !lines.contains("99, 97"), "{lines}");
    assert!(lines.contains("prompt: [sensitive]"), "{lines}");
    assert!(lines.contains("cannot read …: invalid digit found in string"), "{lines}");
}

#[test]
fn what_was_compiled_in_and_numbers_pass() {
    let digest = Digest::of(b"x");
    let lines = logged(|| {
        tracing::info!(bytes = 3_u64, left = -2, good = true, "copied");
        tracing::info!(slot = ?Slot::A, class = ?Class::Busy, code = "a.literal", "variants");
        tracing::info!(%digest, import = %ImportId(7), code = String::from("bundle.member"), "by name");
        tracing::info!(other = %digest, "not by this name");
        tracing::debug!("developer");
    });
    assert_eq!(
        lines,
        format!(
            "INFO cloister_daemon::log::redact::tests message=\"copied\" bytes=3 left=-2 good=true\n\
             INFO cloister_daemon::log::redact::tests message=\"variants\" slot=\"A\" class=\"Busy\" code=\"a.literal\"\n\
             INFO cloister_daemon::log::redact::tests message=\"by name\" digest=\"{digest}\" import=\"7\" code=\"bundle.member\"\n\
             INFO cloister_daemon::log::redact::tests message=\"not by this name\" other=\"…\"\n\
             DEBUG cloister_daemon::log::redact::tests message=\"developer\""
        )
    );
}

#[test]
fn of_other_crates_only_level_and_target_of_warnings_pass() {
    let lines = logged(|| {
        tracing::error!(target: "tantivy::index", count = 3, "literal");
        tracing::warn!(target: "burn", "literal");
        tracing::info!(target: "burn", "literal");
    });
    assert_eq!(lines, "ERROR tantivy::index\nWARN burn");
}

#[test]
fn below_the_configured_level_nothing_passes() {
    let sink = Sink::default();
    let image = Image::of_this_process().expect("proc is mounted");
    let layer = Redacting::new(sink.clone(), LevelFilter::ERROR, image);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        tracing::warn!("not asked for");
    });
    assert!(sink.0.lock().expect("no panic").is_empty());
}
