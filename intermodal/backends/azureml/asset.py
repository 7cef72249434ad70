"""The launcher's code asset: the launcher and the modules of the engine that it shares, copied as they are.

What is copied uses Python 3.9's standard library and nothing else; a test holds it to that.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

SHARED = (
    "bounded.py",
    "conditions.py",
    "errors.py",
    "selectors.py",
    "words.py",
    "spec/custom_path.py",
    "spec/types.py",
    "spec/python_step.py",
    "spec/document.py",
    "spec/tasks.py",
    "spec/platform.py",
    "spec/validate.py",
    "spec/load.py",
    "engine/artifacts.py",
    "engine/decide.py",
    "engine/environment.py",
    "engine/failure.py",
    "engine/fields.py",
    "engine/harvest.py",
    "engine/naming.py",
    "engine/placeholders.py",
    "engine/resolve.py",
    "engine/states.py",
    "engine/uris.py",
    "engine/values.py",
    "engine/written.py",
    "backends/azureml/values.py",
)
"""Modules of intermodal that the launcher imports, beside its own folder."""

_START = '''"""Starts the launcher of a node."""

import sys

if sys.version_info < (3, 9):
    sys.exit("error: the launcher needs Python 3.9 or newer in the step's image; this is " + sys.version.split()[0])

from intermodal.backends.azureml.launcher.main import main

sys.exit(main())
'''


def launcher_files() -> dict[str, str]:
    """Return the asset's files: path in it -> content. The same for every pipeline of one version of intermodal."""
    root = Path(__file__).parents[2]
    own = sorted(path.relative_to(root).as_posix() for path in (root / "backends/azureml/launcher").glob("*.py"))
    files = {"launch.py": _START}
    for name in (*SHARED, *own):
        files[f"intermodal/{name}"] = (root / name).read_text(encoding="utf-8")
        for folder in Path(name).parents:
            files.setdefault(f"intermodal/{(folder / '__init__.py').as_posix()}", "")
    return dict(sorted(files.items()))


def asset_hash(files: dict[str, str]) -> str:
    """Return the sha256 (hex) that names the asset."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0{content}".encode())
    return digest.hexdigest()
