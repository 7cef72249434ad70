"""The host's own pip configuration: mirrors, proxies, private CAs and wheel folders, as pip reads them."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class PipConfiguration:
    """What pip would use here."""

    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    """Only `find_links`: a machine without a network."""
    cert: str = ""
    """Path of the CA bundle, if pip has one of its own."""

    def uv_environment(self) -> dict[str, str]:
        """Return the environment that makes uv look where pip looks (uv does not read pip's configuration)."""
        environment = dict(os.environ)
        if self.index_url:
            environment["UV_DEFAULT_INDEX"] = self.index_url
        if self.extra_index_urls:
            environment["UV_INDEX"] = " ".join(self.extra_index_urls)
            environment["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # what pip does
        if self.no_index:
            environment["UV_OFFLINE"] = "1"  # uv knows --no-index as an option alone
        if self.find_links:
            environment["UV_FIND_LINKS"] = ",".join(self.find_links)
        if self.cert:
            environment["SSL_CERT_FILE"] = self.cert
        return environment


def read_pip_configuration() -> PipConfiguration:
    """Ask pip for its configuration: files and PIP_* variables, the more specific one winning.

    Where this Python has no pip, the PIP_* variables alone count.
    """
    values: dict[str, str] = {}
    ranks: dict[str, int] = {}
    for section, name, value in _listing():
        rank = {"global": 0, "site": 1, "user": 2, "install": 3, "download": 3, ":env:": 4}.get(section, 0)
        if rank >= ranks.get(name, -1):
            values[name], ranks[name] = value, rank
    return PipConfiguration(
        index_url=values.get("index-url", ""),
        extra_index_urls=tuple(
            url for url in values.get("extra-index-url", "").split() if url.startswith(("http://", "https://"))
        ),
        find_links=tuple(values.get("find-links", "").split()),
        no_index=values.get("no-index", "").lower() in ("1", "true", "yes", "on"),
        cert=values.get("cert", ""),
    )


def _listing() -> list[tuple[str, str, str]]:
    """Return (section, option, value) of every setting that pip knows of."""
    if importlib.util.find_spec("pip") is None:
        return [
            (":env:", name.removeprefix("PIP_").lower().replace("_", "-"), value)
            for name, value in os.environ.items()
            if name.startswith("PIP_")
        ]
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = []
    for line in lines:
        key, _, written = line.partition("=")
        section, _, name = key.rpartition(".")
        found.append((section, name, str(ast.literal_eval(written))))
    return found
