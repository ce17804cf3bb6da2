//! What the log says happened, as far as the state database would hold it. Pure: entries in, in their
//! order; nothing is judged here, and nothing is asked.

use std::collections::{BTreeMap, BTreeSet};

use cloister_attest::{
    approval::Approval,
    consent::{Consent, Matter},
    dsse::Envelope,
    statement::Statement,
};
use cloister_domain::{Digest, GenerationId, ImportId, RecordIndex};
use cloister_state::{Activation, Evaluation, Kind, Outcome, PastConsent, PastTrial, Series};
use cloister_wire::{
    supply::{Figure, ImportState, Inspection},
    trial::{self, Shown},
};
use serde_json::Value;

use crate::evaluate::WORSE;

/// What the last change of trust came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trusted {
    pub(crate) record: RecordIndex,
    pub(crate) root: Option<Digest>,
    /// Versions of root, timestamp, snapshot and targets, and the stick; absent after the enrolment.
    pub(crate) versions: Option<[u64; 5]>,
    pub(crate) time_floor: Option<String>,
}

/// One import.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) generation: Option<GenerationId>,
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) counter: Option<u64>,
    /// The least counter that its promotion leaves; not in records of before that was told.
    pub(crate) floor: Option<u64>,
    pub(crate) signers: Vec<String>,
    pub(crate) root_version: u64,
    pub(crate) plain_bytes: u64,
    /// The envelope that was shelved.
    pub(crate) envelope: Option<Digest>,
    pub(crate) operators: BTreeSet<String>,
    pub(crate) steps: Vec<(ImportState, RecordIndex)>,
    /// Code and class of the refusal.
    pub(crate) refused: Option<(String, String)>,
    pub(crate) inspection: Option<(Inspection, RecordIndex)>,
    pub(crate) evaluation: Option<(Evaluation, RecordIndex)>,
    /// When somebody last had it judged again.
    pub(crate) asked: Option<RecordIndex>,
    /// The shadows whose reports are part of what is approved.
    pub(crate) shadows: Vec<Shown>,
    /// Every package that ever was this import's.
    packages: BTreeSet<Digest>,
    /// Persons' envelopes about any of them since it was last asked for, oldest first.
    pub(crate) approvals: Vec<(String, RecordIndex)>,
}

impl Told {
    pub(crate) fn state(&self) -> Option<ImportState> {
        self.steps.last().map(|(state, _)| *state)
    }

    /// Whether a verdict refused it.
    pub(crate) fn is_worse(&self) -> bool {
        self.refused.as_ref().is_some_and(|(code, _)| code == WORSE)
    }

    /// Notes a step, unless that is where it stands.
    fn go(&mut self, state: ImportState, record: RecordIndex) {
        if self.state() != Some(state) && self.state() != Some(ImportState::Refused) {
            self.steps.push((state, record));
        }
    }
}

/// Everything that the log says.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) size: u64,
    /// Absent before the enrolment.
    pub(crate) trusted: Option<Trusted>,
    pub(crate) imports: BTreeMap<ImportId, Told>,
    pub(crate) activations: BTreeMap<u64, Activation>,
    pub(crate) trials: BTreeMap<u64, PastTrial>,
    pub(crate) consents: Vec<PastConsent>,
    /// What was promoted, oldest first, each time.
    pub(crate) promotions: Vec<(GenerationId, RecordIndex)>,
    /// The promotions among them that did not stand their probation.
    pub(crate) fallen: BTreeSet<RecordIndex>,
    pub(crate) pins: BTreeMap<GenerationId, RecordIndex>,
    /// What was pinned once and is no more.
    pub(crate) unpinned: BTreeSet<GenerationId>,
    pub(crate) policies: Vec<(Digest, RecordIndex)>,
    /// The configuration that was recorded last.
    pub(crate) configuration: Option<Digest>,
    /// The object that was found damaged last, unless the pass that found it, or one after it, has ended.
    pub(crate) damaged: Option<Digest>,
    /// The highest numbers in the names of acts.
    import_last: u64,
    activation_last: u64,
    refusal_last: u64,
}

/// An entry of the host's.
struct Entry {
    event: String,
    act: String,
    facts: Value,
    statement: Statement,
    record: RecordIndex,
}

