//! An intent that the log holds and the database does not: the daemon died between the two writes,
//! or recordd died between its write and its answer. Nothing was switched; the intent gets its one
//! outcome, `aborted`, so that the log says so and the next intent is taken.

use std::sync::atomic::Ordering;

use cloister_attest::{dsse::Envelope, statement::Statement};
use cloister_domain::{Digest, RecordIndex};
use cloister_state::Outcome;
use cloister_wire::record::Event;
use serde_json::{Value, json};

use crate::{core::Core, error::ActError};

/// Entries that are read at a time.
const PAGE: u32 = 64;

/// The newest intent of the log, as far as its outcome needs it.
struct Intent {
    act: String,
    index: RecordIndex,
    bundle: Digest,
    facts: Value,
}

/// Closes an intent that the database knows nothing of. The caller holds the right to act, and no
/// activation is under way in the database.
pub(crate) fn close(core: &Core) -> Result<(), ActError> {
    if !core.intents_unsure.load(Ordering::SeqCst) || core.enrolled().is_none() {
        return Ok(());
    }
    if let Some(intent) = open_intent(core)? {
        let outcome = intent.act.replace("/intent", "/outcome");
        let active = core.shelf.active()?.map(|active| active.id().0);
        let mut subject = vec![("bundle", intent.bundle)];
        subject.extend(active.map(|active| ("active", active)));
        core.recordd.append(&Core::entry(
            Event::ActivationOutcome,
            outcome,
            &subject,
            json!({
                "activation": intent.facts.get("activation"),
                "intent": intent.index,
                "kind": intent.facts.get("kind"),
                "outcome": Outcome::Aborted.name(),
                "code": Value::Null,
            }),
        ))?;
        tracing::info!(record = intent.index.0, "an intent without an activation was closed");
    }
    core.intents_unsure.store(false, Ordering::SeqCst);
    Ok(())
}

/// The intent that no later entry of the log answers.
fn open_intent(core: &Core) -> Result<Option<Intent>, ActError> {
    let mut open = None;
    let mut from = RecordIndex(0);
    loop {
        let page = core.recordd.read(from, PAGE)?;
        if page.is_empty() {
            return Ok(open);
        }
        for (index, entry) in (from.0..).zip(&page) {
            let Some(act) = Act::of(entry) else { continue };
            if act.name.ends_with("/intent") {
                open = act.intent(RecordIndex(index));
            } else if open.as_ref().is_some_and(|intent| intent.is_answered_by(&act.name)) {
                open = None;
            }
        }
        from.0 = from.0.saturating_add(u64::try_from(page.len()).unwrap_or(u64::MAX));
    }
}

/// An entry of an activation.
struct Act {
    name: String,
    statement: Statement,
}

impl Act {
    fn of(entry: &str) -> Option<Self> {
        let envelope = Envelope::parse(entry.as_bytes()).ok()?;
        let statement = Statement::of(&envelope).ok()?;
        let name = statement.predicate.get("act")?.as_str()?.to_owned();
        name.starts_with("activation/").then_some(Self { name, statement })
    }

    fn intent(self, index: RecordIndex) -> Option<Intent> {
        let bundle = self.statement.subject("bundle")?;
        let facts = self.statement.predicate.get("facts")?.clone();
        Some(Intent { act: self.name, index, bundle, facts })
    }
}

impl Intent {
    fn is_answered_by(&self, act: &str) -> bool {
        act == self.act.replace("/intent", "/outcome")
    }
}
