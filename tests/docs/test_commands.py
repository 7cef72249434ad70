"""Every command of every page is proven: by a test that types it, by another that runs it, or there is a reason why none can."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from intermodal.cli.main import VERBS, make_parser
from tests.docs.blocks import ROOT, blocks, commands, is_commands, pages
from tests.docs.proofs import ELSEWHERE, FOLLOWED, NOT_HERE, TYPED

PROVEN = TYPED.keys() | ELSEWHERE.keys() | NOT_HERE.keys()
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
INLINE = re.compile(r"`((?:intermodal|make) [^`\n]+)`")
PAGES = pages()


def told(path: Path) -> list[str]:
    """Return the commands in blocks of a page."""
    return [command for block in blocks(path) if is_commands(block) for command in commands(block)]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_of_a_page_is_proven(page: Path):
    """A block without a language is for a shell; say ```text (or ```toml, ```python) of what is not."""
    if name(page) in FOLLOWED:
        assert any(is_commands(block) for block in blocks(page))
        return
    assert [command for command in told(page) if command not in PROVEN] == [], "tests/docs/proofs.py"


def test_no_proof_is_left_over_and_none_is_double():
    everywhere = {command for page in PAGES for command in told(page)}
    assert sorted(PROVEN - everywhere) == []
    assert len(PROVEN) == len(TYPED) + len(ELSEWHERE) + len(NOT_HERE)
    assert [page for page in FOLLOWED if not (ROOT / page).is_file()] == []


@pytest.mark.parametrize("command", ELSEWHERE)
def test_the_test_of_a_command_is_there_and_names_its_verb(command: str):
    path, _, function = ELSEWHERE[command].partition("::")
    text = (ROOT / path).read_text()
    functions = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    assert function in functions
    assert command.split()[1].removesuffix("s-push") in text or command.startswith("make pipeline-local")


def _options(command: str) -> list[str]:
    """Return what is wrong with a command of ours: its verb, its target, its options."""
    words = shlex.split(re.sub(r"<[^>]*>|\[job.yml \.\.\.\]", "X", command), comments=True)
    if words[0] == "make":
        goals = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        return [goal for goal in goals if goal not in TARGETS]
    if words[1] == "VERB" or words[1:] == ["--help"]:
        return []
    if words[1] not in VERBS:
        return [words[1]]
    parsers = [make_parser([words[1]])._subparsers._group_actions[0].choices[words[1]]]  # type: ignore[union-attr]
    known = {option for parser in parsers for action in parser._actions for option in action.option_strings}
    for action in parsers[0]._actions:
        for inner in (action.choices or {}).values() if isinstance(action.choices, dict) else ():
            known |= {option for more in inner._actions for option in more.option_strings}
    given = words[2 : words.index("--")] if "--" in words else words[2:]
    return [word for word in given if word.startswith("-") and word.partition("=")[0] not in known]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_of_ours_have_the_verbs_and_options_that_there_are(page: Path):
    """Those in the text too, which are there to be copied as well."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    parts = [part for line in told(page) for part in re.split(r" (?:&&|\|\|) ", line.replace(".venv/bin/", ""))]
    ours = [part for part in parts if part.startswith(("intermodal ", "make "))] + INLINE.findall(text)
    wrong = {command: found for command in ours if (found := _options(command))}
    assert wrong == {}


def test_what_is_wrong_with_a_command_is_noticed():
    assert _options("intermodal rum x.py") == ["rum"]
    assert _options("intermodal run x.py --argument a=b") == ["--argument"]
    assert _options("intermodal azureml emulate --faults FILE") == []
    assert _options("make pipeline-locale DATA=x") == ["pipeline-locale"]
