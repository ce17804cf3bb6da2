//! A removable medium for the demo and the tests: a real filesystem image.
//!
//! Where root allows, an ext4 image over a loop device, mounted read-only, nosuid, nodev,
//! noexec and nosymfollow. Elsewhere a vfat image whose files `mtools` reads, since no kernel mounts it for us.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// How the files on a medium are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The kernel mounts an ext4 image.
    Ext4Mounted,
    /// `mcopy` reads a vfat image.
    VfatRead,
}

impl Way {
    /// In words, for the story.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Ext4Mounted => {
                "ext4 image, mounted read-only, nosuid, nodev, noexec, nosymfollow"
            }
            Self::VfatRead => "vfat image, read with mtools (this machine does not let us mount)",
        }
    }
}

/// A medium that is plugged in.
#[derive(Debug)]
pub struct Stick {
    folder: PathBuf,
    way: Way,
}

impl Stick {
    /// Writes `files` to a new image below `scratch` and plugs it in.
    ///
    /// # Errors
    /// When neither way works.
    pub fn plug_in(scratch: &Path, name: &str, files: &[PathBuf]) -> Result<Self> {
        let source = scratch.join(format!("{name}.files"));
        fs::create_dir_all(&source)?;
        let mut bytes = 0;
        for file in files {
            let to = source.join(file.file_name().context("a file without a name")?);
            bytes += fs::copy(file, to)?;
        }
        let image = scratch.join(format!("{name}.img"));
        let folder = scratch.join(format!("{name}.stick"));
        fs::create_dir_all(&folder)?;
        // Room for the filesystem's own tables, and a multiple of 1 MiB.
        let size = (bytes + bytes / 8 + (16 << 20)) >> 20 << 20;
        let way = match ext4(&source, &image, &folder, size) {
            Ok(()) => Way::Ext4Mounted,
            Err(_not_permitted) => {
                vfat(&source, &image, &folder, size)?;
                Way::VfatRead
            }
        };
        fs::remove_dir_all(&source)?;
        Ok(Self { folder, way })
    }

    /// Where its files appear.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How they are reached.
    #[must_use]
    pub const fn way(&self) -> Way {
        self.way
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        if self.way == Way::Ext4Mounted {
            // A medium that is still read stays until its reader ends.
            run(Command::new("umount").arg("--lazy").arg(&self.folder)).unwrap_or_default();
        }
    }
}

fn ext4(source: &Path, image: &Path, folder: &Path, size: u64) -> Result<()> {
    File::create(image)?.set_len(size)?;
    let mut make = Command::new("/sbin/mkfs.ext4");
    make.args(["-q", "-F", "-O", "^has_journal", "-m", "0", "-d"]).arg(source).arg(image);
    run(&mut make)?;
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "ext4", "-o", "loop,ro,nosuid,nodev,noexec,nosymfollow"])
        .arg(image)
        .arg(folder);
    run(&mut mount)
}

fn vfat(source: &Path, image: &Path, folder: &Path, size: u64) -> Result<()> {
    File::create(image)?.set_len(size)?;
    run(Command::new("/sbin/mkfs.vfat").arg(image))?;
    for entry in fs::read_dir(source)? {
        run(Command::new("mcopy").arg("-i").arg(image).arg(entry?.path()).arg("::"))?;
    }
    run(Command::new("mcopy").arg("-n").arg("-i").arg(image).arg("::*").arg(folder))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("starting a program")?;
    if !output.status.success() {
        bail!("{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
