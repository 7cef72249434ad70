"""What a step is given: arguments and environment, to the byte."""

from __future__ import annotations

import json
import os

import pytest

from intermodal.testing.attempts import Attempts
from intermodal.testing.conformance.base import Cases

_ODD = ["$(id)", "a b", "'\"", ";", "", "{{$.inputs}}", "-rf", "ü\n", "%s", "\\n", "*", "$HOME"]


class ValueCases(Cases):
    """No value passes through a shell, none is added, none is lost."""

    def test_arguments_are_passed_as_they_are(self, attempts: Attempts) -> None:
        launch = attempts.code("import json, sys; print(json.dumps(sys.argv[1:]))", args=tuple(_ODD))
        assert attempts.run(launch).failure is None
        assert json.loads(launch.log.read_bytes()) == _ODD

    def test_without_a_command_the_arguments_are_run(self, attempts: Attempts) -> None:
        launch = attempts.launch(args=("sh", "-c", "echo from args"))
        assert attempts.run(launch).failure is None
        assert launch.log.read_bytes() == b"from args\n"

    def test_the_environment_is_passed_as_it_is(self, attempts: Attempts) -> None:
        given = {f"VALUE_{index}": value for index, value in enumerate(_ODD)}
        given |= {"with.dot": "1", "EQUALS": "a=b=c", "LANG": "C.UTF-8"}
        launch = attempts.code("import json, os; print(json.dumps(dict(os.environ)))", env=given)
        assert attempts.run(launch).failure is None
        seen = json.loads(launch.log.read_bytes())
        assert {name: seen.get(name) for name in given} == given
        assert seen["STEP"] == launch.env["STEP"]

    def test_nothing_of_the_callers_environment_is_passed(
        self, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("INTERMODAL_CONFORMANCE_SECRET", "x")
        launch = attempts.code("import json, os; print(json.dumps(dict(os.environ)))")
        assert attempts.run(launch).failure is None
        seen = json.loads(launch.log.read_bytes())
        assert "INTERMODAL_CONFORMANCE_SECRET" not in seen
        assert seen["HOME"] != os.environ.get("HOME")

    def test_home_and_the_folder_for_temporary_files_can_be_written(self, attempts: Attempts) -> None:
        source = "import os, tempfile; tempfile.TemporaryFile(); open(os.path.expanduser('~/x'), 'w').write('x')"
        launch = attempts.code(source)
        assert attempts.run(launch).failure is None, launch.log.read_text()

    def test_nothing_comes_from_standard_input(self, attempts: Attempts) -> None:
        launch = attempts.code("import sys; print(repr(sys.stdin.read()) if sys.stdin else repr(''))")
        assert attempts.run(launch).failure is None
        assert launch.log.read_bytes() == b"''\n"
