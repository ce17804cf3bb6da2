#!/usr/bin/env bash
# Fetches other projects' test archives by package name into the folder given, each set once:
#   astral/    tests/archives of the crate astral-tokio-tar (MIT or Apache-2.0)
#   go/        archive/tar/testdata of Go, from Debian's golang-1.19-src (BSD-3-Clause)
#   cpython/   what CPython's test_tarfile.py brings and makes, from the package backports.tarfile (MIT, PSF)
#   libarchive/ the test corpus of libarchive, from Debian's source package (BSD-2-Clause)
# A set that cannot be had is named on standard error, and its folder stays away. Nothing here runs
# what was fetched but test_tarfile.py, which makes its archives by running.
set -uo pipefail
out=$(readlink -m "$1")
here=$(dirname "$(readlink -f "$0")")
mkdir -p "$out"
# One at a time: tests in several processes may ask for the same sets.
exec 9> "$out/lock"
flock 9

# Makes set $1 by the function of that name in a scratch folder, and shows it only when it is whole.
make_set() {
  [ -d "$out/$1" ] && return
  local scratch
  scratch=$(mktemp -d)
  mkdir "$scratch/done"
  if (cd "$scratch" && "$1" "$scratch/done") > "$out/$1.log" 2>&1 && [ -n "$(ls -A "$scratch/done")" ]; then
    python3 "$here/unpack.py" "$scratch/done" && mv "$scratch/done" "$out/$1"
  else
    echo "$1: cannot be had here (see $out/$1.log)" >&2
  fi
  rm -rf "$scratch"
}

# The crate's sources, checked by cargo against the registry's digest.
astral() {
  mkdir src
  : > src/lib.rs
  printf '[package]\nname = "scratch"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\nastral-tokio-tar = "=0.6.3"\n' > Cargo.toml
  env -u CARGO_TARGET_DIR cargo vendor --quiet --versioned-dirs vendor > /dev/null || return
  cp vendor/astral-tokio-tar-0.6.3/tests/archives/* "$1"
}

# A Debian package, checked by apt against the archive's signature, unpacked into `files`.
debian() {
  apt-get download -q "$1" && dpkg-deb -x ./"$1"_*.deb files
}

go() {
  debian golang-1.19-src && cp files/usr/share/go-1.19/src/archive/tar/testdata/* "$1"
}

# CPython's tests as the package backports.tarfile brings them, with the helper that they need; Debian's
# 3.11 is older than the tests of extraction.
cpython() {
  python3 -m pip download --quiet --no-deps --no-binary :all: 'backports.tarfile==1.2.0' || return
  echo 'd75e02c268746e1b8144c278978b6e98e85de6ad16f8e4b0844a154557eca991  backports_tarfile-1.2.0.tar.gz' |
    sha256sum --check --quiet || return
  python3 -m pip install --quiet --target site 'jaraco.test==5.4.0' 'backports.tarfile==1.2.0' || return
  tar -xf backports_tarfile-1.2.0.tar.gz && cd backports_tarfile-1.2.0/tests || return
  cp archivetestdata/*.tar "$1"
  PYTHONPATH=../../site:.. python3 "$here/cpython.py" "$1"
}

# Debian's lists name no sources by default, so this brings lists of its own.
libarchive() {
  mkdir -p lists/partial state
  echo 'deb-src http://deb.debian.org/debian bookworm main' > sources.list
  local apt=(apt-get -q -o "Dir::Etc::SourceList=$PWD/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$PWD/lists" -o APT::Sandbox::User=root)
  "${apt[@]}" update && "${apt[@]}" source --download-only libarchive || return
  tar -xf libarchive_*.orig.tar.xz && cp libarchive-*/libarchive/test/*.uu "$1"
}

for set in astral go cpython libarchive; do make_set "$set"; done
