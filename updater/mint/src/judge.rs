//! What an appliance would refuse when it inspects a release, found before anybody signs it.

use std::{os::unix::fs::FileExt as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use cloister_domain::{Coded as _, counted, printable};
use cloister_inspect::{Refusal, Source, inspect};

use crate::{
    error::{FileError, MintError},
    files::{self, Named},
};

/// Files that are named one by one.
const NAMED_MAX: usize = 20;

/// Judges every file below `tree`, and the `evidence`, as an appliance of this version does. Here the
/// files are one's own, so no process is shut in for them.
///
/// # Errors
/// When an appliance would refuse something, with the path and the reason of each; when a file cannot be
/// read.
pub fn release(tree: &Path, evidence: &[(String, Vec<u8>)]) -> Result<()> {
    let mut refused = Vec::new();
    let mut judged = |name: &str, shown: &str, source: &mut dyn Source| match inspect(name, source)
    {
        Ok(_) => Ok(()),
        Err(Refusal::Unreadable) => Err(Refusal::Unreadable).with_context(|| shown.to_owned()),
        Err(refusal) => {
            refused.push(format!("{shown}: {refusal} [{}]", refusal.code()));
            Ok(())
        }
    };
    for path in files::walk(tree)? {
        let mut file = Artefact::open(&tree.join(&path))?;
        judged(&path, &printable(path.as_bytes()), &mut file)?;
    }
    for (claim, bytes) in evidence {
        judged("evidence", &format!("the evidence {claim}"), &mut bytes.as_slice())?;
    }
    let more = refused.len().saturating_sub(NAMED_MAX);
    refused.truncate(NAMED_MAX);
    if more > 0 {
        refused.push(format!("and {}", counted(more as u64, "more file")));
    }
    ensure!(refused.is_empty(), MintError::Inspection { path: tree.to_owned(), refused });
    Ok(())
}

/// A file of the tree.
struct Artefact {
    file: Named,
    bytes: u64,
}

impl Artefact {
    fn open(path: &Path) -> Result<Self> {
        let file = files::open(path)?;
        let read = file.file().metadata();
        let bytes = read.map_err(|cause| FileError::reading(path, cause))?.len();
        Ok(Self { file, bytes })
    }
}

impl Source for Artefact {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Refusal> {
        self.file.file().read_exact_at(buffer, offset).map_err(|_shorter| Refusal::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::failure::Failure;

    /// What the command prints of the release's refusal.
    fn told(tree: &Path, evidence: &[(String, Vec<u8>)]) -> String {
        let mut told = Vec::new();
        Failure::of(&release(tree, evidence).expect_err("something is wrong")).show(&mut told);
        String::from_utf8(told).expect("text")
    }

    #[test]
    fn all_that_an_appliance_would_refuse_is_named_with_its_reason() {
        let tree = tempfile::tempdir().expect("a folder");
        let put = |name: &str, content: &[u8]| {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().expect("below the tree")).expect("a folder");
            fs::write(path, content).expect("written");
        };
        put("NOTICE", b"Words.\n");
        put("documents/pumps.md", b"# Pumps\n");
        let good = ("https://spdx.dev/Document".to_owned(), b"{}".to_vec());
        release(tree.path(), std::slice::from_ref(&good)).expect("nothing is wrong");
        put("documents/manual.md", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n");
        put("model/model.gguf", b"\x80\x02cposix\nsystem\n.");
        let bad = ("https://slsa.dev/provenance/v1".to_owned(), b"\x7fELF\x02".to_vec());
        let told = told(tree.path(), &[good, bad]);
        let lines: Vec<&str> = told.lines().skip(1).map(str::trim).collect();
        let [manual, model, evidence] = lines.as_slice() else { panic!("{told}") };
        let says = |line: &str, name: &str, code: &str| {
            line.starts_with(name) && line.ends_with(&format!("[{code}]"))
        };
        assert!(says(manual, "documents/manual.md: ", "inspect.pdf"), "{manual}");
        assert!(says(model, "model/model.gguf: ", "inspect.pickle"), "{model}");
        assert!(says(evidence, "the evidence https://slsa.dev/provenance/v1: ", "inspect.elf"));
    }

    #[test]
    fn of_many_bad_files_the_first_are_named_and_the_others_counted() {
        let tree = tempfile::tempdir().expect("a folder");
        for number in 0..NAMED_MAX + 5 {
            fs::write(tree.path().join(format!("{number:03}.md")), b"\x7fELF").expect("written");
        }
        let told = told(tree.path(), &[]);
        assert_eq!(told.lines().count(), 1 + NAMED_MAX + 1, "{told}");
        assert!(told.ends_with("and 5 more files\n"), "{told}");
    }
}
