"""Plays repositories to two clients of The Update Framework, ours and python-tuf's, and compares them.

    tuf_oracle.py CLIENT [--seeds N] [--first S]

CLIENT is the program `cloister-tuf-client`. First come scenes, one for each class of attack or of honest
change; then N repositories that a seeded dice changes step by step. After each step both clients refresh
(and look for files), and must agree: accepted or refused, which metadata they trust now (byte for byte),
and which files they hold. One JSON object a line for each disagreement, one for the sum; exit code 1 if
there was a disagreement, or if a scene did not end as its author expects.
"""
import argparse
import datetime
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib import parse

from securesystemslib.signer import CryptoSigner
from tuf.api import exceptions
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient import Updater

TOP = [Root.type, Timestamp.type, Snapshot.type, Targets.type]
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
LATER, PAST = NOW + datetime.timedelta(days=30), NOW - datetime.timedelta(days=1)
MAKERS = [CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa, CryptoSigner.generate_rsa]
# Making keys takes most of the time, so all repositories draw from one drawer.
DRAWER = [CryptoSigner.generate_ed25519() for _ in range(24)]
OTHERS = [make() for make in MAKERS]


class Repo:
    """A repository that does what it is told, right or wrong."""

    def __init__(self):
        self.root = Root(expires=LATER, consistent_snapshot=True)
        self.roles = {
            Timestamp.type: Timestamp(expires=LATER),
            Snapshot.type: Snapshot(expires=LATER),
            Targets.type: Targets(expires=LATER),
        }
        self.drawn = 0
        self.signers = {role: [] for role in TOP}
        self.files, self.content = {}, {}
        self.hashes = False
        for role in TOP:
            self.add_key(role)
        self.publish(*TOP)

    def draw(self):
        self.drawn += 1
        return DRAWER[(self.drawn - 1) % len(DRAWER)]

    def signed(self, role):
        return self.root if role == Root.type else self.roles[role]

    def add_key(self, role, signer=None):
        signer = signer or self.draw()
        self.root.add_key(signer.public_key, role)
        self.signers[role].append(signer)
        return signer

    def rotate(self, role):
        count = max(1, self.root.roles[role].threshold)
        for keyid in list(self.root.roles[role].keyids):
            self.root.revoke_key(keyid, role)
        self.signers[role] = []
        for _ in range(count):
            self.add_key(role)

    def delegate(self, parent, name, paths, terminating=False, prefixes=None):
        child = self.roles.setdefault(name, Targets(expires=LATER))
        delegator = self.roles[parent]
        if delegator.delegations is None:
            delegator.delegations = Delegations({}, {})
        role = DelegatedRole(name, [], 1, terminating, paths, prefixes)
        delegator.delegations.roles[name] = role
        signer = self.draw()
        delegator.add_key(signer.public_key, name)
        self.signers.setdefault(name, []).append(signer)
        return child

    def bins(self, bits):
        signer = self.draw()
        succinct = SuccinctRoles([], 1, bits, "bin")
        self.roles[Targets.type].delegations = Delegations({}, None, succinct)
        for name in succinct.get_roles():
            self.roles[name] = Targets(expires=LATER)
            self.signers[name] = [signer]
        self.roles[Targets.type].add_key(signer.public_key)
        return list(succinct.get_roles()), succinct

    def add_file(self, role, path, content=b"content", algorithms=("sha256",)):
        self.roles[role].targets[path] = TargetFile.from_data(path, content, list(algorithms))
        self.content[path] = content

    def sign(self, role, signers=None):
        md = Metadata(self.signed(role))
        for signer in self.signers[role] if signers is None else signers:
            md.sign(signer, append=True)
        return md.to_bytes()

    def publish(self, *roles, bump=True, signers=None):
        for role in roles:
            signed = self.signed(role)
            if bump and (role, signed.version) in self.files:
                signed.version += 1
            text = self.sign(role, signers)
            self.put(role, text)
            entry = MetaFile(signed.version)
            if self.hashes:
                entry = MetaFile.from_data(signed.version, text, ["sha256"])
            if role == Snapshot.type:
                self.roles[Timestamp.type].snapshot_meta = entry
            elif role not in (Root.type, Timestamp.type):
                self.roles[Snapshot.type].meta[f"{role}.json"] = entry

    def put(self, role, text, version=None):
        self.files[(role, version or self.signed(role).version)] = text
        if role == Timestamp.type:
            self.files[(role, None)] = text

    def last(self, role):
        return self.files[(role, self.signed(role).version)]

    def edit(self, role, change):
        """Changes the last published file of a role without signing it anew."""
        value = json.loads(self.last(role))
        change(value)
        self.put(role, json.dumps(value).encode())

    def get(self, path):
        if path.startswith("metadata/") and path.endswith(".json"):
            name = path[len("metadata/") : -len(".json")]
            version, _, role = name.partition(".")
            if name != Timestamp.type:
                return self.files.get((parse.unquote(role), int(version)))
            return self.files.get((Timestamp.type, None))
        if path.startswith("targets/"):
            folder, slash, name = path[len("targets/") :].rpartition("/")
            return self.content.get(parse.unquote(folder + slash + name.partition(".")[2]))
        return None


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.server.repo.get(self.path.lstrip("/"))
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_args):
        pass


