//! A small signed release with its trust root, for others to damage. Everything in it, the keys
//! included, follows from a seed, so nobody must ever trust such a root.

mod model;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use cloister_attest::SigningKey;
use cloister_domain::{Digest, Secret};
use cloister_mint::{
    build::{Package, Spec},
    importer::{Delegation, Importer},
    keys::Holder,
    trust::{Folder, Roles},
};
use serde_json::json;

use crate::Dice;

/// The release's name and version.
pub const RELEASE: (&str, &str) = ("sample", "1.0.0");
/// The keepers of the root, of whom two sign.
pub const OFFICERS: [&str; 3] = ["officer-1", "officer-2", "officer-3"];
/// The persons who would approve.
pub const APPROVERS: [&str; 2] = ["ada", "bob"];
/// Who lets the release in.
pub const IMPORTER: &str = "importer";
/// Who makes it.
pub const PUBLISHER: &str = "publisher";

/// When root and metadata expire. No clock is read; it lies beyond every test.
pub const EXPIRES: &str = "2099-01-01T00:00:00Z";

/// What a sample is to be.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Everything follows from it.
    pub seed: u64,
    /// Volumes that the release is spread over.
    pub volumes: u32,
    /// Whether it holds a language model, and not documents only.
    pub model: bool,
    /// Bytes of text beside all that, to make it larger.
    pub ballast: usize,
}

/// A sample on disk.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its volumes, in order.
    pub volumes: Vec<PathBuf>,
    /// The trust root.
    pub root: PathBuf,
}

/// The key of `person` in the samples of `seed`.
///
/// # Panics
/// Never: a digest has the length of a seed.
#[must_use]
pub fn key(seed: u64, person: &str) -> SigningKey {
    let text = format!("cloister sample key\n{seed}\n{person}\n");
    let seed = Secret::new(Digest::of(text.as_bytes()).as_bytes().to_vec());
    SigningKey::from_seed(&seed).expect("a digest has 32 bytes")
}

/// Writes the volumes and `1.root.json` into `out`, which is made if it is not there.
///
/// # Errors
/// When it cannot be written, or the release cannot be spread over so many volumes.
pub fn write(out: &Path, wish: &Wish) -> Result<Sample> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let scratch = tempfile::Builder::new().prefix("cloister-sample-").tempdir()?;
    let tree = scratch.path().join("tree");
    lay_out(&tree, wish)?;
    let publisher = key(wish.seed, PUBLISHER);
    let mut package = Package::build(&tree, &spec(), &[publisher], scratch.path())?;
    let trust = trust(&scratch.path().join("trust"), wish.seed)?;
    let keys = [key(wish.seed, IMPORTER)];
    trust.admit(package.envelope(), &Importer::new(&keys, EXPIRES))?;
    let meta = trust.meta()?;
    let bytes = volume_bytes(&mut package, &meta, wish.volumes, scratch.path())?;
    let volumes = package.write(out, &meta, bytes)?;
    let root = out.join("1.root.json");
    fs::copy(trust.first_root(), &root)?;
    Ok(Sample { volumes, root })
}

/// A size of volume that gives exactly `volumes` of them.
fn volume_bytes(package: &mut Package, meta: &[u8], volumes: u32, scratch: &Path) -> Result<u64> {
    let folder = scratch.join("trial");
    fs::create_dir_all(&folder)?;
    let (mut low, mut high) = (0u64, 1u64 << 32);
    loop {
        let middle = low.midpoint(high);
        let made = package.write(&folder, meta, middle)?.len();
        match made.cmp(&usize::try_from(volumes)?) {
            std::cmp::Ordering::Equal => return Ok(middle),
            std::cmp::Ordering::Greater => low = middle + 1,
            std::cmp::Ordering::Less => high = middle,
        }
        ensure!(low < high, "the sample cannot be spread over exactly {volumes} volumes");
    }
}

fn spec() -> Spec {
    let statement =
        json!({"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicate": {}});
    Spec {
        name: RELEASE.0.to_owned(),
        version: RELEASE.1.to_owned(),
        counter: 1,
        min_counter: 1,
        licences: vec!["Apache-2.0 OR MIT".to_owned()],
        ram_bytes: 0,
        vram_bytes: 0,
        features: Vec::new(),
        runtime_min: None,
        attestations: vec![(
            "https://slsa.dev/provenance/v1".to_owned(),
            statement.to_string().into_bytes(),
        )],
    }
}

