#!/usr/bin/env python3
"""Audits an export of an appliance's record; shares no code with the appliance.

    audit.py EXPORT_DIR --log-key KEY --root ROOT [--root NEWER ...] [--policy FILE] [--list]

KEY is the log's first verifier key (NAME+ID+BASE64, C2SP signed note) as noted at enrolment, and
the host key too; ROOT the enrolled TUF root, or its SHA-256, with which persons' signatures cannot
be checked, and later ones in order; FILE a policy (C2SP tlog-policy); none comes from the export.
Exit status: 0 for a good export, 1 for any fault, 2 for a wrong call. See docs/formats/record.md.
"""
import argparse, base64, collections, functools, hashlib, json, os, re, sys, time
try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None
WIDTH, ENTRY_BYTES_MAX, FILE_BYTES_MAX, NAME_BYTES_MAX = 256, 48 << 10, 256 * (64 << 10), 256
STATEMENT, PAYLOAD = "https://in-toto.io/Statement/v1", "application/vnd.in-toto+json"
EVENTS = """anchor-enrolment media-seen import-accepted import-refused inspection evaluation pin
 activation-intent activation-outcome rollback act-refused trust-update key-change inventory scrub
 evaluation-asked policy-change damage shadow-started trial-ended document-deleted state-rebuilt
 sweep configuration key-succession""".split()
SUMMARY = "https://slsa.dev/verification_summary/v1"
LEVELS = ["SLSA_BUILD_LEVEL_UNEVALUATED", "CLOISTER_EVALUATED", "CLOISTER_APPROVED"]
class Fault(Exception): pass
FAULTS = Fault, LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError
def demand(holds, otherwise, value=None):
    if not holds:
        raise Fault(otherwise)
    return value
# Ed25519 (RFC 8032, 5.1), strictly: one encoding, no point of small order, no cofactor's freedom.
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
    rest = times(scalar >> 1, add(point, point)) if scalar else (0, 1, 1, 0)
    return add(rest, point) if scalar & 1 else rest
def encode_point(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")
def decode_point(data):
    """The point that 32 bytes encode in the one canonical way, or None."""
    sign, y = divmod(int.from_bytes(data, "little"), 1 << 255)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x * SQRT_M1 % P if (x * x - square) % P else x
    x = P - x if x & 1 != sign else x
    point = x, y, 1, x * y % P
    return point if (x * x - square) % P == 0 and encode_point(point) == data else None
BASE = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
# The eight points whose order divides 8 are the multiples of one of order 8.
SMALL_ORDER = {encode_point(times(n * L, decode_point(b"\3" + bytes(31)))) for n in range(8)}
@functools.lru_cache(maxsize=None)
def key_point(key):
    return decode_point(key) if len(key) == 32 and key not in SMALL_ORDER else None
def verify(key, message, signature):
    """Whether `signature` over `message` is by `key`, in its one canonical spelling."""
    point, r, s = key_point(key), signature[:32], int.from_bytes(signature[32:], "little")
    if point is None or len(signature) != 64 or r in SMALL_ORDER or s >= L:
        return False
    if Ed25519PublicKey:
        try:
            return Ed25519PublicKey.from_public_bytes(key).verify(signature, message) is None
        except Exception:
            return False
    challenge = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L
    minus = (P - point[0], point[1], 1, P - point[3])
    return encode_point(add(times(s, BASE), times(challenge, minus))) == r
def b64(text):
    data = base64.b64decode(text, validate=True)
    return demand(base64.b64encode(data).decode() == text, "base64 has another spelling", data)
unique = lambda pairs: demand(len(dict(pairs)) == len(pairs), "a key stands twice", dict(pairs))
small = lambda text: demand(abs(int(text)) < 1 << 53, "a number is not below 2^53", int(text))
def ordered(pairs):
    names = [name.encode("utf-16-be") for name, _ in pairs]
    return demand(names == sorted({*names}), "keys stand twice or in no order", dict(pairs))
KINDS = {"parse_int": small, "parse_float": int, "parse_constant": int}
READER = json.JSONDecoder(object_pairs_hook=ordered, **KINDS)
def depth(value):
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0) if isinstance(value, (dict, list)) else 0
def parse_exact(data):
    """JSON in its one spelling (RFC 8785), without fractions and nested at most 32 deep."""
    value = READER.decode(data.decode("utf-8"))
    good = canonical_tuf(value, sort_keys=False) == data and depth(value) <= 32
    return demand(good, "a text is not JSON in its one spelling", value)
