"""Find entities in a text: `python example.py "text"`. Needs onnxruntime, tokenizers and numpy, and the files beside it."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

# Read when onnxruntime is imported: it reports to its maker otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

HERE = Path(__file__).parent


class Model:
    """The bundle in this folder; `variant` is fp32 or int8, by default the first that is there."""

    def __init__(self, variant=None):
        manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
        chosen = variant or sorted(manifest["variants"])[0]
        self.labels, self.window = manifest["labels"], manifest["window"]
        self.tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
        self.session = onnxruntime.InferenceSession(str(HERE / manifest["variants"][chosen]["file"]))
        allowed = np.array([[not b.startswith("I-") or a[1:] == b[1:] for b in self.labels] for a in self.labels])
        self.steps = np.where(allowed, manifest.get("transitions") or 0.0, -np.inf)
        self.first = np.array([not label.startswith("I-") for label in self.labels])

    def entities(self, text):
        """Return [(start, end, label, text), ...] for the whole text, however long."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        if not encoding.ids:
            return []
        seen = np.array([end > start for start, end in encoding.offsets])
        labels = self._decode(self._logits(encoding.ids)[seen])
        offsets = np.array(encoding.offsets)[seen].tolist()
        return [(start, end, kind, text[start:end]) for start, end, kind in self._spans(labels, offsets, text)]

    def _logits(self, ids):
        """Run overlapping windows; each token takes the one in which it has the most context."""
        window, count = self.window, len(ids)
        size, best, merged = window["max_tokens"] - 2, np.full(count, -1.0), None
        start = 0
        while True:
            end = min(start + size, count)
            row = np.array([[window["cls_id"], *ids[start:end], window["sep_id"]]], dtype=np.int64)
            values = self.session.run(["logits"], {"input_ids": row, "attention_mask": np.ones_like(row)})[0][0, 1:-1]
            if merged is None:
                merged = np.zeros((count, values.shape[-1]), dtype=np.float32)
            position = np.arange(start, end)
            left = np.where(start == 0, np.inf, position - start)
            right = np.where(end == count, np.inf, end - 1 - position)
            context = np.minimum(left, right)
            better = context > best[start:end]
            merged[start:end][better] = values[better]
            best[start:end][better] = context[better]
            if end == count:
                return merged
            start += size - window["stride"]

    def _decode(self, logits):
        """Return the best sequence of labels in which I-x follows only B-x or I-x."""
        if not len(logits):
            return []
        best, back = np.where(self.first, logits[0], -np.inf), np.zeros(logits.shape, dtype=np.int64)
        for index in range(1, len(logits)):
            candidates = best[:, None] + self.steps
            back[index] = candidates.argmax(axis=0)
            best = candidates.max(axis=0) + logits[index]
        path = [int(best.argmax())]
        for index in range(len(logits) - 1, 0, -1):
            path.append(int(back[index, path[-1]]))
        return [self.labels[label] for label in reversed(path)]

    def _spans(self, labels, offsets, text):
        found, open_kind = [], ""
        for label, (start, end) in zip(labels, offsets):
            prefix, _, kind = label.partition("-")
            if prefix == "I" and kind == open_kind:
                found[-1][1] = end
            elif prefix in ("B", "I"):
                found.append([start, end, kind])
            open_kind = kind if prefix in ("B", "I") else ""
        for start, end, kind in found:
            while start < end and text[start].isspace():
                start += 1
            while end > start and text[end - 1].isspace():
                end -= 1
            if start < end:
                yield start, end, kind


if __name__ == "__main__":
    for start, end, kind, words in Model().entities(" ".join(sys.argv[1:]) or sys.stdin.read()):
        print(f"{start}\t{end}\t{kind}\t{words}")
