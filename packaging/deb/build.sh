#!/bin/bash
# build.sh OUT BINARY_DIR: packs the daemons and tools in BINARY_DIR, with units, users, folders and the
# default configuration and the documents, into OUT/cloister_VERSION_ARCH.deb. The same inputs give the same bytes:
# times are SOURCE_DATE_EPOCH, owners are root, order is dpkg-deb's.
set -euo pipefail
if [ $# -ne 2 ]; then
    echo "usage: build.sh OUT BINARY_DIR" >&2
    exit 2
fi
out=$1
binaries=$2
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
units=$top/packaging/units
# Without a date given, that of the last change of the tree; a tree without history has none.
: "${SOURCE_DATE_EPOCH:=$(git -C "$top" log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$top/Cargo.toml")
architecture=$(dpkg --print-architecture)

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
umask 022
# It becomes the package's root entry, and mktemp lets only its owner in.
chmod 755 "$tree"
put() { # MODE SOURCE TARGET
    install -D -m "$1" "$2" "$tree/$3"
}

for name in recordd intaked inspectd scand updaterd engined corpusd gatewayd; do
    put 755 "$binaries/cloister-$name" "usr/bin/cloister-$name"
done
put 755 "$binaries/cloister" usr/bin/cloister

for unit in "$units"/*.service "$units"/*.socket; do
    put 644 "$unit" "usr/lib/systemd/system/$(basename "$unit")"
done
put 644 "$units/cloister-.service.d/10-sandbox.conf" \
    usr/lib/systemd/system/cloister-.service.d/10-sandbox.conf
put 644 "$units/cloister.preset" usr/lib/systemd/system-preset/50-cloister.preset
put 644 "$units/journald@cloister.conf" usr/lib/systemd/journald@cloister.conf.d/50-cloister.conf
put 644 "$units/cloister.sysusers.conf" usr/lib/sysusers.d/cloister.conf
put 644 "$units/cloister.tmpfiles.conf" usr/lib/tmpfiles.d/cloister.conf
put 644 "$units/cloister.udev.rules" usr/lib/udev/rules.d/60-cloister.rules
put 644 "$units/cloister.toml" etc/cloister/cloister.toml
put 644 "$units/cloister-medium.rules" usr/share/polkit-1/rules.d/60-cloister-medium.rules
# Folders as in the checkout, so that their links hold.
for page in runbooks formats reference; do
    for file in "$top/docs/$page"/*.md; do
        put 644 "$file" "usr/share/doc/cloister/$page/$(basename "$file")"
    done
done
put 644 "$here/copyright" usr/share/doc/cloister/copyright

mkdir "$tree/DEBIAN"
kilobytes=$(du -sk --apparent-size "$tree" | cut -f1)
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@KILOBYTES@/$kilobytes/" \
    "$here/control" > "$tree/DEBIAN/control"
echo /etc/cloister/cloister.toml > "$tree/DEBIAN/conffiles"
put 755 "$here/postinst" DEBIAN/postinst
put 755 "$here/prerm" DEBIAN/prerm
(cd "$tree" && find usr etc -type f | LC_ALL=C sort | xargs md5sum) > "$tree/DEBIAN/md5sums"

find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$out"
# One thread, since the bytes of xz depend on the number of blocks.
dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$tree" \
    "$out/cloister_${version}_${architecture}.deb" >&2
echo "$out/cloister_${version}_${architecture}.deb"
