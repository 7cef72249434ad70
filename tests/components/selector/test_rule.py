"""The rule of selection as properties, and the step as a command."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from components.converter.builds import parse_conversion
from components.kfp_io import StepError
from components.selector.__main__ import RECIPE
from components.selector.candidates import Candidate, read_noise
from components.selector.evidence import weigh
from components.selector.report import page, record, summary
from components.selector.rule import Choice, Rule, select
from components.trainer.settings import parse_training

ROOT = Path(__file__).parents[3]


def candidate(
    name: str, f1: float, ms: float, *, test: float = 0.5, size: int = 10, counts: list[list[int]] | None = None
) -> Candidate:
    """A candidate; `counts` are hits, gold and predictions of each document, for one label."""
    return Candidate(
        name, "fp32", "0" * 64, size, {}, {"p50": ms, "p95": ms}, {"documents_per_second": 1.0}, f1, test, (0.4, 0.6),
        np.array(counts or [[1, 1, 1], [0, 1, 1]], dtype=np.int64)[:, None, :],
    )  # fmt: skip


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


budgets = st.one_of(st.just(0.0), times)


def chosen(candidates: list[Candidate], rule: Rule) -> Choice | None:
    try:
        return select(candidates, rule)
    except StepError as error:
        assert "no candidate is within" in error.message
        return None


@given(fields, st.floats(0, 0.2), budgets, scores, times, st.data())
def test_an_irrelevant_candidate_never_changes_the_champion(rows, tolerance, budget, f1, ms, data):
    """Irrelevant is who cannot win: over the budget, or with another within it that is at least as good and as fast, and one of
    them more so. No position relative to the champion is assumed: the other may be anybody."""
    candidates, rule = field(rows), Rule(tolerance, budget)
    before = chosen(candidates, rule)
    assume(before is not None)
    other = data.draw(st.sampled_from([c for c in candidates if rule.fits(c)]))
    worse = candidate("extra", min(f1, other.validation_macro_f1), ms + other.latency_ms["p50"])
    irrelevant = [worse, *([candidate("slow", f1, budget + ms)] if budget else [])]
    for extra in irrelevant:
        after = select([*candidates, extra], rule)
        assert after.champion == before.champion
        assert (after.best, after.front) == (before.best, before.front)


@given(fields, st.floats(0, 0.2), budgets)
def test_the_pareto_front_alone_decides(rows, tolerance, budget):
    rule = Rule(tolerance, budget)
    choice = chosen(field(rows), rule)
    assume(choice is not None)
    alone = select(choice.front, rule)
    assert (alone.champion.validation_macro_f1, alone.champion.latency_ms) == (
        choice.champion.validation_macro_f1,
        choice.champion.latency_ms,
    )
    assert all(not (c.validation_macro_f1 >= f.validation_macro_f1 and c.latency_ms["p50"] < f.latency_ms["p50"])
               for f in choice.front for c in choice.candidates if rule.fits(c))  # fmt: skip


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
    assert "200.0 ms at p50 is slower than 10.0 ms" in choice.lost[0][1]
    close = select([candidate("slow", 0.9, 0.3004), candidate("fast", 0.9, 0.3)], Rule(0.01))
    assert "0.300400 ms at p50 is slower than 0.300000 ms" in close.lost[0][1]


def test_the_budget_comes_first_and_nobody_within_it_is_an_error():
    candidates = [candidate("good", 0.95, 50), candidate("poor", 0.5, 5)]
    choice = select(candidates, Rule(0.01, 20))
    assert choice.champion.backbone == "poor"
    assert "50.0 ms at p50 is over the budget of 20 ms, though its validation macro-F1" in choice.lost[0][1]
    with pytest.raises(StepError, match=r"no candidate is within 4 ms: the fastest, poor fp32, takes 5\.0 ms"):
        select(candidates, Rule(0.01, 4))


def test_ties_go_to_score_then_size_then_name():
    assert select([candidate("a", 0.90, 5), candidate("b", 0.91, 5)], Rule(0.1)).champion.backbone == "b"
    assert select([candidate("a", 0.9, 5, size=9), candidate("b", 0.9, 5, size=8)], Rule(0.1)).champion.backbone == "b"
    assert select([candidate("b", 0.9, 5), candidate("a", 0.9, 5)], Rule(0.1)).champion.backbone == "a"


def test_a_percentile_that_the_sample_cannot_carry_is_an_error():
    thin = Candidate(
        "a",
        "fp32",
        "0" * 64,
        1,
        {},
        {"p50": 1.0, "p95": None},
        {"documents_per_second": 1.0},
        1,
        1,
        (1, 1),
        np.zeros((1, 1, 3)),
    )
    with pytest.raises(StepError, match="p95"):
        select([thin], Rule(0.1, percentile="p95"))


def paired(documents: int, wrong: list[int], name: str, ms: float) -> Candidate:
    """A candidate on documents with one entity each, which misses it in those that are `wrong`."""
    counts = [[0, 1, 0] if number in wrong else [1, 1, 1] for number in range(documents)]
    hits = documents - len(wrong)
    return candidate(name, 2 * hits / (documents + hits), ms, counts=counts)


def test_the_bootstrap_is_paired_by_document_and_repeats():
    """Failing on one document more, out of 200 that are all the same ones, is known to be worse or equal; drawn apart it would not be."""
    hard = list(range(60))
    choice = select([paired(200, hard, "a", 5), paired(200, [*hard, *range(100, 112)], "b", 1)], Rule(0.0))
    evidence = weigh(choice, Rule(0.0))
    difference = evidence.differences["b fp32"]
    assert difference.value == pytest.approx(2 * 128 / 328 - 2 * 140 / 340)
    assert difference.low < difference.value < difference.high < 0
    assert difference.verdict == "worse"
    apart = evidence.intervals["a fp32"][0] - evidence.intervals["b fp32"][1]
    assert apart < 0, "the two intervals overlap, and yet the difference is known"
    assert weigh(choice, Rule(0.0)) == evidence


def test_the_evidence_says_how_often_the_rule_would_choose_each():
    even = select([paired(40, [1, 2], "a", 5), paired(40, [3, 4], "b", 4)], Rule(0.0))
    evidence = weigh(even, Rule(0.0))
    assert even.champion.backbone == "b"
    assert 0.2 < evidence.chosen["a fp32"] < 0.5 < evidence.chosen["b fp32"] < 0.8
    assert evidence.differences["a fp32"].verdict == "even"
    firm = select(even.candidates, Rule(0.5))
    assert weigh(firm, Rule(0.5)).chosen == {"b fp32": 1.0, "a fp32": 0.0}
    budget = select(even.candidates, Rule(0.0, 4.5))
    assert weigh(budget, Rule(0.0, 4.5)).chosen["a fp32"] == 0


def test_the_report_escapes_and_shows_everything_without_loading_anything():
    rule = Rule(0.1, 50)
    choice = select([paired(9, [1], "<b>x</b>", 5), paired(9, [2], "y", 6), paired(9, [], "slow & good", 80)], rule)
    html = page(choice, rule, weigh(choice, rule))
    assert "<b>x</b> fp32" not in html and "&lt;b&gt;x&lt;/b&gt;" in html
    text = summary(choice, rule, weigh(choice, rule))
    for words in ("0.5000 [0.400, 0.600]", "over the budget of 50 ms", "draws of the 9 validation documents"):
        assert words in html and words in text
    drawing = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    names = [group.find("title").text for group in drawing.iter("g")]
    assert sorted(name.split(":")[0] for name in names) == ["<b>x</b> fp32", "slow & good fp32", "y fp32"]
    assert [group.get("class") for group in drawing.iter("g")] == ["champion", "other", "other"]
    for loads in ("http", "src=", "url(", "<script", "@import"):
        assert loads not in html


def test_times_that_the_benchmark_calls_inconclusive_are_called_so_here(tmp_path: Path):
    rule = Rule(0.1)
    choice = select([paired(9, [1], "x", 5), paired(9, [2], "y", 6)], rule)
    noisy, quiet = tmp_path / "noisy.json", tmp_path / "quiet.json"
    noisy.write_text(
        json.dumps({"noise": {"verdict": "inconclusive", "why": ["two processes of x differ by up to 30%"]}})
    )
    quiet.write_text(json.dumps({"noise": {"verdict": "steady", "why": []}}))
    evidence = weigh(choice, rule, read_noise(noisy))
    for text in (summary(choice, rule, evidence), page(choice, rule, evidence)):
        assert "times are inconclusive: two processes of x differ by up to 30%" in text
    assert record(choice, rule, evidence)["times_inconclusive"] == ["two processes of x differ by up to 30%"]
    assert "inconclusive" not in summary(choice, rule, weigh(choice, rule, read_noise(quiet)))


@settings(max_examples=25)
@given(fields, st.floats(0, 0.2))
def test_the_picture_stands_whatever_the_numbers_are(rows, tolerance):
    choice, rule = select(field(rows), Rule(tolerance)), Rule(tolerance)
    evidence = weigh(choice, rule)
    html = page(choice, rule, evidence)
    drawing = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    for circle in drawing.iter("circle"):
        assert 0 <= float(circle.get("cx")) <= 760 and 0 <= float(circle.get("cy")) <= 420
    json.dumps(record(choice, rule, evidence), allow_nan=False)


def bundle(folder: Path, backbone: str) -> Path:
    folder.mkdir()
    for name in ("model.fp32.onnx", "model.int8.onnx", "tokenizer.json"):
        (folder / name).write_text(backbone + name)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    built = {"exporter": "dynamo", "opset": 18, "fusion": "attention"}
    variants = {
        v: {
            "file": f"model.{v}.onnx", "sha256": files[f"model.{v}.onnx"], "bytes": 1, "build": {**built, "quantisation": v},
        }
        for v in ("fp32", "int8")
    }  # fmt: skip
    manifest = {
        "schema_version": 1, "backbone": backbone, "variants": variants, "files": files, "best_epoch": 3,
        "hyperparameters": {"learning_rate": 1e-4}, "training": {"epochs": 6, "patience": 2, "all_data": False, "stride": 64},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def entry(backbone: str, variant: str, f1: float, ms: float) -> dict:
    hits = round(1000 * f1)  # of a thousand entities in as many documents, the others are taken for something else
    right = [int(number < hits) for number in range(1000)]
    wrong = [1 - number for number in right]
    score = {"macro_f1": f1, "interval": [f1 - 0.1, f1 + 0.1]}
    counted = {**score, "documents": {"N": {"tp": right, "fp": wrong, "fn": list(wrong)}}}
    return {
        "backbone": backbone, "variant": variant, "bytes": 1,
        "bundle_sha256": hashlib.sha256(f"{backbone}model.{variant}.onnx".encode()).hexdigest(), "hyperparameters": {"learning_rate": 1e-4},
        "latency_ms": {"p50": ms, "p95": ms}, "throughput": {"documents_per_second": 1.0},
        "scores": {"validation": counted, "test": score},
    }  # fmt: skip


def run(tmp_path: Path, bundles: list[Path], entries: list[dict], *more: str) -> subprocess.CompletedProcess[str]:
    benchmark = tmp_path / "benchmark.json"
    benchmark.write_text(json.dumps({"schema_version": 1, "candidates": entries}))
    given_input = {
        "inputs": {"artifacts": {"bundles": {"artifacts": [{"name": "b", "uri": str(path)} for path in bundles]}}}
    }
    words = [
        "choose",
        "--executor-input",
        json.dumps(given_input),
        "--benchmark",
        str(benchmark),
        "--tolerance",
        "0.01",
    ]
    for name in ("champion", "summary", "report", "decision", *RECIPE):
        words += [f"--{name}", str(tmp_path / "out" / name)]
    return selector(*words, *more)


def selector(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "components.selector", *words], capture_output=True, text=True, env=environment
    )


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
    assert decision["pareto_front"] == ["b fp32", "a int8"]
    by_name = {item["name"]: item for item in decision["candidates"]}
    assert by_name["b fp32"]["difference_from_champion"]["verdict"] == "worse"
    assert by_name["a fp32"]["difference_from_champion"]["interval"] == [0, 0]
    assert "a int8" in (tmp_path / "out" / "summary").read_text()
    assert [(tmp_path / "out" / name).read_text() for name in ("backbone", "variant")] == ["a", "int8"]
    recipe = {name: json.loads((tmp_path / "out" / name).read_text()) for name in RECIPE[2:]}
    assert recipe == {
        "hyperparameters": {"learning_rate": 1e-4},
        "training": {"epochs": 3, "patience": 0, "all_data": True, "stride": 64},
        "conversion": {"builds": ["dynamo-18-attention-fp32", "dynamo-18-attention-int8"]},
    }
    assert [build.name for build in parse_conversion(recipe["conversion"])] == recipe["conversion"]["builds"]
    assert parse_training(recipe["training"]).all_data


def test_hyperparameters_that_are_settings_too_are_shown_where_candidates_differ(tmp_path: Path):
    bundles = [bundle(tmp_path / "first", "a"), bundle(tmp_path / "second", "b")]
    entries = [entry("a", "fp32", 0.9, 9), entry("b", "fp32", 0.5, 1)]
    for item, layers in zip(entries, (0, 3), strict=True):
        item["hyperparameters"] |= {"layers": layers, "head_rate": 10, "dropout": 0.1}
    assert run(tmp_path, bundles, entries).returncode == 0
    text = (tmp_path / "out" / "summary").read_text()
    assert "dropout=0.1 layers=0 lr=0.0001" in text and "dropout=0.1 layers=3 lr=0.0001" in text
    assert "head_rate" not in text


def test_keep_leaves_one_variant_and_says_why_there_is_none(tmp_path: Path):
    made = bundle(tmp_path / "bundle", "a")
    done = selector("keep", "--bundle", str(made), "--variant", "fp32", "--champion", str(tmp_path / "kept"))
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "kept" / "manifest.json").read_text())
    assert (manifest["champion"], list(manifest["variants"])) == ("fp32", ["fp32"])
    assert not (tmp_path / "kept" / "model.int8.onnx").exists()
    whole = json.loads((made / "manifest.json").read_text())
    del whole["variants"]["int8"]
    (made / "manifest.json").write_text(json.dumps({**whole, "rejected": {"int8": "agreement is 0.9, below 0.95"}}))
    done = selector("keep", "--bundle", str(made), "--variant", "int8", "--champion", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "bundle of a has no variant int8, only fp32: agreement is 0.9, below 0.95" in done.stderr
    assert not (tmp_path / "none").exists()


def test_candidates_of_other_documents_and_scores_that_do_not_add_up_are_refused(tmp_path: Path):
    bundles = [bundle(tmp_path / "first", "a")]
    other = entry("a", "int8", 0.9, 3)
    other["scores"]["validation"]["documents"]["N"]["fn"][0] = 1
    done = run(tmp_path, bundles, [entry("a", "fp32", 0.9, 9), other])
    assert (done.returncode, "not scored on the same validation documents" in done.stderr) == (2, True)
    wrong = entry("a", "int8", 0.9, 3)
    wrong["scores"]["validation"]["macro_f1"] = 0.95
    done = run(tmp_path, bundles, [wrong])
    assert (done.returncode, "its counts make 0.9000" in done.stderr) == (2, True)


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
