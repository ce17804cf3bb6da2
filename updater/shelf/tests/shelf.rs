//! What the shelf promises to those who use it.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test reads the small files that it wrote")]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use cloister_domain::{ByteCount, Digest, GenerationId, Slot};
use cloister_shelf::{Object, Shelf, ShelfError, Shelved};

fn finished(folder: &Path, content: &[u8]) -> std::path::PathBuf {
    let path = folder.join(Digest::of(content).short());
    fs::write(&path, content).unwrap();
    path
}

fn object_path(place: &Path, content: &[u8]) -> std::path::PathBuf {
    let name = Digest::of(content).to_string();
    let fan: String = name.chars().take(2).collect();
    place.join("shelf/objects").join(fan).join(name)
}

fn adopt(shelf: &Shelf, folder: &Path, content: &[u8]) -> Result<Object, ShelfError> {
    let size = ByteCount(content.len() as u64);
    shelf.adopt(&finished(folder, content), Digest::of(content), size)
}

fn shelve(shelf: &Shelf, folder: &Path, name: &str, content: &[u8]) -> Shelved {
    let object = adopt(shelf, folder, content).unwrap();
    let id = GenerationId(Digest::of(name.as_bytes()));
    shelf.shelve(id, name.as_bytes(), &[("model/weights.bin", object)], &[object]).unwrap()
}

#[test]
fn an_adopted_file_is_read_only_and_named_by_its_content() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(&place.path().join("shelf")).unwrap();
    let object = adopt(&shelf, place.path(), b"weights").unwrap();
    let path = object_path(place.path(), b"weights");
    assert_eq!(fs::read(&path).unwrap(), b"weights");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(shelf.object(object.digest(), object.bytes()).unwrap(), Some(object));
    // Again, with the quarantined file gone: the shelf has it.
    let again = shelf.adopt(Path::new("/nowhere"), object.digest(), object.bytes()).unwrap();
    assert_eq!(again, object);
}

#[test]
fn a_file_that_is_not_the_promised_one_is_refused_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(&place.path().join("shelf")).unwrap();
    let path = finished(place.path(), b"other bytes");
    let promised = Digest::of(b"these bytes");
    let refused = shelf.adopt(&path, promised, ByteCount(11)).unwrap_err();
    assert!(matches!(refused, ShelfError::Content { .. }), "{refused}");
    let refused = shelf.adopt(&path, Digest::of(b"other bytes"), ByteCount(10)).unwrap_err();
    assert!(matches!(refused, ShelfError::Content { .. }), "{refused}");
    assert_eq!(shelf.object(promised, ByteCount(11)).unwrap(), None);
}

#[test]
fn a_link_in_the_place_of_a_finished_file_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(&place.path().join("shelf")).unwrap();
    let path = finished(place.path(), b"bytes");
    let link = place.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(shelf.adopt(&link, Digest::of(b"bytes"), ByteCount(5)).is_err());
    let refused = shelf.adopt(place.path(), Digest::of(b"bytes"), ByteCount(5)).unwrap_err();
    assert!(matches!(refused, ShelfError::NotAFile), "{refused}");
}

#[test]
fn a_generation_is_made_of_links_to_objects() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(&place.path().join("shelf")).unwrap();
    let one = shelve(&shelf, place.path(), "one", b"weights");
    let again = shelve(&shelf, place.path(), "one", b"weights");
    assert_eq!(one, again);
    assert_eq!(one.manifest().unwrap(), b"one");
    assert_eq!(one.read("model/weights.bin", 7).unwrap().unwrap(), b"weights");
    assert_eq!(one.read("model/none.bin", 7).unwrap(), None);
    assert!(one.read("model/weights.bin", 6).is_err(), "larger than asked for");
    let evidence = one.directory().join("attest").join(Digest::of(b"weights").to_string());
    assert!(evidence.is_file());
    let in_tree = fs::metadata(one.directory().join("tree/model/weights.bin")).unwrap();
    let object = fs::metadata(object_path(place.path(), b"weights")).unwrap();
    assert_eq!(in_tree.ino(), object.ino());
}

#[test]
fn a_path_that_leaves_the_tree_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(&place.path().join("shelf")).unwrap();
    let object = adopt(&shelf, place.path(), b"x").unwrap();
    for path in ["../x", "/x", "a/../../x", "", ".", "./x"] {
        let id = GenerationId(Digest::of(path.as_bytes()));
        let refused = shelf.shelve(id, b"{}", &[(path, object)], &[]).unwrap_err();
        assert!(matches!(refused, ShelfError::Path), "{path}: {refused}");
        assert_eq!(shelf.shelved(id).unwrap(), None);
    }
}

