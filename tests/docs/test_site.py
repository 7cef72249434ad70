"""The site: `make docs` builds it strictly, it loads nothing from elsewhere, and its reference says what the code says."""

from __future__ import annotations

import re
import subprocess
from html import unescape
from pathlib import Path

import pytest

import intermodal
from intermodal import jobs
from intermodal.backends.azureml.settings import AzureMLSettings
from intermodal.cli.main import VERBS, make_parser
from intermodal.errors import ExitCode
from intermodal.settings import Settings
from pipelines.experiment import Experiment

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?([^"'\s>]+)|<link[^>]*\shref=["']?([^"'\s>]+)""")


@pytest.fixture(scope="module")
def site() -> Path:
    done = subprocess.run(
        ["make", "--no-print-directory", "docs"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.splitlines()[-1]).parent


def words(page: Path) -> str:
    """Return what a reader sees of a page."""
    return unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_it_loads_nothing_from_elsewhere(site: Path):
    loaded = [a or b for page in site.rglob("*.html") for a, b in LOADED.findall(page.read_text())]
    assert len(loaded) > 100
    assert [address for address in loaded if "//" in address] == []
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", styles)
    assert "fingerprint" in (site / "search/search_index.json").read_text()


def test_the_command_is_there_with_every_option(site: Path):
    page = words(site / "reference/command.html")
    verbs = make_parser(VERBS)._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert set(verbs) == set(VERBS)
    options = {option for verb in verbs.values() for action in verb._actions for option in action.option_strings}
    assert len(options) > 40
    assert [option for option in options if option not in page] == []
    assert [code for code in ExitCode if code.name not in page] == []
    assert str(Path.home()) not in page and str(ROOT) not in page


def test_settings_and_experiments_are_there_with_every_key_and_its_meaning(site: Path):
    settings, experiment = words(site / "reference/settings.html"), words(site / "reference/experiment.html")
    assert [key for key in [*Settings.model_fields, *AzureMLSettings.model_fields] if key not in settings] == []
    assert "seconds that one attempt may take" in settings
    assert [key for key in Experiment.model_fields if key not in experiment] == []
    assert "# a label schema; empty takes what the training data has" in experiment


def test_python_is_there_by_its_docstrings(site: Path):
    pages = (site / "reference/python.html").read_text() + (site / "reference/jobs.html").read_text()
    public = {getattr(intermodal, name) for name in intermodal.__all__ if name not in ("run", "__version__")}
    public |= {getattr(jobs, name) for name in jobs.__all__}
    assert [thing for thing in public if f'id="{thing.__module__}.{thing.__qualname__}"' not in pages] == []
    python = words(site / "reference/python.html")
    assert "start nothing more once a task failed" in python  # of `start`


def test_a_link_to_a_heading_that_is_not_there_fails_the_build(site: Path, tmp_path: Path):
    """What `make docs` leans on: MkDocs counts a link to a heading that is not there, and ends with 1."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.md").write_text("# One\n\n[two](#two)\n")
    settings = (ROOT / "mkdocs.yml").read_text().partition("nav:")[0]
    settings = settings.replace("dist/docs", str(pages)).replace("dist/site", str(tmp_path / "site"))
    (tmp_path / "mkdocs.yml").write_text(settings)
    done = subprocess.run(
        [ROOT / ".intermodal/tools/docs/bin/python", "-m", "mkdocs", "build", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "#two" in done.stderr
