//! The rule of promotions, read off the log alone: what begins to be served was judged good and approved
//! by enough persons before, and what is returned to was served before.
//!
//! One function for each event that the rule knows; another act that changes what is served gets another
//! (`Promotions::intend`). Whether a signature holds is not asked here: what its signer did not sign is not
//! handed in.

use std::collections::{BTreeMap, BTreeSet};

use cloister_attest::{
    approval::{Approval, Decision},
    consent::Matter,
    json,
};
use cloister_domain::{Digest, GenerationId, Principal};
use cloister_wire::record::Event;
use serde_json::{Map, Value};

use crate::{
    Record, Said, Signer,
    fault::{Fault, Numbers},
    summary::Verified,
};

/// Persons who approve at least, whatever a facility asks for.
const PERSONS_MIN: u64 = 2;

/// The kind of an activation for some people alone.
const CANARY: &str = "canary";

/// What the entries so far say.
#[derive(Clone, Debug)]
pub struct Promotions {
    /// The log's name, which persons sign.
    origin: String,
    /// How many persons the facility's policy in force asks for.
    needed: u64,
    imports: BTreeMap<u64, Import>,
    /// Persons' decisions by the package that they name.
    decisions: BTreeMap<Digest, Vec<Decided>>,
    /// Every generation that was ever served.
    promoted: BTreeSet<Digest>,
    /// Leaves to go below the floor that no switch has used up.
    leaves: Vec<Leave>,
    open: Option<Intent>,
}

/// An import, as far as its promotion goes.
#[derive(Clone, Debug, Default)]
struct Import {
    name: String,
    version: String,
    /// Who operated it, by user and by person.
    operators: BTreeSet<String>,
    /// The verdict that stands, if it is a good one.
    judged: Option<Judged>,
}

/// A good verdict.
#[derive(Clone, Debug)]
struct Judged {
    /// The records that it stands in, by position and SHA-256: the evaluation, and what a shadow added.
    records: Vec<(u64, Digest)>,
    package: Digest,
    bundle: Digest,
    policy: Digest,
}

/// One person's leave to return to `to` from `from`.
#[derive(Clone, Debug)]
struct Leave {
    seq: u64,
    person: Principal,
    to: GenerationId,
    from: GenerationId,
}

/// What a person decided.
#[derive(Clone, Debug)]
struct Decided {
    seq: u64,
    digest: Digest,
    approval: Approval,
}

/// The activation that has no outcome yet.
#[derive(Clone, Debug)]
struct Intent {
    bundle: Option<Digest>,
    kind: String,
    /// What was verified of a new release for all; absent for a return, and where it was not.
    verified: Option<Verified>,
}

impl Intent {
    /// Whether it is for some people alone.
    fn is_canary(&self) -> bool {
        self.kind == CANARY
    }
}

