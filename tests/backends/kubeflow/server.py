"""The pipelines' API as its server 2.17 answers, of one run that is played back step by step.

The forms are those of `backend/src/apiserver/server/api_converter.go` (`toApiRun`, `toApiPipelineTaskDetail`): tasks of all levels side
by side, drivers and executors among them, without outputs, times of 1970 for what has not come.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Task = tuple[str, str]
"""Name and state, as the API shows them."""


@dataclass
class Recording:
    """What the server says of the run at each look, and what was asked of it."""

    looks: Sequence[tuple[str, Sequence[Task]]]
    logs: dict[str, bytes] = field(default_factory=dict)
    """Name of a task -> what its pod wrote."""
    faults: list[int] = field(default_factory=list)
    """Statuses that the next requests for the run are answered with; 0 ends the connection."""
    lose_answer: bool = False
    """Carry out the next creation of a run, and end the connection without a word."""
    created: list[dict[str, Any]] = field(default_factory=list)
    terminated: bool = False
    seen: int = 0

    def run(self) -> dict[str, Any]:
        state, tasks = self.looks[min(self.seen, len(self.looks) - 1)]
        self.seen += 1
        if self.terminated:
            state, tasks = "CANCELED", [(name, "CANCELED") for name, _ in tasks]
        return {**self.listed(state), "run_details": {"task_details": [_detail(*task) for task in tasks]}}

    def listed(self, state: str = "RUNNING") -> dict[str, Any]:
        return {
            "experiment_id": "e-1",
            "run_id": "r-1",
            "display_name": self.created[0]["display_name"],
            "storage_state": "AVAILABLE",
            "pipeline_spec": self.created[0]["pipeline_spec"],
            "runtime_config": self.created[0].get("runtime_config", {}),
            "service_account": "pipeline-runner",
            "created_at": "2026-11-25T10:00:00Z",
            "scheduled_at": "2026-11-25T10:00:00Z",
            "finished_at": "1970-01-01T00:00:00Z",
            "state": state,
        }


def _detail(name: str, state: str) -> dict[str, Any]:
    over = state in ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
    return {
        "run_id": "r-1",
        "task_id": f"uuid-{name}",
        "display_name": name,
        "create_time": "2026-11-25T10:00:00Z",
        "start_time": "2026-11-25T10:00:05Z",
        "end_time": "2026-11-25T10:00:09Z" if over else "1970-01-01T00:00:00Z",
        "state": state,
        "state_history": [{"update_time": "2026-11-25T10:00:05Z", "state": state}],
        "child_tasks": [{"pod_name": f"node-{name}"}],
    }


@contextmanager
def serving(recording: Recording) -> Iterator[str]:
    """Serve the recording on loopback; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path, query = unquote(parts.path), parse_qs(parts.query)
            if path.endswith("/healthz"):
                self._say({"multi_user": False})
            elif path == "/apis/v2beta1/experiments":
                self._say({"experiments": [{"experiment_id": "e-1", "display_name": "an-experiment"}]})
            elif path == "/apis/v2beta1/runs":
                wanted = json.loads(query["filter"][0])["predicates"][0]
                found = [recording.listed()] if recording.created else []
                self._say({"runs": [run for run in found if run["display_name"] == wanted["stringValue"]]})
            elif path == "/apis/v2beta1/runs/r-1":
                self._run()
            elif path.startswith("/apis/v1alpha1/runs/r-1/nodes/node-"):
                self._bytes(recording.logs.get(path.split("node-")[1].removesuffix("/log"), b""))
            else:
                self._say({"code": 5, "message": f"{path} is not recorded"}, 404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/apis/v2beta1/runs":
                recording.created.append(json.loads(body))
                if recording.lose_answer:
                    recording.lose_answer = False
                    self.close_connection = True
                else:
                    self._say(recording.listed("PENDING"))
            elif self.path == "/apis/v2beta1/runs/r-1:terminate":
                recording.terminated = True
                self._say({})
            elif self.path == "/apis/v2beta1/experiments":
                self._say({"experiment_id": "e-1", "display_name": json.loads(body)["display_name"]})
            else:
                self._say({"code": 5, "message": f"{self.path} is not recorded"}, 404)

        def _run(self) -> None:
            status = recording.faults.pop(0) if recording.faults else 200
            if status == 0:
                self.close_connection = True
            elif status != 200:
                self._say({"code": 14, "message": "the database is away"}, status)
            else:
                self._say(recording.run())

        def _say(self, document: Any, status: int = 200) -> None:
            self._bytes(json.dumps(document).encode(), status)

        def _bytes(self, data: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
