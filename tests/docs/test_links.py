"""The pages are all found: links lead to what is there, and the navigation names every page."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from docs.build.pages import BrokenLink, Page, find_pages, relink
from docs.build.reference import reference_pages

ROOT = Path(__file__).parents[2]
PAGES = find_pages(ROOT)
PLACES = {page.source: page.place for page in PAGES}


def _named(nav: object) -> list[str]:
    if isinstance(nav, dict):
        return [place for inner in nav.values() for place in _named(inner)]
    return [place for inner in nav for place in _named(inner)] if isinstance(nav, list) else [str(nav)]


def test_the_navigation_of_mkdocs_yml_names_every_page_once():
    named = _named(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(named) == sorted([*PLACES.values(), *reference_pages()])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.place)
def test_every_link_leads_to_what_is_there(page: Page):
    relink(page, page.source.read_text(), ROOT, PLACES)


def test_links_hold_in_the_site_and_what_it_does_not_hold_becomes_text():
    readme = Page(ROOT / "README.md", "index.md")
    step = Page(ROOT / "components/dataset/README.md", "steps/dataset.md")
    text = "[a](docs/azureml.md#settings) [b](docs/decisions) [c](components/kfp_io.py) [d](https://example.org)\n"
    assert relink(readme, text, ROOT, PLACES) == (
        "[a](azureml.md#settings) [b](decisions/index.md) c [d](https://example.org)\n"
    )
    assert relink(step, "[a](../../docs/cli.md)\n", ROOT, PLACES) == "[a](../cli.md)\n"
    code = "    [a](nothing.md)\n```text\n[a](nothing.md)\n```\n"
    assert relink(readme, code, ROOT, PLACES) == code
    with pytest.raises(BrokenLink, match=r"README\.md: docs/nothing\.md is not there"):
        relink(readme, "[a](docs/nothing.md)\n", ROOT, PLACES)