impl Promotions {
    /// Those of a log with this name that has no entry yet.
    #[must_use]
    pub fn new(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            needed: PERSONS_MIN,
            imports: BTreeMap::new(),
            decisions: BTreeMap::new(),
            promoted: BTreeSet::new(),
            leaves: Vec::new(),
            open: None,
        }
    }

    /// How many persons the facility's policy in force asks for, as the log says.
    #[must_use]
    pub const fn needed(&self) -> u64 {
        self.needed
    }

    /// Takes in the entry at position `seq`, whose text has the SHA-256 `digest`, and says what of it
    /// breaks the rule.
    pub fn read(&mut self, seq: u64, digest: Digest, record: &Record) -> Vec<Fault> {
        match &record.signer {
            Signer::Person(said) => {
                self.said(seq, digest, said);
                Vec::new()
            }
            Signer::Host { facts, .. } => self.fact(seq, digest, record, facts),
            Signer::Summary(_) => Vec::new(),
        }
    }

    /// What a person said of this log and not of its future.
    fn said(&mut self, seq: u64, digest: Digest, said: &Said) {
        let log = match said {
            Said::Decision(approval) => &approval.log,
            Said::Consent(consent) => &consent.log,
        };
        if log.origin != self.origin || log.size > seq {
            return;
        }
        match said {
            Said::Decision(approval) => {
                let decided = Decided { seq, digest, approval: approval.clone() };
                self.decisions.entry(approval.package).or_default().push(decided);
            }
            Said::Consent(consent) => {
                if let Matter::Downgrade { to, from } = consent.matter {
                    let person = consent.person.clone();
                    self.leaves.push(Leave { seq, person, to, from });
                }
            }
        }
    }

    fn fact(
        &mut self,
        seq: u64,
        digest: Digest,
        record: &Record,
        facts: &Map<String, Value>,
    ) -> Vec<Fault> {
        match record.event {
            Event::PolicyChange => {
                let asked = number(facts, "approvals_needed").unwrap_or(self.needed);
                self.needed = asked.max(PERSONS_MIN);
                Vec::new()
            }
            Event::MediaSeen => {
                self.seen(facts);
                Vec::new()
            }
            Event::Evaluation => {
                self.judged(seq, digest, record, facts);
                Vec::new()
            }
            Event::TrialEnded => {
                self.tried(seq, digest, record, facts);
                Vec::new()
            }
            Event::EvaluationAsked => {
                // What was decided until now is void.
                if let Some(import) = self.import(facts) {
                    import.judged = None;
                }
                Vec::new()
            }
            Event::ActivationIntent => self.intend(seq, record, facts),
            Event::ActivationOutcome => self.conclude(seq, record, facts),
            _ => Vec::new(),
        }
    }

    fn import(&mut self, facts: &Map<String, Value>) -> Option<&mut Import> {
        Some(self.imports.entry(number(facts, "import")?).or_default())
    }

    fn seen(&mut self, facts: &Map<String, Value>) {
        let Some(import) = self.import(facts) else { return };
        for (field, held) in [("name", &mut import.name), ("version", &mut import.version)] {
            if let Some(said) = facts.get(field).and_then(Value::as_str) {
                said.clone_into(held);
            }
        }
        let persons = facts.get("persons").and_then(Value::as_array);
        let named = facts.get("operator").into_iter().chain(persons.into_iter().flatten());
        import.operators.extend(named.filter_map(Value::as_str).map(str::to_owned));
    }

    fn judged(&mut self, seq: u64, digest: Digest, record: &Record, facts: &Map<String, Value>) {
        let judged = || {
            (facts.get("verdict")?.as_str()? == "passed").then_some(())?;
            let (package, bundle) = (record.about("package")?, record.about("bundle")?);
            let policy = facts.get("policy")?.as_str()?.parse().ok()?;
            Some(Judged { records: vec![(seq, digest)], package, bundle, policy })
        };
        let judged = judged();
        if let Some(import) = self.import(facts) {
            import.judged = judged;
        }
    }

    /// A shadow's report is part of what is approved from then on.
    fn tried(&mut self, seq: u64, digest: Digest, record: &Record, facts: &Map<String, Value>) {
        let Some(package) = record.about("package") else { return };
        if let Some(judged) = self.import(facts).and_then(|import| import.judged.as_mut()) {
            judged.package = package;
            judged.records.push((seq, digest));
        }
    }

    /// What is to be served from now on.
    fn intend(&mut self, seq: u64, record: &Record, facts: &Map<String, Value>) -> Vec<Fault> {
        let bundle = record.about("bundle");
        let kind = facts.get("kind").and_then(Value::as_str).unwrap_or_default();
        let judged = match kind {
            "activate" => self.approved(seq, bundle, facts).map(Some),
            CANARY => self.approved(seq, bundle, facts).map(|_some_people| None),
            "rollback" => self.returned(seq, bundle).map(|()| None),
            "downgrade" => self
                .returned(seq, bundle)
                .and_then(|()| self.allowed(seq, bundle, record.about("from")))
                .map(|()| None),
            _ => Err(Fault::Kind { seq }),
        };
        if kind != CANARY {
            // A leave is for one switch.
            self.leaves.clear();
        }
        let (verified, fault) = match judged {
            Ok(verified) => (verified, None),
            Err(fault) => (None, Some(fault)),
        };
        self.open = Some(Intent { bundle, kind: kind.to_owned(), verified });
        fault.into_iter().collect()
    }

    /// That what record `seq` returns to served before.
    fn returned(&self, seq: u64, bundle: Option<Digest>) -> Result<(), Fault> {
        let served = bundle.is_some_and(|bundle| self.promoted.contains(&bundle));
        if served { Ok(()) } else { Err(Fault::NeverServed { seq }) }
    }

    /// That persons allowed record `seq` to go below the floor.
    fn allowed(&self, seq: u64, bundle: Option<Digest>, from: Option<Digest>) -> Result<(), Fault> {
        let these = |leave: &&Leave| Some(leave.to.0) == bundle && Some(leave.from.0) == from;
        let counted: Vec<&Leave> = self.leaves.iter().filter(these).collect();
        let persons: BTreeSet<_> = counted.iter().map(|leave| &leave.person).collect();
        if persons.len() as u64 >= self.needed {
            return Ok(());
        }
        let leaves = Numbers(counted.iter().map(|leave| leave.seq).collect());
        Err(Fault::Leave { seq, needed: self.needed, leaves })
    }

    /// That persons approved what record `seq` activates.
    fn approved(
        &self,
        seq: u64,
        bundle: Option<Digest>,
        facts: &Map<String, Value>,
    ) -> Result<Verified, Fault> {
        let because = facts.get("because").and_then(Value::as_object);
        let import = because.and_then(|because| number(because, "import"));
        let package = because.and_then(|because| because.get("package")?.as_str()?.parse().ok());
        let import = import.and_then(|import| self.imports.get(&import));
        let judged = import.and_then(|import| Some((import, import.judged.as_ref()?)));
        let about =
            |judged: &Judged| Some(judged.bundle) == bundle && Some(judged.package) == package;
        let (import, judged) =
            judged.filter(|(_, judged)| about(judged)).ok_or(Fault::Unjudged { seq })?;
        let decided = self.decisions.get(&judged.package).map_or(&[][..], Vec::as_slice);
        let rejects = |one: &&Decided| one.approval.decision == Decision::Reject;
        if let Some(rejection) = decided.iter().find(rejects) {
            return Err(Fault::Rejected { seq, rejection: rejection.seq });
        }
        let after = judged.records.last().map_or(0, |(seq, _)| *seq);
        let counts = |one: &&Decided| {
            let said = &one.approval;
            (said.bundle.0, said.policy) == (judged.bundle, judged.policy)
                && package_of(said) == judged.package
                && one.seq > after
                && !import.operators.contains(said.person.as_str())
        };
        let counted: Vec<&Decided> = decided.iter().filter(counts).collect();
        let persons: BTreeSet<_> = counted.iter().map(|one| &one.approval.person).collect();
        if (persons.len() as u64) < self.needed {
            let approvals = Numbers(counted.iter().map(|one| one.seq).collect());
            return Err(Fault::Unapproved { seq, needed: self.needed, approvals });
        }
        let approvals = counted.iter().map(|one| (one.seq, one.digest));
        Ok(Verified {
            bundle: judged.bundle,
            name: import.name.clone(),
            version: import.version.clone(),
            policy: judged.policy,
            inputs: judged.records.iter().copied().chain(approvals).collect(),
        })
    }

    fn conclude(&mut self, seq: u64, record: &Record, facts: &Map<String, Value>) -> Vec<Fault> {
        let Some(intent) = self.open.take() else { return Vec::new() };
        let bundle = record.about("bundle");
        // A receipt shows the outcome alone, so what it says of the intent is the intent's.
        let same = facts.get("kind").is_none_or(|kind| *kind == intent.kind);
        if bundle != intent.bundle || !same {
            return vec![Fault::Outcome { seq }];
        }
        let active = record.about("active");
        match facts.get("outcome").and_then(Value::as_str) {
            Some("promoted") if !intent.is_canary() && (active.is_none() || active == bundle) => {
                self.promoted.extend(bundle);
                Vec::new()
            }
            Some("begun") if !intent.is_canary() => vec![Fault::Outcome { seq }],
            // What serves all people after all served before.
            Some("returned" | "aborted" | "begun") => {
                let served = active.is_none_or(|active| self.promoted.contains(&active));
                if served { Vec::new() } else { vec![Fault::NeverServed { seq }] }
            }
            _ => vec![Fault::Outcome { seq }],
        }
    }

    /// What was verified of the new release whose activation has no outcome yet; nothing of a return, nor of
    /// an activation that breaks the rule.
    #[must_use]
    pub fn under_way(&self) -> Option<&Verified> {
        self.open.as_ref()?.verified.as_ref()
    }
}

/// The package that an approval must be of: the SHA-256 over what it names.
fn package_of(said: &Approval) -> Digest {
    let named = [
        ("evidence".to_owned(), said.evidence.to_string().into()),
        ("manifest".to_owned(), said.bundle.0.to_string().into()),
        ("policy".to_owned(), said.policy.to_string().into()),
    ];
    let text = json::canonical(&Value::Object(Map::from_iter(named)));
    Digest::of(&text.expect("an object of texts"))
}

fn number(facts: &Map<String, Value>, name: &str) -> Option<u64> {
    facts.get(name).and_then(Value::as_u64)
}
