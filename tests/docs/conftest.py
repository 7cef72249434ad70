"""A fresh clone in which the pages are followed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.docs.clone import Clone
from tests.support.memo import known_images


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    made = Clone.of_this_tree(tmp_path_factory.mktemp("docs") / "intermodal")
    with known_images(made.folder / ".intermodal"):
        yield made
    subprocess.run(["docker", "image", "rm", "--force", "intermodal/redact:dev"], capture_output=True)
