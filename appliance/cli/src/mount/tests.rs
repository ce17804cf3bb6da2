//! Sticks made of files, attached to loop devices and mounted; as root only.

use super::*;

#[test]
fn a_file_system_is_known_by_its_mark_and_nothing_else_is_mounted() {
    let with = |at: usize, mark: &[u8]| {
        let mut start = vec![0; MARKS_BYTES];
        start[at..at + mark.len()].copy_from_slice(mark);
        kind_of(&start).map(|(kind, _)| kind)
    };
    for (at, mark, kind, _) in MARKS {
        assert_eq!(with(at, mark), Some(kind));
    }
    assert_eq!(VOLUMES.map(|mark| with(0, mark)), [None; 2]);
    assert_eq!(with(65_600 % MARKS_BYTES, b"_BHRfS_M"), None, "another file system");
    assert_eq!(kind_of(b"short"), None);
}

/// A device of `image`'s bytes; gone when dropped. `None` where this machine gives none.
struct Loop(PathBuf);

impl Loop {
    fn of(image: &Path) -> Option<Self> {
        let made = Command::new("losetup")
            .args(["--find", "--show", "--partscan"])
            .arg(image)
            .output()
            .ok()?;
        let name = String::from_utf8(made.stdout).ok()?;
        let device = made.status.success().then(|| Self(PathBuf::from(name.trim())))?;
        // The kernel remembers what an earlier test said about a device of this name.
        let set = Command::new("/sbin/blockdev").arg("--setrw").arg(&device.0).status();
        set.is_ok_and(|status| status.success()).then_some(device)
    }

    fn takes_writes(&self) -> bool {
        let opened = fs::OpenOptions::new().write(true).open(&self.0);
        opened.and_then(|device| device.write_at(b"x", 0)).is_ok()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let gone = Command::new("losetup").arg("--detach").arg(&self.0).status();
        assert!(gone.is_ok_and(|status| status.success()));
    }
}

/// An image with an ext4 file system of 8 MiB from `offset` on.
fn ext4(scratch: &Path, offset: u64) -> PathBuf {
    let (files, image) = (scratch.join("files"), scratch.join("image"));
    fs::create_dir(&files).expect("made");
    fs::write(files.join("a.clb"), "volume").expect("written");
    std::os::unix::fs::symlink("a.clb", files.join("b.clb")).expect("linked");
    File::create(&image).and_then(|file| file.set_len(offset + (8 << 20))).expect("made");
    let made = Command::new("/sbin/mkfs.ext4")
        .args(["-q", "-O", "^metadata_csum", "-E", &format!("offset={offset}"), "-d"])
        .arg(&files)
        .arg(&image)
        .arg("8192k")
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    image
}

fn write_into(image: &Path, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(image).expect("opened");
    file.write_all_at(bytes, offset).expect("written");
}

fn config(scratch: &Path) -> Config {
    let text = format!("[paths]\nruntime = \"{}\"", scratch.join("run").display());
    Config::parse(&text).expect("valid")
}

