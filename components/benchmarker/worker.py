"""One process that measures one variant: `python -m components.benchmarker.worker JSON` (see `Worker`).

Reads commands from stdin and answers each with one JSON line on stdout. A process of its own, because thread pools and caches of
several runtimes in one process spoil each other's times; and because a file that crashes its runtime ends this process and no other.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from components.benchmarker.runtime import onnx_infer, torch_infer
from components.kfp_io import StepError
from components.ner.formats import Document, Span, load_split
from components.ner.metrics import bootstrap_interval, document_counts, span_scores
from components.ner.onnx_file import check_onnx
from components.ner.predict import Infer, Tagger, WindowSettings


class Worker:
    """A loaded variant and the documents. `given`: runtime, model, tokenizer, labels, entity_types, window,
    transitions, dataset, threads."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._types, self._dataset = given["entity_types"], Path(given["dataset"])
        tokenizer = Tokenizer.from_file(given["tokenizer"])
        # One window at a time, as the bundle's example does: INT8 scales activations over the whole batch, so a window's
        # answer would depend on its neighbours; and no time goes into padding.
        self._make: Callable[[int], Tagger] = lambda batch: Tagger(
            tokenizer,
            given["labels"],
            WindowSettings.from_json(given["window"]),
            infer,
            batch=batch,
            transitions=given["transitions"],
        )
        infer = _infer(given)
        self._tagger = self._make(1)
        self._alone: list[list[Span]] = []
        self._tokens = lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _test(self) -> list[Document]:
        return load_split(self._dataset, "test")

    def time(self, order: list[int]) -> dict[str, Any]:
        """SingleStream: run one request a document, text to entities, one after another. `order` indexes the test split.

        Returns the milliseconds of each, their characters in all, and the clock that all processes share (CLOCK_MONOTONIC,
        nanoseconds) at the start and the end.
        """
        documents, taken, characters = self._test, [], 0
        begin = time.perf_counter_ns()
        for index in order:
            text = documents[index % len(documents)].text
            start = time.perf_counter_ns()
            self._tagger.tag(text)
            taken.append((time.perf_counter_ns() - start) / 1e6)
            characters += len(text)
        return {"ms": taken, "characters": characters, "start": begin, "end": time.perf_counter_ns()}

    def offline(self, batch: int) -> dict[str, Any]:
        """Offline: the whole test split is there at once, `batch` windows of similar length go through the model together.

        Returns the seconds that it took, and how many documents got the same entities as on their own.
        """
        texts = [document.text for document in self._test]
        tagger = self._make(batch)
        start = time.perf_counter()
        found = tagger.tag_all(texts)
        seconds = time.perf_counter() - start
        alone = self._alone or [self._tagger.tag(text) for text in texts]
        same = sum(a == b for a, b in zip(found, alone, strict=True))
        return {"batch": batch, "documents": len(texts), "seconds": seconds, "same_answers": same}

    def serve(self, rate: float, requests: int, seed: int, bound_ms: float, allowed: int) -> dict[str, Any]:
        """Server: requests arrive as they like (Poisson, `rate` a second) and wait for their turn; nobody waits for answers.

        A request's latency counts from the moment it was due, so a stall is felt by all that arrive meanwhile (an open loop: no
        coordinated omission). Ends early once more than `allowed` are over `bound_ms`. Returns the latencies in milliseconds.
        """
        random = np.random.default_rng(seed)
        due = np.cumsum(random.exponential(1 / rate, requests))
        order = random.integers(0, len(self._test), requests)
        latencies: list[float] = []
        over, begin = 0, time.perf_counter()
        for arrival, index in zip(due, order, strict=True):
            wait = arrival - (time.perf_counter() - begin)
            if wait > 0:
                time.sleep(wait)
            self._tagger.tag(self._test[index].text)
            latencies.append((time.perf_counter() - begin - arrival) * 1000)
            over += latencies[-1] > bound_ms
            if over > allowed:
                break
        return {"ms": latencies, "over": int(over), "seconds": time.perf_counter() - begin}

    def lengths(self) -> list[int]:
        """Return the number of tokens of each test document."""
        return [self._tokens(document.text) for document in self._test]

    def score(self) -> dict[str, Any]:
        """Return the scores of both splits, and what each document adds to them."""
        result: dict[str, Any] = {}
        for split in ("validation", "test"):
            documents = load_split(self._dataset, split)
            predicted = [self._tagger.tag(document.text) for document in documents]
            self._alone = predicted  # of the test split, which is the last
            gold = [document.spans for document in documents]
            scores = span_scores(gold, predicted, self._types).as_json()
            scores["interval"] = list(bootstrap_interval(gold, predicted, self._types))
            scores["documents"] = document_counts(gold, predicted, self._types)
            result[split] = scores
        return result

    def answer(self, command: Mapping[str, Any]) -> Any:
        """Return what one command asks for: its only key names a method, its value holds the arguments."""
        ((name, arguments),) = command.items()
        asked: dict[str, Callable[..., Any]] = {
            "time": self.time, "offline": self.offline, "serve": self.serve, "lengths": self.lengths, "score": self.score,
            "memory": memory,
        }  # fmt: skip
        return asked[name](**arguments)


def _infer(given: Mapping[str, Any]) -> Infer:
    model, threads = Path(given["model"]), int(given["threads"])
    if given["runtime"] == "onnx":
        check_onnx(model)
        return onnx_infer(model, threads)
    return torch_infer(model, given["labels"], threads)


def memory() -> dict[str, int]:
    """Return bytes of memory that this process holds now (`resident`) and held at most (`peak`), as the kernel counts them.

    Not getrusage: its maximum is inherited from the process that started this one.
    """
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if key in ("VmRSS", "VmHWM"):
            found["resident" if key == "VmRSS" else "peak"] = int(value.split()[0]) * 1024
    return found


def main() -> None:
    """Serve commands until stdin ends. What goes wrong is the last answer, in one line, and exit 2."""
    (given,) = sys.argv[1:]
    with suppress(OSError):  # should the memory not suffice, the kernel ends this process, not the one that asks
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        worker = Worker(json.loads(given))
        print(json.dumps({"process": os.getpid()}), flush=True)
        for line in sys.stdin:
            print(json.dumps(worker.answer(json.loads(line))), flush=True)
    except Exception as error:  # noqa: BLE001 - whatever a foreign file makes of its runtime
        reason = error.message if isinstance(error, StepError) else str(error).strip() or repr(error)
        print(json.dumps({"refused": reason.splitlines()[0]}), flush=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