fn trust(folder: &Path, seed: u64) -> Result<Folder> {
    let holder = |person: &&str| -> Result<Holder> {
        Ok(Holder { person: person.parse()?, key: key(seed, person).public().into() })
    };
    let holders = |persons: &[&str]| persons.iter().map(holder).collect::<Result<Vec<_>>>();
    let roles = Roles {
        root: holders(&OFFICERS)?,
        root_threshold: 2,
        importers: holders(&[IMPORTER])?,
        approvers: holders(&APPROVERS)?,
        approvals: 2,
        publishers: holders(&[PUBLISHER])?,
        expires: EXPIRES.to_owned(),
        ..Roles::default()
    };
    let trust = Folder::at(folder)?;
    trust.create_root(&roles, &[key(seed, OFFICERS[0]), key(seed, OFFICERS[1])])?;
    let delegation = Delegation {
        name: PUBLISHER.to_owned(),
        publishers: roles.publishers,
        threshold: 1,
        paths: vec![format!("{}/*", RELEASE.0)],
        algorithms: Vec::new(),
    };
    trust.delegate(&delegation, &Importer::new(&[key(seed, IMPORTER)], EXPIRES))?;
    Ok(trust)
}

/// Files of every kind that a volume stores differently: text that packs, bytes that do not, an
/// empty one.
fn lay_out(tree: &Path, wish: &Wish) -> Result<()> {
    let mut dice = Dice::new(wish.seed);
    let put = |name: &str, bytes: &[u8]| -> Result<()> {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        Ok(fs::write(path, bytes)?)
    };
    let documents = [("inspection.md", 12), ("stowage.md", 7)];
    let listed: Vec<_> = documents
        .iter()
        .map(|(name, _)| json!({"path": format!("documents/handbook/{name}"), "name": name}))
        .collect();
    let collections =
        json!({"collections": [{"name": "handbook", "label": "open", "documents": listed}]});
    put("documents/collections.json", collections.to_string().as_bytes())?;
    for (name, paragraphs) in documents {
        let paragraph = format!(
            "Case {}: two persons look at the seal, and both write down what they saw.\n\n",
            dice.roll() % 1000
        );
        let path = format!("documents/handbook/{name}");
        put(&path, paragraph.repeat(paragraphs).as_bytes())?;
    }
    put("documents/handbook/empty.md", b"")?;
    let serials: String = (0..8).map(|_| format!("{:016x}\n", dice.roll())).collect();
    put("provenance/serials.txt", serials.as_bytes())?;
    // Each larger than everything before them, or after: volumes of that size hold one part each, and
    // there is one volume before and one after.
    let bytes = if wish.model { 64 << 10 } else { 8 << 10 };
    if wish.ballast > 0 {
        put("provenance/ballast.txt", dice.text(wish.ballast).as_bytes())?;
    }
    for part in 2..wish.volumes {
        put(&format!("provenance/part-{part:04}.txt"), dice.text(bytes * 3 / 2).as_bytes())?;
    }
    if wish.model {
        let source = tree.with_file_name("model");
        model::write(&source, &mut dice)?;
        let order = cloister_mint::prepare::Order {
            model: source,
            quantise: false,
            template: None,
            embedding: None,
        };
        cloister_mint::prepare::prepare(tree, &order)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::read_file;

    fn bytes_of(wish: &Wish) -> Vec<Vec<u8>> {
        let folder = tempfile::tempdir().expect("a folder");
        let sample = write(folder.path(), wish).expect("written");
        let all = sample.volumes.iter().chain([&sample.root]);
        all.map(|path| read_file(path).expect("readable")).collect()
    }

    #[test]
    fn a_sample_is_a_function_of_its_seed() {
        let wish = Wish { seed: 7, volumes: 1, model: true, ballast: 0 };
        let first = bytes_of(&wish);
        assert_eq!(first.len(), 2);
        assert_eq!(first, bytes_of(&wish));
        assert_ne!(first, bytes_of(&Wish { seed: 8, ..wish }));
        assert!(first.iter().map(Vec::len).sum::<usize>() < 128 << 10, "a sample is small");
    }

    #[test]
    fn a_sample_is_spread_over_as_many_volumes_as_asked() {
        for (volumes, model) in [(1, true), (2, true), (3, false), (7, false), (20, false)] {
            let made = bytes_of(&Wish { seed: 1, volumes, model, ballast: 0 });
            assert_eq!(made.len(), volumes as usize + 1);
        }
    }
}