class Clients:
    """Both clients, each with folders of its own, enrolled with the repository's first root."""

    def __init__(self, program, server, repo, root=None):
        self.program, self.repo = program, repo
        server.repo = repo
        self.url = f"http://127.0.0.1:{server.server_port}/"
        self.folder = tempfile.mkdtemp(prefix="tuf-oracle-")
        for name in ("ours", "theirs"):
            os.makedirs(os.path.join(self.folder, name, "files"))
            os.makedirs(os.path.join(self.folder, name, "trusted"))
        first = os.path.join(self.folder, "first.json")
        self.first = root or repo.files[(Root.type, 1)]
        with open(first, "wb") as file:
            file.write(self.first)
        self.run("init", first)
        self.bootstrap = self.first

    def place(self, who, what):
        return os.path.join(self.folder, who, what)

    def run(self, *words):
        command = [self.program, "--metadata-dir", self.place("ours", "trusted"), *words]
        return subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode == 0

    def ours(self, paths):
        urls = ["--metadata-url", self.url + "metadata"]
        if not paths:
            return self.run(*urls, "refresh")
        names = [word for path in paths for word in ("--target-name", path)]
        files = ["--target-base-url", self.url + "targets", "--target-dir", self.place("ours", "files")]
        return self.run(*urls, *names, *files, "download")

    def theirs(self, paths):
        try:
            updater = Updater(
                self.place("theirs", "trusted"),
                self.url + "metadata/",
                self.place("theirs", "files"),
                self.url + "targets/",
                bootstrap=self.bootstrap,
            )
            self.bootstrap = None
            updater.refresh()
            for path in paths:
                info = updater.get_targetinfo(path)
                if info is None:
                    return False
                updater.download_target(info)
            return True
        except (exceptions.RepositoryError, exceptions.DownloadError, ValueError):
            return False

    def state(self, who):
        trusted, files = self.place(who, "trusted"), self.place(who, "files")
        held = {}
        for folder, kind in ((trusted, ".json"), (files, "")):
            for name in sorted(os.listdir(folder)):
                path = os.path.join(folder, name)
                if name.endswith(kind) and os.path.isfile(path):
                    with open(path, "rb") as file:
                        held[name] = file.read()
        return held

    def step(self, paths=()):
        """Both verdicts, and what differs between them."""
        verdicts = self.ours(paths), self.theirs(paths)
        ours, theirs = self.state("ours"), self.state("theirs")
        if not theirs.get("root.json"):
            # A first root that is refused is kept by nobody but the one who was told to keep it.
            ours.pop("root.json", None)
        differing = sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))
        return verdicts, differing

    def close(self):
        shutil.rmtree(self.folder)


SCENES = {}


def scene(*expected):
    """A generator that yields paths to look for after each step; `expected` are the verdicts."""

    def register(make):
        SCENES[make.__name__] = (make, expected)
        return make

    return register



@scene(True, True)
def honest(repo):
    yield []
    repo.publish(Targets.type, Snapshot.type, Timestamp.type)
    yield []


@scene(True, False)
def timestamp_falls(repo):
    repo.publish(Timestamp.type)
    yield []
    repo.roles[Timestamp.type].version = 1
    repo.publish(Timestamp.type, bump=False)
    yield []


@scene(True, False)
def snapshot_falls(repo):
    repo.publish(Snapshot.type, Timestamp.type)
    yield []
    repo.roles[Snapshot.type].version = 1
    repo.publish(Snapshot.type, bump=False)
    repo.publish(Timestamp.type)
    yield []


@scene(True, False)
def targets_fall(repo):
    repo.publish(Targets.type, Snapshot.type, Timestamp.type)
    yield []
    repo.roles[Targets.type].version = 1
    repo.publish(Targets.type, bump=False)
    repo.publish(Snapshot.type, Timestamp.type)
    yield []


