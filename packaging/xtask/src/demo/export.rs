//! `./x export`: what an auditor takes away of the demo, for verifiers of others to be tried on.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use cloister_domain::counted;
use cloister_stage::release::{checkout, copy_folder};

use super::{Demo, Head, head, utf8, witness};
use crate::story::Story;

/// A folder that is there already must be empty.
pub(super) fn must_be_new(folder: &Path) -> Result<()> {
    match fs::read_dir(folder) {
        Ok(mut found) => {
            ensure!(found.next().is_none(), "{} is not empty; name a new folder", folder.display());
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{} is no folder", folder.display())),
    }
}

/// Writes the export and what an auditor brings along to `folder`, once both verifiers accept it.
pub(super) fn hand_out(demo: &Demo, folder: &Path, story: &mut Story<'_>) -> Result<()> {
    let facility = &demo.facility;
    story.chapter("The auditor's export is written, with the keys that came by another way")?;
    let scratch = facility.home().join("handed-out");
    fs::create_dir(&scratch)?;
    let records = scratch.join("records");
    // As the witness cosigned it last: a policy that asks for its signature accepts that.
    facility.cloister(&["records", "export", "--witnessed", utf8(&records)?])?.done()?;
    let Head { log_key, .. } = head(facility)?;
    fs::write(scratch.join("log.key"), format!("{log_key}\n"))?;
    fs::copy(facility.root_file(), scratch.join("root.json"))?;
    fs::copy(witness::policy_file(facility), scratch.join("policy"))?;
    fs::write(scratch.join("README.txt"), README)?;
    let size = verified(demo, &scratch, &log_key)?;
    // Nothing of what somebody put there meanwhile is written over.
    must_be_new(folder)?;
    fs::create_dir_all(folder)?;
    copy_folder(&scratch, folder)?;
    story.tell(&format!(
        "{} in {}; both verifiers accept it",
        counted(size, "record"),
        folder.display()
    ))
}

/// How many records both verifiers found good, with nothing but what is handed out.
fn verified(demo: &Demo, folder: &Path, log_key: &str) -> Result<u64> {
    let path = |name: &str| folder.join(name).display().to_string();
    let words = [
        path("records"),
        "--log-key".to_owned(),
        log_key.to_owned(),
        "--root".to_owned(),
        path("root.json"),
        "--policy".to_owned(),
        path("policy"),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let first = demo.facility.cloister(&[&["records", "verify"], words.as_slice()].concat())?;
    let size = first.done()?["size"].as_u64().context("the first verifier gave no size")?;
    let second = Command::new(&demo.python)
        // Not the copy in the export, which whoever made the export could have changed.
        .arg(checkout().join("appliance/record/audit.py"))
        .args(words)
        .output()?;
    ensure!(second.status.success(), "the second verifier refuses the export");
    Ok(size)
}

/// How a stranger reads the folder.
const README: &str = "\
The record of a demonstration appliance, as an auditor takes it away.

records/   the export: checkpoint, tile/ (C2SP tlog-tiles), receipts/ of promotions, audit.py
log.key    the log's verifier key (C2SP signed note); it is the host key too, which signs the entries
policy     a policy (C2SP tlog-policy): this log, and the key of the witness that must have cosigned
root.json  the trust root that was enrolled (TUF root): whose approvals count

In a real facility everything but records/ comes by another way than the export.

  python3 records/audit.py records --log-key \"$(cat log.key)\" --root root.json --policy policy
  cloister records verify records --log-key \"$(cat log.key)\" --root root.json --policy policy
  cloister records verify-receipt records/receipts/N.receipt --policy policy

All exit with 0. The formats, byte by byte: docs/formats/record.md in the sources. audit.py here is the
copy that the appliance wrote; an auditor uses the one from sources that they trust.
";
