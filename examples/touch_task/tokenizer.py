"""The tokenizer of the touch task: one piece per word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pi0_ros.checkpoint.tokenizer import write_tokenizer


def write_task_tokenizer(directory: Path, sentences: Sequence[str]) -> None:
    """Write a tokenizer in which every word of the sentences is one piece.

    With or without a space before it; other words fall apart into letters.

    Args:
        directory: gets tokenizer.model and tokenizer_config.json.
        sentences: all instructions of the policy.
    """
    words = sorted({word for sentence in sentences for word in sentence.split()})
    letters = sorted({letter for word in words for letter in word} | set("▁"))
    # Each merge of two pieces is a piece; a word of n letters takes at most 2 n of them.
    vocab_size = 5 + len(letters) + 2 * sum(map(len, words))
    write_tokenizer(directory, [*sentences, *words] * 20, vocab_size)
