"""The report of a run in a real browser: what it shows, and that nothing in it loads or runs what it must not."""

import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from kfp import compiler, dsl

from intermodal.engine.backend import Launch
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.options import Options
from intermodal.engine.session import Request, Session
from intermodal.report import write_report
from intermodal.settings import Settings
from intermodal.spec.load import load_pipeline
from intermodal.testing import NullBackend
from tests.conftest import Ran, Recorder, Run
from tests.engine.steps import join, make, say, shell
from tests.support.browser import Browser

pytestmark = pytest.mark.browser

HOSTILE = "<script>document.title='hacked'</script>\"><img src=x onerror=\"document.title='hacked'\">'`${x}"
PAGE = """<!doctype html><h1>step page</h1><p id=out>static</p>\r
<script>
let said = 'drawn';
try { parent.document.title = 'hacked'; said += ', not alone' } catch (error) { said += ', alone' }
let times = 0; const telling = setInterval(() => { parent.postMessage(said, '*'); if (++times > 200) clearInterval(telling) }, 50);
</script>
"""
REACHING = """<!doctype html><link rel=stylesheet href="{place}/style.css"><img src="{place}/pixel.png">
<script src="{place}/evil.js"></script><iframe src="{place}/frame"></iframe><form action="{place}/form" id=f></form>
<script>fetch('{place}/fetch').catch(() => {}); new Image().src = '{place}/image'; navigator.sendBeacon('{place}/beacon');
document.getElementById('f').submit(); try { top.location.href = '{place}/top' } catch (e) {} location.href = '{place}/leave'</script>
"""
MARKDOWN = (
    "# Findings\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n{hostile}\n\n[bad](javascript:alert(1)) ![p]({place}/p.png)\n"
)
CONFUSION = {
    "annotationSpecs": [{"displayName": "cat"}, {"displayName": HOSTILE}],
    "rows": [{"row": [9, 1]}, {"row": [3, 7]}],
}
ROC = [
    {"confidenceThreshold": t, "recall": r, "falsePositiveRate": f}
    for t, r, f in ((0.9, 0.0, 0.0), (0.5, 0.8, 0.2), (0.1, 1.0, 1.0))
]


@dsl.container_component
def measure(
    report: str,
    page: str,
    text: str,
    metrics: dsl.Output[dsl.Metrics],
    quality: dsl.Output[dsl.ClassificationMetrics],
    html: dsl.Output[dsl.HTML],
    notes: dsl.Output[dsl.Markdown],
):
    return dsl.ContainerSpec(
        image="shell",
        command=["sh", "-c", 'printf %s "$1" > "$4"; printf %s "$2" > "$5"; printf %s "$3" > "$6"', "sh"],
        args=[report, page, text, "{{$.outputs.output_file}}", html.path, notes.path],
    )


def reported(**metrics: object) -> str:
    return json.dumps(
        {
            "artifacts": {
                "metrics": {"artifacts": [{"name": "metrics", "metadata": metrics}]},
                "quality": {
                    "artifacts": [
                        {"name": "quality", "metadata": {"confusionMatrix": CONFUSION, "confidenceMetrics": ROC}}
                    ]
                },
            }
        }
    )


@dsl.container_component
def check(item: str, text: str, out: dsl.OutputPath(str)):
    script = 'for i in $(seq 200); do echo "line $i"; done; echo "$2"; printf x > "$3"; test "$1" != b || exit 3'
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", script, "sh"], args=[item, text, out])


