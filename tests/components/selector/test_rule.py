"""The rule of selection as properties, and the step as a command."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.kfp_io import StepError
from components.selector.report import page, summary
from components.selector.rule import Candidate, Rule, select

ROOT = Path(__file__).parents[3]


def candidate(name: str, f1: float, ms: float, *, test: float = 0.5, size: int = 10) -> Candidate:
    return Candidate(
        name, "fp32", "0" * 64, size, {}, {"p50": ms, "p95": ms}, {"documents_per_second": 1.0}, f1, test, (0.4, 0.6)
    )


scores = st.floats(0, 1).map(lambda value: round(value, 3))
times = st.floats(0.1, 100).map(lambda value: round(value, 1))
fields = st.lists(st.tuples(scores, times, scores), min_size=1, max_size=6)


def field(rows: list[tuple[float, float, float]]) -> list[Candidate]:
    return [candidate(f"c{number}", f1, ms, test=test) for number, (f1, ms, test) in enumerate(rows)]


@given(fields, st.floats(0, 0.2))
def test_the_champion_is_the_fastest_of_those_accurate_enough(rows, tolerance):
    candidates = field(rows)
    champion = select(candidates, Rule(tolerance)).champion
    best = max(c.validation_macro_f1 for c in candidates)
    accurate = [c for c in candidates if best - c.validation_macro_f1 <= tolerance + 1e-9]
    assert champion in accurate
    assert champion.latency_ms["p50"] == min(c.latency_ms["p50"] for c in accurate)


@given(st.integers(0, 1000), st.integers(0, 200))
def test_a_candidate_exactly_at_the_tolerance_is_in(best, behind):
    rows = [candidate("best", best / 1000, 50), candidate("edge", (best - behind) / 1000, 5)]
    assert select(rows, Rule(behind / 1000)).champion.backbone == "edge"


@pytest.mark.parametrize("rule", [Rule(float("nan")), Rule(-0.1), Rule(0.1, float("nan")), Rule(0.1, -1)])
def test_a_rule_that_is_no_rule_is_an_error(rule: Rule):
    with pytest.raises(StepError, match="at least 0"):
        select([candidate("a", 0.9, 5)], rule)


def test_a_score_that_is_no_number_is_an_error_with_a_name():
    with pytest.raises(StepError, match="b fp32"):
        select([candidate("a", 0.9, 5), candidate("b", float("nan"), 5)], Rule(0.1))


@given(fields, st.floats(0, 0.2), scores, times)
def test_a_worse_and_slower_candidate_never_changes_the_champion(rows, tolerance, f1, ms):
    candidates = field(rows)
    champion = select(candidates, Rule(tolerance)).champion
    extra = candidate("extra", min(f1, champion.validation_macro_f1), ms + champion.latency_ms["p50"])
    assert select([*candidates, extra], Rule(tolerance)).champion == champion


@given(fields, st.floats(0, 0.2), st.randoms())
def test_neither_order_nor_test_scores_decide(rows, tolerance, random):
    candidates = field(rows)
    champion = select(candidates, Rule(tolerance)).champion.backbone
    random.shuffle(candidates)
    changed = [
        candidate(c.backbone, c.validation_macro_f1, c.latency_ms["p50"], test=random.random()) for c in candidates
    ]
    assert select(changed, Rule(tolerance)).champion.backbone == champion


@given(fields, st.floats(0, 0.2))
def test_each_other_candidate_gets_one_reason(rows, tolerance):
    candidates = field(rows)
    choice = select(candidates, Rule(tolerance))
    assert {c.backbone for c, _ in choice.lost} == {c.backbone for c in candidates} - {choice.champion.backbone}
    assert all(reason for _, reason in choice.lost)


def test_the_seeds_contradictions_do_not_come_back():
    """A tiny gain in accuracy must not beat twenty times the latency, and the faster model can be chosen at all."""
    choice = select([candidate("slow", 0.9001, 200), candidate("fast", 0.9000, 10)], Rule(0.01))
    assert choice.champion.backbone == "fast"
    assert "slower" in choice.lost[0][1]


def test_the_budget_binds_and_nobody_within_it_is_an_error():
    candidates = [candidate("good", 0.95, 50), candidate("poor", 0.5, 5)]
    with pytest.raises(StepError, match=r"good fp32, takes 50\.0 ms") as error:
        select(candidates, Rule(0.01, 20))
    assert "20 ms" in error.value.message
    assert select(candidates, Rule(0.5, 20)).champion.backbone == "poor"


def test_ties_go_to_score_then_size_then_name():
    assert select([candidate("a", 0.90, 5), candidate("b", 0.91, 5)], Rule(0.1)).champion.backbone == "b"
    assert select([candidate("a", 0.9, 5, size=9), candidate("b", 0.9, 5, size=8)], Rule(0.1)).champion.backbone == "b"
    assert select([candidate("b", 0.9, 5), candidate("a", 0.9, 5)], Rule(0.1)).champion.backbone == "a"


def test_a_percentile_that_the_sample_cannot_carry_is_an_error():
    thin = Candidate(
        "a", "fp32", "0" * 64, 1, {}, {"p50": 1.0, "p95": None}, {"documents_per_second": 1.0}, 1, 1, (1, 1)
    )
    with pytest.raises(StepError, match="p95"):
        select([thin], Rule(0.1, percentile="p95"))


def test_the_report_escapes_and_shows_everything():
    choice = select([candidate("<b>x</b>", 0.9, 5), candidate("y", 0.9, 6)], Rule(0.1))
    html = page(choice, Rule(0.1))
    assert "<b>x</b> fp32" not in html and "&lt;b&gt;x&lt;/b&gt;" in html
    assert "0.5000 [0.400, 0.600]" in html and "0.5000 [0.400, 0.600]" in summary(choice, Rule(0.1))


def bundle(folder: Path, backbone: str) -> Path:
    folder.mkdir()
    for name in ("model.fp32.onnx", "model.int8.onnx", "tokenizer.json"):
        (folder / name).write_text(backbone + name)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    variants = {
        v: {"file": f"model.{v}.onnx", "sha256": files[f"model.{v}.onnx"], "bytes": 1} for v in ("fp32", "int8")
    }
    manifest = {"schema_version": 1, "backbone": backbone, "variants": variants, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def entry(backbone: str, variant: str, f1: float, ms: float) -> dict:
    score = {"macro_f1": f1, "interval": [f1 - 0.1, f1 + 0.1]}
    return {
        "backbone": backbone, "variant": variant, "bytes": 1,
        "bundle_sha256": hashlib.sha256(f"{backbone}model.{variant}.onnx".encode()).hexdigest(), "hyperparameters": {"learning_rate": 1e-4},
        "latency_ms": {"p50": ms, "p95": ms}, "throughput": {"documents_per_second": 1.0},
        "scores": {"validation": score, "test": score},
    }  # fmt: skip


def run(tmp_path: Path, bundles: list[Path], entries: list[dict], *more: str) -> subprocess.CompletedProcess[str]:
    benchmark = tmp_path / "benchmark.json"
    benchmark.write_text(json.dumps({"schema_version": 1, "candidates": entries}))
    given_input = {
        "inputs": {"artifacts": {"bundles": {"artifacts": [{"name": "b", "uri": str(path)} for path in bundles]}}}
    }
    command = [sys.executable, "-m", "components.selector", "--executor-input", json.dumps(given_input)]
    command += ["--benchmark", str(benchmark), "--tolerance", "0.01"]
    for name in ("champion", "summary", "report", "decision"):
        command += [f"--{name}", str(tmp_path / "out" / name)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, *more], capture_output=True, text=True, env=environment)


def test_the_champion_is_found_by_its_manifest_and_stands_alone(tmp_path: Path):
    bundles = [bundle(tmp_path / "first", "b"), bundle(tmp_path / "second", "a")]
    entries = [entry("a", "fp32", 0.9, 9), entry("a", "int8", 0.9, 3), entry("b", "fp32", 0.5, 1)]
    done = run(tmp_path, bundles, entries)
    assert done.returncode == 0, done.stderr
    champion = tmp_path / "out" / "champion"
    manifest = json.loads((champion / "manifest.json").read_text())
    assert (manifest["backbone"], manifest["champion"], list(manifest["variants"])) == ("a", "int8", ["int8"])
    assert {path.name for path in champion.iterdir()} == {"model.int8.onnx", "tokenizer.json", "manifest.json"}
    decision = json.loads((tmp_path / "out" / "decision").read_text())
    assert decision["champion"] == {"backbone": "a", "variant": "int8"}
    assert set(decision["lost"]) == {"a fp32", "b fp32"}
    assert "a int8" in (tmp_path / "out" / "summary").read_text()


def test_a_bundle_that_is_not_the_one_that_was_measured_is_refused(tmp_path: Path):
    other = {**entry("a", "fp32", 0.9, 9), "bundle_sha256": "1" * 64}
    done = run(tmp_path, [bundle(tmp_path / "first", "a")], [other])
    assert (done.returncode, "not the one that was measured" in done.stderr) == (2, True)


def test_a_changed_bundle_and_a_missing_one_are_refused(tmp_path: Path):
    damaged = bundle(tmp_path / "first", "a")
    (damaged / "tokenizer.json").write_text("changed")
    done = run(tmp_path, [damaged], [entry("a", "fp32", 0.9, 9)])
    assert (done.returncode, "tokenizer.json" in done.stderr) == (2, True)
    done = run(tmp_path, [], [entry("a", "fp32", 0.9, 9)])
    assert (done.returncode, "a fp32" in done.stderr) == (2, True)
    done = run(tmp_path, [damaged], [])
    assert (done.returncode, "holds no candidate" in done.stderr) == (2, True)
