"""One process that measures one variant: `python -m components.benchmarker.worker BUNDLE VARIANT DATASET THREADS`.

Reads commands from stdin and answers each with one JSON line on stdout. A process of its own, because thread pools and caches of
several runtimes in one process spoil each other's times.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.ner.formats import load_split
from components.ner.metrics import bootstrap_interval, document_counts, span_scores
from components.ner.predict import Infer, Tagger, WindowSettings


def onnx_infer(model: Path, threads: int) -> Infer:
    """Return Tagger's function for an ONNX file: one session, `threads` threads inside an operator, one operator at a time."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def infer(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
        return logits

    return infer


class Worker:
    """A loaded variant and the documents."""

    def __init__(self, bundle: Path, variant: str, dataset: Path, threads: int) -> None:
        from tokenizers import Tokenizer

        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        self._types = manifest["entity_types"]
        self._splits = {split: load_split(dataset, split) for split in ("validation", "test")}
        tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        window = WindowSettings.from_json(manifest["window"])
        infer = onnx_infer(bundle / manifest["variants"][variant]["file"], threads)
        # One window at a time, as the bundle's example does: INT8 scales activations over the whole batch, so a window's
        # answer would depend on its neighbours; and no time goes into padding.
        self._tagger = Tagger(tokenizer, manifest["labels"], window, infer, batch=1)

    def time(self, order: list[int]) -> dict[str, Any]:
        """Run one request a document, text to entities, one after another. `order` indexes the test split.

        Returns the milliseconds of each, their characters in all, and the clock that all processes share (CLOCK_MONOTONIC,
        nanoseconds) at the start and the end.
        """
        documents, taken, characters = self._splits["test"], [], 0
        begin = time.perf_counter_ns()
        for index in order:
            text = documents[index % len(documents)].text
            start = time.perf_counter_ns()
            self._tagger.tag(text)
            taken.append((time.perf_counter_ns() - start) / 1e6)
            characters += len(text)
        return {"ms": taken, "characters": characters, "start": begin, "end": time.perf_counter_ns()}

    def score(self) -> dict[str, Any]:
        """Return the scores of both splits, and what each document adds to them."""
        result: dict[str, Any] = {}
        for split, documents in self._splits.items():
            predicted = [self._tagger.tag(document.text) for document in documents]
            gold = [document.spans for document in documents]
            scores = span_scores(gold, predicted, self._types).as_json()
            scores["interval"] = list(bootstrap_interval(gold, predicted, self._types))
            scores["documents"] = document_counts(gold, predicted, self._types)
            result[split] = scores
        return result


def main() -> None:
    """Serve commands until stdin ends."""
    bundle, variant, dataset, threads = sys.argv[1:]
    worker = Worker(Path(bundle), variant, Path(dataset), int(threads))
    print(json.dumps({"process": os.getpid()}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        answer = worker.time(command["time"]) if "time" in command else worker.score()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
