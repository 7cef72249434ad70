"""tokenizer.json made of an spm.model, against SentencePiece itself."""

from __future__ import annotations

import io

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from components.backbone.sentencepiece import read_model, tokenizer_of
from components.dataset.generator import generate
from components.kfp_io import StepError

DEBERTA = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
DEBERTA |= {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}  # type: ignore[dict-item]


def trained(**more: object) -> bytes:
    lines = [line for document in generate("tiny", 13)["train"] for line in document.text.split("\n") if line.strip()]
    out = io.BytesIO()
    settings = {"vocab_size": 400, "model_type": "unigram", "minloglevel": 2, **DEBERTA, **more}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, **settings)
    return out.getvalue()


MODEL = trained()
OURS = Tokenizer.from_str(tokenizer_of(read_model(MODEL, "spm.model")))
THEIRS = sentencepiece.SentencePieceProcessor(model_proto=MODEL)
ODD = st.text(st.sampled_from("aeinrst ADE 013.,-'\t\n\u00a0\u200b\u3000ﬁé①½ßñ中👍"), max_size=60)


@given(ODD)
def test_any_text_has_the_pieces_that_sentencepiece_gives(text: str):
    assert OURS.encode(text, add_special_tokens=False).ids == THEIRS.encode(text)


def test_documents_have_them_too_and_offsets_that_lie_in_the_text():
    for document in generate("tiny", 14)["test"]:
        encoding = OURS.encode(document.text, add_special_tokens=False)
        assert encoding.ids == THEIRS.encode(document.text)
        assert all(0 <= start <= end <= len(document.text) for start, end in encoding.offsets)


def test_special_tokens_stand_around_a_text_and_the_mask_comes_last():
    encoding = OURS.encode("Anna")
    assert (encoding.tokens[0], encoding.tokens[-1]) == ("[CLS]", "[SEP]")
    assert [token for token, special in zip(encoding.tokens, encoding.special_tokens_mask, strict=True) if special] == [
        "[CLS]",
        "[SEP]",
    ]
    assert OURS.token_to_id("[MASK]") == THEIRS.get_piece_size()


def test_a_model_that_lower_cases_does_so():
    lower = Tokenizer.from_str(tokenizer_of(read_model(MODEL, "spm.model"), lower_case=True))
    assert lower.encode("ANNA").ids == OURS.encode("anna").ids


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a SentencePiece model"),
        (b"no model at all", "is not a SentencePiece model"),
        (MODEL[:-7], "ends too early"),
        (trained(model_type="bpe"), "of a kind that is not read here"),
        (trained(byte_fallback=True, vocab_size=500), "of a kind that is not read here"),
    ],
    ids=["empty", "text", "cut", "bpe", "bytes"],
)
def test_another_file_is_one_line(content: bytes, words: str):
    with pytest.raises(StepError, match=words):
        read_model(content, "x/spm.model")


def test_a_model_of_another_family_is_refused():
    with pytest.raises(StepError, match=r"no pieces \[CLS\] and \[SEP\]"):
        tokenizer_of(read_model(trained(bos_piece="<s>"), "x"))
