"""Lightweight Python components that choose the path of an artifact (`set_path`).

Such a path is known when the step runs and not before, and what it wrote elsewhere is gone with its container. On a cluster the KFP
launcher, which runs in the same container, uploads from there; here the component's own source is told to copy it to the outputs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_KEEP = """


def _keep_custom_paths():
    import atexit, json, os, shutil, sys

    def keep():
        given = json.loads(sys.argv[sys.argv.index("--executor_input") + 1])
        report = given["outputs"]["outputFile"]
        if not os.path.exists(report):
            return
        with open(report) as stream:
            document = json.load(stream)
        home = os.path.dirname(report)
        for name, entry in document.get("artifacts", {}).items():
            for index, one in enumerate(entry.get("artifacts", [])):
                path = one.get("custom_path") or ""
                if os.path.exists(path) and not path.startswith(home + "/"):
                    one["custom_path"] = os.path.join(home, "artifacts", "custom-%d-%s" % (index, name))
                    (shutil.copytree if os.path.isdir(path) else shutil.copyfile)(path, one["custom_path"])
        with open(report, "w") as stream:
            json.dump(document, stream)

    atexit.register(keep)


_keep_custom_paths()
"""


def keep_custom_paths(command: Sequence[str]) -> tuple[str, ...]:
    """Return the command of a component; if its source chooses paths, what is there at its end is copied to the outputs."""
    if not command or not re.search(r"set_path\(|custom_path", command[-1]):
        return tuple(command)
    return (*command[:-1], command[-1] + _KEEP)
