//! Whether a release fits this machine and this facility, before its first chunk is read: the terms of
//! the worksheet, and the refusal by the first one that does not hold.

use cloister_bundle::{Manifest, Release, normal_version};
use cloister_config::{Role, Update};
use cloister_domain::{ByteCount, Class, Coded, Slot};
use cloister_wire::fit::{Measure, Part, Term};
use nix::sys::{statvfs::statvfs, sysinfo::sysinfo};

use crate::{core::Core, error::ActError};

/// What the engine of this version can do: architectures (`services/model/src/arch`) and element types
/// for which there are kernels.
const ABILITIES: [&str; 7] = ["bert", "bf16", "f16", "f32", "llama", "q8_0", "qwen2"];
/// What is set aside for folders, in inodes.
const FOLDERS_MAX: u64 = 64;
/// The version of the whole appliance.
const RUNTIME: &str = env!("CARGO_PKG_VERSION");
/// Names for kinds of evidence, for which a facility may ask in short; the URI begins as given.
const EVIDENCE: [(&str, &[&str]); 4] = [
    ("sbom", &["https://cyclonedx.org/bom", "https://spdx.dev/Document"]),
    ("sbom-cyclonedx", &["https://cyclonedx.org/bom"]),
    ("sbom-spdx", &["https://spdx.dev/Document"]),
    ("slsa-provenance", &["https://slsa.dev/provenance/"]),
];

/// The term that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Lacking {
    #[error(
        "{needed} of free disk are needed and {there} are free; remove something and try again"
    )]
    Disk { needed: ByteCount, there: ByteCount },
    #[error("the file system can take {there} more files and {needed} are needed")]
    Inodes { needed: u64, there: u64 },
    #[error("the release needs {needed} of memory and the machine has {there}")]
    Ram { needed: ByteCount, there: ByteCount },
    #[error("the release needs {needed} of an accelerator's memory and {there} are there")]
    Vram { needed: ByteCount, there: ByteCount },
    #[error("the release needs another version of the appliance; `import --inspect` shows which")]
    Runtime,
    #[error("the release needs what this engine cannot do; `import --inspect` shows what")]
    Features,
    #[error(
        "a licence of the release is not one that this facility allows; `import --inspect` shows which"
    )]
    Licence,
    #[error(
        "the release lacks evidence that this facility asks for; `import --inspect` shows what"
    )]
    Attestations,
}

impl Coded for Lacking {
    fn class(&self) -> Class {
        match self {
            // The surroundings, not the release.
            Self::Disk { .. } | Self::Inodes { .. } => Class::Busy,
            Self::Ram { .. }
            | Self::Vram { .. }
            | Self::Runtime
            | Self::Features
            | Self::Licence
            | Self::Attestations => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "preflight.disk",
            Self::Inodes { .. } => "preflight.inodes",
            Self::Ram { .. } => "preflight.ram",
            Self::Vram { .. } => "preflight.vram",
            Self::Runtime => "preflight.runtime",
            Self::Features => "preflight.features",
            Self::Licence => "preflight.licence",
            Self::Attestations => "preflight.attestations",
        }
    }
}

/// What the machine and the appliance have, as far as they say so.
#[derive(Clone, Copy, Debug)]
struct Here {
    /// Bytes that the release still needs are written so often before the first copy goes.
    copies: u64,
    free_bytes: u64,
    /// What the file system gives files of.
    block_bytes: u64,
    inodes: Option<u64>,
    memory_bytes: Option<u64>,
    /// Memory of accelerators; nothing is known of one that is there.
    accelerator_bytes: Option<u64>,
    /// Weights of the release that serves.
    active_bytes: u64,
}

/// Every term for a release of which `present` bytes are here already.
pub(crate) fn worksheet(
    core: &Core,
    release: &Release,
    present: u64,
) -> Result<Vec<Term>, ActError> {
    let about = statvfs(&core.config.paths.state).map_err(ActError::Disk)?;
    let here = Here {
        // With a user of its own, intaked's files are copied to the shelf and both lie there for a
        // while.
        copies: if core.config.peers.of(Role::Updaterd).is_empty() { 1 } else { 2 },
        // What is held for a full disk is not an import's, also while it is given up.
        free_bytes: about
            .blocks_available()
            .saturating_mul(about.fragment_size())
            .saturating_sub(given_up(core)),
        block_bytes: about.fragment_size(),
        // File systems without a table of inodes say zero.
        inodes: (about.files() > 0).then(|| about.files_available()),
        memory_bytes: sysinfo().ok().map(|about| about.ram_total()),
        accelerator_bytes: accelerator(core, release.requires.vram_bytes),
        active_bytes: active_weights(core)?,
    };
    Ok(terms(&core.config.update, release, present, here))
}

