"""Scores of a training, logged to a real HTTP server that stands for MLflow."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from components.kfp_io import StepError
from components.trainer import tracking
from components.trainer.settings import TrainingSettings
from components.trainer.tracking import HYPERPARAMETERS_TAG, open_tracking


class Server:
    """Answers each request with the next of `codes` (then 200), and keeps what it was sent."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.seen: list[tuple[str, str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.seen.append((self.path, self.headers["Authorization"], body))
                self.send_response(server.codes.pop(0) if server.codes else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    @property
    def environment(self) -> dict[str, str]:
        address = f"http://127.0.0.1:{self.http.server_port}/mlflow/v1.0/workspaces/w?"
        return {"MLFLOW_TRACKING_URI": address, "MLFLOW_RUN_ID": "sweep_0", "MLFLOW_TRACKING_TOKEN": "t"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(tracking, "_PATIENCE", (0.01, 0.01))
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()
    running.thread.join()


def logged(server: Server) -> list[dict[str, tuple[float, int]]]:
    return [{item["key"]: (item["value"], item["step"]) for item in body["metrics"]} for _, _, body in server.seen]


def test_the_objective_is_the_best_so_far_after_each_epoch_and_says_what_was_trained_with(server):
    run = open_tracking(server.environment, required=True)
    run.start({"learning_rate": 2e-05, "batch_size": 4}, TrainingSettings())
    for number, score in enumerate((0.25, 0.75, 0.5), 1):
        run.epoch(number, score)
    assert {path for path, _, _ in server.seen} == {"/mlflow/v1.0/workspaces/w/api/2.0/mlflow/runs/log-batch"}
    assert {token for _, token, _ in server.seen} == {"Bearer t"}
    assert {body["run_id"] for _, _, body in server.seen} == {"sweep_0"}
    (tag,) = server.seen[0][2]["tags"]
    assert tag["key"] == HYPERPARAMETERS_TAG and json.loads(tag["value"]) == {"learning_rate": 2e-05, "batch_size": 4}
    assert logged(server)[1:] == [
        {"validation_macro_f1": (0.25, 1), "epoch_macro_f1": (0.25, 1)},
        {"validation_macro_f1": (0.75, 2), "epoch_macro_f1": (0.75, 2)},
        {"validation_macro_f1": (0.75, 3), "epoch_macro_f1": (0.5, 3)},
    ]


def test_the_score_of_a_refit_is_not_called_a_validation(server):
    run = open_tracking(server.environment, required=False)
    run.start({}, TrainingSettings(all_data=True))
    run.epoch(1, 0.9)
    run.epoch(2, 0.8)
    assert logged(server)[-1]["learned_macro_f1"] == (0.8, 2)
    assert not any("validation_macro_f1" in metrics for metrics in logged(server))


def test_a_busy_service_is_asked_again(server):
    server.codes = [429, 503]
    open_tracking(server.environment, required=True).epoch(1, 0.5)
    assert len(server.seen) == 3


def test_a_log_that_fails_is_one_line_or_if_it_must_be_the_steps_failure(server, capsys):
    server.codes = [401, 401]
    open_tracking(server.environment, required=False).epoch(1, 0.5)
    assert "could not be logged to run sweep_0: 401" in capsys.readouterr().out
    with pytest.raises(StepError, match="sweep_0: 401"):
        open_tracking(server.environment, required=True).epoch(1, 0.5)
    assert len(server.seen) == 2, "a refusal is not asked again"


def test_nobody_is_asked_where_no_run_was_opened(capsys):
    for environment in ({}, {"MLFLOW_TRACKING_URI": "sqlite:///x", "MLFLOW_RUN_ID": "r"}):
        open_tracking(environment, required=False).epoch(1, 0.5)
        with pytest.raises(StepError, match="no MLflow run"):
            open_tracking(environment, required=True)
    assert capsys.readouterr().out == ""