@scene(True, True)
def fast_forward_is_recovered_from(repo):
    for role in (Timestamp.type, Snapshot.type, Targets.type):
        repo.roles[role].version = 1 << 40
    repo.publish(Targets.type, Snapshot.type, Timestamp.type)
    yield []
    for role in (Timestamp.type, Snapshot.type):
        repo.rotate(role)
        repo.roles[role].version = 1
    repo.roles[Targets.type].version = 1
    repo.publish(Targets.type, Snapshot.type, Timestamp.type, bump=False)
    repo.publish(Root.type)
    yield []


@scene(False)
def root_skips_a_version(repo):
    repo.root.version = 3
    repo.put(Root.type, repo.sign(Root.type), version=2)
    yield []


@scene(False)
def root_without_the_old_keys(repo):
    repo.rotate(Root.type)
    repo.publish(Root.type)
    yield []


@scene(True)
def root_signed_by_both(repo):
    old = list(repo.signers[Root.type])
    repo.rotate(Root.type)
    repo.publish(Root.type, signers=old + repo.signers[Root.type])
    yield []


@scene(False)
def threshold_zero(repo):
    repo.publish(Root.type)
    repo.edit(Root.type, lambda file: file["signed"]["roles"]["targets"].update(threshold=0))
    yield []


@scene(False)
def threshold_above_the_keys(repo):
    repo.root.roles[Snapshot.type].threshold = 2
    repo.publish(Root.type, Snapshot.type, Timestamp.type)
    yield []


@scene(False)
def one_signature_counts_once(repo):
    repo.add_key(Timestamp.type)
    repo.root.roles[Timestamp.type].threshold = 2
    repo.publish(Root.type, Timestamp.type)
    repo.edit(Timestamp.type, lambda file: file.update(signatures=file["signatures"][:1] * 2))
    yield []


@scene(False)
def key_ids_listed_twice(repo):
    repo.publish(Root.type)
    value = json.loads(repo.last(Root.type))["signed"]
    value["roles"]["timestamp"]["keyids"] *= 2
    value["roles"]["timestamp"]["threshold"] = 2
    text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    signer = repo.signers[Root.type][0]
    sig = signer.sign(text)
    repo.put(Root.type, json.dumps({"signatures": [sig.to_dict()], "signed": value}).encode())
    yield []


@scene(False)
def other_bytes_than_signed(repo):
    repo.publish(Targets.type, Snapshot.type, Timestamp.type)
    repo.edit(Targets.type, lambda file: file["signed"].update(expires="2100-01-01T00:00:00Z"))
    yield []


@scene(True, False)
def listed_digest_is_another(repo):
    repo.hashes = True
    repo.publish(Targets.type, Snapshot.type, Timestamp.type)
    yield []
    repo.publish(Targets.type)
    repo.roles[Snapshot.type].meta["targets.json"].hashes = {"sha256": "0" * 64}
    repo.publish(Snapshot.type, Timestamp.type)
    yield []


@scene(True, False)
def listed_length_is_another(repo):
    repo.hashes = True
    repo.publish(Targets.type, Snapshot.type, Timestamp.type)
    yield []
    repo.publish(Snapshot.type)
    repo.roles[Timestamp.type].snapshot_meta.length = 10
    repo.publish(Timestamp.type)
    yield []


@scene(False, False, False, False)
def each_role_expires(repo):
    for role in (Targets.type, Snapshot.type, Timestamp.type, Root.type):
        repo.signed(role).expires = PAST
        repo.publish(*{role: None, Targets.type: None, Snapshot.type: None, Timestamp.type: None})
        yield []


@scene(True, False)
def a_role_vanishes_from_the_snapshot(repo):
    repo.delegate(Targets.type, "delegated", ["x/*"])
    repo.publish("delegated", Targets.type, Snapshot.type, Timestamp.type)
    yield []
    del repo.roles[Snapshot.type].meta["delegated.json"]
    repo.publish(Snapshot.type, Timestamp.type)
    yield []


@scene(False)
def a_snapshot_called_timestamp(repo):
    signer = repo.signers[Timestamp.type][0]
    repo.root.add_key(signer.public_key, Snapshot.type)
    repo.signers[Snapshot.type].append(signer)
    repo.roles[Snapshot.type].meta = {"snapshot.json": MetaFile(1)}
    repo.publish(Root.type, Snapshot.type)
    repo.files[(Timestamp.type, None)] = repo.last(Snapshot.type)
    yield []


