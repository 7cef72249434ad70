"""A linear-chain conditional random field over a classifier's logits: what a label says of the next is learned, too.

Lafferty, McCallum and Pereira, "Conditional Random Fields", ICML 2001; over a network as in Lample et al., "Neural Architectures for
Named Entity Recognition", NAACL 2016, without scores for the first and last label: the special tokens beside them tell the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from components.ner.labels import legal_transitions
from components.trainer.data import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FORBIDDEN = -1e4
"""Score of a transition that BIO has not: exp of it is 0, and a finite number has a gradient that is one."""


CRF = "crf"
"""Name of the module below a model that has one."""


class Crf(torch.nn.Module):
    """Scores of one label after another, [labels before, labels after]; those that BIO forbids are never learned."""

    legal: torch.Tensor

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        self.transitions = torch.nn.Parameter(torch.zeros(len(labels), len(labels)))
        self.register_buffer("legal", torch.from_numpy(legal_transitions(labels)), persistent=False)

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the negative log-likelihood, summed over all windows.

        `logits` [windows, tokens, labels], float32; `labels` [windows, tokens]. A token that is IGNORED stands in no chain: its
        neighbours follow each other. The first token may have any label, since a window can begin within an entity.
        """
        scores = torch.where(self.legal, self.transitions, _FORBIDDEN)
        inside = labels != IGNORED
        # The tokens of each chain to the front, so that none is skipped on the way; a window without any gives no loss.
        order = torch.argsort(~inside, dim=1, stable=True)
        inside = inside.gather(1, order)[:, : int(inside.sum(1).max())]
        order = order[:, : inside.shape[1]]
        logits = logits.gather(1, order[..., None].expand(-1, -1, logits.shape[-1]))
        labels = labels.gather(1, order).clamp(min=0)
        gold = (logits.gather(2, labels[..., None])[..., 0] * inside).sum()
        gold = gold + (scores[labels[:, :-1], labels[:, 1:]] * inside[:, 1:]).sum()
        return _log_partition(logits, inside, scores) - gold

    def learned(self) -> list[list[float]]:
        """Return the scores as `decode_logits` takes them; what BIO forbids has 0 here, and is forbidden there."""
        scores: list[list[float]] = self.transitions.detach().masked_fill(~self.legal, 0.0).cpu().tolist()
        return scores


def add_crf(model: PreTrainedModel, labels: Sequence[str]) -> None:
    """Give `model` a field over its `labels`: it is then trained, kept and saved with the model's other weights."""
    model.add_module(CRF, Crf(labels))


def crf_of(model: PreTrainedModel) -> Crf | None:
    """Return the field of `model`, None if it has none."""
    found = getattr(model, CRF, None)
    return found if isinstance(found, Crf) else None


def transitions_of(model: PreTrainedModel) -> list[list[float]] | None:
    """Return what the field of `model` has learned, None if it has none."""
    field = crf_of(model)
    return None if field is None else field.learned()


def _log_partition(logits: torch.Tensor, inside: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the summed weights of all label sequences, summed over all windows that have a token."""
    if not inside.shape[1]:
        return logits.sum() * 0
    forward = logits[:, 0]
    for index in range(1, logits.shape[1]):
        ahead = torch.logsumexp(forward[:, :, None] + scores, dim=1) + logits[:, index]
        forward = torch.where(inside[:, index, None], ahead, forward)
    return (torch.logsumexp(forward, dim=1) * inside[:, 0]).sum()
