"""Whether a run is tracked, and where: the user's own server, or the local one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from intermodal.errors import BadInput
from intermodal.settings import Settings

URI = "MLFLOW_TRACKING_URI"
SWITCH = "INTERMODAL_TRACKING"
"""Variable: `on` or `off`, whatever the project's settings say."""
FOLDER = "tracking"
"""In the state folder."""


@dataclass(frozen=True)
class Target:
    """A tracking server. `uri` is as the user wrote it, which may hold a password; empty for the local server."""

    folder: Path
    uri: str

    @property
    def shown(self) -> str:
        return without_secrets(self.uri) if self.uri else "the local server"

    def open(self) -> str:
        """Return the address of a server that is there as far as it is ours. Raises EnvironmentProblem."""
        if self.uri:
            return self.uri
        from intermodal.tracking.server import ensure_server

        return ensure_server(self.folder).uri

    def known(self) -> str | None:
        """Return its address, without secrets, if that is known without starting anything."""
        if self.uri:
            return without_secrets(self.uri)
        from intermodal.tracking.server import find_server

        server = find_server(self.folder)
        return server.uri if server else None


def wanted(settings: Settings, environment: Mapping[str, str]) -> bool:
    """Whether runs are tracked: $INTERMODAL_TRACKING says so, else the settings, else a server in $MLFLOW_TRACKING_URI."""
    word = environment.get(SWITCH, "").lower()
    if word not in ("", "on", "off"):
        raise BadInput(f"{SWITCH}={word}: must be on or off")
    if word:
        return word == "on"
    if settings.tracking.enabled is not None:
        return settings.tracking.enabled
    return _is_server(environment.get(URI, "")) or bool(settings.tracking.uri)


def target(settings: Settings, environment: Mapping[str, str], state: Path) -> Target:
    """Return where runs of a state folder are tracked: $MLFLOW_TRACKING_URI, else the settings' server, else the local one.

    Raises BadInput for an address that is none of a server.
    """
    uri = environment.get(URI, "") or settings.tracking.uri
    if uri and not _is_server(uri):
        raise BadInput(
            f"tracking server {without_secrets(uri)}: expected http:// or https://",
            hint=f"unset {URI} for a server on this machine",
        )
    return Target(state.absolute() / FOLDER, uri)


def without_secrets(uri: str) -> str:
    """Return the address without a user's name and password, and without a slash at its end."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")).rstrip("/")


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")
