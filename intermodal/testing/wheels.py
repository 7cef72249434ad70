"""Small real wheels, made on the spot and without a network."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path

from intermodal.engine.backend import Wheel


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, str],
    *,
    requires: Sequence[str] = (),
    scripts: Mapping[str, str] | None = None,
    tag: str = "py3-none-any",
) -> Wheel:
    """Write a wheel with `files`; `scripts` are console scripts, name -> `module:function`."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    entries = "".join(f"{script} = {target}\n" for script, target in (scripts or {}).items())
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {need}" for need in requires),
    ]
    content = {
        **files,
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{entries}",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{tag}.whl"
    record = "".join(f"{name},sha256={_hash(text)},{len(text.encode())}\n" for name, text in content.items())
    with zipfile.ZipFile(path, "w") as archive:
        for name_in, text in {**content, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(zipfile.ZipInfo(name_in), text)  # with no time: the same content is the same wheel
    return Wheel(name, version, hashlib.sha256(path.read_bytes()).hexdigest(), path)


def pack(folder: Path, name: str) -> Wheel:
    """Write a wheel of a pure Python distribution that is installed here, e.g. pip."""
    found = distribution(name)
    path = folder / f"{name.replace('-', '_')}-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in found.files or ():
            if file.parts[0] not in ("..", "/") and "__pycache__" not in file.parts:
                archive.write(Path(str(file.locate())), file.as_posix())
    return Wheel(name, found.version, hashlib.sha256(path.read_bytes()).hexdigest(), path)


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
