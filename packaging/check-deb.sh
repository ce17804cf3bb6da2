#!/bin/bash
# check-deb.sh DEB [ROOT]: installs DEB in a clean Debian 12 root, and checks users, folders, documents and
# enabled units, that nothing runs and no log begins before the log has a name, and that one begins under
# that name afterwards; then an upgrade, a removal that keeps state and configuration, and a purge. ROOT is
# an unpacked root with systemd, which is changed; without one, mmdebstrap makes one. Needs root.
set -euo pipefail
if [ $# -lt 1 ] || [ "$(id -u)" -ne 0 ]; then
    echo "usage, as root: check-deb.sh DEB [ROOT]" >&2
    exit 2
fi
deb=$1
made=
if [ $# -ge 2 ]; then
    root=$2
else
    made=$(mktemp -d)
    root=$made/root
    mmdebstrap --quiet --variant=minbase --include=systemd bookworm "$root"
fi
cleanup() {
    if mountpoint -q "$root/proc"; then umount "$root/proc"; fi
    rm -rf "$root/tmp/cloister.deb" ${made:+"$made"}
}
trap cleanup EXIT
mount -t proc proc "$root/proc"
cp "$deb" "$root/tmp/cloister.deb"
in_root() { chroot "$root" "$@"; }
expect() { # WHAT WANTED FOUND
    if [ "$2" != "$3" ]; then
        echo "check-deb: $1: wanted '$2', found '$3'"
        exit 1
    fi
}

told=$(in_root dpkg -i /tmp/cloister.deb 2>&1 > /dev/null)
expect "that the log has no name" 1 "$(grep -c 'name this appliance.*record.origin' <<< "$told")"
expect "status" "install ok installed" "$(in_root dpkg-query -W -f '${Status}' cloister)"
while read -r owner mode folder; do
    expect "owner and mode of $folder" "$owner $mode" "$(in_root stat -c '%U:%G %a' "$folder")"
done <<'FOLDERS'
root:cloister-updaterd 1770 /var/lib/cloister
cloister-recordd:cloister-recordd 700 /var/lib/cloister/record
cloister-updaterd:cloister-updaterd 700 /var/lib/cloister/trust
cloister-updaterd:cloister-quarantine 2770 /var/lib/cloister/quarantine
cloister-updaterd:cloister-shelf 2750 /var/lib/cloister/shelf
cloister-corpusd:cloister-corpusd 700 /var/lib/cloister/corpus
cloister-gatewayd:cloister-gatewayd 700 /var/lib/cloister/gateway
root:root 755 /run/cloister
root:root 700 /etc/credstore
root:root 700 /etc/credstore.encrypted
FOLDERS
for unit in cloister-{recordd,updaterd,corpusd,gatewayd}.{service,socket} cloister-intaked.socket cloister-inspectd.socket \
    cloister-scand.socket \
    cloister-gatewayd-admin.socket cloister-engined@{a,b}.{service,socket}; do
    expect "$unit" enabled "$(in_root systemctl is-enabled "$unit")"
done
# Every user that the configuration names is a user here.
for name in $(grep -o '"cloister-[a-z-]*"' "$root/etc/cloister/cloister.toml" | tr -d '"' | sort -u); do
    in_root getent passwd "$name" > /dev/null
done
expect "members of cloister-media" "" "$(in_root getent group cloister-media | cut -d: -f4)"
# What units and configuration point at is there.
units=$(in_root dpkg -L cloister | grep -E '^/usr/lib/systemd/system/.*(service|socket)$')
for unit in $units /etc/cloister/cloister.toml; do
    for page in $(grep -oE '/usr/share/doc/cloister/[a-z/-]+\.md' "$root$unit" | sort -u); do
        if [ ! -f "$root$page" ]; then
            echo "check-deb: $unit points at $page, which is not there"
            exit 1
        fi
    done
done

# Every program refuses until the log has a name, and leaves nothing behind.
for program in cloister-{recordd,intaked,updaterd,engined,corpusd,gatewayd}; do
    said=$(in_root "$program" $([ "$program" != cloister-engined ] || echo --slot a) 2>&1) && said=started
    expect "$program without a name" config.unnamed "$(grep -o 'config\.unnamed' <<< "$said")"
done
expect "cloister without a name" config.unnamed "$(in_root cloister status 2>&1 | grep -o 'config\.unnamed')"
expect "state before there is a name" "" "$(find "$root/var/lib/cloister" -type f)"
sed -i 's|^origin = ""|origin = "hospital-north/appliance-1"|' "$root/etc/cloister/cloister.toml"
chroot "$root" cloister-recordd 2> /dev/null &
recordd=$!
for _ in $(seq 600); do
    if [ -s "$root/var/lib/cloister/record/checkpoint" ] || ! kill -0 $recordd 2> /dev/null; then break; fi
    sleep 0.1
done
kill $recordd
wait $recordd || true
expect "the name of the log" hospital-north/appliance-1 "$(head -n 1 "$root/var/lib/cloister/record/checkpoint")"

echo "# by an administrator" >> "$root/etc/cloister/cloister.toml"
in_root dpkg --force-confold -i /tmp/cloister.deb > /dev/null
expect "configuration after an upgrade" "# by an administrator" \
    "$(tail -n 1 "$root/etc/cloister/cloister.toml")"
expect "the log's name after an upgrade" 'origin = "hospital-north/appliance-1"' \
    "$(grep '^origin' "$root/etc/cloister/cloister.toml")"
in_root dpkg -r cloister > /dev/null 2>&1
expect "enabled units after removal" "" "$(find "$root/etc/systemd/system" -name 'cloister*')"
for kept in "$root/etc/cloister/cloister.toml" "$root/var/lib/cloister/record"; do
    if [ ! -e "$kept" ]; then
        echo "check-deb: removal took ${kept#"$root"} away"
        exit 1
    fi
done
in_root dpkg -P cloister > /dev/null 2>&1
if [ -e "$root/etc/cloister" ]; then
    echo "check-deb: purging left the configuration"
    exit 1
fi
echo "check-deb: installed, upgraded, removed and purged in a clean root"