impl History {
    /// Takes the next entry. What is not known says nothing about the state.
    pub(crate) fn take(&mut self, text: &str) {
        let record = RecordIndex(self.size);
        self.size = self.size.saturating_add(1);
        let Ok(envelope) = Envelope::parse(text.as_bytes()) else { return };
        if let Ok(approval) = Approval::of(&envelope) {
            self.approved(&approval, text, record);
            return;
        }
        if let Ok(Consent { matter, person, .. }) = Consent::of(&envelope) {
            // A key that succeeded is the log's; nothing waits for these words any more.
            if matches!(matter, Matter::Succession { .. }) {
                return;
            }
            let envelope = text.as_bytes().to_vec();
            self.consents.push(PastConsent { matter, person, envelope, record });
            return;
        }
        let Ok(statement) = Statement::of(&envelope) else { return };
        let field = |name: &str| Some(statement.predicate.get(name)?.as_str()?.to_owned());
        let (Some(event), Some(act)) = (field("event"), field("act")) else { return };
        let facts = statement.predicate.get("facts").cloned().unwrap_or_default();
        self.host(&Entry { event, act, facts, statement, record });
    }

    /// The last number of each series: what comes next has a name that no act of the log has.
    pub(crate) fn series(&self) -> Vec<(Series, u64)> {
        vec![
            (Series::Import, self.import_last),
            (Series::Activation, self.activation_last),
            (Series::Refusal, self.refusal_last),
        ]
    }

    /// The newest import of a release that was not refused.
    pub(crate) fn import_of(&self, generation: GenerationId) -> Option<(ImportId, &Told)> {
        let ours = |(_, told): &(&ImportId, &Told)| {
            told.generation == Some(generation) && told.state() != Some(ImportState::Refused)
        };
        self.imports.iter().rfind(ours).map(|(import, told)| (*import, told))
    }

    fn host(&mut self, entry: &Entry) {
        self.count(&entry.act);
        match entry.event.as_str() {
            "anchor-enrolment" | "trust-update" => self.trust(entry),
            "policy-change" => {
                let policy = entry.statement.subject("policy");
                self.policies.extend(policy.map(|policy| (policy, entry.record)));
            }
            "rollback" if entry.facts.get("reason").is_some_and(|reason| reason == "probation") => {
                self.fallen.extend(self.promotions.last().map(|(_, record)| *record));
            }
            "configuration" => self.configuration = entry.statement.subject("configuration"),
            "damage" => self.damaged = entry.statement.subject("object"),
            "scrub" => self.damaged = None,
            "pin" => self.pin(entry),
            "activation-intent" => self.intent(entry),
            "activation-outcome" => self.outcome(entry),
            "shadow-started" => self.begun(entry, &entry.facts, trial::Kind::Shadow),
            "trial-ended" => self.ended(entry),
            _ => self.import(entry),
        }
    }

    /// Keeps the numbers that an act's name takes out of its series.
    fn count(&mut self, act: &str) {
        let parts: Vec<&str> = act.split('/').collect();
        let number = |at: usize| parts.get(at).and_then(|part| part.parse::<u64>().ok());
        let (first, last) = (number(1).unwrap_or(0), number(3).unwrap_or(0));
        let series = match parts.first().copied() {
            Some("import") => {
                // What happens more than once to an import has a number of the refusals' series.
                let numbered = ["operator", "parted", "received", "interrupted", "evaluate"];
                if parts.get(2).is_some_and(|what| numbered.contains(what)) {
                    self.refusal_last = self.refusal_last.max(last);
                }
                &mut self.import_last
            }
            Some("activation" | "trial") => &mut self.activation_last,
            Some("refusal" | "rollback") => &mut self.refusal_last,
            _ => return,
        };
        *series = (*series).max(first);
    }

    fn trust(&mut self, entry: &Entry) {
        let number = |name: &str| entry.facts.get(name).and_then(Value::as_u64);
        let versions =
            ["root_version", "timestamp_version", "snapshot_version", "targets_version", "stick"]
                .map(number);
        let versions = match versions {
            [Some(root), Some(timestamp), Some(snapshot), Some(targets), Some(stick)] => {
                Some([root, timestamp, snapshot, targets, stick])
            }
            _ => None,
        };
        let time = entry.facts.get("time_floor").and_then(Value::as_str);
        self.trusted = Some(Trusted {
            record: entry.record,
            root: entry.statement.subject("trust-root"),
            versions,
            time_floor: time.map(str::to_owned),
        });
    }

