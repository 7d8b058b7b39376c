# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which code is at work: workers of another version would make other vectors in silence."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

_CODE = (".py", ".so", ".pyd")


@functools.cache
def code_sha256() -> str:
    """Return the hash of all code of this package, compiled and not."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for path in package.rglob("*") if path.suffix in _CODE):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()
