"""The arguments of a pipeline: checked, typed, and files and folders named by their content."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.engine.failure import no_space
from intermodal.engine.store import BadContent
from intermodal.engine.values import coerce, parse_argument
from intermodal.errors import BadInput
from intermodal.spec.types import ArtifactType, InputParameter, Pipeline


@dataclass(frozen=True)
class GivenArtifact:
    """An artifact argument that is more than a path: `path` may be None for one that lives elsewhere."""

    path: Path | None
    uri: str
    metadata: Mapping[str, Any]


def read_arguments(
    pipeline: Pipeline, given: Mapping[str, Any], ingest: Callable[[Path], str], *, parse: bool
) -> Inputs:
    """Return the pipeline's inputs. An artifact argument is a path, or a GivenArtifact; `ingest` returns the digest of a path's content.

    `parse`: values are text from a command line. A null is left out. Raises BadInput naming the argument.
    """
    root = pipeline.root
    parameters: dict[str, Any] = {}
    artifacts: dict[str, tuple[Artifact, ...]] = {}
    for name, value in given.items():
        if name in root.input_parameters:
            if value is not None:
                parameters[name] = _parameter(name, value, root.input_parameters[name], parse)
        elif name in root.input_artifacts:
            if value is not None and value != "":
                artifacts[name] = (_artifact(name, value, root.input_artifacts[name].type, ingest),)
        else:
            raise _unknown(name, pipeline)
    return Inputs(parameters, artifacts)


def _parameter(name: str, value: Any, declared: InputParameter, parse: bool) -> Any:
    place = f"argument {name}"
    return parse_argument(value, declared, place) if parse else coerce(value, declared.type, place)


def _artifact(name: str, value: Any, kind: ArtifactType, ingest: Callable[[Path], str]) -> Artifact:
    if not isinstance(value, GivenArtifact):
        return Artifact(name, kind, digest=_content(name, value, ingest))
    if value.path is None:
        return Artifact(name, kind, uri=value.uri, metadata=value.metadata)
    return Artifact(name, kind, digest=_content(name, value.path, ingest), metadata=value.metadata)


def _content(name: str, value: Any, ingest: Callable[[Path], str]) -> str:
    path = Path(str(value)).expanduser()
    try:
        return ingest(
            path.resolve()
        )  # what the user names may be a link, as the outputs of a run are; nothing in it may
    except FileNotFoundError as error:
        raise BadInput(f"argument {name}: {path} does not exist", hint="give the path of a file or folder") from error
    except BadContent as error:
        raise BadInput(f"argument {name}: {path} {error}") from error
    except OSError as error:
        if no_space(error):
            raise
        raise BadInput(f"argument {name}: {path}: {error.strerror}") from error


def _unknown(name: str, pipeline: Pipeline) -> BadInput:
    known = sorted([*pipeline.root.input_parameters, *pipeline.root.input_artifacts])
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known) or 'none'}"
    return BadInput(f"pipeline {pipeline.name} has no argument {name!r}", hint=hint)