fn terms(update: &Update, release: &Release, present: u64, here: Here) -> Vec<Term> {
    // What the publisher says it needs, if that is more than its files.
    let on_disk = blocks(release, here.block_bytes);
    let new = on_disk.max(release.requires.disk_bytes).saturating_sub(present);
    let files = u64::try_from(release.files.len()).unwrap_or(u64::MAX);
    let weights = weights(release);
    let needs = &release.requires;
    let again = new.saturating_mul(here.copies.saturating_sub(1));
    let mut disk = vec![part("still to be written", new)];
    if here.copies > 1 {
        disk.push(part("copied to the shelf meanwhile", again));
    }
    let mapped = || part("the release's weights", weights);
    let alone = match needs.ram_bytes > weights {
        true => part("as the publisher states", needs.ram_bytes),
        false => mapped(),
    };
    vec![
        Term::amount("disk", "bytes", disk, update.reserve_bytes.0, Some(here.free_bytes)),
        // A name in quarantine, one among the objects, one in the tree; folders beside.
        Term::amount(
            "inodes",
            "files",
            vec![
                part("in quarantine", files),
                part("on the shelf", files.saturating_mul(2)),
                part("folders, at most", FOLDERS_MAX),
            ],
            0,
            here.inodes,
        ),
        bytes("ram", [alone], here.memory_bytes),
        // The candidate is judged while the active release serves.
        bytes(
            "ram-while-judged",
            [mapped(), part("the active release's weights", here.active_bytes)],
            here.memory_bytes,
        ),
        bytes("vram", [part("as the publisher states", needs.vram_bytes)], here.accelerator_bytes),
        words("runtime", runtime_words(release), runtime_holds),
        words("features", needs.features.clone(), |word| ABILITIES.contains(&word)),
        words("licence", licences(update, release), |word| licence_holds(update, word)),
        words("attestations", update.attestations_required.clone(), |word| {
            evidence_holds(release, word)
        }),
    ]
}

/// Refuses by the first term that does not hold.
pub(crate) fn judge(terms: &[Term]) -> Result<(), Lacking> {
    let Some(term) = terms.iter().find(|term| !term.holds()) else { return Ok(()) };
    let (needed, there) = match term.measure {
        Measure::Amount { needed, reserve, there, .. } => {
            (needed.saturating_add(reserve), there.unwrap_or(0))
        }
        Measure::Words { .. } => (0, 0),
    };
    let sizes = (ByteCount(needed), ByteCount(there));
    Err(match term.name.as_str() {
        "disk" => Lacking::Disk { needed: sizes.0, there: sizes.1 },
        "inodes" => Lacking::Inodes { needed, there },
        "vram" => Lacking::Vram { needed: sizes.0, there: sizes.1 },
        "runtime" => Lacking::Runtime,
        "features" => Lacking::Features,
        "licence" => Lacking::Licence,
        "attestations" => Lacking::Attestations,
        _ => Lacking::Ram { needed: sizes.0, there: sizes.1 },
    })
}

/// Bytes that are to be held again, the log's with the updater's: both may lie on this disk.
fn given_up(core: &Core) -> u64 {
    match core.reserve.missing_bytes() {
        0 => 0,
        missing => missing.saturating_add(core.config.record.full_disk_bytes.0),
    }
}

/// Refuses an import that would go on while the space for a full disk is given up.
pub(crate) fn judge_reserve(core: &Core) -> Result<(), Lacking> {
    match core.reserve.missing_bytes() {
        0 => Ok(()),
        needed => Err(Lacking::Disk { needed: ByteCount(needed), there: ByteCount(0) }),
    }
}

fn part(what: &str, amount: u64) -> Part {
    Part { what: what.to_owned(), amount }
}

/// Bytes of which nothing need be left over.
fn bytes<const N: usize>(name: &str, parts: [Part; N], there: Option<u64>) -> Term {
    Term::amount(name, "bytes", parts.into(), 0, there)
}

fn words(name: &str, needed: Vec<String>, holds: impl Fn(&str) -> bool) -> Term {
    let missing = needed.iter().filter(|word| !holds(word)).cloned().collect();
    Term { name: name.to_owned(), measure: Measure::Words { needed, missing } }
}

/// What the files, the evidence and the index of a release take of a file system that gives whole blocks. A
/// thousand small documents take far more than they hold.
fn blocks(release: &Release, block: u64) -> u64 {
    let whole = |bytes: u64| bytes.checked_next_multiple_of(block.max(1)).unwrap_or(u64::MAX);
    let files = release.files.iter().map(|file| whole(file.size));
    let evidence = release.attestations.iter().map(|attached| whole(attached.length));
    let index = std::iter::once(whole(release.index.length));
    files.chain(evidence).chain(index).fold(0, u64::saturating_add)
}

