"""Images: the same content has the same identity, and what is missing is named before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from intermodal.engine.backend import Image, Packages, extended
from intermodal.errors import EnvironmentProblem
from intermodal.testing.attempts import Attempts
from intermodal.testing.conformance.base import Cases
from intermodal.testing.wheels import make_wheel, pack


class ImageCases(Cases):
    """Resolving images, and asking them."""

    def test_an_image_has_one_identity(self, attempts: Attempts, resolved: Image) -> None:
        again = attempts.backend.resolve_image(self.image)
        assert again.reference == self.image
        assert again.digest
        assert again.digest == resolved.digest
        assert attempts.backend.resolve_image(self.image) == again

    def test_an_image_that_is_here_is_known_without_fetching_it(self, attempts: Attempts, resolved: Image) -> None:
        here = attempts.backend.image_here(self.image, attempts.state)
        assert here is not None
        assert (here.reference, here.digest) == (resolved.reference, resolved.digest)
        assert attempts.backend.image_here(self.image, None) is not None

    def test_a_missing_image_is_not_here(self, attempts: Attempts) -> None:
        if not attempts.backend.capabilities.needs_images:
            pytest.skip("declares that it needs no images")
        try:
            assert attempts.backend.image_here(self.missing_image, attempts.state) is None
        except EnvironmentProblem as error:  # one that can never be had is refused
            assert self.missing_image in error.message

    def test_a_missing_image_is_named_where_images_are_needed(self, attempts: Attempts) -> None:
        if not attempts.backend.capabilities.needs_images:
            pytest.skip("declares that it needs no images")
        with pytest.raises(EnvironmentProblem) as caught:
            attempts.backend.resolve_image(self.missing_image)
        assert self.missing_image in caught.value.message
        assert "\n" not in caught.value.message

    def test_an_image_answers(self, attempts: Attempts) -> None:
        answer = attempts.backend.query(attempts.image, [self.python, "-c", "print('a b', end='')"])
        assert answer == "a b"

    def test_packages_are_installed_or_refused(self, attempts: Attempts, tmp_path: Path) -> None:
        wheel = make_wheel(tmp_path, "conformance-added", "1.0", {"conformance_added.py": "V = 7"})
        packages = Packages((wheel,), pack(tmp_path, "pip"))
        try:
            image = attempts.backend.install(attempts.image, packages)
        except EnvironmentProblem as problem:
            assert attempts.image.reference in problem.message
            pytest.skip("says that it installs no packages")
        assert (image.reference, image.digest) == (attempts.image.reference, extended(attempts.image, packages))
        assert attempts.backend.install(attempts.image, packages) == image
        program = "import conformance_added as a; from importlib.metadata import version; print(a.V, version('conformance-added'))"
        launch = attempts.launch(self.python, "-c", program, image=image)
        assert attempts.run(launch).failure is None, launch.log.read_text()
        assert launch.log.read_text() == "7 1.0\n"
        without = attempts.launch(self.python, "-c", "import conformance_added", image=attempts.image)
        assert attempts.run(without).failure is not None

    @pytest.mark.parametrize("words", [["no-such-program"], ["sh", "-c", "exit 3"]])
    def test_an_image_that_cannot_answer_is_named(self, attempts: Attempts, words: list[str]) -> None:
        with pytest.raises(EnvironmentProblem) as caught:
            attempts.backend.query(attempts.image, words)
        assert words[0] in caught.value.message
        assert "\n" not in caught.value.message