    fn pin(&mut self, entry: &Entry) {
        let Some(generation) = entry.statement.subject("bundle").map(GenerationId) else { return };
        if entry.facts.get("pinned").and_then(Value::as_bool) == Some(true) {
            self.unpinned.remove(&generation);
            self.pins.insert(generation, entry.record);
        } else {
            self.pins.remove(&generation);
            self.unpinned.insert(generation);
        }
    }

    fn intent(&mut self, entry: &Entry) {
        let number = entry.facts.get("activation").and_then(Value::as_u64);
        let kind = entry.facts.get("kind").and_then(Value::as_str);
        let kind = Kind::ALL.into_iter().find(|known| Some(known.name()) == kind);
        let generation = entry.statement.subject("bundle").map(GenerationId);
        let (Some(activation), Some(kind), Some(generation)) = (number, kind, generation) else {
            return;
        };
        let from = entry.statement.subject("from").map(GenerationId);
        let (intent, tries_left, returning, outcome, stood) = (entry.record, 0, false, None, false);
        let activation_is = Activation {
            activation,
            kind,
            generation,
            from,
            tries_left,
            returning,
            intent,
            outcome,
            stood,
        };
        self.activations.insert(activation, activation_is);
        if let (Kind::Canary, Some(because)) = (kind, entry.facts.get("because")) {
            self.begun(entry, because, trial::Kind::Canary);
        }
    }

    fn outcome(&mut self, entry: &Entry) {
        let number = entry.facts.get("activation").and_then(Value::as_u64);
        let name = entry.facts.get("outcome").and_then(Value::as_str);
        let outcome = Outcome::ALL.into_iter().find(|known| Some(known.name()) == name);
        let (Some(number), Some(outcome)) = (number, outcome) else { return };
        let Some(open) = self.activations.get_mut(&number) else { return };
        open.outcome = Some((outcome, entry.record));
        if outcome != Outcome::Promoted {
            return;
        }
        let (generation, kind) = (open.generation, open.kind);
        self.promotions.push((generation, entry.record));
        let import = self.import_of(generation).map(|(import, _)| import);
        let told = import.and_then(|import| self.imports.get_mut(&import));
        if let (Some(told), Kind::Activate) = (told, kind) {
            told.go(ImportState::Activated, entry.record);
        }
    }

    /// A trial that begins; `said` holds what is told of it.
    fn begun(&mut self, entry: &Entry, said: &Value, kind: trial::Kind) {
        let number = |facts: &Value, name: &str| facts.get(name).and_then(Value::as_u64);
        let trial = number(&entry.facts, "trial").or(number(&entry.facts, "activation"));
        let scope = said.get("scope").cloned().map(serde_json::from_value);
        let seconds = number(said, "seconds").and_then(|seconds| u32::try_from(seconds).ok());
        let generation = entry.statement.subject("bundle").map(GenerationId);
        let (Some(trial), Some(import), Some(Ok(scope)), Some(seconds), Some(generation)) =
            (trial, number(said, "import").map(ImportId), scope, seconds, generation)
        else {
            return;
        };
        let (lasted_s, report, ended) = (0, trial::Report::default(), None);
        let shown =
            Shown { trial, kind, import, generation, scope, seconds, lasted_s, report, ended };
        self.trials.insert(trial, PastTrial { shown, record: entry.record, end: None });
    }

