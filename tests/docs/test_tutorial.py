"""The tutorial and other pages, as a reader follows them in a fresh clone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.clone import Clone, first_missing
from tests.docs.proofs import FOLLOWED


@pytest.mark.engine
@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_is_followed(clone: Clone, page: str):
    if page.endswith("gpu.md") and Path("/dev/nvidia0").exists():
        pytest.skip("the page says what a machine without a GPU says")
    clone.follow(page)


def test_output_that_is_not_printed_is_noticed():
    printed = "run a-1 succeeded\n  CACHED   0.0s  x\n  SUCCEEDED   1s  y\n"
    assert first_missing("run a-… succeeded\nCACHED … x\n  SUCCEEDED  1s y", printed) is None
    assert first_missing("SUCCEEDED … y\nCACHED … x", printed) == "CACHED … x"
    assert first_missing("run … failed", printed) == "run … failed"
