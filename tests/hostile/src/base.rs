//! A valid volume taken apart, and put together again around content of one's own.

use anyhow::{Context as _, Result, ensure};
use cloister_attest::{SigningKey, dsse::Envelope, json};
use cloister_bundle::container::{BLOCK_BYTES, END_BYTES, header, padding};
use cloister_domain::{Digest, Hasher};
use cloister_stage::{
    release::read_file,
    sample::{self, APPROVERS, IMPORTER, OFFICERS, PUBLISHER, Wish},
};
use serde_json::{Value, json};

/// The seed of everything here.
const SEED: u64 = 5;

/// Somebody whom nobody knows.
pub const STRANGER: &str = "stranger";

/// Everybody who has a key, and the stranger.
#[must_use]
pub fn persons() -> Vec<&'static str> {
    let roles = [IMPORTER, PUBLISHER, STRANGER];
    OFFICERS.into_iter().chain(APPROVERS).chain(roles).collect()
}

/// The key of a person.
#[must_use]
pub fn key(person: &str) -> SigningKey {
    sample::key(SEED, person)
}

/// The members of a volume with their names, in order.
pub type Members = Vec<(String, Vec<u8>)>;

/// A valid volume: text that packs, text that does not, an empty file, an attestation.
#[derive(Clone, Debug)]
pub struct Base {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// The trust root.
    pub root: Vec<u8>,
    /// The volume's members.
    pub members: Members,
    /// The files inside `clb/10-meta`.
    pub meta: Members,
    /// What the publisher signed.
    pub statement: Value,
}

impl Base {
    /// Makes a small volume.
    pub fn new() -> Result<Self> {
        Self::with_ballast(0)
    }

    /// Makes a volume with so many bytes of text more, of which a quarter packs away.
    pub fn with_ballast(ballast: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let wish = Wish { seed: SEED, volumes: 1, model: false, ballast };
        let sample = sample::write(folder.path(), &wish)?;
        let bytes = read_file(sample.volumes.first().context("no volume")?)?;
        let root = read_file(&sample.root)?;
        let members = unpack(&bytes)?;
        let meta = unpack(content(&members, "clb/10-meta")?)?;
        let envelope = Envelope::parse(content(&members, "clb/20-manifest")?)?;
        let statement = serde_json::from_slice(&envelope.payload)?;
        let base = Self { bytes, root, members, meta, statement };
        ensure!(pack(&base.members) == base.bytes, "a volume put together is the same volume");
        Ok(base)
    }

    /// The content of a member.
    pub fn member(&self, name: &str) -> Result<&[u8]> {
        content(&self.members, name)
    }

    /// The signed part of a file of the metadata.
    pub fn signed(&self, file: &str) -> Result<Value> {
        let mut whole: Value = serde_json::from_slice(content(&self.meta, file)?)?;
        Ok(whole["signed"].take())
    }

    /// The stored chunks, in their order.
    #[must_use]
    pub fn chunks(&self) -> Vec<Vec<u8>> {
        let chunks = self.members.iter().filter(|(name, _)| name.starts_with("c/"));
        chunks.map(|(_, content)| content.clone()).collect()
    }

    /// The volume with another content of one member.
    #[must_use]
    pub fn with(&self, name: &str, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut members = self.members.clone();
        for (_, content) in members.iter_mut().filter(|(member, _)| member == name) {
            *content = bytes.as_ref().to_vec();
        }
        pack(&members)
    }

    /// The volume with these files of metadata.
    #[must_use]
    pub fn with_meta(&self, meta: &Members) -> Vec<u8> {
        self.with("clb/10-meta", pack(meta))
    }

