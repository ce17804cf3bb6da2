"""Takes the wrapping off test archives: uuencoding, and one layer of compression.

What is under a wrapping is written beside it; no more than 64 MiB of it, since some are bombs.
"""

import binascii
import bz2
import gzip
import io
import lzma
import pathlib
import sys

BYTES_MAX = 64 << 20


def uudecoded(text):
    out = bytearray()
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(b"begin "):
            break
    for line in lines:
        if line == b"end":
            break
        try:
            out += binascii.a2b_uu(line)
        except binascii.Error:
            # Some encoders pad their lines; the length byte says what counts.
            count = (((line[0] - 32) & 63) * 4 + 5) // 3
            out += binascii.a2b_uu(line[:count])
    return bytes(out)


def opened(data):
    for magic, opener in ((b"\x1f\x8b", gzip), (b"BZh", bz2), (b"\xfd7zXZ", lzma)):
        if data.startswith(magic):
            try:
                with opener.open(io.BytesIO(data)) as stream:
                    return stream.read(BYTES_MAX)
            except (OSError, EOFError, lzma.LZMAError):
                return None
    return None


for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    data = path.read_bytes()
    if path.suffix == ".uu":
        data = uudecoded(data)
        path.unlink()
        path = path.with_suffix("")
        path.write_bytes(data)
    inside = opened(data)
    if inside is not None:
        path.with_name(path.name + ".opened").write_bytes(inside)