@scene(True)
def fields_that_nobody_knows(repo):
    for role in TOP:
        repo.signed(role).unrecognized_fields["x-other"] = {"a": [1, None, True, "é"]}
    repo.root.roles[Targets.type].unrecognized_fields["x-other"] = 1
    repo.publish(Root.type, Targets.type, Snapshot.type, Timestamp.type)
    yield []


@scene(True, True)
def keys_of_every_kind(repo):
    for signer in OTHERS:
        repo.add_key(Root.type, signer)
    repo.publish(Root.type)
    repo.root.roles[Root.type].threshold = 4
    repo.publish(Root.type)
    yield []
    repo.publish(Root.type)
    yield []


@scene(True, True)
def a_key_id_of_ones_own(repo):
    signer = repo.draw()
    signer.public_key.keyid, kept = "any text", signer.public_key.keyid
    repo.add_key(Timestamp.type, signer)
    repo.publish(Root.type)
    repo.publish(Timestamp.type, signers=[signer])
    signer.public_key.keyid = kept
    yield []
    repo.publish(Timestamp.type, signers=repo.signers[Timestamp.type][:1])
    yield []


@scene(True, False, True)
def files_are_what_the_list_says(repo):
    for path, algorithms in (("a", ["sha256"]), ("b/c d", ["sha512"]), ("b/e", ["sha256", "sha512"])):
        repo.add_file(Targets.type, path, path.encode(), algorithms)
    repo.publish(Targets.type, Snapshot.type, Timestamp.type)
    yield ["a", "b/c d"]
    honest_content = repo.content["b/e"]
    repo.content["b/e"] = b"other"
    yield ["b/e"]
    repo.content["b/e"] = honest_content
    yield ["b/e"]


@scene(True, False, False, True)
def the_way_through_delegations(repo):
    repo.delegate(Targets.type, "a", ["x/*"])
    repo.delegate(Targets.type, "b", ["*/*", "?"], terminating=True)
    repo.delegate(Targets.type, "c", ["*/*", "*"])
    repo.delegate("a", "d", ["x/y*"])
    repo.delegate("d", "a", ["x/*"])
    for role, path in (("d", "x/y1"), ("c", "z/never"), ("c", "long"), ("b", "x/z")):
        repo.add_file(role, path)
    repo.publish("a", "b", "c", "d", Targets.type, Snapshot.type, Timestamp.type)
    yield ["x/y1", "x/z"]
    yield ["z/never"]
    yield ["none"]
    yield ["long"]


@scene(False)
def a_delegated_role_of_another_key(repo):
    repo.delegate(Targets.type, "a", ["*"])
    repo.add_file("a", "f")
    repo.publish("a", Targets.type, Snapshot.type, signers=None)
    repo.publish("a", bump=False, signers=[repo.draw()])
    repo.publish(Timestamp.type)
    yield ["f"]


@scene(True, True)
def bins_by_digest(repo):
    names, succinct = repo.bins(3)
    for path in ("f1", "f2", "folder/f3"):
        repo.add_file(succinct.get_role_for_target(path), path)
    repo.publish(*names, Targets.type, Snapshot.type, Timestamp.type)
    yield ["f1"]
    yield ["f2", "folder/f3"]


@scene(True, False)
def prefixes_of_digests(repo):
    import hashlib

    prefix = hashlib.sha256(b"f1").hexdigest()[:2]
    repo.delegate(Targets.type, "hashed", None, prefixes=[prefix])
    repo.add_file("hashed", "f1")
    repo.add_file("hashed", "f2")
    repo.publish("hashed", Targets.type, Snapshot.type, Timestamp.type)
    yield ["f1"]
    yield ["f2"]


@scene(True)
def names_that_are_paths(repo):
    for name in ("../../out", "/etc/x", "?", "#", "a b", ".."):
        repo.delegate(Targets.type, name, ["*"])
        repo.publish(name)
    repo.add_file("..", "f")
    repo.publish("..", Targets.type, Snapshot.type, Timestamp.type)
    yield ["f"]


@scene(True, True)
def same_version_other_content(repo):
    yield []
    repo.roles[Timestamp.type].snapshot_meta = MetaFile(100)
    repo.publish(Timestamp.type, bump=False)
    yield []


@scene(False)
def json_with_a_key_twice(repo):
    text = repo.last(Timestamp.type).decode()
    repo.put(Timestamp.type, text.replace("{", '{"signed":{},', 1).encode() + b"}")
    yield []


@scene(False)
def first_root_unsigned(repo):
    repo.edit(Root.type, lambda file: file.update(signatures=[]))
    yield []


