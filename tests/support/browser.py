"""Chromium without a window, driven over its own pipe: what a page holds once it is loaded, what it asked for, what it complained of.

`python -m tests.support.browser` makes sure that there is one: `make test` runs it.
Protocol: https://chromedevtools.github.io/devtools-protocol/, over --remote-debugging-pipe (messages end with a zero byte).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.apt import install

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-sync",
    "--metrics-recording-only",
    "--hide-scrollbars",
)


def find_browser() -> str | None:
    """Return a Chromium of this machine: $CHROMIUM, else one of the usual names; None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    """One page of one browser. Use with `with`."""

    def __init__(self, *, width: int = 1280, height: int = 900) -> None:
        binary = find_browser()
        assert binary, "no Chromium: make test installs it, or see python -m tests.support.browser"
        self._profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        flags = [*_FLAGS, f"--user-data-dir={self._profile.name}", f"--window-size={width},{height}"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium's own sandbox does not work for root
        self.child = subprocess.Popen(
            ["bash", "-c", f'exec 3<&{to_read} 4>&{to_write}; exec "$0" "$@"', binary, *flags, "about:blank"],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self._profile.name},
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer = bytearray()
        self._last = 0
        self._session: str | None = None
        self.requests: list[str] = []
        """Addresses that the page, or a frame of it, asked for, whether or not its policy let it."""
        self.complaints: list[str] = []
        """Errors and warnings of the console, and exceptions."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result. Events that come meanwhile are taken note of."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._read, 2**20)
            assert data, "the browser is gone"
            self._buffer += data
        raw, _, rest = bytes(self._buffer).partition(b"\0")
        self._buffer = bytearray(rest)
        message = json.loads(raw)
        self._note(message)
        return message

    def _note(self, message: Mapping[str, Any]) -> None:
        method, given = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(given["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(given["args"]))
        elif method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.complaints.append(given["entry"]["text"])

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a file and wait until all of it is there."""
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=page.absolute().as_uri() + fragment)
        deadline = time.monotonic() + 60
        while self.value("document.readyState") != "complete" or self.value("location.href") == "about:blank":
            assert time.monotonic() < deadline, "the page does not load"
            time.sleep(0.05)
        time.sleep(0.3)  # frames load after the page, and may complain
        self.value("1")

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page, which must be JSON."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`, as a user's system does."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, path: Path) -> None:
        """Write a picture (PNG) of what a user sees."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


def main() -> None:
    """Make sure that there is a browser."""
    if find_browser():
        return
    hint = "apt install chromium, or name one with CHROMIUM=/path/to/it"
    install("Chromium", "chromium", "the tests of the report", hint)
    if not find_browser():
        print("error: apt installed chromium, but there is no `chromium` on the PATH", file=sys.stderr)
        raise SystemExit(3)


if __name__ == "__main__":
    main()
