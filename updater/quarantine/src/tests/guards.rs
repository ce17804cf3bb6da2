//! Each refusal by itself: where two stand behind each other, one is met alone.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use cloister_bundle::{BundleError, Foreign, limits::CARRIED_BYTES_MAX};

use super::*;

/// A member as it lies in a volume.
fn member(member: Member, content: &[u8]) -> Vec<u8> {
    let block = header(&member.name(), content.len() as u64).expect("a good name");
    let zeros = vec![0; padding(content.len() as u64)];
    [&block[..], content, &zeros].concat()
}

fn source(bytes: Vec<u8>) -> Source<Cursor<Vec<u8>>> {
    Source::new(Cursor::new(bytes), Ending::File)
}

#[test]
fn a_member_is_the_signed_one_or_none() {
    for right in [true, false] {
        let content = if right { b"evidence" } else { b"another!" };
        let expected = signed(b"evidence");
        let name = Member::Attestation(expected.sha256);
        let taken = source(member(name, content)).attestation(expected);
        assert_eq!(taken.is_ok(), right);
        assert!(right || taken.expect_err("another").code() == "quarantine.member");
        let taken = source(member(Member::Index, content)).index(expected, &mut io::sink());
        assert_eq!(taken.is_ok(), right);
        assert!(right || taken.expect_err("another").code() == "quarantine.member");
    }
}

#[test]
fn a_member_that_is_larger_than_its_kind_may_be_is_not_read() {
    for (kind, max) in
        [(Member::Attestation(Digest::of(b"x")), 8u64 << 20), (Member::Index, 256 << 20)]
    {
        let bytes = max + 1;
        let block = header(&kind.name(), bytes).expect("a good name");
        let mut source = source(block.to_vec());
        let expected = Expected { sha256: Digest::of(b"x"), bytes: ByteCount(bytes) };
        let taken = match kind {
            Member::Index => source.index(expected, &mut io::sink()),
            _ => source.attestation(expected).map(drop),
        };
        assert_eq!(taken.expect_err("too large").code(), "bundle.container.size");
        assert_eq!(source.read_bytes(), ByteCount(0), "not even its header");
    }
    // Nor are the bits of a thin volume: what then comes is taken for the first chunk.
    let chunks = (CARRIED_BYTES_MAX + 1) * 8;
    let block = header(&Member::Carried.name(), CARRIED_BYTES_MAX + 1).expect("a good name");
    let mut source = source(block.to_vec());
    assert!(source.carried(chunks).expect("nothing is read yet").is_none());
    assert_eq!(source.read_bytes(), ByteCount(512));
}

#[test]
fn a_file_of_another_kind_is_called_what_it_is() {
    let told = |bytes: Vec<u8>| match source(bytes).opening() {
        Err(QuarantineError::Form(error)) => error,
        other => panic!("{other:?}"),
    };
    for (begin, kind) in [
        (b"".as_slice(), Foreign::Empty),
        (b"\x1f\x8b\x08", Foreign::Gzip),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n", Foreign::AgeArmour),
        (b"\x7fELF", Foreign::Elf),
        (b"a letter\n", Foreign::Text),
    ] {
        assert_eq!(told(begin.to_vec()), BundleError::Foreign(kind));
        if !begin.is_empty() && kind != Foreign::Text {
            let long = [begin, &[0xee; 2000]].concat();
            assert_eq!(told(long), BundleError::Foreign(kind));
        }
    }
    let mut disc = vec![0; 40_000];
    disc[32_769..32_774].copy_from_slice(b"CD001");
    assert_eq!(told(disc), BundleError::Foreign(Foreign::Iso));
    // A volume that was cut or damaged stays one, and so does what nobody knows.
    let whole = member(Member::Head, b"{}");
    assert_eq!(told(whole[..100].to_vec()), BundleError::Truncated);
    let mut damaged = whole;
    damaged[1] ^= 1;
    assert_eq!(told(damaged), BundleError::Header { member: 0 });
    assert_eq!(told(vec![0xee; 2000]), BundleError::Header { member: 0 });
    assert_eq!(told(vec![0xee; 20]), BundleError::Truncated);
}

