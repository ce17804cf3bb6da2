//! Other updaters, each as two shell scripts: one makes its bundle of the weights, the other brings
//! it into an empty folder, checked and synced.
//!
//! Variables: `$WEIGHTS` the file, `$OUT` the empty folder, `$PACK` whether the weights can be packed
//! (`1` or empty). Both run in a folder of the peer's own.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::super::{Usage, peer, usage_of};

/// A peer, and how it is used.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// The programs that it stands on.
    needs: &'static [&'static str],
    pub(super) prepare: &'static str,
    pub(super) run: &'static str,
}

/// The best that each offers here: RAUC's verity bundles can be extracted but not installed without
/// device-mapper; OSTree's source has another mode than its destination, so that objects are written and
/// not linked; SWUpdate packs only what can be packed.
pub(super) const PEERS: [Peer; 5] = [RAUC_INSTALL, RAUC_EXTRACT, OSTREE, SWUPDATE, TAR];

const RAUC_INSTALL: Peer = Peer {
    name: "rauc install",
    needs: &["rauc", "mksquashfs", "openssl", "dbus-run-session"],
    prepare: concat!(
        "format=plain\n",
        include_str!("rauc-bundle.sh"),
        "rauc --cert=cert --key=key --mksquashfs-args='-comp zstd -Xcompression-level 3' bundle content bundle.raucb\nsync bundle.raucb"
    ),
    run: r#"cat >"$OUT/system.conf" <<END
[system]
compatible=bench
bootloader=noop
statusfile=$OUT/status
mountprefix=$OUT/mount
[keyring]
path=$PWD/cert
[slot.weights.0]
device=$OUT/weights
type=raw
END
mkdir "$OUT/mount"
truncate -s "$(stat -c %s "$WEIGHTS")" "$OUT/weights"
export DBUS_STARTER_BUS_TYPE=session
dbus-run-session -- bash -euc '
  export DBUS_SYSTEM_BUS_ADDRESS=$DBUS_SESSION_BUS_ADDRESS
  rauc --conf="$0/system.conf" --override-boot-slot=_external_ service & service=$!
  sleep 1
  rauc --conf="$0/system.conf" install bundle.raucb
  kill $service; wait $service' "$OUT"
sync "$OUT/weights""#,
};

const RAUC_EXTRACT: Peer = Peer {
    name: "rauc extract",
    needs: &["rauc", "mksquashfs", "unsquashfs", "openssl"],
    prepare: concat!(
        "format=verity\n",
        include_str!("rauc-bundle.sh"),
        "rauc --cert=cert --key=key --mksquashfs-args='-comp zstd -Xcompression-level 3' bundle content bundle.raucb\nsync bundle.raucb"
    ),
    run: r#"rauc --keyring=cert extract bundle.raucb "$OUT/tree"
sync "$OUT/tree/weights.img""#,
};

const OSTREE: Peer = Peer {
    name: "ostree pull-local",
    needs: &["ostree"],
    prepare: r#"mkdir tree
ln "$WEIGHTS" tree/weights
ostree --repo=from init --mode=bare-user-only
ostree --repo=from commit --branch=main --tree=dir=tree --subject=weights"#,
    run: r#"ostree --repo="$OUT" init --mode=bare-user
ostree --repo="$OUT" pull-local --untrusted from main"#,
};

const SWUPDATE: Peer = Peer {
    name: "swupdate -i",
    needs: &["swupdate", "cpio", "openssl", "zstd"],
    prepare: r#"openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -subj /CN=bench -days 2 \
  -addext extendedKeyUsage=emailProtection
if [ "$PACK" ]; then
  zstd -3 "$WEIGHTS" -o weights
  packed='"compressed": "zstd",'
else
  ln "$WEIGHTS" weights
  packed=
fi
cat >sw-description <<END
{"software": {"version": "1.0.0", "hardware-compatibility": ["any"], "files": [{"filename": "weights",
 "path": "$OUT/weights", "type": "rawfile", $packed "installed-directly": true,
 "sha256": "$(sha256sum weights | cut -d' ' -f1)"}]}}
END
openssl cms -sign -in sw-description -out sw-description.sig -signer cert -inkey key -outform DER -nosmimecap -binary
printf '%s\n' sw-description sw-description.sig weights | cpio -o -H crc >bundle.swu
rm weights"#,
    run: r#"mkdir "$OUT/tmp"
TMPDIR="$OUT/tmp" swupdate -l 1 -H any:any -k cert -i bundle.swu
sync "$OUT/weights""#,
};

