"""What a person finds in the shell of an attempt: the step's own command, ready behind the arrow key."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ODD = re.compile(r"[\x00-\x1f\x7f']")
# bash where there is one: it is the shell that people know, and the one whose history can be given. Else whatever sh is; busybox's
# reads HISTFILE too.
_START = 'command -v bash >/dev/null 2>&1 && exec bash --rcfile "$0/bashrc" -i; HISTFILE="$0/history" ENV="$0/shrc" exec sh -i'


def write_files(folder: Path, seen: PurePosixPath, argv: Sequence[str]) -> None:
    """Write the files of a shell into `folder`, which the shell sees at `seen`. `argv` is the step's command."""
    folder.mkdir(parents=True)
    history = shlex.quote(str(seen / "history"))
    (folder / "history").write_text(command_line(argv) + "\n", encoding="utf-8", errors="surrogateescape")
    (folder / "bashrc").write_text(
        f"PS1='step:\\w\\$ '\nunset HISTFILE\nset -o history\nhistory -c\nhistory -r {history}\n", encoding="utf-8"
    )
    (folder / "shrc").write_text("PS1='step:$PWD\\$ '\n", encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)


def start_command(seen: PurePosixPath) -> list[str]:
    """Return the command that starts the best shell there is."""
    return ["sh", "-c", _START, str(seen)]


def command_line(argv: Sequence[str]) -> str:
    """Return the command as one line that a shell reads back as exactly `argv`."""
    return " ".join(map(_quoted, argv))


def _quoted(word: str) -> str:
    """Quote a word; as $'...' where it has quotes or control characters: a line of history is one line, line breaks or not."""
    if not _ODD.search(word):
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t")
    return "$'" + _CONTROL.sub(lambda match: f"\\{ord(match.group()):03o}", escaped) + "'"
