"""The conformance cases find what is wrong: each backend here breaks one promise, and a case says so."""

import os
import subprocess
from dataclasses import replace

import pytest

from intermodal.engine.backend import Backend, Exit, Image
from intermodal.errors import EnvironmentProblem
from intermodal.testing import HostBackend

pytest_plugins = ["pytester"]


class Green(HostBackend):
    """Takes every end for a success."""

    def wait(self, handle, launch, on_line=None):
        super().wait(handle, launch, on_line)
        return Exit(0, None, 1.0)


class Truncated(HostBackend):
    """Returns before all of the log is there."""

    def wait(self, handle, launch, on_line=None):
        ended = super().wait(handle, launch, on_line)
        launch.log.write_bytes(launch.log.read_bytes()[: 2**19])
        return ended


class Text(HostBackend):
    """Takes output for text."""

    def wait(self, handle, launch, on_line=None):
        ended = super().wait(handle, launch, on_line)
        launch.log.write_text(launch.log.read_bytes().decode("utf-8", "replace"))
        return ended


class Endless(HostBackend):
    """Keeps no cap."""

    def wait(self, handle, launch, on_line=None):
        return super().wait(handle, replace(launch, log_cap=2**40), on_line)


class Shell(HostBackend):
    """Passes arguments through a shell."""

    def start(self, launch):
        words = " ".join([*launch.command[:-1], f"'{launch.command[-1]}'" if launch.command else "", *launch.args])
        return super().start(replace(launch, command=("sh", "-c", words), args=()))


class Leaking(HostBackend):
    """Passes the caller's environment on."""

    def start(self, launch):
        return super().start(replace(launch, env={**os.environ, **launch.env}))


class Abrupt(HostBackend):
    """Gives no grace."""

    def stop(self, handle, grace):
        super().stop(handle, 0)


class Greedy(HostBackend):
    """Cleans up what is not its run's."""

    def cleanup(self, run_id):
        return sum(super(Greedy, self).cleanup(run) for run in {step.run for step in self._steps.values()})


class Forgetful(HostBackend):
    """Claims that attempts outlive it."""

    capabilities = replace(HostBackend.capabilities, detached=True)


class Open(HostBackend):
    """Claims to isolate the network and files."""

    capabilities = replace(HostBackend.capabilities, isolates_network=True, isolates_filesystem=True)


class Boundless(HostBackend):
    """Claims to hold limits."""

    capabilities = replace(HostBackend.capabilities, enforces_cpu=True, enforces_memory=True)


class Silent(HostBackend):
    """Does not say what it does not isolate."""

    capabilities = replace(HostBackend.capabilities, notes=())


class Fickle(HostBackend):
    """Gives the same image another identity each time."""

    def resolve_image(self, reference, pull="missing"):
        return Image(reference, reference, os.urandom(8).hex())


class Credulous(HostBackend):
    """Takes an image that is not there."""

    capabilities = replace(HostBackend.capabilities, needs_images=True)


class Mute(HostBackend):
    """Does not notice that an image cannot answer."""

    def query(self, image, command):
        try:
            return subprocess.run(command, capture_output=True, text=True).stdout
        except OSError as error:
            raise EnvironmentProblem(str(error)) from error


BROKEN: dict[type[Backend], list[str]] = {
    Green: ["test_another_exit_code_is_the_steps_own_failure[7]", "test_a_fast_failure_is_never_green"],
    Truncated: ["test_the_log_of_a_fast_end_is_whole_and_in_order[1048576]"],
    Text: ["test_bytes_are_kept_as_they_are"],
    Endless: ["test_a_flood_is_bounded_and_keeps_its_head_and_its_tail"],
    Shell: ["test_arguments_are_passed_as_they_are"],
    Leaking: ["test_nothing_of_the_callers_environment_is_passed"],
    Abrupt: ["test_a_step_may_end_by_itself"],
    Greedy: ["test_cleanup_removes_what_is_left_of_the_run_and_nothing_else"],
    Forgetful: ["test_a_new_runner_adopts_a_running_attempt"],
    Open: [
        "test_no_network_is_reached_where_it_is_isolated",
        "test_inputs_cannot_be_written_where_files_are_isolated",
        "test_nothing_else_of_the_machine_is_seen_where_files_are_isolated",
    ],
    Boundless: ["test_out_of_memory_is_named_where_a_limit_holds[step]"],
    Silent: ["test_what_is_not_isolated_is_said"],
    Fickle: ["test_an_image_has_one_identity", "test_an_image_that_is_here_is_known_without_fetching_it"],
    Credulous: ["test_a_missing_image_is_named_where_images_are_needed", "test_a_missing_image_is_not_here"],
    Mute: ["test_an_image_that_cannot_answer_is_named[words1]"],
}


@pytest.mark.parametrize("backend", BROKEN, ids=lambda backend: backend.__name__)
def test_a_broken_promise_is_found(pytester: pytest.Pytester, backend: type[Backend]):
    cases = BROKEN[backend]
    pytester.makepyfile(
        f"""
        from intermodal.testing.conformance import BackendConformance
        from {__name__} import {backend.__name__}

        class TestBroken(BackendConformance):
            image = "any"

            def make_backend(self, state):
                return {backend.__name__}()
        """
    )
    places = [f"{pytester.path / 'test_a_broken_promise_is_found.py'}::TestBroken::{case}" for case in cases]
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", *places)
    result.assert_outcomes(failed=len(cases))
