"""From a SentencePiece model (`spm.model`) to tokenizer.json, for the DeBERTa v2 and v3 families: their repositories have no other.

The file is a protocol buffer of which a dozen fields matter; reading them here spares the image two packages. Fields:
https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto. The pipeline is that of transformers'
`DebertaV2Converter`: the model's own character map, single spaces, Metaspace, Unigram, [CLS] text [SEP].
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.kfp_io import StepError

_NORMAL, _CONTROL, _USER_DEFINED, _BYTE = 1, 3, 4, 6
_UNIGRAM = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class SentencePiece:
    """What tokenising needs of a model: (piece, score, type) by id, the id of the unknown piece, the character map."""

    pieces: list[tuple[str, float, int]]
    unknown: int
    character_map: bytes


def read_model(content: bytes, source: str) -> SentencePiece:
    """Parse an spm.model. Raises StepError if it is none, or of another kind than Unigram."""
    pieces, unknown, kind, character_map = [], 0, _UNIGRAM, b""
    try:
        for field, value in _fields(content):
            if field == 1:
                pieces.append(_piece(value))
            elif field == 2:
                trainer = dict(_fields(value))
                unknown, kind = trainer.get(40, 0), trainer.get(3, _UNIGRAM)
            elif field == 3:
                character_map = dict(_fields(value)).get(2, b"")
        if not pieces or not 0 <= unknown < len(pieces):
            raise ValueError("no pieces")
    except (ValueError, IndexError, TypeError, KeyError, struct.error) as error:
        raise StepError(f"{source} is not a SentencePiece model: {error}") from error
    if kind != _UNIGRAM or any(piece[2] == _BYTE for piece in pieces):
        raise StepError(f"{source} is a SentencePiece model of a kind that is not read here (Unigram without bytes is)")
    return SentencePiece(pieces, unknown, character_map)


def _piece(content: bytes) -> tuple[str, float, int]:
    values = dict(_fields(content))
    (score,) = struct.unpack("<f", values[2]) if 2 in values else (0.0,)
    return values[1].decode("utf-8"), score, values.get(3, _NORMAL)


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (field number, value) of a message: int for varints, bytes for all else."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(content, at)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            size, at = _varint(content, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(content):
            raise ValueError("it ends too early")
        yield key >> 3, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def tokenizer_of(model: SentencePiece, *, lower_case: bool = False) -> str:
    """Return tokenizer.json for `model`, with [CLS], [SEP] and [MASK] as DeBERTa uses them. Raises StepError without them."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = [(text, score) for text, score, _ in model.pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=model.unknown, byte_fallback=False))
    steps: list[Any] = [normalizers.Lowercase()] if lower_case else []
    if model.character_map:
        steps.append(normalizers.Precompiled(model.character_map))
    # In this order: the map makes spaces of other characters (a zero-width one, a line break), which count like any space.
    steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    for text, _, kind in model.pieces:
        if kind in (_CONTROL, _USER_DEFINED):
            tokenizer.add_tokens([AddedToken(text, normalized=False, special=kind == _CONTROL)])
    # After the last piece, as DeBERTa's own tokenizer places it.
    tokenizer.add_special_tokens([AddedToken("[MASK]", normalized=False, special=True)])
    start, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    if start is None or end is None:
        raise StepError("the SentencePiece model has no pieces [CLS] and [SEP]: it is not that of a DeBERTa")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", start), ("[SEP]", end)]
    )
    return str(tokenizer.to_str())
