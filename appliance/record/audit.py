#!/usr/bin/env python3
"""Audits an export of an appliance's record; shares no code with the appliance.

    audit.py EXPORT_DIR --log-key KEY --root ROOT [--root NEWER ...] [--list]

KEY   the log's verifier key, NAME+ID+BASE64 (C2SP signed note), as noted at enrolment. It is the
      host key too, which signs the appliance's own entries.
ROOT  the enrolled trust root: its file (TUF root JSON), or only its SHA-256, with which persons'
      signatures cannot be checked. Later roots follow in order, each signed by the one before.

Neither is ever taken from the export. Exit status: 0 for a good export, 1 for any fault, 2 for
a wrong call. Formats: docs/formats/record.md.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import sys

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None

WIDTH = 256
ENTRY_BYTES_MAX, FILE_BYTES_MAX = 48 << 10, 256 * (64 << 10)
STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD = "application/vnd.in-toto+json"
EVENTS = """anchor-enrolment media-seen import-accepted import-refused inspection evaluation approval
 evaluation-asked policy-change pin sweep rollback activation-intent activation-outcome act-refused trust-update key-change document-deleted
 inventory""".split()


class Fault(Exception):
    """Something in the export is not what it must be."""


# Ed25519 (RFC 8032, section 5.1), verification only, with the stricter rules: canonical encodings,
# no point of small order, no freedom by the cofactor.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def add(a, b):
    """Sum of two points in extended coordinates (RFC 8032, section 5.1.4)."""
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g = 2 * a[3] * b[3] * D % P
    h = 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def equal(a, b):
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def decode_point(data):
    """The point that 32 bytes encode in the one canonical way, or None."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_M1 % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def usable(point):
    return point is not None and not equal(times(8, point), times(0, point))


def key_is_good(key):
    return len(key) == 32 and usable(decode_point(key))


def verify(key, message, signature):
    """Whether `signature` over `message` is by `key`, in its one canonical spelling."""
    if len(key) != 32 or len(signature) != 64:
        return False
    r, s = decode_point(signature[:32]), int.from_bytes(signature[32:], "little")
    if s >= L or not usable(r) or not key_is_good(key):
        return False
    if Ed25519PublicKey:
        try:
            return Ed25519PublicKey.from_public_bytes(key).verify(signature, message) is None
        except (InvalidSignature, ValueError):
            return False
    digest = hashlib.sha512(signature[:32] + key + message).digest()
    challenge = int.from_bytes(digest, "little") % L
    return equal(times(s, BASE), add(r, times(challenge, decode_point(key))))


# Bytes and JSON that mean one thing.


def b64(text):
    """Padded base64 in its one spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, TypeError):
        data = None
    if data is None or base64.b64encode(data).decode() != text:
        raise Fault("a field is not base64 in its one spelling")
    return data


def unique(pairs):
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise Fault("an object names a key twice")
    return dict(pairs)


def refuse_number(_text):
    raise Fault("a number is not an integer")


def parse_json(data):
    strict = {"parse_float": refuse_number, "parse_constant": refuse_number}
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=unique, **strict)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise Fault("a text is not JSON") from None


def take(value, path, kind):
    """The field at `path`, which must be of type `kind`."""
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            raise Fault(f"the field {path} is missing")
        value = value[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Fault(f"the field {path} is of another kind")
    return value


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def canonical_tuf(value):
    """TUF's canonical JSON: only quotes and backslashes are escaped."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        parts = (f"{canonical_tuf(key)}:{canonical_tuf(value[key])}" for key in sorted(value))
        return "{" + ",".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical_tuf, value)) + "]"
    return json.dumps(value)


def key_id_of(key):
    """The SHA-256 of the TUF key object."""
    value = {"keytype": "ed25519", "keyval": {"public": key.hex()}, "scheme": "ed25519"}
    return sha256(canonical_tuf(value).encode())


# What the auditor brings along.


class LogKey:
    """A verifier key of C2SP signed notes."""

    def __init__(self, text):
        self.name, key_id, typed = (text.split("+", 2) + ["", ""])[:3]
        typed = b64(typed)
        if len(typed) != 33 or typed[0] != 1 or not key_is_good(typed[1:]):
            raise ValueError("the log key is not NAME+ID+BASE64 of an Ed25519 key")
        self.key = typed[1:]
        self.id = hashlib.sha256(self.name.encode() + b"\n" + typed).digest()[:4]
        if self.id.hex() != key_id:
            raise ValueError("the log key's id does not fit its name and key")


