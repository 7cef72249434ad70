"""The runner is killed at each commit point; `resume` ends the run as if nothing had been."""

from __future__ import annotations

import pytest

from intermodal.engine.faults import POINTS
from tests.crash.case import KILLED

ON_RESUME = {"run:reopened": "attempt:handle"}
"""Points that only a resumed run comes to, and where the run before it is killed."""


@pytest.mark.parametrize("backend", ["process", pytest.param("docker", marks=pytest.mark.engine)])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at(point, backend, make_case, truth, tmp_path):
    expected = truth(backend)
    case = make_case(backend, tmp_path)
    before = ON_RESUME.get(point)
    if before is not None:
        assert case.run(fault=before).returncode == KILLED
        assert case.resume(fault=point).returncode == KILLED
    else:
        assert case.run(fault=point).returncode == KILLED
    case.end()
    case.check(expected)
