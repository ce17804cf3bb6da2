#!/bin/bash
# check-units.sh: every unit is understood by systemd (`systemd-analyze verify`) and every daemon's
# exposure is at most 1.5 of 10 (`systemd-analyze security --offline=true`). Needs no running systemd.
# One line for each daemon; exit 1 if any fails.
set -euo pipefail
units=$(cd "$(dirname "$0")/units" && pwd)
most=1.5

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/usr/lib/systemd/system" "$root/usr/bin"
cp -r "$units"/*.service "$units"/*.socket "$units"/*.service.d "$root/usr/lib/systemd/system/"
install -m 755 /bin/true "$root/usr/bin/cloister"
install -m 755 /bin/true "$root/usr/bin/grep"
# The machine's own targets and slices, which ours name.
cp -r /lib/systemd/system/*.target /lib/systemd/system/*.slice /lib/systemd/system/systemd-journald*@.* \
    "$root/usr/lib/systemd/system/"
for name in recordd intaked inspectd scand updaterd engined corpusd gatewayd; do
    # verify wants to see the programs.
    install -m 755 /bin/true "$root/usr/bin/cloister-$name"
done

# A template is checked by its instances.
names=$(cd "$units" && for unit in *.service *.socket; do
    case $unit in
    *@.*) echo "${unit/@./@a.}" "${unit/@./@b.}" ;;
    *) echo "$unit" ;;
    esac
done)
failed=0
# shellcheck disable=SC2086 # a list of units
complaints=$(systemd-analyze verify --root="$root" --man=no $names 2>&1) || failed=1
if [ -n "$complaints" ]; then
    # verify also speaks of the machine's own units; ours must not be among them.
    if grep -i cloister <<< "$complaints"; then failed=1; fi
fi
for name in $names; do
    # What mounts a stick is root for the moment of a mount; its unit gives up what that leaves.
    case $name in *.socket | import-medium@*) continue ;; esac
    exposure=$(systemd-analyze security --root="$root" --offline=true --no-pager "$name" |
        sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\) .*/\1/p')
    if [ -z "$exposure" ] || ! awk "BEGIN { exit !($exposure <= $most) }"; then
        echo "$name: exposure ${exposure:-unknown}, more than $most"
        failed=1
    else
        echo "$name: exposure $exposure"
    fi
done
exit $failed