const TAR: Peer = Peer {
    name: "zstd|tar, sha256sum",
    needs: &["zstd", "tar", "sha256sum"],
    prepare: r#"ln "$WEIGHTS" weights
tar -c weights | zstd -3 -o tree.tar.zst
rm weights"#,
    run: r#"zstd -dc tree.tar.zst | tar -x -C "$OUT"
sha256sum "$OUT/weights"
sync "$OUT/weights""#,
};

/// Makers of bundles, with what is packed as quickly as it can be, and as they do it unasked.
pub(super) const MAKERS: [Peer; 2] = [
    Peer { name: "rauc bundle, zstd -3", run: "", ..RAUC_INSTALL },
    Peer {
        name: "rauc bundle, gzip",
        prepare: concat!(
            "format=verity\n",
            include_str!("rauc-bundle.sh"),
            "rauc --cert=cert --key=key bundle content bundle.raucb\nsync bundle.raucb"
        ),
        run: "",
        ..RAUC_EXTRACT
    },
];

/// What is offered damaged: in a plain bundle the manifest lies in the image that the signature covers, in a
/// verity bundle in the signature's own block at the end.
pub(super) const LOOKERS: [Peer; 2] = [
    Peer {
        name: "rauc info, plain",
        run: "printf 12345678 | dd of=bundle.raucb bs=1 seek=4096 conv=notrunc status=none\n\
              ! rauc --keyring=cert info bundle.raucb",
        ..RAUC_INSTALL
    },
    Peer {
        name: "rauc info, verity",
        run: "end=$(stat -c %s bundle.raucb)\n\
              printf 12345678 | dd of=bundle.raucb bs=1 seek=$((end - 32)) conv=notrunc status=none\n\
              ! rauc --keyring=cert info bundle.raucb",
        ..RAUC_EXTRACT
    },
];

/// A peer with its bundle.
pub(super) struct Ready {
    out: PathBuf,
    line: String,
    bytes: u64,
    made: Usage,
}

impl Peer {
    /// Makes the bundle of `weights` in `room`, a new folder.
    ///
    /// # Errors
    /// [`super::NoPeer`] where a program is missing.
    pub(super) fn prepare(&self, room: &Path, weights: &Path, pack: bool) -> Result<Ready> {
        self.needs.iter().try_for_each(|need| peer(need).map(drop))?;
        fs::create_dir(room)?;
        let out = room.join("out");
        let shown = (room.display(), weights.display(), out.display());
        let pack = if pack { "1" } else { "" };
        let begin = format!(
            "cd '{}'; export WEIGHTS='{}' OUT='{}' PACK='{pack}'\n",
            shown.0, shown.1, shown.2
        );
        let made = usage_of(&format!("{begin}{}", self.prepare))?;
        let bytes = fs::metadata(weights)?.len();
        Ok(Ready { out, line: format!("{begin}{}", self.run), bytes, made })
    }
}

impl Ready {
    /// What making it used.
    pub(super) const fn made(&self) -> Usage {
        self.made
    }

    /// Runs the script where nothing is to be written.
    pub(super) fn look(&self) -> Result<Usage> {
        usage_of(&self.line)
    }

    /// Brings the bundle into an empty folder once.
    pub(super) fn run(&self) -> Result<Usage> {
        if self.out.exists() {
            fs::remove_dir_all(&self.out)?;
        }
        fs::create_dir(&self.out)?;
        // What was written before is not this run's.
        nix::unistd::sync();
        let usage = usage_of(&self.line)?;
        let written = largest(&self.out)?;
        ensure!(written >= self.bytes, "the peer wrote {written} of {} bytes", self.bytes);
        Ok(usage)
    }
}

/// Bytes on disk of the largest file.
fn largest(folder: &Path) -> Result<u64> {
    let mut most = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        let entry = entry?;
        let about = entry.metadata()?;
        // stat(2) counts in units of 512 bytes.
        let bytes = if about.is_dir() { largest(&entry.path())? } else { about.blocks() * 512 };
        most = most.max(bytes);
    }
    Ok(most)
}
