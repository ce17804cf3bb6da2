//! A bit that changes at rest is found, and what holds it can be taken away.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test reads the small files that it wrote")]

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use cloister_domain::{ByteCount, Coded as _, Digest, GenerationId};
use cloister_shelf::{Found, Object, Shelf};

const CONTENT: &[u8] = &[7; 200_000];

fn adopt(shelf: &Shelf, place: &Path, content: &[u8]) -> Object {
    let path = place.join("finished");
    fs::write(&path, content).unwrap();
    let object = shelf.adopt(&path, Digest::of(content), ByteCount(content.len() as u64)).unwrap();
    fs::remove_file(&path).unwrap();
    object
}

fn path(place: &Path, digest: Digest) -> PathBuf {
    let name = digest.to_string();
    place.join("shelf/objects").join(name.split_at(2).0).join(&name)
}

/// Flips one bit of a file, whatever its mode says.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    let mode = fs::metadata(path).unwrap().permissions();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    // In place: the trees hold the same inode.
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    io::Write::write_all(&mut file, &bytes).unwrap();
    file.sync_all().unwrap();
    fs::set_permissions(path, mode).unwrap();
}

fn read(shelf: &Shelf, object: Object) -> Found {
    shelf.read_again(object.digest(), |_bytes| Ok(())).unwrap()
}

#[test]
fn one_bit_anywhere_is_found() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(&place.path().join("shelf")).unwrap();
    let object = adopt(&shelf, place.path(), CONTENT);
    assert_eq!(read(&shelf, object), Found::Whole(object.bytes()));
    for at in [0, 65_535, 65_536, CONTENT.len() - 1] {
        flip(&path(place.path(), object.digest()), at);
        assert_eq!(read(&shelf, object), Found::Damaged, "{at}");
        flip(&path(place.path(), object.digest()), at);
        assert_eq!(read(&shelf, object), Found::Whole(object.bytes()));
    }
    // A byte more or less is damage too.
    let path = path(place.path(), object.digest());
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(199_999).unwrap();
    assert_eq!(read(&shelf, object), Found::Damaged);
    fs::remove_file(&path).unwrap();
    assert_eq!(read(&shelf, object), Found::Gone);
}

#[test]
fn what_is_left_of_a_removal_hinders_none_and_keeps_nothing() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("shelf");
    let shelf = Shelf::open(&root).unwrap();
    let id = GenerationId(Digest::of(b"one"));
    let object = adopt(&shelf, place.path(), b"kept");
    let left = root.join(format!("generations/.old-{id}"));
    let leave = || {
        fs::create_dir_all(&left).unwrap();
        let name = path(place.path(), object.digest());
        fs::hard_link(name, left.join("file")).unwrap();
    };
    leave();
    let one = shelf.shelve(id, b"1", &[("a", object)], &[]).unwrap();
    shelf.take_down(&one).unwrap();
    assert!(!left.exists());
    leave();
    let swept = shelf.sweep(&BTreeSet::new(), &BTreeSet::new()).unwrap();
    assert!(!left.exists());
    assert_eq!(swept.objects, 1, "nothing names it any more");
    // What cannot be removed, here because it is no folder, holds up nothing else.
    let object = adopt(&shelf, place.path(), b"kept");
    shelf.shelve(id, b"1", &[("a", object)], &[]).unwrap();
    fs::write(root.join("generations/.old-file"), "").unwrap();
    assert!(shelf.sweep(&BTreeSet::new(), &BTreeSet::new()).is_err());
    assert_eq!(shelf.list().unwrap().len(), 0);
    assert_eq!(shelf.object(object.digest(), object.bytes()).unwrap(), None);
}

#[test]
fn reading_ends_when_it_is_told_to() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(&place.path().join("shelf")).unwrap();
    let object = adopt(&shelf, place.path(), CONTENT);
    let mut seen = 0;
    let ended = shelf.read_again(object.digest(), |bytes| {
        seen += bytes;
        if seen > 100_000 { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    });
    assert_eq!(ended.unwrap_err().code(), "shelf.io");
    assert!((100_001..CONTENT.len()).contains(&seen), "{seen}");
}

#[test]
fn what_holds_a_damaged_object_is_known_and_can_be_taken_down() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(&place.path().join("shelf")).unwrap();
    let (shared, own) =
        (adopt(&shelf, place.path(), b"shared"), adopt(&shelf, place.path(), b"own"));
    let id = |name: &str| GenerationId(Digest::of(name.as_bytes()));
    let one = shelf.shelve(id("one"), b"1", &[("a", shared)], &[]).unwrap();
    shelf.shelve(id("two"), b"2", &[("deep/er/b", own)], &[shared]).unwrap();
    shelf.shelve(id("three"), b"3", &[("c", own)], &[]).unwrap();
    assert_eq!(shelf.objects().unwrap().len(), 2);
    let holders = BTreeSet::from([id("one"), id("two")]);
    assert_eq!(shelf.holders(shared.digest()).unwrap(), holders, "as a file, and as evidence");
    shelf.isolate(shared.digest()).unwrap();
    assert_eq!(shelf.objects().unwrap(), [own.digest()]);
    assert_eq!(shelf.object(shared.digest(), shared.bytes()).unwrap(), None);
    let isolated = place.path().join("shelf/isolated").join(shared.digest().to_string());
    assert_eq!(fs::read(isolated).unwrap(), b"shared");
    shelf.take_down(&one).unwrap();
    assert_eq!(shelf.shelved(id("one")).unwrap(), None);
    // What comes again is built from new bytes.
    let again = adopt(&shelf, place.path(), b"shared");
    let one = shelf.shelve(id("one"), b"1", &[("a", again)], &[]).unwrap();
    assert_eq!(one.read("a", 10).unwrap().unwrap(), b"shared");
}