def fits(value, shape):
    """Whether a value has these fields and no other (`?`: or not that one), matches, or is one."""
    if isinstance(shape, str):
        return isinstance(value, str) and bool(re.fullmatch(shape, value, re.S))
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(one, shape[0]) for one in value)
    if isinstance(shape, type):
        return type(value) is int and value >= 0 if shape is int else isinstance(value, shape)
    shape = {one.rstrip("?"): shape[one] for one in shape if one[-1] != "?" or one[:-1] in value}
    return value.keys() == shape.keys() and all(fits(value[one], shape[one]) for one in shape)
TEXT, DIGEST = ".*", "[0-9a-f]{64}"
ENVELOPE = {"payload": TEXT, "payloadType": re.escape(PAYLOAD),
            "signatures": [{"keyid": TEXT, "sig": TEXT}]}
CLAIM = {"_type": re.escape(STATEMENT), "predicateType": TEXT, "predicate": dict,
         "subject": [{"digest": {"sha256": DIGEST}, "name": TEXT}]}
DONE = {"act": "[a-z0-9._/-]{1,200}", "event": TEXT, "facts": dict, "prev": object, "seq": int,
        "host": {"key": DIGEST, "origin": TEXT, "peers": "separate|shared"},
        "time": {"boot_id?": TEXT, "rtc_s": int, "trusted": bool}}
SAID = {"decision": "consent", "person": TEXT, "log": {"origin": TEXT, "size": int}}
WORD = {**SAID, "decision": "approve|reject", "comment?": ".+"}
# What persons sign: what it is about, in this order, and what they say.
PERSONS = {"downgrade": ("bundle from", SAID), "approval": ("package bundle policy evidence", WORD),
           "acknowledgement": ("checkpoint", SAID), "succession": ("checkpoint host-key", SAID)}
TYPES = {f"https://cloister.invalid/{one}/v1": one for one in (*EVENTS, *PERSONS)}
TYPES[SUMMARY] = "verification-summary"
sha256 = lambda data: hashlib.sha256(data).hexdigest()
def canonical_tuf(value, sort_keys=True):
    """TUF's canonical JSON, which escapes no control characters, or unsorted RFC 8785's."""
    text = json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False)
    bare = lambda found: found[0] if found[1] in '"\\' else json.loads(f'"{found[0]}"')
    return (re.sub(r"\\(u....|.)", bare, text) if sort_keys else text).encode()
@functools.lru_cache(maxsize=None)
def key_id_of(public, kind="ed25519", scheme="ed25519"):
    return sha256(canonical_tuf({"keytype": kind, "keyval": {"public": public}, "scheme": scheme}))
Key = collections.namedtuple("Key", "text name id kind key")
def verifier_key(text, wanted):
    """A key NAME+ID+BASE64 of type 1 (log) or 4 (witness). Of other types it signs nothing."""
    match = re.fullmatch(r"([^\s+\0-\x1f\x7f-\x9f]+)\+([0-9a-f]{8})\+(.+)", text)
    typed = b64(match[3]) if match and len(match[1].encode()) <= NAME_BYTES_MAX else b""
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
    def __init__(self, data):
        self.digest, value = sha256(data), json.loads(data, object_pairs_hook=unique, **KINDS)
        self.signed, self.signatures = value["signed"], value["signatures"]
        more, self.holders, self.approvers = self.signed.get("x-cloister", {}), [], {}
        names, role = more.get("persons", {}), more.get("approvers", {"keyids": []})
        self.more = {*role.get("x-algorithms", [])} - {"ed25519"}  # which only cloister checks
        for key_id, value in self.signed["keys"].items():
            kind, scheme, made = value["keytype"], value.get("scheme"), sha256(canonical_tuf(value))
            if not re.fullmatch("ed25519 ed25519|ml-dsa ml-dsa-(65|87)/1", f"{kind} {scheme}"):
                continue  # TUF passes over what is of no known kind
            public = value["keyval"]["public"]
            own, person = key_id_of(public, kind, scheme), names.get(key_id, names.get(made, made))
            key = bytes.fromhex(public) if kind == "ed25519" else b""  # with which nothing is good
            self.holders.append((key_id, made, person, key))
            self.approvers.update({own: (person, key)} if key_id in role["keyids"] else {})
    def check_signed_by(self, other):
        """That enough persons with root keys of `other` signed this root (TUF 1.0.34, 5.3.4)."""
        role, message = other.signed["roles"]["root"], canonical_tuf(self.signed)
        classical = {*role.get("x-algorithms", [])} <= {"ed25519"}
        demand(classical, "a root asks for signatures that only cloister checks")
        signed = [(one["keyid"], bytes.fromhex(one["sig"])) for one in self.signatures
                  if fits(one["sig"], "[0-9a-f]{128}")]
        good = {person for named, sig in signed for by, made, person, key in other.holders
                if named in (by, made) and by in role["keyids"] and verify(key, message, sig)}
        demand(len(good) >= max(1, role["threshold"]), "a root is not signed by enough persons")