def dice(repo, seed):
    """Steps that change a repository at random; any of them may be an attack."""
    roll = random.Random(seed)
    names = [Targets.type]
    for number in range(roll.randrange(4)):
        name = f"role{number}"
        pattern = roll.choice([["*"], ["a/*"], ["a/*", "b/*"], ["?/*"]])
        repo.delegate(roll.choice(names), name, pattern, terminating=roll.random() < 0.3)
        names.append(name)
    paths = ["f", "a/f", "b/f", "c/f"]
    for path in paths:
        if roll.random() < 0.8:
            repo.add_file(roll.choice(names), path)
    repo.publish(*reversed(names), Snapshot.type, Timestamp.type)
    yield [] if roll.random() < 0.5 else [roll.choice(paths)]
    for _ in range(roll.randrange(2, 6)):
        for _ in range(roll.randrange(1, 4)):
            change(repo, roll, names)
        yield [] if roll.random() < 0.5 else [roll.choice(paths)]


def change(repo, roll, names):
    lists = [name for name in names if name in repo.roles]
    role = roll.choice(TOP + lists)
    signed = repo.signed(role)
    act = roll.randrange(14)
    above = [Snapshot.type, Timestamp.type]
    if act < 4:
        repo.publish(*dict.fromkeys([role, *above]))
    elif act == 4 and role in TOP:
        repo.rotate(role)
        repo.publish(*dict.fromkeys([Root.type, role, *above]))
    elif act == 5 and role in TOP:
        old = list(repo.signers[role])
        repo.rotate(role)
        repo.publish(Root.type, signers=(old if role == Root.type else []) + repo.signers[Root.type])
        repo.publish(*dict.fromkeys([role, *above]))
    elif act == 6 and role in TOP:
        repo.add_key(role)
        repo.root.roles[role].threshold += 1
        repo.publish(Root.type)
        if roll.random() < 0.5:
            repo.publish(*dict.fromkeys([role, *above]))
    elif act == 7:
        signed.version = max(1, signed.version - roll.randrange(3))
        repo.publish(role, bump=False)
        repo.publish(*[name for name in above if name != role])
    elif act == 8:
        repo.publish(role, signers=repo.signers[role][:-1])
        repo.publish(*[name for name in above if name != role])
    elif act == 9:
        signed.expires = roll.choice([PAST, LATER])
        repo.publish(*dict.fromkeys([role, *above]))
    elif act == 10:
        repo.hashes = not repo.hashes
        repo.publish(Targets.type, *above)
    elif act == 11 and repo.roles[Snapshot.type].meta:
        entry = roll.choice(sorted(repo.roles[Snapshot.type].meta))
        if roll.random() < 0.4:
            del repo.roles[Snapshot.type].meta[entry]
        else:
            repo.roles[Snapshot.type].meta[entry].version += 1
        repo.publish(*above)
    elif act == 12 and (role, signed.version) in repo.files:
        text = bytearray(repo.last(role))
        at = roll.randrange(len(text))
        text[at] ^= 1 << roll.randrange(8)
        repo.put(role, bytes(text))
    elif act == 13:
        repo.files.pop((role, signed.version), None)
        repo.publish(role) if roll.random() < 0.5 else None


def play(program, server, name, make, expected=None):
    """Plays one repository; yields a report for each step that does not end as it should."""
    repo = Repo()
    clients, steps = None, 0
    try:
        generator = make(repo)
        for at, paths in enumerate(generator):
            clients = clients or Clients(program, server, repo)
            (ours, theirs), differing = clients.step(paths)
            steps += 1
            wanted = expected[at] if expected else theirs
            if ours != theirs or differing or ours != wanted:
                yield {"case": name, "step": at, "ours": ours, "theirs": theirs, "differing": differing}
                return
    finally:
        if clients:
            clients.close()
    if expected is not None and steps != len(expected):
        yield {"case": name, "steps": steps}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("client")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only")
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    bad, played = 0, 0
    cases = [(name, make, expected) for name, (make, expected) in SCENES.items()]
    for seed in range(options.first, options.first + options.seeds):
        cases.append((f"dice-{seed}", lambda repo, seed=seed: dice(repo, seed), None))
    for name, make, expected in cases:
        if options.only and options.only != name:
            continue
        played += 1
        for report in play(options.client, server, name, make, expected):
            bad += 1
            print(json.dumps(report), flush=True)
    print(json.dumps({"cases": played, "disagreements": bad}))
    return 1 if bad or not played else 0


if __name__ == "__main__":
    sys.exit(main())
