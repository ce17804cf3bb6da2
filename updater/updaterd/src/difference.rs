//! What would be different if one release were active in the place of another. Pure: two manifests and
//! the bounds of their publishers in, a [`Difference`] out.

use std::collections::{BTreeMap, BTreeSet};

use cloister_bundle::{FileEntry, Manifest, Release};
use cloister_domain::{ByteCount, Digest};
use cloister_wire::review::{
    Change, Difference, FileChange, Named, NumberChange, Part, PartChange, WordsChange,
};
use serde_json::{Map, Value};

use crate::exam::Policy;

/// One of the two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side<'a> {
    pub(crate) manifest: &'a Manifest,
    /// The publisher's bounds; absent where they cannot be read.
    pub(crate) policy: Option<&'a Policy>,
}

/// The difference of `candidate` to what is `active`, if anything is.
pub(crate) fn difference(active: Option<Side<'_>>, candidate: Side<'_>) -> Difference {
    let before = active.map(|active| active.manifest.release());
    let after = candidate.manifest.release();
    let mut files = changed_files(before, after);
    let all = files.len();
    files.truncate(Difference::FILES_MAX);
    let left_out = all.saturating_sub(files.len());
    Difference {
        active: active.map(|active| named(active.manifest)),
        parts: Part::ALL.into_iter().map(|part| part_change(part, before, after)).collect(),
        files,
        files_left_out: u64::try_from(left_out).unwrap_or(u64::MAX),
        words: words(before, after),
        numbers: numbers(active, candidate),
    }
}

fn named(manifest: &Manifest) -> Named {
    let release = manifest.release();
    Named {
        generation: manifest.generation(),
        name: release.name.clone(),
        version: release.version.clone(),
        counter: release.release_counter,
    }
}

/// What a file is for, by where engine, corpus and examiner look for theirs.
fn part_of(path: &str) -> Part {
    match path {
        "model/tokenizer.json" => Part::Tokenizer,
        "model/template.json" => Part::Template,
        path if path.starts_with("model/") => Part::Model,
        path if path.starts_with("adapters/") => Part::Adapters,
        path if path.starts_with("embed/") => Part::Embedding,
        path if path.starts_with("documents/") => Part::Documents,
        path if path.starts_with("evaluation/") => Part::Policy,
        _ => Part::Other,
    }
}

/// The files of one part, by path.
fn files_of(release: Option<&Release>, part: Part) -> Vec<&FileEntry> {
    let files = release.map(|release| release.files.as_slice()).unwrap_or_default();
    files.iter().filter(|file| part_of(file.path.as_str()) == part).collect()
}

fn part_change(part: Part, before: Option<&Release>, after: &Release) -> PartChange {
    let (before, after) = (files_of(before, part), files_of(Some(after), part));
    let size = |files: &[&FileEntry]| {
        ByteCount(files.iter().fold(0, |sum, file| file.size.saturating_add(sum)))
    };
    let change = match (before.is_empty(), after.is_empty()) {
        (true, true) => Change::Absent,
        (true, false) => Change::Added,
        (false, true) => Change::Removed,
        (false, false) if before == after => Change::Same,
        (false, false) => Change::Changed,
    };
    PartChange { part, change, active_bytes: size(&before), candidate_bytes: size(&after) }
}

fn by_path(release: Option<&Release>) -> BTreeMap<&str, Digest> {
    let files = release.map(|release| release.files.as_slice()).unwrap_or_default();
    files.iter().map(|file| (file.path.as_str(), file.sha256)).collect()
}

fn changed_files(before: Option<&Release>, after: &Release) -> Vec<FileChange> {
    let (before, after) = (by_path(before), by_path(Some(after)));
    let paths: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let changed = paths.into_iter().filter_map(|path| {
        let (active, candidate) = (before.get(path).copied(), after.get(path).copied());
        let change = match (active, candidate) {
            (Some(one), Some(other)) if one == other => return None,
            (Some(_), Some(_)) => Change::Changed,
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
        };
        Some(FileChange { path: path.to_owned(), change, active, candidate })
    });
    changed.collect()
}

fn words(before: Option<&Release>, after: &Release) -> Vec<WordsChange> {
    type List = fn(&Release) -> Vec<String>;
    let lists: [(&str, List); 4] = [
        ("licences", |release| release.licences.clone()),
        ("features", |release| release.requires.features.clone()),
        ("runtime", |release| {
            let runtime = release.requires.runtime.iter();
            let least = runtime.clone().map(|range| format!("at least {}", range.min));
            let most = runtime.filter_map(|range| range.max.as_ref());
            least.chain(most.map(|max| format!("at most {max}"))).collect()
        }),
        ("attestations", |release| {
            release.attestations.iter().map(|one| one.predicate_type.clone()).collect()
        }),
    ];
    let compared = lists.into_iter().map(|(name, list)| {
        let before: BTreeSet<String> = before.map(list).unwrap_or_default().into_iter().collect();
        let after: BTreeSet<String> = list(after).into_iter().collect();
        WordsChange {
            name: name.to_owned(),
            same: before.intersection(&after).cloned().collect(),
            added: after.difference(&before).cloned().collect(),
            removed: before.difference(&after).cloned().collect(),
        }
    });
    compared.collect()
}

fn numbers(active: Option<Side<'_>>, candidate: Side<'_>) -> Vec<NumberChange> {
    type Number = fn(&Release) -> u64;
    let stated: [(&str, Number); 7] = [
        ("counter", |release| release.release_counter),
        ("floor", |release| release.min_release_counter),
        ("files", |release| u64::try_from(release.files.len()).unwrap_or(u64::MAX)),
        ("plain-bytes", |release| release.index.plain_bytes),
        ("disk-bytes", |release| release.requires.disk_bytes),
        ("ram-bytes", |release| release.requires.ram_bytes),
        ("vram-bytes", |release| release.requires.vram_bytes),
    ];
    let of_release = stated.into_iter().map(|(name, number)| NumberChange {
        name: name.to_owned(),
        active: active.map(|active| number(active.manifest.release())),
        candidate: Some(number(candidate.manifest.release())),
    });
    let (before, after) = (bounds(active.and_then(|side| side.policy)), bounds(candidate.policy));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let of_policy = names.into_iter().filter_map(|name| {
        let number = |bounds: &Map<String, Value>| bounds.get(name).and_then(Value::as_u64);
        let (active, candidate) = (number(&before), number(&after));
        // A bound that neither sets is not worth a line.
        active.or(candidate)?;
        let name = format!("policy.{}", name.replace('_', "-"));
        Some(NumberChange { name, active, candidate })
    });
    of_release.chain(of_policy).collect()
}

fn bounds(policy: Option<&Policy>) -> Map<String, Value> {
    match policy.map(serde_json::to_value) {
        Some(Ok(Value::Object(bounds))) => bounds,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