class Trust:
    def __init__(self, args):
        self.log = verifier_key(args.log_key, 1)
        demand(self.log.kind == 1, "the log key is not an Ed25519 key")
        self.policy = Policy(read_file(args.policy)) if args.policy else None
        bare = re.fullmatch("[0-9a-f]{64}", args.root[0]) and not os.path.exists(args.root[0])
        roots = [] if bare else [Root(read_file(path)) for path in args.root]
        for older, newer in zip([*roots[:1], *roots], roots):
            after = older.signed["version"] + (newer is not older)
            demand(newer.signed["version"] == after, "the roots do not follow each other")
            newer.check_signed_by(newer), newer.check_signed_by(older)
        self.roots = {root.digest: root for root in roots} or {args.root[0]: None}
        self.root = [*self.roots][0]
def read_file(path):
    with open(path, "rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    return demand(len(data) <= FILE_BYTES_MAX, f"{path} is larger than any file of a log", data)
class Note:
    def __init__(self, data):
        body, _, lines = data.decode("utf-8", "strict").rpartition("\n\n")
        self.text, self.signatures = (body + "\n").encode(), []
        within = len(data) <= 64 << 10 and lines.count("\n") <= 100 and lines.endswith("\n")
        demand(within, "the checkpoint is no signed note")
        for line in lines.removesuffix("\n").split("\n"):
            match = re.fullmatch("\u2014 ([^\\s+\\0-\\x1f\\x7f-\\x9f]+) ([^ ]+)", line)
            typed = b64(match[2]) if match and len(match[1].encode()) <= NAME_BYTES_MAX else b""
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
            width, index = min(WIDTH, count - first), str(first // WIDTH)
            path = re.sub(r"\d{3}(?=\d)", r"x\g<0>/", index.zfill(-(-len(index) // 3) * 3))
            path += "" if width == WIDTH else f".p/{width}"
            yield level, first, width, f"tile/{'entries' if level is None else level}/{path}"
def split_bundle(data, width):
    entries, place = [], 0
    while place + 2 <= len(data):
        place, start = place + 2 + int.from_bytes(data[place : place + 2], "big"), place + 2
        entries.append(data[start:place])
    return demand((place, len(entries)) == (len(data), width), "a bundle is not whole", entries)
def merkle_levels(entries):
    """Hashes of all complete subtrees (RFC 6962, section 2.1): levels[l][i]."""
    levels = [[hashlib.sha256(b"\0" + entry).digest() for entry in entries]]
    while len(levels[-1]) > 1:
        pairs = zip(levels[-1][0::2], levels[-1][1::2])
        levels.append([hashlib.sha256(b"\1" + left + right).digest() for left, right in pairs])
    return levels
def merkle_root(levels, size):
    root = b""  # from the smallest complete subtree at the right edge to the largest at the left
    for level, row in enumerate(levels):
        if size >> level & 1:
            left = row[(size >> level) - 1]
            root = hashlib.sha256(b"\1" + left + root).digest() if root else left
    return root
class Promotions:
    def __init__(self, origin):
        self.log, self.uri, self.needed = origin, "https://cloister.invalid/log/" + origin, 2
        self.imports, self.said, self.leaves, self.served = {}, {}, [], set()
        self.intent, self.summary = (None, None, None), None
    def read(self, seq, digest, event, about, statement):
        predicate, summary, self.summary, due = statement["predicate"], self.summary, None, None
        facts, none = predicate.get("facts", {}), {"by": set(), "name": "", "version": ""}
        place = facts.get("import")
        held = self.imports.setdefault(place, none) if fits(place, int) else none
        if event in PERSONS:
            said = self.said.setdefault(about.get("package"), [])
            kept, log = self.leaves if event == "downgrade" else said, predicate["log"]
            here = log["origin"] == self.log and log["size"] <= seq
            kept += [(seq, digest, about, predicate)] * here
        elif statement["predicateType"] == SUMMARY:
            self.summary = digest, canonical_tuf(statement)
        elif event == "policy-change":
            asked = facts.get("approvals_needed")
            self.needed = max(2, asked) if fits(asked, int) else self.needed
        elif event == "media-seen":
            held.update((of, facts[of]) for of in ("name", "version") if fits(facts.get(of), str))
            persons = facts["persons"] if fits(facts.get("persons"), list) else []
            held["by"].update(one for one in [facts.get("operator"), *persons] if fits(one, str))
        elif event in ("evaluation", "evaluation-asked"):
            fit = {"bundle": about.get("bundle"), "policy": facts.get("policy")}
            good = event == "evaluation" and facts.get("verdict") == "passed"
            good = good and fits(fit["policy"], DIGEST) and {"bundle", "package"} <= about.keys()
            held["judged"] = ([(seq, digest)], fit, about["package"]) if good else None
        elif event == "trial-ended" and "package" in about and held.get("judged"):
            records, fit, _ = held["judged"]
            held["judged"] = [*records, (seq, digest)], fit, about["package"]
        elif event == "activation-intent":
            kind, leaves = facts.get("kind"), self.leaves
            self.leaves = leaves if kind == "canary" else []
            self.intent = about.get("bundle"), kind, None
            self.intent = about.get("bundle"), kind, self.intend(kind, about, facts, leaves)
        elif event == "activation-outcome":
            due = self.conclude(about, facts, predicate["time"]["rtc_s"])
        due = about.get("verification-summary"), due and canonical_tuf(due)
        demand((summary or (None, None)) == due, "the summary before it is missing, or not as due")
    def intend(self, kind, about, facts, leaves):
        bundle, because = about.get("bundle"), facts.get("because")
        if kind in ("rollback", "downgrade"):
            demand(bundle in self.served, "it returns to what never served")
            these = {"bundle": bundle, "from": about.get("from")}
            leaves = [one for one in leaves if one[2] == these]
            return self.enough(leaves, "allow it") if kind == "downgrade" else None
        demand(kind in ("activate", "canary"), "it is an activation of a kind that no rule allows")
        held = self.imports[because["import"]] if fits(because["import"], int) else {}
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
        inputs = [{"digest": {"sha256": one[1]}, "uri": f"{self.uri}/{one[0]}"}
                  for one in [*records, *said]]
        result = {"inputAttestations": inputs, "verifier": {"id": self.uri},
                  "policy": {"digest": {"sha256": fit["policy"]}, "uri": self.uri + "/policy"},
                  "resourceUri": f"pkg:generic/{held['name']}@{held['version']}",
                  "verificationResult": "PASSED", "verifiedLevels": LEVELS}
        due = {"_type": STATEMENT, "predicateType": SUMMARY, "predicate": result,
               "subject": [{"digest": {"sha256": bundle}, "name": "bundle"}]}
        return due if kind == "activate" else None
    def enough(self, said, what):
        seqs, few = [one[0] for one in said], len({one[3]["person"] for one in said}) < self.needed
        demand(not few, f"{self.needed} persons must {what}, and did only by records {seqs}")
    def conclude(self, about, facts, seconds):
        (bundle, kind, due), said = self.intent, facts.get("outcome")
        self.intent, serves = (None, None, None), {bundle} if said == "promoted" else self.served
        ends = ("returned", "aborted", "begun" if kind == "canary" else "promoted")
        fits = bundle == about.get("bundle") and said in ends and facts.get("kind", kind) == kind
        demand(fits and about.get("active") in {None, *serves}, "its intent cannot have it")
        self.served |= serves
        if due and said == "promoted":
            date = time.gmtime(min(seconds, 253402300799))
            due["predicate"]["timeVerified"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", date)
        return due if said == "promoted" else None
class Rules:
    def __init__(self, trust, levels):
        self.trust, self.keys, self.levels, self.words = trust, [trust.log], levels, []
        self.prev, self.acts, self.open, self.asked = None, set(), None, False
        self.root, self.place, self.promotions = trust.root, 0, Promotions(trust.log.name)
    def entry(self, seq, data):
        """Checks one entry and returns what a list shows of it."""
        prev, self.prev = self.prev, sha256(data)
        demand(len(data) <= ENTRY_BYTES_MAX, "it is larger than a record may be")
        envelope = parse_exact(data)
        demand(fits(envelope, ENVELOPE), "its envelope has another form")
        payload = b64(envelope["payload"])
        message = f"DSSEv1 {len(PAYLOAD)} {PAYLOAD} {len(payload)} ".encode() + payload
        signatures = [(one["keyid"], b64(one["sig"])) for one in envelope["signatures"]]
        statement = parse_exact(payload)
        demand(fits(statement, CLAIM), "its statement has another form")
        kind, predicate = statement["predicateType"], statement["predicate"]
        event = demand(TYPES.get(kind), "it is about an event that is not known", TYPES.get(kind))
        about = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
        good = 0 < len(about) == len(statement["subject"]) <= 1024
        demand(good, "it is about nothing, or about two things of one name")
        if event in PERSONS:
            who = self.person(event, about, predicate, message, signatures)
        else:
            succeeds = event == "key-succession"
            key = self.successor(seq, statement) if succeeds else self.keys[-1]
            demand([named for named, _ in signatures] == [key_id_of(key.key.hex())] and
                   verify(key.key, message, signatures[0][1]), "the host key did not sign it alone")
            self.keys += [key] * succeeds
            who = "" if kind == SUMMARY else self.host(seq, prev, event, predicate, key)
        self.words += [(seq, self.prev, about, predicate)] * (event == "succession")
        if event == "trust-update":
            self.root, order = about.get("trust-root", self.root), [*self.trust.roots]
            demand(self.root in order, "its trust root was not brought along")
            self.place = max(self.place, order.index(self.root))
            demand(order[self.place] == self.root, "it goes back to an older trust root")
        once = (event == "anchor-enrolment") == (seq == 0)
        once = once and (seq > 0 or about.get("trust-root") == self.trust.root)
        demand(once, "the trust root is enrolled once, as record 0, and is the one named")
        self.promotions.read(seq, self.prev, event, about, statement)
        return event, who, about, predicate
    def successor(self, seq, statement):
        """The key that takes over: enough persons allowed it right before, over the log of then."""
        self.asked, old, name = True, self.keys[-1], self.trust.log.name
        run = [one for at, one in zip(range(seq - 1, 0, -1), self.words[::-1]) if at == one[0]]
        self.words, size = [one for one in self.words if one not in run], seq - len(run)
        said = statement["predicate"]["facts"]
        key = verifier_key(said["log_key"], 1)
        facts = {"former_log_key": old.text, "log_key": key.text, "size": size}
        log = {"origin": name, "size": size}
        ids = {"host-key": key_id_of(key.key.hex()), "former-host-key": key_id_of(old.key.hex())}
        ids = [{"digest": {"sha256": ids[one]}, "name": one} for one in ids]
        says = canonical_tuf([said, statement["subject"], key.kind, key.name])
        fits = says == canonical_tuf([facts, ids, 1, name]) and key not in self.keys
        demand(fits, "its key cannot succeed the one before it")
        head = f"{name}\n{size}\n{base64.b64encode(merkle_root(self.levels, size)).decode()}\n"
        right = {"checkpoint": sha256(head.encode()), "host-key": key_id_of(key.key.hex())}, log
        other = [one for one in run[::-1] if (one[2], one[3]["log"]) != right]
        self.words += other
        self.promotions.enough([] if other else run[::-1], "allow the key")
        return key
    def person(self, event, about, predicate, message, signatures):
        (subjects, shape), person = PERSONS[event], predicate["person"]
        good = [*about] == subjects.split() and fits(predicate, shape)
        good = good and len(predicate.get("comment", "").encode()) <= 4096
        demand(good, "it is about something else than persons sign, or decides something else")
        root = self.trust.roots.get(self.root)
        demand(root, "a person signed it under a trust root that was not given, with its text")
        demand(not root.more, "the trust root asks for signatures that only cloister checks")
        keys = [(*root.approvers.get(by, (None, b"")), sig) for by, sig in signatures]
        named = len(keys) <= 32 and all(of == person and len(sig) <= 8192 for of, _, sig in keys)
        good = (verify(key, message, sig) for _, key, sig in keys)
        demand(named and any(good), "it has no good signature by keys of that person alone")
        return f"{predicate['decision']} by {person}"
    def host(self, seq, prev, event, predicate, key):
        demand(fits(predicate, DONE), "its predicate has another form")
        host, act = predicate["host"], predicate["act"]
        says = [*(predicate[one] for one in ("event", "seq", "prev")), host["origin"], host["key"]]
        here = says == [event, seq, prev, self.trust.log.name, key_id_of(key.key.hex())]
        demand(here and not predicate["time"]["trusted"], "it stands elsewhere, or trusts its time")
        demand(act not in self.acts, "its act has two records")
        self.acts.add(act)
        if event in ("activation-intent", "activation-outcome"):
            was, self.open = self.open, act if event == "activation-intent" else None
            good = act[-7:] == "/intent" if self.open else re.sub("outcome$", "intent", act) == was
            demand(good and not (self.open and was), "intents and outcomes do not alternate")
        return act
def audit(folder, trust, listing):
    """Prints the list if asked for; returns size, root, faults and the open intent."""
    checkpoint, top = os.path.join(folder, "checkpoint"), os.path.join(folder, "tile")
    found = [os.path.join(at, one) for at, *within in os.walk(top) for one in sum(within, [])]
    demand(not any(map(os.path.islink, [checkpoint, top, *found])), "a link is no file of a log")
    note, entries = Note(read_file(checkpoint)), []
    form = re.escape(trust.log.name) + "\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/]{43}=)\n"
    claimed = re.fullmatch(form, note.text.decode())
    demand(claimed, "the checkpoint is not one of the log that was named")
    size, root = int(claimed[1]), b64(claimed[2])
    there = {os.path.relpath(one, folder) for one in found if not os.path.isdir(one)}
    demand(0 < size <= WIDTH * len(there), "the export is empty, or lacks files")
    extra = there ^ {one[3] for one in tiles(size)}
    demand(not extra, f"files too many or too few: {sorted(extra)!a}")
    for _, _, width, path in (one for one in tiles(size) if one[0] is None):
        entries += split_bundle(read_file(os.path.join(folder, path)), width)
    levels = merkle_levels(entries)
    demand(merkle_root(levels, size) == root, "the entries do not hash to the signed root")
    for level, first, width, path in (one for one in tiles(size) if one[0] is not None):
        wanted = b"".join(levels[8 * level][first : first + width])
        demand(read_file(os.path.join(folder, path)) == wanted, f"{path} holds other hashes")
    rules, faults = Rules(trust, levels), []
    for seq, data in enumerate(entries):
        try:
            event, who, about, predicate = rules.entry(seq, data)
        except FAULTS as why:
            faults.append(f"record {seq}: {why}")
            continue
        if listing:
            about = " ".join(f"{ascii(of)[1:-1]}={one[:12]}" for of, one in sorted(about.items()))
            facts = json.dumps(predicate.get("facts", {}), ensure_ascii=True, sort_keys=True)
            print(f"{seq:6}  {event:19} {who:40} {about} {facts}")
    faults += [f"record {size - 1}: a summary is the last"] * bool(rules.promotions.summary)
    faults += [f"record {one[0]}: it allows another key than follows" for one in rules.words]
    try:
        demand(note.is_signed_by(rules.keys[-1]), "the checkpoint has no signature by the log")
        trust.policy and trust.policy.check(note, rules.keys)
    except FAULTS as fault:
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
    except (*FAULTS, OSError) as error:
        print(f"audit: what you brought along cannot be used: {error}", file=sys.stderr)
        return 2
    try:
        size, root, faults, rules = audit(args.export, trust, args.list)
    except (*FAULTS, OSError) as error:
        size, root, faults, rules = 0, b"", [str(error)], Rules(trust, [])
    lines = [f"FAULT  {fault}" for fault in faults]
    lines += [f"note   {rules.open} has no outcome yet"] * bool(rules.open)
    lines += [f"note   {key.text} succeeded the key before it" for key in rules.keys[1:]]
    by = "cryptography" if Ed25519PublicKey else "this file"
    good = f"GOOD   {size} records of {trust.log.name}, root {root.hex()} (Ed25519 by {by})"
    print(*lines, f"BAD    {len(faults)} faults; do not rely on it" if faults else good, sep="\n")
    return 1 if faults else 0
if __name__ == "__main__": sys.exit(main())
