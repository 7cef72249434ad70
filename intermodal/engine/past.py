"""An attempt of the record, to be looked at again (`shell`) or done again (`replay`): the launch as it was.

Nothing is resolved anew: image id, command, arguments, variables and mounts are those of the record. Secrets' values are not in
it; they are read from where they lie. Inputs are the same entries of the store.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from intermodal.engine.backend import Backend, Image, Launch, Limits, Mount, has_other_user
from intermodal.engine.database import Database
from intermodal.engine.environment import expand_variables
from intermodal.engine.layout import StateFolder
from intermodal.engine.platform import Extras, Provided
from intermodal.errors import BadInput, EnvironmentProblem


@dataclass(frozen=True)
class PastAttempt:
    """One attempt of a run as its record keeps it."""

    run: str
    path: str
    number: int
    component: str
    """Name of the task's component in the run's pipeline."""
    folder: Path
    failure: str | None
    """Class and message, None if it succeeded or has no end yet."""
    ended: bool
    extras: Extras
    deadline: float | None
    """Seconds that it could take, None for no limit."""
    document: Mapping[str, Any]
    """As `Attempt.describe` wrote it."""

    @property
    def image(self) -> Image:
        kept = self.document["image"]
        return Image(kept["reference"], kept["id"], kept["digest"])

    def check(self, backend: Backend, *, code: bool) -> None:
        """Raise EnvironmentProblem unless all that it had is still there: inputs, secrets, and the very image of then.

        Without images the step's code is the project's; `code` says whether it must be what it was.
        """
        inputs = [(source, f"was at {target}") for source, target, _ in self.document["mounts"]]
        inputs += [(folder, f"was at {target}") for folder, target in self.extras.folders]
        inputs += [(path, f"gave {variable}") for variable, path in self.extras.secret_env]
        for path, what in inputs:
            if not Path(path).exists():
                raise EnvironmentProblem(f"{self.path}: {path}, which {what}, is gone")
        for source, target, read_only in self.document["mounts"]:
            if not read_only and Path(source).resolve() != Path(source):
                raise EnvironmentProblem(
                    f"{self.path}: a step put a link in the place of {source}, which was at {target}"
                )
        image = self.image
        if backend.capabilities.needs_images:
            self._check_image(backend)
        elif Path(image.id).is_absolute() and not Path(image.id).exists():
            raise EnvironmentProblem(f"{self.path}: its environment {image.id} is gone")
        elif code and backend.resolve_image(image.reference).digest != self.document["image"]["base"]:
            raise EnvironmentProblem(f"{image.reference}: its code is not what it was when {self.path} ran")

    def _check_image(self, backend: Backend) -> None:
        image = self.image
        try:
            backend.resolve_image(image.id, "never")
        except EnvironmentProblem as error:
            hint = f"{image.reference} has to be built or pulled again with the same content, or the task run anew"
            with contextlib.suppress(EnvironmentProblem):
                now = backend.resolve_image(image.reference, "never").id
                hint = f"{image.reference} is another image now ({now[:19]}); run the task anew to use that one"
            raise EnvironmentProblem(f"image {image.reference} ({image.id[:19]}) is gone", hint=hint) from error

    def moved(self, run: str, folder: Path, backend: Backend) -> PastAttempt:
        """Return the first attempt of a task in another run and folder that is this one in all else.

        Without a container the step sees its folder where it is; then the old folder's path is replaced by the new one's
        wherever it stands.
        """
        old, new = (str(backend.step_root(place)) for place in (self.folder, folder))
        document = json.loads(json.dumps(self.document).replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1]))
        return replace(self, run=run, number=1, folder=folder, document=document)

    def provided(self, backend: Backend) -> Provided:
        """Return its secrets, config maps and scratch folders, to be provided again."""
        own_uid = not backend.capabilities.isolates_filesystem
        return Provided(
            self.extras, self.folder, own_uid=own_uid, any_uid=has_other_user(frozenset(self.document["relax"]))
        )

    def launch(self, provided: Provided) -> Launch:
        """Return how to start it, with what is provided again."""
        document = self.document
        declared = [(name, value) for name, value in document["declared"]]
        names = {name for name, _ in declared}
        plain = {name: value for name, value in document["env"].items() if value is not None and name not in names}
        mounts = [Mount(Path(source), PurePosixPath(target), read) for source, target, read in document["mounts"]]
        return Launch(
            run_id=self.run,
            task=self.path,
            attempt=self.number,
            image=self.image,
            command=tuple(document["command"]),
            args=tuple(document["args"]),
            env=expand_variables({**plain, **provided.env}, declared),
            mounts=(*mounts, *provided.mounts),
            attempt_dir=self.folder,
            log=self.folder / "log.txt",
            limits=Limits(**document["limits"]),
            network=document["network"],
            relax=frozenset(document["relax"]),
            labels=document["labels"],
        )


def find_attempt(database: Database, state: StateFolder, run: str, path: str, number: int | None = None) -> PastAttempt:
    """Return an attempt of a task (the last if `number` is None); of a cached task that of the run it came from.

    Raises BadInput if there is none, or if an older version made it, which kept too little.
    """
    rows = database.query("SELECT * FROM attempts WHERE run=? AND path=? ORDER BY number", (run, path))
    if not rows:
        task = database.query("SELECT state, cached_from FROM tasks WHERE run=? AND path=?", (run, path))
        if task and task[0]["cached_from"]:
            origin, _, there = task[0]["cached_from"].partition("/")
            if (origin, there) != (run, path):
                return find_attempt(database, state, origin, there, number)
        word = task[0]["state"].lower() if task else "unknown"
        raise BadInput(f"task {path} of run {run} started no attempt ({word})")
    chosen = [row for row in rows if number in (None, row["number"])]
    if not chosen:
        raise BadInput(f"task {path} of run {run} has no attempt {number}", hint=f"it has {len(rows)}")
    row = chosen[-1]
    document = json.loads(row["launch"]) if row["launch"] else {}
    if "declared" not in document:
        raise BadInput(f"task {path} of run {run}: an older version ran it and kept too little to do it again")
    component = database.query("SELECT component FROM tasks WHERE run=? AND path=?", (run, path))[0]["component"]
    return PastAttempt(
        run=run,
        path=path,
        number=row["number"],
        component=component,
        folder=state.attempt(run, path, row["number"]),
        failure=f"{row['failure_class']}: {row['failure']}" if row["failure_class"] else None,
        ended=row["ended"] is not None,
        extras=Extras.from_json(document["extras"]),
        deadline=document["deadline"],
        document=document,
    )
