"""Images: the same content has the same identity, and what is missing is named before anything runs."""

from __future__ import annotations

import pytest

from intermodal.engine.backend import Image
from intermodal.errors import EnvironmentProblem
from intermodal.testing.attempts import Attempts
from intermodal.testing.conformance.base import Cases


class ImageCases(Cases):
    """Resolving images, and asking them."""

    def test_an_image_has_one_identity(self, attempts: Attempts, resolved: Image) -> None:
        again = attempts.backend.resolve_image(self.image)
        assert again.reference == self.image
        assert again.digest
        assert again.digest == resolved.digest
        assert attempts.backend.resolve_image(self.image) == again

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

    @pytest.mark.parametrize("words", [["no-such-program"], ["sh", "-c", "exit 3"]])
    def test_an_image_that_cannot_answer_is_named(self, attempts: Attempts, words: list[str]) -> None:
        with pytest.raises(EnvironmentProblem) as caught:
            attempts.backend.query(attempts.image, words)
        assert words[0] in caught.value.message
        assert "\n" not in caught.value.message
