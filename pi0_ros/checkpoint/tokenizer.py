"""Small tokenizers: SentencePiece with Gemma's special tokens, for checkpoints made here."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from sentencepiece import SentencePieceTrainer

from pi0_ros.console import write_json

_SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}

STATE_SENTENCES = ("Task: , State: -1 ; Action: ", *(f" {number}" for number in range(256)))
"""What stands around an instruction in the prompts of pi0.5."""


def write_tokenizer(directory: Path, sentences: Sequence[str], vocab_size: int) -> None:
    """Train a SentencePiece model, and write it with what `transformers` reads.

    Args:
        directory: gets tokenizer.model and tokenizer_config.json.
        sentences: the text to train on; a pair of pieces is merged the earlier the more often it
            stands there.
        vocab_size: pieces at most.
    """
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        byte_fallback=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        user_defined_symbols=["\n"],
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    config = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, **_SPECIAL}
    write_json(directory / "tokenizer_config.json", config)
    (directory / "tokenizer.model").write_bytes(model.getvalue())
