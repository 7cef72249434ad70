"""Twenty runners at once on one state folder, on both backends, half of them with the same work."""

from __future__ import annotations

import json

import pytest

from intermodal.engine.store import Store
from tests.crash import pipelines

pytestmark = pytest.mark.engine


def test_twenty_runners_at_once(make_case, tmp_path):
    case = make_case("docker", tmp_path, pipelines.crowd)
    other = make_case("process", tmp_path / "other", pipelines.crowd)
    (case.state / "envs").unlink(missing_ok=True)
    (case.state / "envs").symlink_to((other.state / "envs").resolve())
    children = []
    for number in range(20):
        text = "same " * 3 if number % 2 else f"number {number:02} "
        pipeline, backend = (case.pipeline, "docker") if number < 10 else (other.pipeline, "process")
        words = [str(pipeline), "--backend", backend, "--arg", f"text={text}", "--no-cache", "--json"]
        children.append((text, case.start("run", *words)))
    for text, child in children:
        out, error = child.communicate(timeout=300)
        assert child.returncode == 0, error
        assert json.loads(out)["parameters"] == {"Output": (text * 999)[:9]}
        assert "locked" not in error and "Traceback" not in error
    assert case.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert case.query("SELECT state, COUNT(*) AS n FROM runs GROUP BY state") == [{"state": "SUCCEEDED", "n": 20}]
    assert case.query("SELECT state, COUNT(*) AS n FROM tasks GROUP BY state") == [{"state": "SUCCEEDED", "n": 40}]
    assert case.ledger()["tell end"] == case.ledger()["hear end"] == 20
    store = Store(case.state / "store")
    assert len(store.digests()) == 11
    assert [store.damage(digest, thorough=True) for digest in store.digests()] == [None] * 11
    assert list((case.state / "store" / "tmp").glob("*")) == list((case.state / "tmp").glob("*")) == []
    assert case.containers() == []
