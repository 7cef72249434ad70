"""Runs inside the trainer's image: makes a small backbone folder with random weights for each family of architectures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import DebertaV2Config, DistilBertConfig, ModernBertConfig, RobertaConfig
from transformers.models.auto.modeling_auto import AutoModel

TEXTS = [json.loads(line)["text"] for line in Path("/dataset/train.jsonl").read_text().splitlines()]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ROBERTA = {"max_position_embeddings": 514, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, **SMALL}
MODERN = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2, **SMALL}
DEBERTA = {"relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True}
DEBERTA |= {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0, **SMALL}


def surrounded(tokenizer: Tokenizer, start: str, end: str) -> Tokenizer:
    ids = [(start, tokenizer.token_to_id(start)), (end, tokenizer.token_to_id(end))]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=ids)
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    return surrounded(tokenizer, "[CLS]", "[SEP]")


def byte_pairs() -> Tokenizer:
    """As RoBERTa's: the space before a word is part of its token, and of its offsets."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return surrounded(tokenizer, "<s>", "</s>")


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    tokenizer.train_from_iterator(
        TEXTS, trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="[UNK]")
    )
    return surrounded(tokenizer, "[CLS]", "[SEP]")


FAMILIES = {
    "distilbert": (word_piece, DistilBertConfig, {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "roberta": (byte_pairs, RobertaConfig, ROBERTA),
    "deberta-v2": (unigram, DebertaV2Config, DEBERTA),
    "modernbert": (byte_pairs, ModernBertConfig, MODERN),
}

for name in sys.argv[1:]:
    make, configuration, settings = FAMILIES[name]
    folder = Path("/out") / name
    folder.mkdir()
    tokenizer = make()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = configuration(vocab_size=tokenizer.get_vocab_size(), **settings)
    torch.manual_seed(0)
    weights = {key: tensor.contiguous() for key, tensor in AutoModel.from_config(config).state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    (folder / "config.json").write_text(config.to_json_string())
    manifest = {"schema_version": 1, "name": name, "revision": "", "source": "local", "license": None, "files": {}}
    (folder / "backbone.json").write_text(json.dumps(manifest))
