//! Good input for each target, made by the code that writes it, so that it never goes stale.

use std::sync::OnceLock;

use anyhow::Result;
use cloister_attest::{
    approval::{Approval, Decision},
    consent::{Consent, Matter},
};
use cloister_domain::{Digest, GenerationId, LogHead};
use cloister_hostile::{Base, base::key};
use cloister_record::{
    AddCheckpoint, Checkpoint, LogProof, Receipt, VerifierKey, WitnessKey, parts, tree,
    with_signatures,
};
use cloister_stage::release::{checkout, read_file};
use cloister_wire::trial::{Counted, Kind, Report, Scope, Trial};

/// The one entry of the log that seeds are of.
const ENTRY: &[u8] = b"entry";

/// The name of that log.
const ORIGIN: &str = "enclave/one";

/// The sample that most seeds are parts of.
pub(crate) fn base() -> Result<Base> {
    static BASE: OnceLock<Base> = OnceLock::new();
    if let Some(base) = BASE.get() {
        return Ok(base.clone());
    }
    let made = Base::new()?;
    Ok(BASE.get_or_init(|| made).clone())
}

pub(crate) fn of(target: &str) -> Result<Vec<Vec<u8>>> {
    let base = base()?;
    let member = |name: &str| base.member(name).map(<[u8]>::to_vec);
    let tree = |path: &str| read_file(&checkout().join(path));
    Ok(match target {
        "container" | "metadata" => {
            let files = base.meta.iter().map(|(_, text)| text.clone());
            [member("clb/10-meta")?].into_iter().chain(files).collect()
        }
        "envelope" | "record" => vec![member("clb/20-manifest")?],
        "head" => vec![member("clb/00-head")?],
        "manifest" | "json" => vec![base.statement.to_string().into_bytes()],
        "index" => {
            let sizes = [7u64, 5].map(u64::to_le_bytes).concat();
            vec![[sizes, member("clb/40-index")?].concat()]
        }
        "checkpoint" => vec![checkpoint()?.into_bytes()],
        "policy" => vec![policy()?.into_bytes()],
        "proof" | "receipt" => {
            let receipt = Receipt::new(proof()?, ENTRY).to_text();
            let printed = parts(&receipt).join("\n");
            vec![proof()?.to_text().into_bytes(), receipt.into_bytes(), printed.into_bytes()]
        }
        "request" => {
            let (old, proof) = (0, Vec::new());
            let asked = AddCheckpoint { old, proof, checkpoint: checkpoint()? };
            vec![asked.to_text().into_bytes()]
        }
        "trial" => trial_files()?,
        "word" => words()?,
        "gguf" => {
            use cloister_weights::{
                DType,
                gguf_write::{Source, Writer},
            };
            let mut writer = Writer::new();
            writer.text("general.architecture", "llama").count("llama.block_count", 1);
            writer.texts("tokenizer.ggml.tokens", &["a", "b"]).float("x", 0.5).bool("y", true);
            let data = (0..32u8).flat_map(|byte| [byte, 0, 0, 0x3f]).collect();
            writer.tensor("token_embd.weight", DType::F32, &[4, 8], Source::Bytes(data));
            vec![writer.to_bytes()?]
        }
        "tokenizer" => vec![tree("services/tune/model/tokenizer.json")?],
        "document" => vec![tree("README.md")?, b"{\"collections\":[]}".to_vec()],
        _ => Vec::new(),
    })
}

fn witness() -> Result<WitnessKey> {
    Ok(WitnessKey::new("witness", key("eve").public())?)
}

/// The checkpoint of a log with one entry, cosigned.
pub(crate) fn checkpoint() -> Result<String> {
    let checkpoint =
        Checkpoint { origin: ORIGIN.to_owned(), size: 1, root: tree::leaf_hash(ENTRY) };
    let note = checkpoint.sign(&key("ada"))?;
    let text = cloister_record::Note::parse(&note)?.text().to_owned();
    let time_s = 1_795_262_400;
    let signature = key("eve").sign(WitnessKey::message(&text, time_s).as_bytes());
    Ok(with_signatures(&note, &witness()?.line(time_s, &signature))?)
}

fn policy() -> Result<String> {
    let log = VerifierKey::new(ORIGIN, key("ada").public())?;
    let witness = witness()?;
    Ok(format!("# A policy.\nlog {log}\nwitness one {witness}\ngroup all any one\nquorum all\n"))
}

fn proof() -> Result<LogProof> {
    Ok(LogProof { extra: None, index: 0, path: Vec::new(), checkpoint: checkpoint()? })
}

fn trial_files() -> Result<Vec<Vec<u8>>> {
    let generation = GenerationId(Digest::of(b"release"));
    let named = Scope::Principals(["ada".parse()?, "bob".parse()?].into());
    let scopes = [(Kind::Canary, named), (Kind::Shadow, Scope::Share { permille: 100 })];
    let trials = scopes.map(|(kind, scope)| {
        serde_json::to_vec(&Trial { trial: 7, kind, generation, scope, seconds: 60 })
    });
    let counted = Counted { trial: 7, run: 9, lasted_s: 3, report: Report::default() };
    Ok(trials.into_iter().chain([serde_json::to_vec(&counted)]).collect::<Result<_, _>>()?)
}

/// The statements that persons sign.
fn words() -> Result<Vec<Vec<u8>>> {
    let log = LogHead { origin: ORIGIN.to_owned(), size: 1 };
    let person: cloister_domain::Principal = "ada".parse()?;
    let digest = |name: &str| Digest::of(name.as_bytes());
    let approval = Approval {
        package: digest("package"),
        bundle: GenerationId(digest("release")),
        policy: digest("policy"),
        evidence: digest("evidence"),
        log: log.clone(),
        decision: Decision::Approve,
        person: person.clone(),
        comment: "As tried.".to_owned(),
    };
    let matters = [
        Matter::Downgrade {
            to: GenerationId(digest("old")),
            from: GenerationId(digest("release")),
        },
        Matter::Acknowledgement { checkpoint: digest("checkpoint") },
    ];
    let consents = matters
        .map(|matter| Consent { matter, log: log.clone(), person: person.clone() }.unsigned());
    let envelopes = [approval.unsigned()].into_iter().chain(consents);
    Ok(envelopes.map(|envelope| envelope.map(|made| made.payload)).collect::<Result<_, _>>()?)
}