#[test]
fn nothing_follows_a_volume_of_trust_metadata() {
    let meta = member(Member::Meta, b"metadata");
    let whole = [&meta[..], &[0; END_BYTES]].concat();
    match source(whole.clone()).opening().expect("read") {
        Opening::Trust(taken) => assert_eq!(taken, b"metadata"),
        Opening::Place(_) => panic!("no release is there"),
    }
    for (bytes, code) in [
        (meta.clone(), "bundle.container.truncated"),
        ([&meta[..], &meta].concat(), "bundle.container.end"),
        ([&whole[..], b"x"].concat(), "bundle.container.end"),
    ] {
        assert_eq!(source(bytes).opening().expect_err("refused").code(), code);
    }
}

#[test]
fn a_copy_does_not_begin_without_the_space_for_it() {
    let release = Release::new();
    let folder = tempfile::tempdir().expect("a folder");
    let volume = release.whole();
    let mut source = source(volume);
    let place = source.place().expect("read");
    let head = source.head(place).expect("read");
    let attestations = [source.attestation(signed(&release.attestation)).expect("read")];
    let index = read_index(&mut source, &release.index, &release.entries).expect("read");
    let before = source.read_bytes();
    let task = Task {
        plan: &release.plan,
        index: &index,
        volume: &head.volume,
        carried: None,
        attestations: &attestations,
        reserve: ByteCount(1 << 60),
    };
    let mut parts = Parts::open(folder.path(), &release.plan, &index).expect("opened");
    let error = task.copy(&mut parts, &mut source, go_on).expect_err("no space");
    assert_eq!(error.code(), "quarantine.space");
    assert_eq!(source.read_bytes(), before, "no chunk was read");
    // Parts that somebody changed since they were looked at are not written into.
    fs::write(folder.path().join("7/files/0.part"), b"other").expect("written");
    let task = Task { reserve: ByteCount(0), ..task };
    let error = task.copy(&mut parts, &mut source, go_on).expect_err("changed");
    assert_eq!(error.code(), "quarantine.plan");
    assert_eq!(source.read_bytes(), before, "no chunk was read");
}

#[test]
fn a_link_in_place_of_evidence_or_of_a_folder_is_not_followed() {
    let release = Release::new();
    let import = |folder: &Path| {
        let error = release.import(Cursor::new(release.whole()), folder, go_on);
        assert_eq!(error.expect_err("refused").code(), "quarantine.write");
    };
    let outside = tempfile::tempdir().expect("a folder");
    let folder = tempfile::tempdir().expect("a folder");
    let attest = folder.path().join("7/attest");
    fs::create_dir_all(&attest).expect("made");
    let name = Digest::of(&release.attestation).to_string();
    symlink(outside.path().join("evidence"), attest.join(name)).expect("linked");
    import(folder.path());
    for place in ["7/files", "7/attest"] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("7")).expect("made");
        symlink(outside.path(), folder.path().join(place)).expect("linked");
        import(folder.path());
    }
    assert_eq!(fs::read_dir(outside.path()).expect("there").count(), 0);
}

#[test]
fn what_is_made_is_for_this_user_and_its_group() {
    let release = Release::new();
    let folder = tempfile::tempdir().expect("a folder");
    whole(release.import(Cursor::new(release.whole()), folder.path(), go_on).expect("copied"));
    let attestation = format!("7/attest/{}", Digest::of(&release.attestation));
    for place in ["7/files", "7/attest", "7/files/0.part", &attestation] {
        let mode = fs::metadata(folder.path().join(place)).expect("there").permissions().mode();
        assert_eq!(mode & 0o007, 0, "{place} has {mode:o}");
    }
}

#[test]
fn a_chunk_that_is_in_no_index_was_not_filled_in() {
    let release = Release::new();
    let folder = tempfile::tempdir().expect("a folder");
    let index = release.table();
    let mut parts = Parts::open(folder.path(), &release.plan, &index).expect("opened");
    for number in [release.stored.len() as u64, u64::from(u32::MAX) + 1, u64::MAX] {
        let error = parts.take_filled(&index, &[number]).expect_err("no such chunk");
        assert_eq!(error.code(), "quarantine.plan");
    }
    // Nothing was written to the place of this one.
    parts.take_filled(&index, &[1]).expect("hashed");
    assert_eq!(parts.held_bytes(&index).expect("readable"), 0);
}
