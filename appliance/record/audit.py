#!/usr/bin/env python3
"""Audits an export of an appliance's record; shares no code with the appliance.

    audit.py EXPORT_DIR --log-key KEY --root ROOT [--root NEWER ...] [--policy FILE] [--list]

KEY is the log's first verifier key (NAME+ID+BASE64, C2SP signed note) as noted at enrolment, and
the host key too; ROOT the enrolled TUF root, or its SHA-256, with which persons' signatures cannot
be checked, and later ones in order; FILE a policy (C2SP tlog-policy); none comes from the export.
Exit status: 0 for a good export, 1 for any fault, 2 for a wrong call. See docs/formats/record.md.
"""
import argparse, base64, collections, contextlib, functools, hashlib, json, os, re, sys, time
try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None
WIDTH, ENTRY_BYTES_MAX, FILE_BYTES_MAX = 256, 48 << 10, 256 * (64 << 10)
STATEMENT, PAYLOAD = "https://in-toto.io/Statement/v1", "application/vnd.in-toto+json"
EVENTS = """anchor-enrolment media-seen import-accepted import-refused inspection evaluation
 rollback activation-intent activation-outcome act-refused trust-update key-change inventory pin
 evaluation-asked policy-change sweep scrub damage shadow-started trial-ended
 document-deleted state-rebuilt configuration key-succession""".split()
# What persons sign: what it is about, and what they can decide.
PERSONS = {"approval": ("bundle evidence package policy", "approve reject"),
           "downgrade": ("bundle from", "consent"), "acknowledgement": ("checkpoint", "consent"),
           "succession": ("checkpoint host-key", "consent")}
SUMMARY = "https://slsa.dev/verification_summary/v1"
LEVELS = ["SLSA_BUILD_LEVEL_UNEVALUATED", "CLOISTER_EVALUATED", "CLOISTER_APPROVED"]
class Fault(Exception):
    """Something in the export is not what it must be."""
def demand(holds, otherwise, value=None):
    if not holds:
        raise Fault(otherwise)
    return value