@dsl.pipeline(name="kitchen-sink")
def everything(report: str, page: str, notes: str, hostile: str, counter: str) -> dsl.Markdown:
    first = say(text=hostile)
    measured = measure(report=report, page=page, text=notes).after(first, make(text="x"))
    with dsl.ParallelFor(["a", "b", "c"]) as item:
        check(item=join(left=item, right="").outputs["out"], text=hostile)
        check(item=item, text=hostile)
    tries = f'printf x >> {counter}; sleep 0.2; test $(wc -c < {counter}) -ge 2; printf x > "$1"'
    retried = shell(script="set -e; " + tries).after(measured).set_retry(2, backoff_duration="0s")
    bad = shell(script="exit 7").after(retried)
    join(left=bad.outputs["out"], right="never")
    with dsl.If(first.outputs["out"] == "other"):
        say(text="not taken")
    return measured.outputs["notes"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


class Listener(ThreadingHTTPServer):
    """A web server of this machine that counts who asks it anything."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked: list[str] = []
        self.place = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    yield server
    server.shutdown()
    server.server_close()


def arguments(place: str, page: str = PAGE) -> dict[str, str]:
    notes = MARKDOWN.replace("{place}", place).replace("{hostile}", HOSTILE)
    page = page.replace("{place}", place)
    return {"report": reported(f1=0.87654321, **{HOSTILE: 3}), "page": page, "notes": notes, "hostile": HOSTILE}


@pytest.fixture
def ran(run: Run, tmp_path: Path, listener: Listener) -> Ran:
    """A run of everything, some of it from the cache."""
    given = arguments(listener.place)
    run(everything, counter=str(tmp_path / "count"), **given)
    return run(everything, counter=str(tmp_path / "again"), **given)


def report_of(ran: Ran) -> Path:
    database = Database(ran.state / "intermodal.db")
    try:
        return write_report(database, StateFolder(ran.state), ran.result.run_id)
    finally:
        database.close()


def texts(browser: Browser, selector: str) -> list[str]:
    found = browser.value(f"Array.from(document.querySelectorAll({json.dumps(selector)})).map((e) => e.textContent)")
    assert isinstance(found, list)
    return found


def test_the_page_shows_the_whole_run(ran: Ran, browser: Browser):
    page = report_of(ran)
    browser.open(page)
    assert browser.value("document.title") == f"kitchen-sink failed · {ran.result.run_id}"
    assert texts(browser, "nav a") == [
        "What failed", "Results", "Graph", "Timeline", "Metrics", "Artifacts", "Tasks", "Configuration", "Identity",
    ]  # fmt: skip

    names = texts(browser, "#graph .name")
    loop = next(name for name in names if name.startswith("for-loop"))
    branch = next(name for name in names if name.startswith("condition"))
    assert sorted(names) == sorted(
        ["say", "make", "measure", loop, "join", "check", "check-2", "shell", "shell-2", "join-2", branch, "say-2"]
    )
    shown = dict(zip(names, texts(browser, "#graph .detail"), strict=True))
    assert shown["say"] == "↺ cached" and shown["say-2"] == "not reached" and shown["join-2"] == "– skipped"
    assert shown["check-2"] == "1✗ 2↺" and shown[loop].startswith("loop ×3 · ✗") and shown["shell"].startswith("✓")
    assert len(texts(browser, "#graph .edge")) == 7
    assert browser.value("document.querySelector('#graph svg').getBoundingClientRect().height") > 200

    labels = texts(browser, "#timeline a.label")
    assert sorted(labels) == sorted(
        path for path, task in ran.tasks().items() if task["component"] != f"comp-{loop}" and path != branch
    )
    bars = browser.value(
        "Array.from(document.querySelectorAll('#timeline .bar')).map((bar) => [bar.parentNode.parentNode.querySelector"
        "('.label').title, bar.className, bar.getBoundingClientRect().width])"
    )
    assert [bar[:2] for bar in bars if bar[0] == "shell"] == [["shell", "bar s-failed"], ["shell", "bar s-succeeded"]]
    assert all(width >= 3 for _, _, width in bars) and {bar[0] for bar in bars} == {
        "shell",
        "shell-2",
        f"{loop}/1/check-2",
    }

    failures = texts(browser, "#failures article")
    assert len(failures) == 2 and "exit code 7" in failures[1] + failures[0]
    tail = next(text for text in failures if "exit code 3" in text)
    assert "line 200" in tail and HOSTILE in tail and "line 100\n" not in tail
    assert f"intermodal shell {ran.result.run_id}/{loop}/1/check-2" in tail

    assert dict(zip(texts(browser, "#metrics th"), texts(browser, "#metrics td"), strict=True)) == {
        HOSTILE: "3",
        "f1": "0.87654",
    }
    assert texts(browser, ".confusion td") == ["9", "1", "3", "7"]
    assert texts(browser, ".roc .value") == ["area 0.8000"]
    assert texts(browser, "#results .markdown td") == ["1", "2"]
    assert HOSTILE in "".join(texts(browser, "#configuration td"))
    assert ran.tasks()["say"]["fingerprint"] in "".join(texts(browser, "#tasks"))
    assert ran.result.run_id in texts(browser, "#identity td")


def test_nothing_loads_and_nothing_of_others_runs(ran: Ran, browser: Browser, listener: Listener):
    page = report_of(ran)
    browser.open(page)
    said = browser.value(
        "new Promise((tell) => addEventListener('message', (event) => tell([event.data, event.origin])))"
    )
    assert said == ["drawn, alone", "null"]  # the step's page drew itself, and could not reach the report
    assert "hacked" not in browser.value("document.title")
    assert browser.value("document.querySelectorAll('main img, main script').length") == 0
    assert browser.value("Array.from(document.links).filter((link) => link.protocol === 'javascript:').length") == 0
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]
    assert listener.asked == []
    policy = browser.value("document.querySelector('meta[http-equiv=Content-Security-Policy]').content")
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "script-src 'unsafe" not in policy


def test_a_page_of_a_step_reaches_nothing_and_nobody(run: Run, tmp_path: Path, browser: Browser, listener: Listener):
    ran = run(everything, counter=str(tmp_path / "count"), **arguments(listener.place, REACHING))
    page = report_of(ran)
    browser.open(page)
    time.sleep(1)
    assert browser.value("location.href") == page.as_uri()
    assert listener.asked == []
    assert len(browser.complaints) >= 1  # the policy said no, aloud
    listener.asked.clear()
    browser.value(f"fetch('{listener.place}/mine').then(() => 'reached', () => 'refused')")
    assert listener.asked == []  # the policy holds for the page itself too


def test_it_can_be_read_by_day_and_by_night_and_on_a_small_screen(ran: Ran, browser: Browser):
    page = report_of(ran)
    shades = {}
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        browser.open(page)
        colours = browser.value("['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])")
        shades[scheme] = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in colours]
    assert shades["light"][0] > 200 > 80 > shades["light"][1]
    assert shades["dark"][0] < 80 < 200 < shades["dark"][1]
    browser.resize(390, 800)
    try:
        browser.open(page)
        assert browser.value("document.documentElement.scrollWidth") <= 390
    finally:
        browser.resize(1280, 900)
        browser.scheme("light")


def test_tasks_can_be_found_and_opened(ran: Ran, browser: Browser):
    browser.open(report_of(ran))
    find = "(words) => { const box = document.getElementById('filter'); box.value = words; box.dispatchEvent(new Event('input'));"
    find += (
        " return Array.from(document.querySelectorAll('#task-list > details')).filter((task) => !task.hidden).length }"
    )
    everything_ = browser.value(f"({find})('')")
    assert everything_ == len(ran.tasks())
    assert browser.value(f"({find})('✗ shell')") == 1
    assert browser.value(f"({find})('nothing like it')") == 0
    link = "Array.from(document.querySelectorAll('#graph a')).find((link) => link.textContent.includes('measure'))"
    browser.value(f"{link}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
    time.sleep(0.3)
    opened = texts(browser, "#task-list > details[open] .path")
    assert len(opened) == 1
    detail = texts(browser, "#task-list > details[open] .pairs th")
    assert "fingerprint" in detail


def test_a_thousand_tasks_are_no_burden(tmp_path: Path, browser: Browser):
    @dsl.container_component
    def work(item: str, out: dsl.OutputPath(str)):
        return dsl.ContainerSpec(image="x", command=["do", "something", "with", "words"], args=[item, out])

    @dsl.pipeline(name="wide")
    def pipeline(items: list):
        with dsl.ParallelFor(items) as item:
            work(item=item)
        for _ in range(150):
            work(item="1")

    def behave(launch: Launch) -> int:
        (launch.attempt_dir / "outputs" / "parameters" / "out").write_text("x" * 200)
        return int("for-loop" in launch.task and launch.task.split("/")[1].endswith("00"))

    path = tmp_path / "wide.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    with Session(tmp_path / "state", NullBackend(behave), Settings(), Options(cache=False, slots=64)) as session:
        runner = session.runner(Request(load_pipeline(path), {"items": list(range(1000))}), Recorder())
        session.execute(runner)
    state = StateFolder(tmp_path / "state")
    database = Database(state.database)
    began = time.monotonic()
    page = write_report(database, state, runner.run_id, runner.graph.pipeline)
    took = time.monotonic() - began
    database.close()
    assert page.stat().st_size < 5_000_000 and took < 20
    began = time.monotonic()
    browser.open(page)
    assert time.monotonic() - began < 20
    assert "9✗ 991✓" in "".join(texts(browser, "#graph .detail"))
    assert len(texts(browser, "#graph .node")) == 151
    assert len(texts(browser, "#timeline .bar")) == 1150
    assert len(texts(browser, "#failures article")) == 9
    assert browser.complaints == []