    fn ended(&mut self, entry: &Entry) {
        let number = entry.facts.get("trial").and_then(Value::as_u64);
        let Some(trial) = number.and_then(|number| self.trials.get_mut(&number)) else { return };
        let fact = |name: &str| entry.facts.get(name).cloned().unwrap_or_default();
        let lasted = entry.facts.get("lasted_s").and_then(Value::as_u64).unwrap_or_default();
        trial.shown.lasted_s = u32::try_from(lasted).unwrap_or(u32::MAX);
        trial.shown.report = serde_json::from_value(fact("report")).unwrap_or_default();
        // An end that is not known is one all the same.
        let why = serde_json::from_value(fact("ended")).unwrap_or(trial::End::Void);
        (trial.shown.ended, trial.end) = (Some(why), Some(entry.record));
        let import = trial.shown.import;
        let Some(package) = entry.statement.subject("package") else { return };
        let of = |trial: &&PastTrial| {
            let shadow = trial.shown.kind == trial::Kind::Shadow;
            trial.shown.import == import && shadow && trial.end.is_some()
        };
        let shadows = self.trials.values().filter(of).map(|trial| trial.shown.clone()).collect();
        let Some(told) = self.imports.get_mut(&import) else { return };
        if let Some((evaluation, record)) = &mut told.evaluation {
            (evaluation.package, *record) = (package, entry.record);
            told.shadows = shadows;
            told.packages.insert(package);
        }
    }

    /// What is about one import; everything else leaves nothing in the database.
    fn import(&mut self, entry: &Entry) {
        let mut parts = entry.act.split('/');
        if parts.next() != Some("import") {
            return;
        }
        let Some(import) = parts.next().and_then(|part| part.parse().ok()).map(ImportId) else {
            return;
        };
        let told = self.imports.entry(import).or_default();
        let text = |name: &str| entry.facts.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name: &str| entry.facts.get(name).and_then(Value::as_u64);
        told.generation = told.generation.or(entry.statement.subject("bundle").map(GenerationId));
        told.operators.extend(text("operator"));
        let persons = entry.facts.get("persons").and_then(Value::as_array).into_iter().flatten();
        told.operators.extend(persons.filter_map(Value::as_str).map(str::to_owned));
        let record = entry.record;
        match (entry.event.as_str(), parts.next()) {
            ("media-seen", Some("seen")) => {
                (told.name, told.version) = (text("name"), text("version"));
                told.counter = number("counter");
                told.root_version = number("root_version").unwrap_or_default();
                let signers = entry.facts.get("signers").and_then(Value::as_array);
                let signers = signers.into_iter().flatten().filter_map(Value::as_str);
                told.signers = signers.map(str::to_owned).collect();
                told.go(ImportState::Receiving, record);
            }
            ("media-seen", Some("received")) => told.go(ImportState::Received, record),
            ("inspection", _) => {
                let found = serde_json::from_value::<Inspection>(entry.facts.clone());
                told.inspection = found.ok().map(|found| (found, record));
            }
            ("import-accepted", _) => {
                told.plain_bytes = number("plain_bytes").unwrap_or_default();
                told.floor = number("floor");
                told.envelope = entry.statement.subject("envelope");
                told.go(ImportState::Evaluating, record);
            }
            ("evaluation", _) => told.evaluated(entry),
            ("evaluation-asked", _) => {
                told.asked = Some(record);
                told.approvals.clear();
                told.go(ImportState::Evaluating, record);
            }
            ("import-refused", _) => {
                told.refused = text("code").zip(text("class"));
                told.go(ImportState::Refused, record);
            }
            _ => {}
        }
    }

    fn approved(&mut self, approval: &Approval, text: &str, record: RecordIndex) {
        let newest = self.imports.values_mut().rev();
        let about = newest.into_iter().find(|told| told.packages.contains(&approval.package));
        if let Some(told) = about {
            told.approvals.push((text.to_owned(), record));
        }
    }
}

impl Told {
    fn evaluated(&mut self, entry: &Entry) {
        let facts = &entry.facts;
        let digest = |name: &str| facts.get(name)?.as_str()?.parse::<Digest>().ok();
        let figures = facts.get("figures").cloned().unwrap_or_default();
        let figures = serde_json::from_value::<Vec<Figure>>(figures).ok();
        let package = entry.statement.subject("package");
        let (Some(figures), Some(policy), Some(evidence), Some(package)) =
            (figures, digest("policy"), digest("evidence"), package)
        else {
            return;
        };
        self.packages.insert(package);
        // One that is judged anew has its shadows anew.
        self.shadows.clear();
        let evaluation = Evaluation { figures, policy, evidence, package };
        self.evaluation = Some((evaluation, entry.record));
        // A refused one has a record of its own behind it.
        if facts.get("verdict").and_then(Value::as_str) == Some("passed") {
            self.go(ImportState::AwaitingApproval, entry.record);
        }
    }
}

#[cfg(test)]
mod tests;
