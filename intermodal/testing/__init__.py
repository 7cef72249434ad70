"""For tests: of pipelines without containers, of the engine without steps, and of backends against their contract.

`HostBackend` and `NullBackend` are here; `intermodal.testing.conformance`, which needs pytest, holds the cases that any backend passes.
"""

from intermodal.testing.host import HostBackend
from intermodal.testing.null import NullBackend

__all__ = ["HostBackend", "NullBackend"]
