"""What CI systems and shells ask of the command: JUnit reports, completion."""

import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from kfp import dsl

from intermodal.cli.main import VERBS
from tests.engine.steps import say, shell
from tests.support.typed import Command


@dsl.pipeline(name="mixed")
def mixed(word: str = "a"):
    say(text="fine")
    bad = shell(script='printf "one\\ntwo \\033[31m <&> \\0 end\\n"; exit 3')
    shell(script="true").after(bad)
    with dsl.If(word == "b"):
        say(text="never")
    with dsl.ParallelFor(["x", "y"]) as item:
        say(text=item)


def test_a_junit_report_has_a_case_for_each_task(intermodal: Command):
    path = intermodal.write(mixed)
    done = intermodal("run", path, "--junit", "out/junit.xml")
    assert done.returncode == 1
    suites = ElementTree.parse(intermodal.folder / "out" / "junit.xml").getroot()
    [suite] = suites
    assert (suite.attrib["name"], suite.attrib["tests"], suite.attrib["failures"]) == ("mixed", "6", "1")
    cases = {case.attrib["name"]: case for case in suite}
    assert sorted(cases) == ["condition-1", "for-loop-3/0/say-3", "for-loop-3/1/say-3", "say", "shell", "shell-2"]
    [failure] = cases["shell"]
    assert failure.attrib["type"] == "user_code" and "exit" in failure.attrib["message"]
    assert "two" in failure.text and "<&>" in failure.text
    assert [child.tag for child in cases["shell-2"]] == [child.tag for child in cases["condition-1"]] == ["skipped"]
    assert suite.attrib["skipped"] == "2" and list(cases["say"]) == []
    intermodal.ok("show", "--junit", "again.xml")
    again = ElementTree.parse(intermodal.folder / "again.xml").getroot()
    assert [case.attrib["name"] for case in again[0]] == [case.attrib["name"] for case in suite]


def test_a_cached_task_has_taken_no_time(intermodal: Command):
    @dsl.pipeline(name="one")
    def one():
        say(text="fine")

    path = intermodal.write(one)
    intermodal.ok("run", path)
    intermodal.ok("run", path, "--junit", "junit.xml")
    [suite] = ElementTree.parse(intermodal.folder / "junit.xml").getroot()
    assert [case.attrib["time"] for case in suite] == ["0.000"]


def test_bash_completes_verbs_and_their_options(intermodal: Command, tmp_path: Path):
    script = tmp_path / "completion.sh"
    script.write_text(intermodal.ok("completion", "bash"))

    def complete(*words: str) -> list[str]:
        line = " ".join(f"'{word}'" for word in words)
        program = (
            f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
            "_shtab_intermodal; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert set(VERBS) <= set(complete("intermodal", ""))
    assert complete("intermodal", "resu") == ["resume"]
    assert "--junit" in complete("intermodal", "run", "--j")
    assert "_shtab_intermodal" in intermodal.ok("completion", "zsh")
