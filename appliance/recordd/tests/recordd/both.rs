//! Two verifiers that share no code, over the same exports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use cloister_domain::Coded as _;
use cloister_record::{Export, Report, Trust, verify};
use tempfile::TempDir;

use crate::support::{lay, root};

/// Has the second verifier judge many exports in one process; a line for each: what it finds at fault. The same
/// signature over the same bytes is judged once.
const JUDGE: &str = "
import argparse, audit, functools, json, os, sys
audit.verify = functools.lru_cache(maxsize=1 << 16)(audit.verify)
policy = os.path.join(os.path.dirname(sys.argv[2]), 'policy')
policy = policy if os.path.exists(policy) else None
def roots(name):
    own = os.path.join(sys.argv[2] + '.d', name)
    return [os.path.join(own, one) for one in sorted(os.listdir(own))] if os.path.exists(own) else [sys.argv[2]]
for name in sorted(os.listdir(sys.argv[3])):
    try:
        trust = audit.Trust(argparse.Namespace(log_key=sys.argv[1], root=roots(name), policy=policy))
        *_, faults, _ = audit.audit(os.path.join(sys.argv[3], name), trust, False)
    except (*audit.FAULTS, OSError) as why:
        faults = [str(why)]
    print(json.dumps(faults))
";

/// What each verifier says of one export.
pub(crate) struct Said {
    pub(crate) report: Report,
    pub(crate) ours: Vec<String>,
    pub(crate) theirs: Vec<String>,
}

impl Said {
    /// The first record that each finds at fault. One that is at fault may make others be, and each verifier
    /// goes on in its own way after the first.
    pub(crate) fn first(&self) -> [Option<u64>; 2] {
        [&self.ours, &self.theirs].map(|said| numbers(said).first().copied())
    }
}

/// Has both judge logs under the root of these tests.
pub(crate) fn both(exports: impl IntoIterator<Item = Export>, trust: &Trust) -> Vec<Said> {
    let folder = tempfile::tempdir().unwrap();
    let mut reports = Vec::new();
    for (number, export) in exports.into_iter().enumerate() {
        lay(&folder.path().join(format!("exports/{number:020}")), &export);
        reports.push(verify(&export, trust));
    }
    heard(&folder, reports, trust)
}

/// Has both judge logs, each under roots of its own, oldest first.
pub(crate) fn both_under(
    cases: impl IntoIterator<Item = (Export, Vec<Vec<u8>>)>,
    trust: &Trust,
) -> Vec<Said> {
    let folder = tempfile::tempdir().unwrap();
    let mut reports = Vec::new();
    for (number, (export, roots)) in cases.into_iter().enumerate() {
        lay(&folder.path().join(format!("exports/{number:020}")), &export);
        let own = (1u32..).zip(&roots).map(|(at, root)| (format!("{at:03}.json"), root.clone()));
        lay(&folder.path().join(format!("root.json.d/{number:020}")), &own.collect());
        let roots: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
        let (root, approvers) = cloister_verify::auditors_view(&roots).unwrap();
        reports.push(verify(&export, &Trust { root, approvers, ..trust.clone() }));
    }
    heard(&folder, reports, trust)
}

fn heard(folder: &TempDir, reports: Vec<Report>, trust: &Trust) -> Vec<Said> {
    fs::write(folder.path().join("root.json"), root()).unwrap();
    let theirs = second(folder.path(), &trust.log.to_string());
    assert_eq!(theirs.len(), reports.len());
    let said = reports.into_iter().zip(theirs).map(|(report, theirs)| {
        let ours = report.faults.iter().map(ToString::to_string).collect();
        Said { report, ours, theirs }
    });
    said.collect()
}

/// How many logs are at fault in each way, and how many are `good`.
pub(crate) fn codes(said: &[Said]) -> BTreeMap<&'static str, u64> {
    let mut codes = BTreeMap::new();
    for said in said {
        let found: BTreeSet<&str> = said.report.faults.iter().map(|fault| fault.code()).collect();
        let found = if found.is_empty() { BTreeSet::from(["good"]) } else { found };
        found.into_iter().for_each(|code| *codes.entry(code).or_default() += 1);
    }
    codes
}

/// What the second verifier finds at fault, for each export in `exports` of a folder with `root.json` and,
/// if there is one, `policy`.
pub(crate) fn second(folder: &Path, log_key: &str) -> Vec<Vec<String>> {
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("../record");
    let output = Command::new("python3")
        .env("PYTHONPATH", record)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-c", JUDGE, log_key])
        .args([folder.join("root.json"), folder.join("exports")])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The numbers of the records in sentences that begin `record N`, and [`WHOLE`] for others.
pub(crate) fn numbers(sentences: &[String]) -> BTreeSet<u64> {
    let number = |said: &String| {
        let rest = said.strip_prefix("record ")?;
        rest.split([':', ' ']).next()?.parse().ok()
    };
    sentences.iter().map(|said| number(said).unwrap_or(WHOLE)).collect()
}

/// What stands for a fault of the export and of no record.
pub(crate) const WHOLE: u64 = u64::MAX;
