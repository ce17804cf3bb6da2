//! A disk that is full to the last byte. A real file system, so as root only.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use cloister_wire::{
    record,
    supply::{Answer, Request},
};
use nix::sys::statvfs::statvfs;

use crate::{
    refused,
    support::{World, bundle::Bundle, wait_until},
};

/// What each of the two daemons holds.
const HELD: u64 = 1 << 20;

/// A small file system of its own.
struct Disk {
    device: PathBuf,
    mounted: PathBuf,
    _scratch: tempfile::TempDir,
}

impl Disk {
    /// `None` where this machine mounts nothing, or nothing for this user, and that is said.
    fn new() -> Option<Self> {
        let disk = Self::mount();
        if disk.is_none() {
            let line = "skipped: a small disk of its own cannot be had here, which needs root and loop devices\n";
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        }
        disk
    }

    fn mount() -> Option<Self> {
        let scratch = tempfile::tempdir().unwrap();
        let (image, mounted) = (scratch.path().join("image"), scratch.path().join("disk"));
        File::create(&image).and_then(|file| file.set_len(64 << 20)).unwrap();
        fs::create_dir(&mounted).unwrap();
        // No blocks are kept back for root, who would not notice a full disk.
        let made = Command::new("/sbin/mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).status();
        assert!(made.is_ok_and(|status| status.success()));
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().ok()?;
        let device = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim());
        if !made.status.success() || !nix::unistd::geteuid().is_root() {
            return None;
        }
        let disk = Self { device, mounted, _scratch: scratch };
        // The kernel remembers what an earlier test said about a device of this name.
        disk.run("/sbin/blockdev", &["--setrw".as_ref(), disk.device.as_path()]);
        disk.run("mount", &[disk.device.as_path(), disk.mounted.as_path()]);
        Some(disk)
    }

    fn run(&self, command: &str, words: &[&Path]) {
        let done = Command::new(command).args(words).status();
        assert!(done.is_ok_and(|done| done.success()) || std::thread::panicking(), "{command}");
    }

    fn free(&self) -> u64 {
        let about = statvfs(&self.mounted).unwrap();
        about.blocks_available() * about.fragment_size()
    }

    /// Takes every byte that is left.
    fn fill(&self, name: &str) -> PathBuf {
        let path = self.mounted.join(name);
        let mut file = File::create(&path).unwrap();
        let bytes = vec![1; 1 << 20];
        let mut piece = bytes.len();
        while piece > 0 {
            match file.write(&bytes[..piece]) {
                Ok(written) if written == piece => {}
                _ => piece /= 2,
            }
        }
        file.sync_all().unwrap();
        assert_eq!(self.free(), 0);
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.run("umount", &[self.mounted.as_path()]);
        self.run("losetup", &["--detach".as_ref(), self.device.as_path()]);
    }
}

/// An appliance on a small disk, of which the log and the updater hold so much; with two releases that
/// were active.
fn appliance(disk: &Disk, log: u64, updater: u64) -> World {
    let place = tempfile::tempdir_in(&disk.mounted).unwrap();
    let text = format!("full_disk_bytes = {updater}\n[record]\nfull_disk_bytes = {log}");
    let world = World::at(place, &text);
    world.enrol();
    world.promoted(&Bundle::new(1, "0.5"), 1);
    world.promoted(&Bundle::new(2, "0.5"), 2);
    world
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn on_a_full_disk_a_rollback_and_a_refusal_are_done_and_recorded() {
    let Some(disk) = Disk::new() else { return };
    let world = appliance(&disk, HELD, HELD);
    let held = [world.config.paths.reserve(), world.config.paths.record().join("reserve")];
    assert!(held.iter().all(|folder| files(folder) == 8), "space is held");
    let mut fillers = vec![disk.fill("first")];
    let before = world.records().len();
    let returned = world.ask(&Request::Rollback { to: None }).unwrap();
    assert!(matches!(returned, Answer::Switched { .. }));
    assert_eq!(world.active(), Some(Bundle::new(1, "0.5").generation()));
    assert_eq!(world.records().len(), before + 3, "the wish, the intent, the outcome");
    let never = Request::Rollback { to: Some(Bundle::new(9, "1").generation()) };
    refused(world.ask(&never), "rollback.never-promoted");
    assert_eq!(world.count("act-refused", "code", "rollback.never-promoted"), 1);
    let again = world.import(&Bundle::new(2, "0.5"), 2);
    assert_eq!(again.unwrap_err().code, "bundle.already-held");
    assert_eq!(world.count("import-refused", "code", "bundle.already-held"), 1);
    assert_eq!(held.clone().map(|folder| files(&folder)), [0, 8], "the first was enough for all");
    // Whoever takes that too leaves the log what is its own, and the updater nothing to note by: then
    // nothing is done, and nothing said to be done.
    fillers.push(disk.fill("second"));
    refused(world.ask(&never), "state.database");
    assert_eq!(world.count("act-refused", "code", "rollback.never-promoted"), 1);
    assert_eq!(held.clone().map(|folder| files(&folder)), [0, 8], "a journal has its space");
    // When the journal is folded into the log, the log needs what it holds.
    let before = head(&world);
    for number in 0..300 {
        append(&world, number);
    }
    assert_eq!(head(&world), before + 300);
    assert_eq!(held.clone().map(|folder| files(&folder)), [0, 0]);
    // An import does not live on what is held.
    assert_eq!(world.import(&Bundle::new(3, "0.5"), 3).unwrap_err().code, "preflight.disk");
    fillers.iter().for_each(|filler| fs::remove_file(filler).unwrap());
    wait_until(|| files(&held[0]) == 8).expect("held again");
    world.ask(&Request::Rollback { to: None }).unwrap();
    for number in 300..600 {
        append(&world, number);
    }
    assert_eq!(files(&held[1]), 8, "the log's too, when it is folded next");
}

/// Any record, by another way than the updater, whose database would need space too.
fn append(world: &World, number: u32) {
    let entry = record::Entry {
        event: record::Event::KeyChange,
        act: format!("full/{number}"),
        subject: Vec::new(),
        predicate: serde_json::Map::new(),
    };
    let appended = world.ask_recordd(&record::Request::Append(entry)).unwrap();
    assert!(matches!(appended, record::Answer::Appended { .. }));
}

fn head(world: &World) -> u64 {
    match world.ask_recordd(&record::Request::Head).unwrap() {
        record::Answer::Head { size, .. } => size,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_what_the_updater_holds_nothing_happens_on_a_full_disk() {
    for (log, updater) in [(HELD, 0), (0, HELD), (0, 0)] {
        let Some(disk) = Disk::new() else { return };
        let world = appliance(&disk, log, updater);
        disk.fill("filler");
        let active = world.active();
        let reply = world.ask(&Request::Rollback { to: None });
        // The log's journal has its space from the beginning.
        let held = updater > 0;
        assert_eq!(reply.is_ok(), held, "log {log}, updater {updater}: {reply:?}");
        assert_eq!(world.active() != active, held, "what cannot be kept does not happen");
    }
}
