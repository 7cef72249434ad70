"""Names as file names."""

from __future__ import annotations

import hashlib
import re

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def safe_name(name: str) -> str:
    """Return `name` as one path component: unsafe characters as %XX, so that different names stay different."""
    encoded = _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match.group().encode()), name)
    encoded = re.sub(r"^\.", "%2E", encoded) or "%"
    if len(encoded) > 120:
        encoded = encoded[:80] + "%" + hashlib.sha256(name.encode()).hexdigest()[:16]
    return encoded