    /// The volume with this signed manifest, which the importer lists as `path`.
    pub fn with_envelope(&self, path: &str, envelope: &[u8]) -> Result<Members> {
        let mut targets = self.signed("targets.json")?;
        targets["targets"] = json!({path: listing(envelope)});
        let mut members = self.members.clone();
        for (name, content) in &mut members {
            match name.as_str() {
                "clb/10-meta" => *content = pack(&self.chain(&Chain::of(targets.clone()))?),
                "clb/20-manifest" => *content = envelope.to_vec(),
                _ => {}
            }
        }
        Ok(members)
    }

    /// The volume whose publisher signed this statement, right in everything else.
    pub fn with_statement(&self, statement: &Value) -> Result<Members> {
        let payload = statement.to_string().into_bytes();
        let bundle = Digest::of(&payload).to_string();
        let mut members = self.with_envelope(&path_of(statement), &sealed(payload))?;
        let head = members.first_mut().context("a volume has a head")?;
        let mut hints: Value = serde_json::from_slice(&head.1)?;
        hints["bundle"] = bundle.into();
        head.1 = json::canonical(&hints)?;
        Ok(members)
    }

    /// The volume whose publisher signed this table, with `chunks` as its chunks.
    pub fn with_index(&self, table: &[u8], chunks: &[Vec<u8>]) -> Result<Vec<u8>> {
        let mut statement = self.statement.clone();
        let index = &mut statement["predicate"]["index"];
        index["sha256"] = Digest::of(table).to_string().into();
        index["length"] = table.len().into();
        let sum = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(*table.get(at..)?.first_chunk::<8>()?))
        };
        for (field, at) in [("chunks", 8), ("plain_bytes", 16), ("stored_bytes", 24)] {
            // Above 2^53 no signed number can say it; the table then contradicts the manifest.
            if let Some(value) = sum(at).filter(|value| *value < 1 << 53) {
                index[field] = value.into();
            }
        }
        let mut members = self.with_statement(&statement)?;
        let first = members.iter().position(|(name, _)| name.starts_with("c/"));
        members.truncate(first.context("a volume has chunks")?);
        for (name, content) in &mut members {
            if name == "clb/40-index" {
                *content = table.to_vec();
            }
        }
        members
            .extend(chunks.iter().map(|bytes| (format!("c/{}", Digest::of(bytes)), bytes.clone())));
        Ok(pack(&members))
    }

    /// The files of metadata, signed from the bottom up so that each names the one below.
    pub fn chain(&self, chain: &Chain<'_>) -> Result<Members> {
        let targets = signed(&chain.targets, &chain.targets_by)?;
        let mut snapshot = self.signed("snapshot.json")?;
        snapshot["meta"] = json!({"targets.json": versioned(&targets, &chain.targets)});
        (chain.change_snapshot)(&mut snapshot);
        let snapshot_text = signed(&snapshot, &chain.snapshot_by)?;
        let mut timestamp = self.signed("timestamp.json")?;
        timestamp["meta"] = json!({"snapshot.json": versioned(&snapshot_text, &snapshot)});
        (chain.change_timestamp)(&mut timestamp);
        let timestamp = signed(&timestamp, &chain.timestamp_by)?;
        let texts = [
            ("snapshot.json", snapshot_text),
            ("targets.json", targets),
            ("timestamp.json", timestamp),
        ];
        let mut meta = self.meta.clone();
        for (name, text) in texts {
            let file = meta.iter_mut().find(|(file, _)| file == name);
            file.context("the sample has the file")?.1 = text;
        }
        Ok(meta)
    }
}

/// The importer's three files, with what is to be different in them.
pub struct Chain<'a> {
    /// The signed part of `targets.json`.
    pub targets: Value,
    /// Who signs it.
    pub targets_by: Vec<&'a str>,
    /// A last change to `snapshot.json` before it is signed.
    pub change_snapshot: Box<dyn Fn(&mut Value) + 'a>,
    /// Who signs it.
    pub snapshot_by: Vec<&'a str>,
    /// A last change to `timestamp.json` before it is signed.
    pub change_timestamp: Box<dyn Fn(&mut Value) + 'a>,
    /// Who signs it.
    pub timestamp_by: Vec<&'a str>,
}

