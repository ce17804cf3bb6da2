"""Writes every archive that CPython's tests of extraction make, as they make them.

The tests are those of backports.tarfile, which are CPython's; run in their own folder.
"""

import pathlib
import sys
import unittest

from tests import test_tarfile

out = pathlib.Path(sys.argv[1])
made = 0
leave = test_tarfile.ArchiveMaker.__exit__


def keep(self, *failure):
    global made
    leave(self, *failure)
    made += 1
    (out / f"made-{made:03}.tar").write_bytes(self.contents)


test_tarfile.ArchiveMaker.__exit__ = keep
for name in ("TestExtractionFilters", "OverwriteTests"):
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(getattr(test_tarfile, name))
    # Whether the tests pass with this interpreter does not matter; they make their archives.
    unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(suite)
sys.exit(0 if made else 1)
