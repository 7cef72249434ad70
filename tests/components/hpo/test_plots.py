"""The study's pictures: drawn in a browser that loads nothing, and in the report of a run, whose policy lets only known scripts run."""

import time
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from kfp import dsl

from components.hpo.plots import write_plots
from intermodal import run
from tests.support.browser import Browser

pytestmark = pytest.mark.browser

TELL = "<script>setInterval(() => parent.postMessage(document.querySelectorAll('.js-plotly-plot .main-svg').length, '*'), 100)</script>"
"""A frame of the report is closed to the page around it: what is in it must say itself what it drew."""
HEAR = "new Promise((done) => addEventListener('message', (event) => event.data && done(event.data)))"


@dsl.container_component
def show(page: str, plots: dsl.Output[dsl.HTML]):
    return dsl.ContainerSpec(image="none", command=["sh", "-c", 'cp "$0" "$1"'], args=[page, plots.path])


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(6):
        trial = found.ask()
        score = trial.suggest_float("dropout", 0, 0.5) * trial.suggest_int("batch_size", 1, 8)
        for epoch in (1, 2):
            trial.report(score * epoch, epoch)
        found.tell(trial, score * 2)
    return found


def written(path: Path, study: optuna.Study, *objectives: str) -> str:
    outcome = SimpleNamespace(identity="a-study", study=study, trials=study.trials)
    write_plots(path, outcome, SimpleNamespace(objectives=objectives))  # type: ignore[arg-type]
    return path.read_text()


def test_the_pictures_are_drawn_and_nothing_is_loaded(study: optuna.Study, tmp_path: Path):
    page = tmp_path / "plots.html"
    text = written(page, study, "macro_f1")
    for title in ("History", "Importances", "Parallel coordinates", "Intermediate values"):
        assert f"<h2>{title}" in text
    with Browser() as browser:
        browser.open(page)
        assert browser.value("document.querySelectorAll('.js-plotly-plot').length") == 4
        assert browser.requests == [page.as_uri()] and browser.complaints == []

    text = text.replace("</body>", f"{TELL}</body>")
    page.write_text(text)
    done = run(show, {"page": str(page)}, backend="host", state=tmp_path / "state", progress=False)
    report = done.folder / "report.html"
    with Browser() as browser:
        browser.open(report)
        browser.value("document.querySelector('iframe').scrollIntoView()")
        time.sleep(0.5)
        browser.value("document.querySelector('iframe').scrollIntoView()")
        assert browser.value(HEAR) >= 4
        assert browser.complaints == []


def test_two_objectives_have_a_front(tmp_path: Path):
    study = optuna.create_study(directions=["maximize", "minimize"])
    for number in range(4):
        trial = study.ask()
        study.tell(trial, [number / 4, trial.suggest_float("dropout", 0, 0.5)])
    text = written(tmp_path / "plots.html", study, "macro_f1", "latency_ms")
    for title in ("Pareto front", "History of macro-F1", "History of latency (ms)", "Importances for latency (ms)"):
        assert f"<h2>{title}" in text
    assert "Intermediate" not in text.split("</script>")[-1]