impl std::fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("targets", &self.targets).finish_non_exhaustive()
    }
}

impl Chain<'_> {
    /// These targets, everything signed by the importer.
    #[must_use]
    pub fn of(targets: Value) -> Self {
        Self {
            targets,
            targets_by: vec![IMPORTER],
            change_snapshot: Box::new(|_same| {}),
            snapshot_by: vec![IMPORTER],
            change_timestamp: Box::new(|_same| {}),
            timestamp_by: vec![IMPORTER],
        }
    }
}

/// A file of TUF: the signed part with one signature of each person.
pub fn signed(part: &Value, persons: &[&str]) -> Result<Vec<u8>> {
    // What has no canonical form cannot be signed; the text stands there all the same.
    let message = json::canonical_tuf(part).unwrap_or_default();
    let signatures: Vec<Value> = persons
        .iter()
        .map(|person| {
            let key = key(person);
            json!({"keyid": key.public().key_id(), "sig": hex(&key.sign(&message))})
        })
        .collect();
    Ok(serde_json::to_vec(&json!({"signatures": signatures, "signed": part}))?)
}

/// A payload in an envelope that the publisher signed.
#[must_use]
pub fn sealed(payload: Vec<u8>) -> Vec<u8> {
    let envelope = Envelope::unsigned(cloister_attest::dsse::PAYLOAD_TYPE, payload);
    envelope.sign_with(&key(PUBLISHER)).to_json()
}

/// Where the importer lists a statement's manifest.
#[must_use]
pub fn path_of(statement: &Value) -> String {
    let text = |field: &str| {
        statement["predicate"][field].as_str().unwrap_or(match field {
            "name" => sample::RELEASE.0,
            _ => sample::RELEASE.1,
        })
    };
    cloister_verify::target_path(text("name"), text("version"))
}

/// What a role above says of a file.
#[must_use]
pub fn listing(text: &[u8]) -> Value {
    json!({"hashes": {"sha256": Digest::of(text).to_string()}, "length": text.len()})
}

fn versioned(text: &[u8], part: &Value) -> Value {
    let mut entry = listing(text);
    entry["version"] = part["version"].clone();
    entry
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A container of the members as they are, whatever their names.
#[must_use]
pub fn pack(members: &Members) -> Vec<u8> {
    let mut out: Vec<u8> =
        members.iter().flat_map(|(name, content)| member(name, content)).collect();
    out.extend([0; END_BYTES]);
    out
}

/// One member: header, content, padding.
#[must_use]
pub fn member(name: &str, content: &[u8]) -> Vec<u8> {
    let bytes = content.len() as u64;
    let header = header(name, bytes).expect("names here fit into a header");
    [&header[..], content, &[0; BLOCK_BYTES][..padding(bytes)]].concat()
}

/// The members of a container of the accepted form.
pub fn unpack(mut bytes: &[u8]) -> Result<Members> {
    let mut members = Members::new();
    while let Some((block, rest)) = bytes.split_at_checked(BLOCK_BYTES) {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(members);
        }
        let name = block.iter().take(100).take_while(|byte| **byte != 0).copied().collect();
        let size = std::str::from_utf8(&block[124..135])?;
        let size = u64::from_str_radix(size, 8)?;
        let (content, rest) = rest.split_at(usize::try_from(size)?);
        members.push((String::from_utf8(name)?, content.to_vec()));
        bytes = rest.get(padding(size)..).context("a container ends with its end")?;
    }
    anyhow::bail!("a container without an end")
}

fn content<'a>(members: &'a Members, name: &str) -> Result<&'a [u8]> {
    let found = members.iter().find(|(member, _)| member == name);
    Ok(&found.with_context(|| format!("no member {name}"))?.1)
}

/// The digest over two texts, to tell pairs apart.
#[must_use]
pub fn digest_of(texts: &[&[u8]]) -> Digest {
    let mut hasher = Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.finish()
}
