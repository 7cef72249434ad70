"""Commands of the pages, typed in the clone in which the tutorial was followed."""

from __future__ import annotations

import pytest

from tests.docs.clone import Clone
from tests.docs.proofs import TUTORIAL, TYPED

pytestmark = pytest.mark.engine

AGAIN = (
    "intermodal run pipelines/ner.py --config pipelines/configs/smoke.yaml --arg data=mydata --no-cache-task trainer"
)


@pytest.fixture(scope="module")
def used(clone: Clone) -> Clone:
    """The clone after the tutorial, with a run of the factory as its newest."""
    for page in TUTORIAL:
        clone.follow(page)
    clone.type(AGAIN)
    return clone


@pytest.mark.parametrize("command", TYPED)
def test_a_command_does_what_its_page_says(used: Clone, command: str):
    typed = TYPED[command]
    printed = used.type(typed.command or command)
    assert typed.prints in printed, printed