class Root:
    """A trust root: its Ed25519 keys, and the persons who approve, by key."""

    def __init__(self, data):
        self.digest, value = sha256(data), parse_json(data)
        self.signed, self.signatures = take(value, "signed", dict), take(value, "signatures", list)
        self.version = take(self.signed, "version", int)
        self.keys = {}
        for key_id, value in take(self.signed, "keys", dict).items():
            if key_id != sha256(canonical_tuf(value).encode()):
                raise Fault("a key of the trust root has another id than its content gives")
            if take(value, "keytype", str) != "ed25519":
                continue
            key = bytes.fromhex(take(value, "keyval.public", str))
            if not key_is_good(key):
                raise Fault("a key of the trust root is not a good Ed25519 key")
            self.keys[key_id] = key
        names = take(self.signed, "x-cloister.persons", dict)
        role = take(self.signed, "x-cloister.approvers", dict)
        own = [one for one in take(role, "keyids", list) if one in self.keys]
        self.approvers = {self.keys[one]: names[one] for one in own}
        self.both = asks_for_more(role)

    def check_signed_by(self, other):
        """That enough root keys of `other` signed this root (TUF 1.0.34, section 5.3.4)."""
        role = take(other.signed, "roles.root", dict)
        if asks_for_more(role):
            raise Fault(f"root version {other.version} asks for signatures that only cloister checks")
        message = canonical_tuf(self.signed).encode()
        good = set()
        for one in self.signatures:
            key_id, sig = take(one, "keyid", str), bytes.fromhex(take(one, "sig", str))
            key = other.keys.get(key_id) if key_id in take(role, "keyids", list) else None
            if key and verify(key, message, sig):
                good.add(key)
        if len(good) < max(1, take(role, "threshold", int)):
            raise Fault(f"root version {self.version} is not signed by enough root keys")


def asks_for_more(role):
    """Whether a role asks for signatures of another kind than Ed25519, beside it or alone."""
    return set(role.get("x-algorithms", [])) - {"ed25519"}


class Trust:
    """Log key, digest of the enrolled trust root, and the roots by digest; all from the command line."""

    def __init__(self, args):
        self.log = LogKey(args.log_key)
        self.roots = {}
        if re.fullmatch("[0-9a-f]{64}", args.root[0]) and not os.path.exists(args.root[0]):
            self.root, self.has_root = args.root[0], False
            if len(args.root) > 1:
                raise ValueError("later roots need the file of the first")
            return
        roots = [Root(read_file(path)) for path in args.root]
        self.root, self.has_root = roots[0].digest, True
        for older, newer in zip(roots, roots[1:]):
            if newer.version != older.version + 1:
                raise Fault("the trust roots do not follow each other by version")
            newer.check_signed_by(older)
        for root in roots:
            root.check_signed_by(root)
            self.roots[root.digest] = root


