"""The tokenizer of the touch task: SentencePiece, one piece per word."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

from sentencepiece import SentencePieceTrainer

_SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}


def write_tokenizer(directory: Path, sentences: Sequence[str]) -> None:
    """Write a SentencePiece model with Gemma's special tokens, and what `transformers` reads.

    Every word of the sentences becomes one piece, with or without a space before it; other words
    fall apart into letters.

    Args:
        directory: gets tokenizer.model and tokenizer_config.json.
        sentences: all instructions of the policy.
    """
    words = sorted({word for sentence in sentences for word in sentence.split()})
    letters = sorted({letter for word in words for letter in word} | set("▁"))
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([*sentences, *words] * 20),
        model_writer=model,
        model_type="bpe",
        # Each merge of two pieces is a piece; a word of n letters takes at most 2 n of them.
        vocab_size=5 + len(letters) + 2 * sum(map(len, words)),
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
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.model").write_bytes(model.getvalue())
    config = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, **_SPECIAL}
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