# Ed25519 (RFC 8032, section 5.1), verification only, with the stricter rules: canonical encodings,
# no point of small order, no freedom by the cofactor.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
def add(a, b):
    """Sum of two points in extended coordinates (RFC 8032, section 5.1.4)."""
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P
def times(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        result = add(result, point) if scalar & 1 else result
        scalar, point = scalar >> 1, add(point, point)
    return result
def encode_point(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")
def decode_point(data):
    """The point that 32 bytes encode in the one canonical way, or None."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x * SQRT_M1 % P if (x * x - square) % P else x
    x = P - x if x & 1 != sign else x
    point = x, y, 1, x * y % P
    return point if (x * x - square) % P == 0 and encode_point(point) == data else None
BASE = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
# The eight points whose order divides 8 are the multiples of one of order 8.
TORSION = times(L, decode_point((3).to_bytes(32, "little")))
SMALL_ORDER = {encode_point(times(n, TORSION)) for n in range(8)}
@functools.lru_cache(maxsize=None)
def key_point(key):
    """The point of a usable key, or None."""
    return decode_point(key) if len(key) == 32 and key not in SMALL_ORDER else None
def verify(key, message, signature):
    """Whether `signature` over `message` is by `key`, in its one canonical spelling."""
    point, r, s = key_point(key), signature[:32], int.from_bytes(signature[32:], "little")
    if point is None or len(signature) != 64 or r in SMALL_ORDER or s >= L:
        return False
    if Ed25519PublicKey:
        with contextlib.suppress(InvalidSignature):
            return Ed25519PublicKey.from_public_bytes(key).verify(signature, message) is None
        return False
    challenge = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L
    minus = (P - point[0], point[1], 1, P - point[3])
    return encode_point(add(times(s, BASE), times(challenge, minus))) == r
def b64(text):
    """Padded base64 in its one spelling."""
    with contextlib.suppress(ValueError, TypeError):
        data = base64.b64decode(text, validate=True)
        if base64.b64encode(data).decode() == text:
            return data
    raise Fault("a field is not base64, or not in its one spelling")
def unique(pairs):
    return demand(len(dict(pairs)) == len(pairs), "an object names a key twice", dict(pairs))
READ = json.JSONDecoder(object_pairs_hook=unique, parse_float=int, parse_constant=int)
def parse_json(data):
    with contextlib.suppress(ValueError, RecursionError):
        return READ.decode(data.decode("utf-8"))
    raise Fault("a text is not JSON, or holds a number that is no integer")
def take(value, path, kind):
    """The field at `path`, which must be of type `kind`."""
    for name in path.split("."):
        demand(isinstance(value, dict) and name in value, "a field is missing: " + path)
        value = value[name]
    return demand(type(value) is kind, "a field is of another kind: " + path, value)
def sha256(data):
    return hashlib.sha256(data).hexdigest()
def canonical_tuf(value):
    """TUF's canonical JSON; where a text holds control characters it differs, and nothing fits."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
@functools.lru_cache(maxsize=None)
def key_id_of(key):
    """The SHA-256 of the TUF key object."""
    value = {"keytype": "ed25519", "keyval": {"public": key.hex()}, "scheme": "ed25519"}
    return sha256(canonical_tuf(value))
Key = collections.namedtuple("Key", "text name id kind key")
def verifier_key(text, wanted):
    """A key NAME+ID+BASE64 of type 1 (log) or 4 (witness). Of other types it signs nothing."""
    match = re.fullmatch(r"([^\s+\0-\x1f\x7f-\x9f]+)\+([0-9a-f]{8})\+(.+)", text)
    typed = b64(match[3]) if match else b""
    demand(len(typed) > 1, "a verifier key is not NAME+ID+BASE64")
    key = Key(text, match[1], bytes.fromhex(match[2]), typed[0], typed[1:])
    made = hashlib.sha256(key.name.encode() + b"\n" + typed).digest()[:4]
    good = key.kind not in (1, 4) or key.kind == wanted and key_point(key.key) and made == key.id
    return demand(good, "a verifier key is of the other kind, or its id does not fit", key)
class Policy:
    """Which logs are believed, and which witnesses must have cosigned (C2SP tlog-policy)."""
    def __init__(self, data):
        self.logs, self.members, grouped, quorums = [], {b"none": (0, [])}, {b"none"}, []
        plain = not re.search(rb"[\0-\x08\x0b-\x1f\x7f]", data) and data.endswith(b"\n")
        demand(plain, "the policy holds a control character or an unfinished line")
        for number, line in enumerate(data.split(b"\n"), 1):
            verb, *words = re.findall(rb"[^ \t]+", line) or [b"#"]
            fits = verb.startswith(b"#")
            if verb == b"log" and len(words) in (1, 2):
                fits = self.logs.append(verifier_key(words[0].decode(), 1)) is None
            elif verb == b"witness" and len(words) in (2, 3):
                fits = words[0] not in self.members
                self.members[words[0]] = verifier_key(words[1].decode(), 4)
            elif verb == b"group" and len(words) > 2:
                name, count, *names = words
                counts = {b"any": 1, b"all": len(names)}
                counts.update((b"%d" % n, n) for n in range(1, len(names) + 1))
                free = len(set(names)) == len(names) and set(names) <= set(self.members) - grouped
                fits = free and name not in self.members and count in counts
                self.members[name] = (counts.get(count), names)
                grouped.update(names)
            elif verb == b"quorum" and len(words) == 1:
                fits = quorums.append(words[0]) is None and words[0] in self.members
            demand(fits, f"line {number} of the policy is none that a policy can have")
        for keys in self.logs, [one for one in self.members.values() if isinstance(one, Key)]:
            demand(len({one.key for one in keys}) == len(keys), "the policy names a key twice")
        self.quorum = demand(len(quorums) == 1, "a policy has one line `quorum`", quorums)[0]
    def check(self, note, keys):
        demand(not self.logs or {*keys} & {*self.logs}, "the policy names logs, and not this one")
        held = {}
        for name, member in self.members.items():
            held[name] = (member.kind == 4 and note.is_signed_by(member) if isinstance(member, Key)
                          else sum(held[one] for one in member[1]) >= member[0])
        demand(held[self.quorum], "too few witnesses cosigned the checkpoint for the quorum")
class Root:
    """A trust root: its Ed25519 keys, and the persons who approve, by key."""
    def __init__(self, data):
        self.digest, value = sha256(data), parse_json(data)
        self.signed, self.signatures = take(value, "signed", dict), take(value, "signatures", list)
        self.version, self.keys = take(self.signed, "version", int), {}
        for key_id, value in take(self.signed, "keys", dict).items():
            demand(key_id == sha256(canonical_tuf(value)), "a key of the trust root has another id")
            if take(value, "keytype", str) == "ed25519":
                self.keys[key_id] = bytes.fromhex(take(value, "keyval.public", str))
                demand(key_point(self.keys[key_id]), "a key of the trust root is not a good one")
        names = take(self.signed, "x-cloister.persons", dict)
        role = take(self.signed, "x-cloister.approvers", dict)
        own, self.both = take(role, "keyids", list), asks_for_more(role)
        self.approvers = {self.keys[one]: names[one] for one in own if one in self.keys}
    def check_signed_by(self, other):
        """That enough root keys of `other` signed this root (TUF 1.0.34, section 5.3.4)."""
        role = take(other.signed, "roles.root", dict)
        demand(not asks_for_more(role), "a root asks for signatures that only cloister checks")
        message = canonical_tuf(self.signed)
        keys = {one: other.keys[one] for one in take(role, "keyids", list) if one in other.keys}
        signed = [(take(one, "keyid", str), take(one, "sig", str)) for one in self.signatures]
        signed = [(keys[by], bytes.fromhex(sig)) for by, sig in signed if by in keys]
        good = {key for key, sig in signed if verify(key, message, sig)}
        enough = len(good) >= max(1, take(role, "threshold", int))
        demand(enough, f"root version {self.version} is not signed by enough root keys")
def asks_for_more(role):
    """Whether a role asks for signatures of another kind than Ed25519, beside it or alone."""
    return set(role.get("x-algorithms", [])) - {"ed25519"}
class Trust:
    """Log key, policy, digest of the enrolled trust root, and the roots by digest."""
    def __init__(self, args):
        self.log = verifier_key(args.log_key, 1)
        demand(self.log.kind == 1, "the log key is not an Ed25519 key")
        self.policy = Policy(read_file(args.policy)) if args.policy else None
        bare = re.fullmatch("[0-9a-f]{64}", args.root[0]) and not os.path.exists(args.root[0])
        demand(not bare or len(args.root) == 1, "later roots need the file of the first")
        roots = [] if bare else [Root(read_file(path)) for path in args.root]
        for older, newer in zip([None, *roots], roots):
            newer.check_signed_by(newer)
            demand(not older or newer.version == older.version + 1, "the roots do not follow")
            newer.check_signed_by(older or newer)
        self.roots = {root.digest: root for root in roots}
        self.root = roots[0].digest if roots else args.root[0]
def read_file(path):
    with open(path, "rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    return demand(len(data) <= FILE_BYTES_MAX, f"{path} is larger than any file of a log", data)
class Note:
    """A signed note: its text, and its signature lines as (name, id) and bytes."""
    def __init__(self, data):
        body, _, lines = data.decode("utf-8", "strict").rpartition("\n\n")
        self.text, self.signatures = (body + "\n").encode(), []
        demand(len(data) <= 64 << 10 and lines.endswith("\n"), "the checkpoint is no signed note")
        for line in lines.removesuffix("\n").split("\n"):
            match = re.fullmatch("\u2014 ([^\\s+\\0-\\x1f\\x7f-\\x9f]+) ([^ ]+)", line)
            typed = b64(match[2]) if match else b""
            demand(len(typed) > 4, "what stands below the checkpoint is no signature")
            self.signatures.append(((match[1], typed[:4]), typed[4:]))
    def is_signed_by(self, key):
        """Whether log or witness signed it; a wrong signature in their name spoils the note."""
        signed = [sig for by, sig in self.signatures if by == (key.name, key.id)]
        for sig in signed:
            seconds, message = int.from_bytes(sig[:8], "big"), self.text
            if key.kind == 4:  # C2SP tlog-cosignature
                message, sig = f"cosignature/v1\ntime {seconds}\n".encode() + self.text, sig[8:]
            good = verify(key.key, message, sig) and (key.kind == 1 or 0 < seconds < 1 << 63)
            demand(good, "a signature in the log's or a witness's name is wrong")
        return bool(signed)
def tiles(size):
    """Every file of a log of `size` entries: level (None for entries), first row, width, path."""
    for level in [None, *range(8)]:
        count = size >> 8 * (level or 0)
        for first in range(0, count, WIDTH):
            width, index = min(WIDTH, count - first), first // WIDTH
            digits = f"{index:0{-(-len(str(index)) // 3) * 3}}"
            path = re.sub(r"\d{3}(?=\d)", r"x\g<0>/", digits)
            path += "" if width == WIDTH else f".p/{width}"
            yield level, first, width, f"tile/{'entries' if level is None else level}/{path}"
def split_bundle(data, width):
    entries, place = [], 0
    while place + 2 <= len(data):
        place, start = place + 2 + int.from_bytes(data[place : place + 2], "big"), place + 2
        entries.append(data[start:place])
    whole = place == len(data) and len(entries) == width
    return demand(whole, "a bundle does not hold the entries that its name says", entries)
def merkle_levels(entries):
    """Hashes of all complete subtrees (RFC 6962, section 2.1): levels[l][i]."""
    levels = [[hashlib.sha256(b"\0" + entry).digest() for entry in entries]]
    while len(levels[-1]) > 1:
        pairs = zip(levels[-1][0::2], levels[-1][1::2])
        levels.append([hashlib.sha256(b"\1" + left + right).digest() for left, right in pairs])
    return levels
def merkle_root(levels, size):
    root = None if size else hashlib.sha256(b"").digest()
    for level, row in enumerate(levels):
        # From the smallest complete subtree at the right edge to the largest at the left.
        if size >> level & 1:
            left = row[(size >> level) - 1]
            root = hashlib.sha256(b"\1" + left + root).digest() if root else left
    return root
class Promotions:
    """What may be served: what two who did not import it approved, or what served before."""
    def __init__(self, origin):
        self.log, self.uri, self.needed = origin, "https://cloister.invalid/log/" + origin, 2
        self.imports, self.said, self.leaves, self.served = {}, {}, [], set()
        self.intent, self.summary = (None, None, None), None
    def read(self, seq, digest, event, about, statement):
        predicate, summary, self.summary, due = statement["predicate"], self.summary, None, None
        facts = predicate.get("facts", {})
        held = self.imports.setdefault(facts.get("import"), {"by": set()})
        if event in PERSONS:
            said = self.said.setdefault(about.get("package"), [])
            log, size = take(predicate, "log.origin", str), take(predicate, "log.size", int)
            kept = self.leaves if event == "downgrade" else said
            kept += [(seq, digest, about, predicate)] * (log == self.log and size <= seq)
        elif statement["predicateType"] == SUMMARY:
            self.summary = digest, statement
        elif event == "policy-change":
            self.needed = max(2, facts.get("approvals_needed", self.needed))
        elif event == "media-seen":
            held.update(facts, by=held["by"] | {facts.get("operator"), *facts.get("persons", [])})
        elif event in ("evaluation", "evaluation-asked"):
            fit = {"bundle": about.get("bundle"), "policy": facts.get("policy")}
            passed = facts.get("verdict") == "passed"
            held["judged"] = passed and ([(seq, digest)], fit, about.get("package"))
        elif event == "trial-ended" and "package" in about and held.get("judged"):
            records, fit, _ = held["judged"]
            held["judged"] = [*records, (seq, digest)], fit, about["package"]
        elif event == "activation-intent":
            kind, leaves = facts.get("kind"), self.leaves
            self.leaves = leaves if kind == "canary" else []
            self.intent = about.get("bundle"), kind, None
            self.intent = about.get("bundle"), kind, self.intend(kind, about, facts, leaves)
        elif event == "activation-outcome":
            due = self.conclude(about, facts, take(predicate, "time.rtc_s", int))
        good = (summary or (None, None)) == (about.get("verification-summary"), due)
        demand(good, "the summary before it is missing, or not what the log says, or not due")
    def intend(self, kind, about, facts, leaves):
        bundle, because = about.get("bundle"), facts.get("because")
        if kind in ("rollback", "downgrade"):
            demand(bundle in self.served, "it returns to what never served")
            these = {"bundle": bundle, "from": about.get("from")}
            leaves = [one for one in leaves if one[2] == these]
            return self.enough(leaves, "allow it") if kind == "downgrade" else None
        demand(kind in ("activate", "canary"), "it is an activation of a kind that no rule allows")
        held = self.imports.get(take({"because": because}, "because.import", int), {})
        records, fit, package = held.get("judged") or ([], {}, None)
        good = fit and fit["bundle"] == bundle and package == because.get("package")
        demand(good, "no record found this package good, or it was to be judged again since")
        said = self.said.get(package, [])
        rejections = [one[0] for one in said if one[3]["decision"] == "reject"]
        demand(not rejections, f"it is rejected by records {rejections}")
        over = {"manifest": bundle, "policy": fit["policy"]}
        same = lambda one: package == sha256(canonical_tuf({**over, "evidence": one}))
        said = [one for one in said if one[2].items() >= fit.items() and same(one[2]["evidence"])
                and one[0] > records[-1][0] and one[3]["person"] not in held["by"]]
        self.enough(said, "approve it")
        inputs = [*records, *(one[:2] for one in said)]
        inputs = [{"digest": {"sha256": one}, "uri": f"{self.uri}/{seq}"} for seq, one in inputs]
        policy = {"digest": {"sha256": fit["policy"]}, "uri": self.uri + "/policy"}
        name = f"pkg:generic/{held.get('name')}@{held.get('version')}"
        result = {"verificationResult": "PASSED", "verifiedLevels": LEVELS, "resourceUri": name}
        result.update(inputAttestations=inputs, policy=policy, verifier={"id": self.uri})
        subject = [{"digest": {"sha256": bundle}, "name": "bundle"}]
        due = dict(_type=STATEMENT, predicateType=SUMMARY, predicate=result, subject=subject)
        return due if kind == "activate" else None
    def enough(self, said, what):
        seqs, few = [one[0] for one in said], len({one[3]["person"] for one in said}) < self.needed
        demand(not few, f"{self.needed} persons must {what}, and did only by records {seqs}")
    def conclude(self, about, facts, seconds):
        """An outcome fits its intent; the summary that is due before it, of a new release."""
        (bundle, kind, due), said = self.intent, facts.get("outcome")
        self.intent, serves = (None, None, None), {bundle} if said == "promoted" else self.served
        ends = ("returned", "aborted", "begun" if kind == "canary" else "promoted")
        fits = bundle == about.get("bundle") and said in ends
        demand(fits and about.get("active") in {None, *serves}, "its intent cannot have it")
        self.served |= serves
        if due and said == "promoted":
            date = time.gmtime(min(seconds, 253402300799))
            due["predicate"]["timeVerified"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", date)
        return due if said == "promoted" else None
class Rules:
    """The rules between entries, as far as they were read."""
    def __init__(self, trust, levels):
        self.trust, self.keys, self.levels, self.words = trust, [trust.log], levels, []
        self.prev, self.acts, self.open, self.asked = None, set(), None, False
        self.root, self.promotions = trust.root, Promotions(trust.log.name)  # the one in force
    def entry(self, seq, data):
        """Checks one entry and returns what a list shows of it."""
        prev, self.prev = self.prev, sha256(data)
        demand(len(data) <= ENTRY_BYTES_MAX, "it is larger than a record may be")
        envelope = parse_json(data)
        demand(take(envelope, "payloadType", str) == PAYLOAD, "it holds no in-toto statement")
        payload = b64(take(envelope, "payload", str))
        message = f"DSSEv1 {len(PAYLOAD)} {PAYLOAD} {len(payload)} ".encode() + payload
        signed = take(envelope, "signatures", list)
        signatures = [(take(one, "keyid", str), b64(take(one, "sig", str))) for one in signed]
        statement = parse_json(payload)
        demand(take(statement, "_type", str) == STATEMENT, "it is no statement of version 1")
        kind = take(statement, "predicateType", str)
        event = kind.removeprefix("https://cloister.invalid/").removesuffix("/v1")
        known = event in (*EVENTS, *PERSONS) and kind == f"https://cloister.invalid/{event}/v1"
        demand(known or kind == SUMMARY, "it is about an event that is not known")
        listed, predicate = take(statement, "subject", list), take(statement, "predicate", dict)
        about = {take(one, "name", str): take(one, "digest.sha256", str) for one in listed}
        if event in PERSONS:
            same = len(listed) == len(about) and " ".join(sorted(about)) == PERSONS[event][0]
            demand(same, "it is about something else than persons sign")
            who = self.person(event, predicate, message, signatures)
        else:
            succeeds = event == "key-succession"
            key = self.successor(seq, listed, predicate) if succeeds else self.keys[-1]
            alone = [named for named, _ in signatures] == [key_id_of(key.key)]
            alone = alone and verify(key.key, message, signatures[0][1])
            demand(alone, "it is not signed by the host key alone")
            self.keys += [key] * succeeds
            who = "" if kind == SUMMARY else self.host(seq, prev, event, predicate)
        self.words += [(seq, self.prev, about, predicate)] * (event == "succession")
        self.root = about.get("trust-root", self.root) if event == "trust-update" else self.root
        once = (event == "anchor-enrolment") == (seq == 0)
        named = seq > 0 or about.get("trust-root") == self.trust.root
        demand(once and named, "the trust root is enrolled once, as record 0, and is the one named")
        self.promotions.read(seq, self.prev, event, about, statement)
        return event if known else "verification-summary", who, about, predicate
    def successor(self, seq, listed, predicate):
        """The key that takes over: enough persons allowed it right before, over the log of then."""
        self.asked, old, name = True, self.keys[-1], self.trust.log.name
        run = [one for at, one in zip(range(seq - 1, 0, -1), self.words[::-1]) if at == one[0]]
        self.words, size = [one for one in self.words if one not in run], seq - len(run)
        key = verifier_key(take(predicate, "facts.log_key", str), 1)
        facts = {"former_log_key": old.text, "log_key": key.text, "size": size}
        ids = {"host-key": key_id_of(key.key), "former-host-key": key_id_of(old.key)}
        ids = [{"digest": {"sha256": ids[one]}, "name": one} for one in ids]
        says = canonical_tuf([predicate["facts"], listed, key.kind, key.name])
        fits = says == canonical_tuf([facts, ids, 1, name]) and key not in self.keys
        demand(fits, "its key cannot succeed the one before it")
        head = f"{name}\n{size}\n{base64.b64encode(merkle_root(self.levels, size)).decode()}\n"
        right = {"checkpoint": sha256(head.encode()), "host-key": key_id_of(key.key)}
        right = right, {"origin": name, "size": size}
        other = [one for one in run[::-1] if (one[2], one[3]["log"]) != right]
        self.words += other
        self.promotions.enough([] if other else run[::-1], "allow the key")
        return key
    def person(self, event, predicate, message, signatures):
        person, decision = take(predicate, "person", str), take(predicate, "decision", str)
        demand(decision in PERSONS[event][1].split(), "it decides something else than persons do")
        demand(self.trust.roots, "a person signed it: give the root's file, not its digest")
        root = self.trust.roots.get(self.root)
        demand(root, "a person signed it under a trust root that was not given")
        demand(not root.both, "the trust root asks for signatures that only cloister checks")
        keys = {key_id_of(key): key for key, name in root.approvers.items() if name == person}
        good = any(verify(keys[by], message, sig) for by, sig in signatures if by in keys)
        demand(good, f"it has no good signature by a key that the trust root gives {person!r}")
        return f"{decision} by {person}"
    def host(self, seq, prev, event, predicate):
        same = take(predicate, "event", str) == event and take(predicate, "facts", dict) is not None
        demand(same, "event and predicate type differ")
        here = take(predicate, "seq", int) == seq and predicate.get("prev", "") == prev
        demand(here, "it says that it stands elsewhere, or follows another")
        demand(take(predicate, "host.origin", str) == self.trust.log.name, "it is another log's")
        demand(not take(predicate, "time.trusted", bool), "it claims a trusted time")
        act = take(predicate, "act", str)
        demand(act not in self.acts, "its act has two records")
        self.acts.add(act)
        if event == "activation-intent":
            before, self.open = self.open, act
            demand(before is None and act.endswith("/intent"), "an intent follows an open one")
        if event == "activation-outcome":
            before, self.open = self.open or "", None
            fits = before and act == before[: -len("intent")] + "outcome"
            demand(fits, "an outcome has no intent before it")
        return act
def audit(folder, trust, listing):
    """Prints the list if asked for; returns size, root, faults and the open intent."""
    note = Note(read_file(os.path.join(folder, "checkpoint")))
    form = re.escape(trust.log.name) + "\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/]{43}=)\n"
    claimed = re.fullmatch(form, note.text.decode())
    demand(claimed, "the checkpoint is not one of the log that was named")
    size, root = int(claimed[1]), b64(claimed[2])
    found, entries = [(at, name) for at, _, names in os.walk(folder) for name in names], []
    there = {os.path.relpath(os.path.join(*path), folder) for path in found}
    demand(size <= WIDTH * len(there), "the export has fewer files than its size needs")
    there, known = {one for one in there if one[:5] == "tile/"}, {one[3] for one in tiles(size)}
    demand(there == known, f"files too many or too few: {sorted(there ^ known)}")
    for _, _, width, path in (one for one in tiles(size) if one[0] is None):
        entries += split_bundle(read_file(os.path.join(folder, path)), width)
    levels = merkle_levels(entries)
    demand(merkle_root(levels, size) == root, "the entries do not hash to the signed root")
    for level, first, width, path in (one for one in tiles(size) if one[0] is not None):
        wanted = b"".join(levels[8 * level][first : first + width])
        same = read_file(os.path.join(folder, path)) == wanted
        demand(same, f"{path} does not hold the hashes of the entries")
    rules, faults = Rules(trust, levels), []
    for seq, data in enumerate(entries):
        try:
            event, who, about, predicate = rules.entry(seq, data)
        except (Fault, LookupError, TypeError, AttributeError) as fault:
            faults.append(f"record {seq}: {fault}")
            continue
        if listing:
            about = " ".join(f"{name}={digest[:12]}" for name, digest in sorted(about.items()))
            facts = json.dumps(predicate.get("facts", {}), ensure_ascii=True, sort_keys=True)
            print(f"{seq:6}  {event:19} {who:40} {about} {facts}")
    faults += ["a summary is the last record"] * bool(rules.promotions.summary)
    faults += [f"record {one[0]}: it allows another key than follows" for one in rules.words]
    try:
        own = note.is_signed_by(rules.keys[-1])
        demand(own, "the checkpoint has no signature by the log that was named")
        trust.policy and trust.policy.check(note, rules.keys)
    except Fault as fault:
        faults = [str(fault), *faults * rules.asked]
    return size, root, faults, rules

def main():
    parser = argparse.ArgumentParser(description="Audits an export of an appliance's record.")
    parser.add_argument("export")
    parser.add_argument("--log-key", required=True, metavar="KEY")
    parser.add_argument("--root", required=True, action="append", metavar="ROOT")
    parser.add_argument("--policy", metavar="FILE")
    parser.add_argument("--list", action="store_true", help="print one line for each record")
    args = parser.parse_args()
    try:
        trust = Trust(args)
    except (ValueError, OSError, Fault) as error:
        print(f"audit: what you brought along cannot be used: {error}", file=sys.stderr)
        return 2
    try:
        size, root, faults, rules = audit(args.export, trust, args.list)
    except (Fault, OSError, ValueError) as error:
        size, root, faults, rules = 0, b"", [str(error)], Rules(trust, [])
    lines = [f"FAULT  {fault}" for fault in faults]
    lines += [f"note   {rules.open} has no outcome yet"] * bool(rules.open)
    lines += [f"note   {key.text} succeeded the key before it" for key in rules.keys[1:]]
    by = "cryptography" if Ed25519PublicKey else "this file"
    good = f"GOOD   {size} records of {trust.log.name}, root {root.hex()} (Ed25519 by {by})"
    print(*lines, f"BAD    {len(faults)} faults; do not rely on it" if faults else good, sep="\n")
    return 1 if faults else 0
if __name__ == "__main__":
    sys.exit(main())
