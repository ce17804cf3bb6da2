//! A small release on a volume, and an updaterd that judges nothing and checks the order of messages.

use std::sync::Mutex;

use cloister_bundle::{
    Chunk, Codec, FileEntry, Index, VolumeHead,
    container::{END_BYTES, Member, header, padding},
    handover::{
        Answer, Complete, Expected, Missing, Offer, Plan, PlannedFile, Purpose, Request, Seen,
    },
};
use cloister_config::Config;
use cloister_daemon::Connection;
use cloister_domain::{ByteCount, Class, Digest, GenerationId, ImportId};
use cloister_wire::{
    Problem,
    intake::{Parked, Summary, Trusted},
};

/// Bytes of a chunk that is not a file's last.
const CHUNK_BYTES: usize = 4096;

/// A release of two files.
pub(crate) struct Release {
    pub(crate) files: Vec<Vec<u8>>,
    pub(crate) index: Index,
    stored: Vec<Vec<u8>>,
    entries: Vec<FileEntry>,
}

impl Release {
    /// A release whose files hold `content` again and again.
    pub(crate) fn of(content: &str) -> Self {
        let files = vec![content.repeat(2000).into_bytes(), content.repeat(3).into_bytes()];
        let (mut chunks, mut stored) = (Vec::new(), Vec::new());
        for (file, bytes) in (0..).zip(&files) {
            for (at, plain) in (0..).zip(bytes.chunks(CHUNK_BYTES)) {
                chunks.push(Chunk {
                    stored: Digest::of(plain),
                    stored_bytes: plain.len() as u64,
                    plain_bytes: plain.len() as u64,
                    content: Digest::of(plain),
                    codec: Codec::Raw,
                    file,
                    offset: at * CHUNK_BYTES as u64,
                });
                stored.push(plain.to_vec());
            }
        }
        let entries: Vec<FileEntry> = (0..)
            .zip(&files)
            .map(|(number, bytes): (u32, _)| FileEntry {
                path: format!("f{number}").parse().expect("a good path"),
                size: bytes.len() as u64,
                sha256: Digest::of(bytes),
            })
            .collect();
        let index = Index::new(chunks, &entries).expect("covered");
        Self { files, index, stored, entries }
    }

    pub(crate) fn generation(&self) -> GenerationId {
        GenerationId(Digest::of(&self.index.encode()))
    }

    /// The bytes of the release's only volume.
    pub(crate) fn volume(&self) -> Vec<u8> {
        self.part(1, 1)
    }

    /// The bytes of one of several volumes.
    pub(crate) fn part(&self, volume: u32, volumes: u32) -> Vec<u8> {
        let at = |volume: u32| self.stored.len() * volume as usize / volumes as usize;
        let (first, end) = (at(volume - 1), at(volume));
        let head = VolumeHead {
            format: 1,
            bundle: self.generation(),
            volume,
            volumes,
            first_chunk: first as u64,
            chunks: (end - first) as u64,
        };
        let mut out = Vec::new();
        let mut put = |member: Member, content: &[u8]| {
            let bytes = content.len() as u64;
            out.extend_from_slice(&header(&member.name(), bytes).expect("a good name"));
            out.extend_from_slice(content);
            out.extend(std::iter::repeat_n(0, padding(bytes)));
        };
        put(Member::Head, &head.encode());
        put(Member::Meta, b"metadata");
        put(Member::Manifest, b"manifest");
        put(Member::Index, &self.index.encode());
        for bytes in &self.stored[first..end] {
            put(Member::Chunk(Digest::of(bytes)), bytes);
        }
        out.extend([0; END_BYTES]);
        out
    }

    /// A volume that brings trust metadata, and no part of a release.
    pub(crate) fn trust(meta: &[u8]) -> Vec<u8> {
        let bytes = meta.len() as u64;
        let mut out = header(&Member::Meta.name(), bytes).expect("a good name").to_vec();
        out.extend_from_slice(meta);
        out.extend(std::iter::repeat_n(0, padding(bytes)));
        out.extend([0; END_BYTES]);
        out
    }

    fn summary(&self) -> Summary {
        Summary {
            generation: self.generation(),
            name: "test".to_owned(),
            version: "1".to_owned(),
            counter: 1,
            signers: Vec::new(),
            root_version: 1,
            plain_bytes: ByteCount(self.index.plain_bytes()),
            stored_bytes: ByteCount(self.index.stored_bytes()),
            present_bytes: ByteCount(0),
            files: Vec::new(),
            fit: Vec::new(),
        }
    }
}

/// What intaked told updaterd at the end of each conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Trust metadata that is to be kept.
    Trust(Vec<u8>),
    Complete(Complete),
    Parted(Missing),
    Abort {
        code: String,
        resumable: bool,
    },
    HungUp,
}

/// Takes intaked's side of the story; stricter in its order than the real one.
pub(crate) struct Updaterd<'a> {
    pub(crate) release: &'a Release,
    /// What to answer an offer with, if not with `Seen`.
    pub(crate) refuse: Option<Problem>,
    /// Which imports wait for volumes.
    pub(crate) parked: Vec<Parked>,
    pub(crate) told: Mutex<Vec<Told>>,
}