def read_file(path):
    with open(path, "rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise Fault(f"{path} is larger than any file of a log")
    return data


# The log's files (C2SP tlog-tiles, tlog-checkpoint, signed-note).


def open_checkpoint(data, log):
    """Size and root of a checkpoint that the log signed."""
    body, _, lines = data.decode("utf-8", "strict").rpartition("\n\n")
    text, signed = body + "\n", False
    for line in lines.removesuffix("\n").split("\n"):
        match = re.fullmatch("\u2014 ([^ +]+) ([^ ]+)", line)
        if not match or not lines.endswith("\n"):
            raise Fault("what stands below the checkpoint is no signature")
        typed = b64(match[2])
        if match[1] == log.name and typed[:4] == log.id:
            if not verify(log.key, text.encode(), typed[4:]):
                raise Fault("the checkpoint's signature by the log is wrong")
            signed = True
    if not signed:
        raise Fault("the checkpoint has no signature by the log that was named")
    match = re.fullmatch("([^\n]+)\n(0|[1-9][0-9]*)\n([^\n]+)\n", text)
    if not match or match[1] != log.name or len(b64(match[3])) != 32:
        raise Fault("the checkpoint is not one of the log that was named")
    return int(match[2]), b64(match[3])


def tile_path(kind, index, width):
    path = f"{index % 1000:03}" + ("" if width == WIDTH else f".p/{width}")
    while index >= 1000:
        index //= 1000
        path = f"x{index % 1000:03}/{path}"
    return f"tile/{kind}/{path}"


def tiles(size):
    """Every file of a log of `size` entries: kind, level, first row, width, path."""
    rows = [("entries", None, size)] + [(str(lv), lv, size >> 8 * lv) for lv in range(8)]
    for kind, level, count in rows:
        for first in range(0, count, WIDTH):
            width = min(WIDTH, count - first)
            yield kind, level, first, width, tile_path(kind, first // WIDTH, width)


def split_bundle(data, width):
    entries, place = [], 0
    while place + 2 <= len(data):
        end = place + 2 + int.from_bytes(data[place : place + 2], "big")
        entries.append(data[place + 2 : end])
        place = end
    if place != len(data) or len(entries) != width:
        raise Fault("a bundle does not hold the entries that its name says")
    return entries


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def merkle_levels(entries):
    """Hashes of all complete subtrees (RFC 6962, section 2.1): levels[l][i]."""
    levels = [[hashlib.sha256(b"\0" + entry).digest() for entry in entries]]
    while len(levels[-1]) > 1:
        levels.append([node(*pair) for pair in zip(levels[-1][0::2], levels[-1][1::2])])
    return levels


def merkle_root(levels, size):
    if size == 0:
        return hashlib.sha256(b"").digest()
    root, first = None, size
    for level, row in enumerate(levels):
        # From the smallest complete subtree at the right edge to the largest at the left.
        if size >> level & 1:
            first -= 1 << level
            root = node(row[first >> level], root) if root else row[first >> level]
    return root


def export_files(folder):
    paths = (os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)
    return {os.path.relpath(path, folder) for path in paths}


class Rules:
    """The rules between entries, as far as they were read."""

    def __init__(self, trust):
        self.trust = trust
        self.prev, self.acts, self.open = None, set(), None
        self.root = trust.root  # the one in force, by the log's own word

    def entry(self, seq, data):
        """Checks one entry and returns what a list shows of it."""
        prev, self.prev = self.prev, sha256(data)
        if len(data) > ENTRY_BYTES_MAX:
            raise Fault("it is larger than a record may be")
        envelope = parse_json(data)
        if take(envelope, "payloadType", str) != PAYLOAD:
            raise Fault("its payload is not an in-toto statement")
        payload = b64(take(envelope, "payload", str))
        message = f"DSSEv1 {len(PAYLOAD)} {PAYLOAD} {len(payload)} ".encode() + payload
        signed = take(envelope, "signatures", list)
        signatures = [(take(one, "keyid", str), b64(take(one, "sig", str))) for one in signed]
        statement = parse_json(payload)
        if take(statement, "_type", str) != STATEMENT:
            raise Fault("its payload is not an in-toto statement of version 1")
        kind = take(statement, "predicateType", str)
        event = kind.removeprefix("https://cloister.invalid/").removesuffix("/v1")
        if event not in EVENTS or kind != f"https://cloister.invalid/{event}/v1":
            raise Fault("it is about an event that is not known")
        about = take(statement, "subject", list)
        subjects = {(take(one, "name", str), take(one, "digest.sha256", str)) for one in about}
        predicate = take(statement, "predicate", dict)
        if event == "approval":
            who = self.person(predicate, message, signatures)
        else:
            who = self.host((seq, prev, event), predicate, message, signatures)
        if event == "trust-update":
            self.root = next((one for name, one in subjects if name == "trust-root"), self.root)
        enrolled = ("trust-root", self.trust.root) in subjects
        if (event == "anchor-enrolment") != (seq == 0) or (seq == 0 and not enrolled):
            raise Fault("the trust root is enrolled once, as record 0, and is the one named")
        return event, who, sorted(subjects), predicate

    def person(self, predicate, message, signatures):
        person = take(predicate, "person", str)
        if not self.trust.has_root:
            raise Fault("a person signed it: give the trust root's file, not only its digest")
        root = self.trust.roots.get(self.root)
        if root is None:
            raise Fault("a person signed it under a trust root that was not given")
        if root.both:
            raise Fault("the trust root asks approvers for signatures that only cloister checks")
        for key, name in root.approvers.items():
            if name != person:
                continue
            key_id = key_id_of(key)
            if any(named == key_id and verify(key, message, sig) for named, sig in signatures):
                return f"{take(predicate, 'decision', str)} by {person}"
        raise Fault(f"it has no good signature by a key that the trust root gives {person!r}")

    def host(self, place, predicate, message, signatures):
        seq, prev, event = place
        key_id = key_id_of(self.trust.log.key)
        alone = [named for named, _ in signatures] == [key_id]
        if not alone or not verify(self.trust.log.key, message, signatures[0][1]):
            raise Fault("it is not signed by the host key alone")
        if take(predicate, "event", str) != event:
            raise Fault("event and predicate type differ")
        if take(predicate, "seq", int) != seq or predicate.get("prev", "") != prev:
            raise Fault("it says that it stands elsewhere, or follows another")
        if take(predicate, "host.origin", str) != self.trust.log.name:
            raise Fault("it belongs to another log")
        if take(predicate, "time.trusted", bool):
            raise Fault("it claims a trusted time")
        act = take(predicate, "act", str)
        if act in self.acts:
            raise Fault(f"the act {act} has two records")
        self.acts.add(act)
        self.activation(event, act)
        return act

    def activation(self, event, act):
        if event == "activation-intent":
            before, self.open = self.open, act
            if before is not None or not act.endswith("/intent"):
                raise Fault("an intent follows one that has no outcome")
        if event == "activation-outcome":
            before, self.open = self.open, None
            if before is None or act != before[: -len("intent")] + "outcome":
                raise Fault("an outcome has no intent before it")


def audit(folder, trust, listing):
    """Prints the list if asked for; returns size, root, faults and the open intent."""
    faults = []
    size, root = open_checkpoint(read_file(os.path.join(folder, "checkpoint")), trust.log)
    there, known, entries = export_files(folder), {"checkpoint"}, []
    if size > WIDTH * len(there):
        raise Fault("the export has fewer files than its checkpoint's size needs")
    for kind, _, _, width, path in tiles(size):
        known.add(path)
        if path not in there:
            faults.append(f"{path} is missing")
        elif kind == "entries":
            try:
                entries += split_bundle(read_file(os.path.join(folder, path)), width)
            except Fault as fault:
                faults.append(f"{path}: {fault}")
    extra = sorted(path for path in there - known if path.startswith("tile/"))
    faults += [f"a file that such a log does not have: {path}" for path in extra]
    if len(entries) != size:
        return size, root, faults + ["the entries are not complete"], None
    levels = merkle_levels(entries)
    if merkle_root(levels, size) != root:
        faults.append("the entries do not hash to the root that the checkpoint signs")
    for kind, level, first, width, path in tiles(size):
        if kind != "entries" and path in there:
            wanted = b"".join(levels[8 * level][first : first + width])
            if read_file(os.path.join(folder, path)) != wanted:
                faults.append(f"{path} does not hold the hashes of the entries")
    rules = Rules(trust)
    for seq, data in enumerate(entries):
        try:
            event, who, subjects, predicate = rules.entry(seq, data)
        except Fault as fault:
            faults.append(f"record {seq}: {fault}")
            continue
        if listing:
            about = " ".join(f"{name}={digest[:12]}" for name, digest in subjects)
            facts = json.dumps(predicate.get("facts", {}), ensure_ascii=True, sort_keys=True)
            print(f"{seq:6}  {event:19} {who:40} {about} {facts}")
    return size, root, faults, rules.open


def main():
    parser = argparse.ArgumentParser(description="Audits an export of an appliance's record.")
    parser.add_argument("export")
    parser.add_argument("--log-key", required=True, metavar="KEY")
    parser.add_argument("--root", required=True, action="append", metavar="ROOT")
    parser.add_argument("--list", action="store_true", help="print one line for each record")
    args = parser.parse_args()
    try:
        trust = Trust(args)
    except (ValueError, OSError, Fault) as error:
        print(f"audit: what you brought along cannot be used: {error}", file=sys.stderr)
        return 2
    try:
        size, root, faults, open_intent = audit(args.export, trust, args.list)
    except (Fault, OSError, ValueError) as error:
        size, root, faults, open_intent = 0, b"", [str(error)], None
    for fault in faults:
        print(f"FAULT  {fault}")
    if open_intent:
        print(f"note   {open_intent} has no outcome yet")
    if faults:
        print(f"BAD    {len(faults)} faults; do not rely on this export")
        return 1
    by = "cryptography" if Ed25519PublicKey else "this file"
    print(f"GOOD   {size} records of {trust.log.name}, root {root.hex()} (Ed25519 by {by})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
