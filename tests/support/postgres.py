"""A real PostgreSQL of the test's own: one server in a folder, on a free port of loopback, gone with the test.

`python -m tests.support.postgres` makes sure that there is one: `make tools` runs it.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.apt import install


def find_postgres() -> Path | None:
    """Return the folder of PostgreSQL's programs, of the newest version; None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if found:
        return found[-1]
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@contextmanager
def postgres(host: str = "127.0.0.1") -> Iterator[str]:
    """Run a server on a folder of its own; give its address, with a password, for a database that is empty."""
    programs = find_postgres()
    assert programs, "no PostgreSQL: make tools installs it"
    password = secrets.token_hex(12)
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folders are for nobody but root
    data = folder / "data"
    secret = folder / "password"
    secret.write_text(password)
    account = None
    if os.geteuid() == 0:  # the server refuses to run as root
        account = pwd.getpwnam("postgres")
        for path in (folder, secret):
            os.chown(path, account.pw_uid, account.pw_gid)
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]

    def run(name: str, *words: str) -> None:
        done = subprocess.run(
            [str(programs / name), *words],
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=name != "pg_ctl",  # the server would keep the pipe
            text=True,
        )
        assert done.returncode == 0, done.stderr

    run("initdb", "-D", str(data), "-U", "study", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")
    options = f"-p {port} -c listen_addresses={host} -c unix_socket_directories= -c fsync=off -c max_connections=50"
    (data / "pg_hba.conf").write_text("host all all 0.0.0.0/0 scram-sha-256\n")
    run("pg_ctl", "-D", str(data), "-w", "-s", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://study:{password}@{host}:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-s", "stop")
        shutil.rmtree(folder)


if __name__ == "__main__":
    if find_postgres() is None:
        install("postgres", "postgresql", "the tests of searches on many machines", "install PostgreSQL's server")
    print(f"PostgreSQL: {find_postgres()}", file=sys.stderr)