/// Mounts, if this user may.
fn mounted(config: &Config, device: &Path) -> Option<Mounted> {
    for_now(config, device).unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn a_stick_is_read_only_before_it_is_mounted_and_gives_up_all_else() {
    let scratch = tempfile::tempdir().expect("a folder");
    let image = ext4(scratch.path(), 0);
    // Without root, or without loop devices, there is nothing to see.
    let Some(device) = Loop::of(&image) else { return };
    assert!(device.takes_writes(), "before");
    let Some(mounted) = mounted(&config(scratch.path()), &device.0) else { return };
    let folder = mounted.folder().to_path_buf();
    assert_eq!(fs::read_dir(&folder).expect("listed").count(), 3, "with lost+found");
    let error = fs::read_link(folder.join("b.clb")).and_then(|_| File::open(folder.join("b.clb")));
    assert_eq!(error.expect_err("not followed").raw_os_error(), Some(nix::libc::ELOOP));
    let table = cloister_daemon::files::read_limited(Path::new("/proc/self/mountinfo"), 1 << 20);
    let table = String::from_utf8(table.expect("read")).expect("text");
    let place = folder.display().to_string();
    let line = table.lines().find(|line| line.contains(&place)).expect("mounted");
    for option in ["ro", "nosuid", "nodev", "noexec", "nosymfollow"] {
        let options = line.split(' ').nth(5).expect("options");
        assert!(options.split(',').any(|set| set == option), "{option} in {options}");
    }
    assert!(!device.takes_writes(), "once it is mounted");
    drop(mounted);
    assert!(!folder.exists(), "let go");
    assert!(!device.takes_writes(), "until it is plugged in again");
}

#[test]
fn a_partition_is_protected_with_its_disk_and_a_disk_alone() {
    // As sysfs lays out a disk with one partition.
    let scratch = tempfile::tempdir().expect("a folder");
    let (disk, partition) = (scratch.path().join("sdb"), scratch.path().join("sdb/sdb1"));
    fs::create_dir_all(&partition).expect("made");
    fs::write(partition.join("partition"), "1\n").expect("written");
    let (whole, part) = (Path::new("/dev/sdb"), Path::new("/dev/sdb1"));
    assert_eq!(to_protect(part, &partition), [part, whole]);
    assert_eq!(to_protect(whole, &disk), [whole]);
}

#[test]
fn the_disk_of_a_partition_is_read_only_too() {
    const PARTITION: u64 = 1 << 20;
    let scratch = tempfile::tempdir().expect("a folder");
    let image = ext4(scratch.path(), PARTITION);
    // One entry of a partition table (type 0x83, from sector 2048, 16384 sectors), and its mark.
    let entry = [[0, 0, 2, 0], [0x83, 0, 0, 0], 2048u32.to_le_bytes(), 16_384u32.to_le_bytes()];
    write_into(&image, 446, entry.as_flattened());
    write_into(&image, 510, b"\x55\xaa");
    // A kernel without loop devices or without partition tables shows nothing.
    let Some(disk) = Loop::of(&image) else { return };
    let partition = PathBuf::from(format!("{}p1", disk.0.display()));
    if !is_device(&partition) {
        return;
    }
    let Some(mounted) = mounted(&config(scratch.path()), &partition) else { return };
    assert!(mounted.folder().join("a.clb").exists());
    assert!(!disk.takes_writes(), "the whole disk");
    drop(mounted);
}

#[test]
fn a_journal_that_was_left_open_is_not_played() {
    let scratch = tempfile::tempdir().expect("a folder");
    let image = ext4(scratch.path(), 0);
    // s_feature_incompat of the superblock, with EXT4_FEATURE_INCOMPAT_RECOVER set.
    let mut features = [0; 4];
    let file = File::open(&image).expect("opened");
    file.read_exact_at(&mut features, 1024 + 0x60).expect("read");
    write_into(&image, 1024 + 0x60, &(u32::from_le_bytes(features) | 4).to_le_bytes());
    let Some(device) = Loop::of(&image) else { return };
    let Some(mounted) = mounted(&config(scratch.path()), &device.0) else { return };
    assert!(mounted.folder().join("a.clb").exists());
}

#[test]
fn a_volume_on_a_bare_device_and_what_is_no_device_are_not_mounted() {
    let scratch = tempfile::tempdir().expect("a folder");
    let image = ext4(scratch.path(), 0);
    let config = config(scratch.path());
    let refused = folder_of(&config, &image).expect_err("a file");
    assert!(format!("{refused:?}").contains("medium.device"), "{refused:?}");
    // The boot block of ext4 is free, so a volume's first bytes can stand before it.
    for mark in VOLUMES {
        write_into(&image, 0, mark);
        let Some(device) = Loop::of(&image) else { return };
        let outcome = for_now(&config, &device.0).unwrap_or_else(|error| panic!("{error:?}"));
        assert!(outcome.is_none(), "it is read without its file system");
        assert!(device.takes_writes(), "and nothing is done to it");
    }
}

#[test]
fn a_driver_that_the_kernel_lacks_is_named() {
    let scratch = tempfile::tempdir().expect("a folder");
    let image = ext4(scratch.path(), 0);
    let there = || {
        let known = Path::new("/proc/filesystems");
        let known = cloister_daemon::files::read_limited(known, 1 << 16).expect("read");
        String::from_utf8(known).expect("text").lines().any(|line| line.trim_start() == "vfat")
    };
    write_into(&image, 82, b"FAT32   ");
    let Some(device) = Loop::of(&image) else { return };
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let error = format!("{:?}", for_now(&config(scratch.path()), &device.0).expect_err("no FAT"));
    // A kernel that has the driver, or loads it, finds no FAT instead.
    assert_eq!(error.contains("medium.driver"), !there(), "{error}");
    assert_eq!(error.contains("no driver for vfat"), !there(), "{error}");
    assert!(!error.contains("uncategorized"), "{error}");
    assert!(!folder_of(&config(scratch.path()), &device.0).expect("a device").exists());
}
