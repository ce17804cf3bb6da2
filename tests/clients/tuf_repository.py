"""Repositories between two tools: one that python-tuf writes for us, one of ours that python-tuf reads.

    tuf_repository.py write OUT TARGET FILE PUBLISHER   writes OUT/*.json: a root with two approvers, targets
                                                        that list FILE as TARGET and let the Ed25519 key
                                                        PUBLISHER (hexadecimal) make releases of any name
    tuf_repository.py read FOLDER TARGET                refreshes from FOLDER as a repository without versions
                                                        in file names and prints what is listed for TARGET
"""
import datetime
import json
import os
import sys
import tempfile
from urllib import parse

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient import FetcherInterface, Updater

LATER = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=30)


def write(out, target, path, publisher):
    officers = [CryptoSigner.generate_ed25519() for _ in range(2)]
    importers = [CryptoSigner.generate_ed25519() for _ in range(2)]
    approvers = [CryptoSigner.generate_ed25519() for _ in range(2)]
    root = Root(expires=LATER, consistent_snapshot=True)
    for role in (Root.type, Timestamp.type, Snapshot.type, Targets.type):
        for signer in officers if role == Root.type else importers:
            root.add_key(signer.public_key, role)
    root.roles[Root.type].threshold = root.roles[Targets.type].threshold = 2
    for signer in approvers:
        root.keys[signer.public_key.keyid] = signer.public_key
    keyids = [signer.public_key.keyid for signer in approvers]
    root.unrecognized_fields["x-cloister"] = {
        "approvers": {"keyids": keyids, "threshold": 2},
        "persons": dict(zip(keyids, ["eve", "flo"])),
    }
    key = SSlibKey("publisher-1", "ed25519", "ed25519", {"public": publisher})
    role = DelegatedRole("publisher", [key.keyid], 1, True, ["*/*"])
    targets = Targets(expires=LATER, delegations=Delegations({key.keyid: key}, {"publisher": role}))
    with open(path, "rb") as file:
        targets.targets[target] = TargetFile.from_data(target, file.read(), ["sha256"])
    snapshot = Snapshot(expires=LATER)
    timestamp = Timestamp(expires=LATER)

    def save(name, signed, signers):
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        text = metadata.to_bytes()
        with open(os.path.join(out, name), "wb") as file:
            file.write(text)
        return MetaFile.from_data(signed.version, text, ["sha256"])

    save("1.root.json", root, officers)
    snapshot.meta["targets.json"] = save("1.targets.json", targets, importers)
    timestamp.snapshot_meta = save("1.snapshot.json", snapshot, importers[:1])
    save("timestamp.json", timestamp, importers[1:])


class Folder(FetcherInterface):
    def __init__(self, folder):
        self.folder = folder

    def _fetch(self, url):
        name = parse.unquote(url.rpartition("/")[2])
        try:
            with open(os.path.join(self.folder, name), "rb") as file:
                return iter([file.read()])
        except FileNotFoundError as error:
            raise DownloadHTTPError(name, 404) from error


def read(folder, target):
    with open(os.path.join(folder, "1.root.json"), "rb") as file:
        root = file.read()
    with tempfile.TemporaryDirectory() as trusted:
        updater = Updater(trusted, "http://none/", fetcher=Folder(folder), bootstrap=root)
        updater.refresh()
        listed = updater.get_targetinfo(target)
    print(json.dumps(listed.to_dict() if listed else None))


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