#[test]
fn the_pointers_name_what_they_were_given() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("shelf");
    let shelf = Shelf::open(&root).unwrap();
    assert_eq!(shelf.active().unwrap(), None);
    let one = shelve(&shelf, place.path(), "one", b"1");
    let two = shelve(&shelf, place.path(), "two", b"2");
    shelf.set_slot(Slot::A, Some(&one)).unwrap();
    shelf.set_slot(Slot::B, Some(&two)).unwrap();
    shelf.activate(&one).unwrap();
    assert_eq!(shelf.activate(&two).unwrap().id(), two.id());
    assert_eq!(shelf.active().unwrap().unwrap().id(), two.id());
    assert_eq!(
        fs::read_link(root.join("active")).unwrap(),
        Path::new("generations").join(two.id().to_string()),
    );
    assert_eq!(shelf.slot(Slot::A).unwrap(), Some(one));
    let through_link = fs::read(root.join("slots/b/tree/model/weights.bin")).unwrap();
    assert_eq!(through_link, b"2");
    shelf.deactivate().unwrap();
    shelf.deactivate().unwrap();
    assert_eq!(shelf.active().unwrap(), None);
    shelf.set_slot(Slot::A, None).unwrap();
    assert_eq!(shelf.slot(Slot::A).unwrap(), None);
    shelf.set_slot(Slot::B, None).unwrap();
    shelf.take_down(&two).unwrap();
    let absent = Some(ShelfError::Absent { generation: two.id() }.to_string());
    assert_eq!(shelf.set_slot(Slot::A, Some(&two)).err().map(|error| error.to_string()), absent);
    assert_eq!(shelf.activate(&two).err().map(|error| error.to_string()), absent);
    assert_eq!((shelf.active().unwrap(), shelf.slot(Slot::A).unwrap()), (None, None));
}

#[test]
fn a_sweep_keeps_what_is_kept_active_or_in_a_slot_and_pinned_objects() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(&place.path().join("shelf")).unwrap();
    let names = ["kept", "active", "slot", "refused"];
    let all: Vec<Shelved> =
        names.iter().map(|name| shelve(&shelf, place.path(), name, name.as_bytes())).collect();
    let pinned = adopt(&shelf, place.path(), b"under way").unwrap();
    let stray = adopt(&shelf, place.path(), b"stray").unwrap();
    // The quarantine has let go of its names.
    for entry in fs::read_dir(place.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    shelf.activate(&all[1]).unwrap();
    shelf.set_slot(Slot::B, Some(&all[2])).unwrap();
    let keep = BTreeSet::from([all[0].id()]);
    let swept = shelf.sweep(&keep, &BTreeSet::from([pinned.digest()])).unwrap();
    assert_eq!(swept.generations, [all[3].id()]);
    assert_eq!((swept.objects, swept.bytes), (2, ByteCount(12)));
    assert!(shelf.object(pinned.digest(), pinned.bytes()).unwrap().is_some());
    assert!(shelf.object(stray.digest(), stray.bytes()).unwrap().is_none());
    assert_eq!(shelf.list().unwrap().len(), 3);
    let again = shelf.sweep(&keep, &BTreeSet::from([pinned.digest()])).unwrap();
    assert_eq!(again, cloister_shelf::Swept::default());
}

/// Everything below `folder` that is an empty folder.
fn empty_folders(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    if entries.is_empty() {
        return vec![folder.to_owned()];
    }
    let folders = entries.iter().filter(|path| path.is_dir() && !path.is_symlink());
    folders.flat_map(|path| empty_folders(path)).collect()
}

#[test]
fn a_sweep_leaves_no_empty_folder_behind() {
    let place = tempfile::tempdir().unwrap();
    let (root, parts) = (place.path().join("shelf"), place.path().join("parts"));
    fs::create_dir(&parts).unwrap();
    let shelf = Shelf::open(&root).unwrap();
    // Objects whose digests begin alike share a folder, so enough of them fill some folders twice.
    let contents: Vec<String> = (0..40).map(|number| format!("content {number}")).collect();
    let shelved: Vec<Shelved> = contents
        .iter()
        .map(|content| shelve(&shelf, &parts, content, content.as_bytes()))
        .collect();
    fs::remove_dir_all(&parts).unwrap();
    let keep: BTreeSet<GenerationId> = shelved.iter().take(3).map(Shelved::id).collect();
    shelf.sweep(&keep, &BTreeSet::new()).unwrap();
    assert_eq!(empty_folders(&root), [root.join("slots")]);
    let fans = fs::read_dir(root.join("objects")).unwrap().count();
    assert!((1..=3).contains(&fans), "{fans} folders for three objects");
    shelf.sweep(&BTreeSet::new(), &BTreeSet::new()).unwrap();
    let mut left = empty_folders(&root);
    left.sort();
    assert_eq!(left, ["generations", "objects", "slots"].map(|name| root.join(name)));
    // The folders come back with what is put there.
    fs::create_dir(&parts).unwrap();
    shelve(&shelf, &parts, "again", b"content 0");
}

#[test]
fn a_second_writer_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let first = Shelf::open(place.path()).unwrap();
    assert!(matches!(Shelf::open(place.path()), Err(ShelfError::Held)));
    drop(first);
    assert!(Shelf::open(place.path()).is_ok());
}

#[test]
fn a_pointer_to_nothing_is_named_corrupt() {
    let place = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(place.path()).unwrap();
    symlink("generations/none", place.path().join("active")).unwrap();
    assert!(matches!(shelf.active(), Err(ShelfError::Pointer { name: "active" })));
}