impl<'a> Updaterd<'a> {
    pub(crate) fn new(release: &'a Release) -> Self {
        let (parked, told) = (Vec::new(), Mutex::new(Vec::new()));
        Self { release, refuse: None, parked, told }
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.lock().expect("no panic").clone()
    }

    /// One conversation.
    pub(crate) fn converse(&self, config: &Config, intaked: &Connection) {
        let first = intaked.read::<Request>().expect("a request").expect("one at least");
        if matches!(first, Request::Parked | Request::Begin) {
            return intaked.write(&Answer::Parked(self.parked.clone())).expect("intaked listens");
        }
        if let Request::Trust { meta, keep } = first {
            return intaked.write(&self.trust(meta.0, keep)).expect("intaked listens");
        }
        let told = self.conversation(config, intaked, first);
        self.told.lock().expect("no panic").push(told);
    }

    fn conversation(&self, config: &Config, intaked: &Connection, first: Request) -> Told {
        let next = || intaked.read::<Request>().expect("a request");
        let offer = match Some(first) {
            Some(Request::Offer(offer)) => offer,
            Some(Request::Abort { problem, resumable }) => {
                intaked.write(&Answer::Aborted).expect("intaked listens");
                return Told::Abort { code: problem.code, resumable };
            }
            other => panic!("an offer comes first, not {other:?}"),
        };
        if let Some(problem) = &self.refuse {
            intaked.write(&Answer::Problem(problem.clone())).expect("intaked listens");
            assert_eq!(next(), None, "nothing follows a refusal");
            return Told::HungUp;
        }
        self.see(&offer, intaked);
        loop {
            match next() {
                None => return Told::HungUp,
                Some(Request::Index { part }) => {
                    assert_eq!(part.0, self.release.index.encode());
                    intaked.write(&self.plan(config)).expect("intaked listens");
                }
                Some(Request::Progress { done_bytes }) => {
                    assert!(done_bytes.0 <= self.release.index.plain_bytes());
                }
                Some(Request::Complete(complete)) => {
                    let generation = self.release.generation();
                    intaked.write(&Answer::Adopted { generation }).expect("intaked listens");
                    return Told::Complete(complete);
                }
                Some(Request::Abort { problem, resumable }) => {
                    intaked.write(&Answer::Aborted).expect("intaked listens");
                    return Told::Abort { code: problem.code, resumable };
                }
                Some(Request::Parted { missing, problem, .. }) => {
                    assert_eq!(problem.code, "intake.volume.more");
                    intaked.write(&Answer::Kept).expect("intaked listens");
                    return Told::Parted(missing);
                }
                Some(other) => panic!("out of order: {other:?}"),
            }
        }
    }

    /// Believes `root`, believes `later` once the other is kept, and nothing else.
    fn trust(&self, meta: Vec<u8>, keep: bool) -> Answer {
        let mut told = self.told.lock().expect("no panic");
        let kept = |meta: &[u8]| told.contains(&Told::Trust(meta.to_vec()));
        let newer = !kept(&meta);
        let good = meta == b"root" || (meta == b"later" && kept(b"root"));
        if keep {
            told.push(Told::Trust(meta));
        }
        if !good {
            return Answer::Problem(threshold());
        }
        Answer::Trusted(Trusted {
            newer,
            kept: keep,
            root_version: 1,
            targets_version: 1,
            stick: 0,
            revoked: Vec::new(),
        })
    }

    fn see(&self, offer: &Offer, intaked: &Connection) {
        assert_eq!(
            (&offer.meta.0[..], &offer.manifest.0[..]),
            (&b"metadata"[..], &b"manifest"[..])
        );
        let index = self.release.index.encode();
        let seen = Seen {
            import: (offer.purpose == Purpose::Import).then_some(ImportId(7)),
            files: self.planned(),
            summary: self.release.summary(),
            attestations: Vec::new(),
            index: Expected { sha256: Digest::of(&index), bytes: ByteCount(index.len() as u64) },
        };
        intaked.write(&Answer::Seen(Box::new(seen))).expect("intaked listens");
    }

    fn plan(&self, config: &Config) -> Answer {
        std::fs::create_dir_all(config.paths.quarantine().join("7")).expect("made");
        Answer::Plan(Plan {
            import: ImportId(7),
            generation: self.release.generation(),
            folder: "7".to_owned(),
            files: self.planned(),
        })
    }

    fn planned(&self) -> Vec<PlannedFile> {
        let planned = |file: &FileEntry| PlannedFile {
            bytes: ByteCount(file.size),
            sha256: file.sha256,
            present: false,
        };
        self.release.entries.iter().map(planned).collect()
    }
}

/// A refusal such as updaterd gives.
pub(crate) fn threshold() -> Problem {
    Problem::new(Class::Refused, "bundle.signature.threshold", "1 of 2 signatures are good")
}