/// Bytes of the files that an engine maps.
fn weights(release: &Release) -> u64 {
    let mapped = |path: &str| path.ends_with(".gguf") || path.ends_with(".safetensors");
    let sizes =
        release.files.iter().filter(|file| mapped(file.path.as_str())).map(|file| file.size);
    sizes.fold(0, u64::saturating_add)
}

fn active_weights(core: &Core) -> Result<u64, ActError> {
    let Some(active) = core.shelf.active()? else { return Ok(0) };
    let envelope = active.shelved().manifest()?;
    let manifest: Manifest = crate::intake::manifest(&envelope)?;
    Ok(weights(manifest.release()))
}

/// Memory of the accelerator: none if both engines say that they run on the CPU, unknown otherwise.
fn accelerator(core: &Core, needed: u64) -> Option<u64> {
    if needed == 0 {
        return None;
    }
    let on_cpu = |slot: Slot| core.engine(slot).status().is_ok_and(|status| status.device == "cpu");
    Slot::ALL.into_iter().all(on_cpu).then_some(0)
}

/// What the release says about the appliance's version, as `at least X` and `at most Y`.
fn runtime_words(release: &Release) -> Vec<String> {
    let Some(runtime) = &release.requires.runtime else { return Vec::new() };
    let least = Some(format!("at least {}", runtime.min));
    let most = runtime.max.as_ref().map(|max| format!("at most {max}"));
    least.into_iter().chain(most).collect()
}

fn runtime_holds(word: &str) -> bool {
    let here = normal_version(RUNTIME);
    match word.rsplit_once(' ') {
        Some(("at least", least)) => normal_version(least).is_some_and(|least| here >= Some(least)),
        Some(("at most", most)) => normal_version(most).is_some_and(|most| here <= Some(most)),
        _ => false,
    }
}

/// The licences that must be allowed. Where the facility has a list, a release that states none does not
/// get around it.
fn licences(update: &Update, release: &Release) -> Vec<String> {
    if release.licences.is_empty() && !update.licences_allowed.is_empty() {
        return vec!["one that is stated".to_owned()];
    }
    release.licences.clone()
}

/// Whether the facility's list allows an SPDX expression: enough of its licences are listed. An empty
/// list allows every one.
fn licence_holds(update: &Update, expression: &str) -> bool {
    let allowed = &update.licences_allowed;
    let listed = |licence: &spdx::LicenseReq| allowed.contains(&licence.to_string());
    allowed.is_empty()
        || spdx::Expression::parse(expression).is_ok_and(|parsed| parsed.evaluate(listed))
}

fn evidence_holds(release: &Release, asked: &str) -> bool {
    let known = EVIDENCE.iter().find(|(name, _)| *name == asked);
    release.attestations.iter().any(|attached| match known {
        Some((_, beginnings)) => {
            beginnings.iter().any(|beginning| attached.predicate_type.starts_with(beginning))
        }
        None => attached.predicate_type == asked,
    })
}

#[cfg(test)]
mod tests {
    use cloister_bundle::{Cut, FileEntry, IndexEntry, Requires};
    use cloister_config::Config;
    use cloister_domain::Digest;

    use super::*;

    #[test]
    fn a_term_holds_when_needs_and_reserve_are_met() {
        let bytes = |name: &str, needed: u64, reserve: u64, there: Option<u64>| {
            Term::amount(name, "bytes", vec![part("", needed)], reserve, there)
        };
        assert!(bytes("disk", 6, 4, Some(10)).holds());
        let short = bytes("disk", 7, 4, Some(10));
        assert_eq!((short.holds(), short.margin()), (false, Some(-1)));
        assert!(bytes("vram", 7, 0, None).holds(), "what the machine does not say refuses nothing");
        assert!(!bytes("ram", u64::MAX, u64::MAX, Some(u64::MAX)).holds());
        let parts = vec![part("", 6), part("", u64::MAX)];
        assert!(!Term::amount("ram", "bytes", parts, 0, Some(u64::MAX - 1)).holds());
        let code = |name: &str| judge(&[bytes(name, 2, 0, Some(1))]).expect_err("lacking").code();
        for (name, expected) in [
            ("disk", "preflight.disk"),
            ("inodes", "preflight.inodes"),
            ("ram", "preflight.ram"),
            ("ram-while-judged", "preflight.ram"),
            ("vram", "preflight.vram"),
        ] {
            assert_eq!(code(name), expected);
        }
    }

