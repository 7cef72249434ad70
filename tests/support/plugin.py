"""Packages as pip leaves them in a folder: a module and its `dist-info`, found by whoever has the folder on PYTHONPATH."""

from __future__ import annotations

from pathlib import Path


def install(folder: Path, package: str, module: str, entry_points: str, version: str = "1.0") -> None:
    """Install a package of one module, whose source is `module`; `entry_points` is the text of entry_points.txt."""
    name = package.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(module, encoding="utf-8")
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(entry_points, encoding="utf-8")
