"""A tiny project with one step, whose lock is empty."""

from pathlib import Path

DOCKERFILE = """
FROM scratch AS builder
COPY components/__init__.py components/kfp_io.py /app/components/
COPY components/ner /app/components/ner
COPY components/echo /app/components/echo
FROM scratch
LABEL io.intermodal.component="components/echo" \\
      io.intermodal.lock="components/echo/requirements.txt"
COPY --from=builder components/other /app
"""


def make_project(root: Path) -> Path:
    """Write the project below `root` and return it; its step's image is `intermodal/echo:dev`."""
    for name, content in {
        "pyproject.toml": "",
        "images/echo/Dockerfile": DOCKERFILE,
        "components/__init__.py": "",
        "components/kfp_io.py": "",
        "components/ner/__init__.py": "",
        "components/echo/__init__.py": "",
        "components/echo/__main__.py": "import sys\nprint('echo', *sys.argv[1:])\n",
        "components/echo/requirements.txt": "",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root
