"""The cases that any backend must pass. Subclass `BackendConformance` in a test module, and let pytest run it:

    from intermodal.testing.conformance import BackendConformance

    class TestAcme(BackendConformance):
        image = "python:3.11"

        def make_backend(self, state):
            return AcmeBackend(state)

Every case runs real attempts. What a case may ask depends on the capabilities that the backend declares: one that says that it
isolates the network must keep a step from reaching it, and so on. A backend that passes gives the engine what it relies on.
"""

import pytest

_GROUPS = ("base", "capabilities", "exits", "files", "images", "lifecycle", "logs", "stopping", "values")
pytest.register_assert_rewrite(*(f"{__name__}.{group}" for group in _GROUPS))

from intermodal.testing.conformance.capabilities import CapabilityCases  # noqa: E402 - after the rewrite is asked for
from intermodal.testing.conformance.exits import ExitCases  # noqa: E402
from intermodal.testing.conformance.files import FileCases  # noqa: E402
from intermodal.testing.conformance.images import ImageCases  # noqa: E402
from intermodal.testing.conformance.lifecycle import LifecycleCases  # noqa: E402
from intermodal.testing.conformance.logs import LogCases  # noqa: E402
from intermodal.testing.conformance.stopping import StopCases  # noqa: E402
from intermodal.testing.conformance.values import ValueCases  # noqa: E402

__all__ = ["BackendConformance"]


class BackendConformance(
    ExitCases, StopCases, LogCases, ValueCases, FileCases, LifecycleCases, ImageCases, CapabilityCases
):
    """All cases. Set `image` (and `python`), define `make_backend`."""
