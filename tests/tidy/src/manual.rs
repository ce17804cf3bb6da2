//! The documents say nothing that is not there: codes, pages and files that they name exist, and every code
//! that can be given is explained.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use crate::{Finding, Source, Tree};

/// Folders of documents that go into the package, as they lie below `docs/`.
const PACKAGED: [&str; 3] = ["docs/formats/", "docs/reference/", "docs/runbooks/"];
/// Where the package lays them down.
const INSTALLED: &str = "/usr/share/doc/cloister/";
/// Crates in which a text may look like a code and is none: models' files, and figures of benches.
const OTHER_WORDS: [&str; 7] = [
    "packaging/",
    "kernels/",
    "services/formats/",
    "services/model/",
    "services/tokenize/",
    "services/tune/",
    "updater/mint/src/prepare",
];
/// Endings of file names.
const FILES: [&str; 5] = [".json", ".toml", ".db", ".gguf", ".safetensors"];

/// The codes of the page.
fn codes(page: &str) -> BTreeSet<&str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(code, _)| code)
        .collect()
}

/// The first words of codes.
fn families<'page>(codes: &BTreeSet<&'page str>) -> BTreeSet<&'page str> {
    codes.iter().filter_map(|code| code.split('.').next()).collect()
}

/// `word.word`, in the letters of codes and settings, and no file's name.
fn is_dotted(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let mut parts = text.split('.');
    parts.clone().count() > 1
        && parts.all(|part| !part.is_empty() && part.chars().all(plain))
        && !FILES.iter().any(|ending| text.ends_with(ending))
}

/// Every text of a program that has the form and the family of a code is on the page: whatever way it is
/// given, somebody can look it up.
#[must_use]
pub fn codes_without_a_row(tree: &Tree, page: &str) -> Vec<Finding> {
    let codes = codes(page);
    let families = families(&codes);
    let mut findings = Vec::new();
    let programs = tree.sources.iter().filter(|source| {
        source.is_production_rust() && !OTHER_WORDS.iter().any(|at| source.path.starts_with(at))
    });
    for source in programs {
        for (number, line) in source.production_lines() {
            let literals = line.split('"').skip(1).step_by(2);
            let unknown = |text: &&str| {
                let family = text.split('.').next().unwrap_or_default();
                // No code has an underscore, and others' keys do.
                is_dotted(text)
                    && !text.contains('_')
                    && families.contains(family)
                    && !codes.contains(text)
            };
            for text in literals.filter(unknown) {
                findings.push(format!(
                    "{}:{number}: `{text}` has no row in docs/reference/errors.md",
                    source.path
                ));
            }
        }
    }
    findings
}

/// Every code and every setting that a document names exists.
#[must_use]
pub fn unknown_codes(tree: &Tree, page: &str, settings: &str) -> Vec<Finding> {
    let (codes, settings) = (codes(page), keys_of(settings));
    let families = families(&codes);
    let sections: BTreeSet<&str> =
        settings.iter().filter_map(|key| key.split('.').next()).collect();
    let mut findings = Vec::new();
    for (source, number, line) in documents(tree) {
        let mut family = "";
        for word in line.split('`').skip(1).step_by(2) {
            let head = word.strip_suffix(".*").unwrap_or(word);
            let begins = head.split('.').next().unwrap_or_default();
            let known = if word.starts_with('.') {
                // Short for one of the family that stands before it, if one does.
                family.is_empty()
                    || codes.iter().any(|code| code.starts_with(family) && code.ends_with(head))
            } else if head != word {
                !families.contains(begins) || codes.iter().any(|code| code.starts_with(head))
            } else if !is_dotted(word) || codes.contains(word) || settings.contains(word) {
                true
            } else {
                !sections.contains(begins) && (word.contains('_') || !families.contains(begins))
            };
            if !known {
                findings.push(format!(
                    "{}:{number}: `{word}` is no code of docs/reference/errors.md and no setting",
                    source.path
                ));
            }
            if families.contains(begins) && (is_dotted(word) || head != word) {
                family = begins;
            }
        }
    }
    findings
}

/// `section.key` of each row of the page of settings.
fn keys_of(page: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut keys = BTreeSet::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("## [").and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) =
            line.strip_prefix("| `").and_then(|rest| rest.split_once('`'))
        {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

/// Documents whose words with points are others': fields of formats, figures, proofs.
const OTHER_DOCUMENTS: [&str; 4] =
    ["docs/formats/", "docs/performance.md", "docs/testing.md", "docs/reference/errors.md"];

/// Lines of the other documents outside of what is fenced.
fn documents(tree: &Tree) -> impl Iterator<Item = (&Source, usize, &str)> {
    let told = tree.sources.iter().filter(|source| {
        source.path.ends_with(".md")
            && !OTHER_DOCUMENTS.iter().any(|other| source.path.starts_with(other))
    });
    told.flat_map(|source| {
        let mut fenced = false;
        (1..).zip(source.text.lines()).filter_map(move |(number, line)| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            (!fence && !fenced).then_some((source, number, line))
        })
    })
}

/// Every link to a file leads to one, and from what the package holds to what it holds too.
#[must_use]
pub fn broken_links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources.iter().filter(|source| source.path.ends_with(".md")) {
        let packaged = PACKAGED.iter().any(|folder| source.path.starts_with(folder));
        for link in source.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains(':') {
                continue;
            }
            let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
            let target = flat(&folder.join(target));
            let leaves = packaged && !PACKAGED.iter().any(|folder| target.starts_with(folder));
            if !tree.root.join(&target).exists() {
                findings.push(format!("{}: {link} leads nowhere", source.path));
            } else if leaves {
                findings.push(format!("{}: {link} is not in the package", source.path));
            }
        }
    }
    findings
}

/// `path` without `..`.
fn flat(path: &Path) -> String {
    let mut flat = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                flat.pop();
            }
            part => flat.push(part),
        }
    }
    flat.to_string_lossy().into_owned()
}

/// Every runbook that a message sends somebody to exists, and so does every page that units, configuration
/// and scripts say is installed.
#[must_use]
pub fn missing_pages(tree: &Tree) -> Vec<Finding> {
    let there = |page: &str| tree.sources.iter().any(|source| source.path == page);
    let mut findings = Vec::new();
    for source in tree.sources.iter().filter(|source| !source.path.starts_with("tests/tidy/")) {
        for (_, behind) in source
            .text
            .match_indices("runbook `")
            .map(|(at, mark)| source.text.split_at(at + mark.len()))
        {
            let name = behind.split('`').next().unwrap_or_default();
            if !there(&format!("docs/runbooks/{name}.md")) {
                findings.push(format!("{}: there is no runbook `{name}`", source.path));
            }
        }
        let installed =
            source.text.split(INSTALLED).skip(1).filter_map(|rest| rest.split_once(".md"));
        for (name, _) in installed.filter(|(name, _)| {
            name.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '-' | '/'))
        }) {
            let page = format!("docs/{name}.md");
            if !there(&page) || !PACKAGED.iter().any(|folder| page.starts_with(folder)) {
                findings
                    .push(format!("{}: {INSTALLED}{name}.md is not in the package", source.path));
            }
        }
    }
    let packs = tree.text("packaging/deb/build.sh").unwrap_or_default();
    if !packs.contains("for page in runbooks formats reference; do") {
        findings.push("packaging/deb/build.sh: the folders of documents are not packed".to_owned());
    }
    findings
}