    /// A release of 99 small files and weights of 1000 bytes.
    fn release() -> Release {
        let file = |path: String, size: u64| FileEntry {
            path: path.parse().expect("a good path"),
            size,
            sha256: Digest::of(b""),
        };
        let small = (0..99).map(|number| file(format!("documents/{number}.txt"), 10));
        let files: Vec<FileEntry> =
            small.chain([file("model/model.gguf".to_owned(), 1000)]).collect();
        let index = IndexEntry {
            sha256: Digest::of(b""),
            length: 0,
            chunks: 100,
            plain_bytes: 1990,
            stored_bytes: 1990,
            cut: Cut {
                algorithm: "fastcdc-2020".to_owned(),
                min_bytes: 1,
                avg_bytes: 1,
                max_bytes: 1,
            },
        };
        Release {
            name: "demo".to_owned(),
            version: "1.0.0".to_owned(),
            release_counter: 1,
            min_release_counter: 1,
            files,
            index,
            requires: Requires { ram_bytes: 600, vram_bytes: 70, ..Requires::default() },
            licences: Vec::new(),
            attestations: Vec::new(),
            base: None,
        }
    }

    /// The terms that refuse where there is this much, of a release of which 990 bytes are here.
    fn refusing(change: impl FnOnce(&mut Here)) -> Vec<String> {
        let update = Config::parse("[update]\nreserve_bytes = 5").expect("valid").update;
        // Just enough of everything.
        let mut here = Here {
            copies: 2,
            free_bytes: 2 * 1000 + 5,
            block_bytes: 1,
            inodes: Some(3 * 100 + 64),
            memory_bytes: Some(1000 + 200),
            accelerator_bytes: Some(70),
            active_bytes: 200,
        };
        change(&mut here);
        let terms = terms(&update, &release(), 990, here);
        terms.into_iter().filter(|term| !term.holds()).map(|term| term.name).collect()
    }

    #[test]
    fn each_amount_is_needed_to_the_last_byte() {
        assert!(refusing(|_enough| {}).is_empty());
        assert_eq!(refusing(|here| here.free_bytes -= 1), ["disk"]);
        assert_eq!(refusing(|here| here.inodes = Some(363)), ["inodes"]);
        assert_eq!(refusing(|here| here.memory_bytes = Some(1199)), ["ram-while-judged"]);
        assert_eq!(refusing(|here| here.active_bytes += 1), ["ram-while-judged"]);
        let both = ["ram", "ram-while-judged"];
        assert_eq!(refusing(|here| here.memory_bytes = Some(999)), both);
        assert_eq!(refusing(|here| here.accelerator_bytes = Some(69)), ["vram"]);
        assert_eq!(refusing(|here| here.copies = 3), ["disk"]);
        assert_eq!(refusing(|here| here.copies = u64::MAX), ["disk"]);
        assert_eq!(refusing(|here| here.active_bytes = u64::MAX), ["ram-while-judged"]);
        assert!(refusing(|here| here.inodes = None).is_empty(), "a file system without a table");
    }

    #[test]
    fn files_take_whole_blocks_of_the_disk() {
        // 99 of 10 bytes and one of 1000, twice, less what is here.
        let enough = 2 * (100 * 4096 - 990) + 5;
        let with =
            |free: u64| move |here: &mut Here| (here.block_bytes, here.free_bytes) = (4096, free);
        assert!(refusing(with(enough)).is_empty());
        assert_eq!(refusing(with(enough - 1)), ["disk"]);
        // A file system that does not say, and one whose blocks are beyond all reason.
        assert_eq!(blocks(&release(), 0), 1990);
        assert_eq!(blocks(&release(), u64::MAX), u64::MAX);
    }

    #[test]
    fn licences_are_expressions_and_enough_of_them_must_be_listed() {
        let text = "[update]\nlicences_allowed = [\"MIT\", \"Apache-2.0\", \"LicenseRef-gemma\"]";
        let listed = Config::parse(text).expect("valid").update;
        for (expression, holds) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("MIT AND (Apache-2.0 OR GPL-3.0-only)", true),
            ("LicenseRef-gemma", true),
            ("LicenseRef-other", false),
            ("Apache-2.0 WITH LLVM-exception", false),
            ("anything I like", false),
            ("", false),
        ] {
            assert_eq!(licence_holds(&listed, expression), holds, "{expression}");
        }
        let licences = |update: &Update| licences(update, &release());
        assert_eq!(
            licences(&listed),
            ["one that is stated"],
            "no licence at all is not a good one"
        );
        assert!(!licence_holds(&listed, &licences(&listed)[0]));
        let any = Config::parse("").expect("valid").update;
        assert!(licences(&any).is_empty());
        assert!(licence_holds(&any, "anything I like"));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (word, holds) in [
            ("at least 0.0.9", true),
            ("at least 99.0.0", false),
            ("at most 99.10.0", true),
            ("at most 0.0.0", false),
            ("at least 1.x", false),
            ("soon", false),
        ] {
            assert_eq!(runtime_holds(word), holds, "{word}");
        }
        assert!(normal_version("0.10.0") > normal_version("0.9.9"));
    }
}
