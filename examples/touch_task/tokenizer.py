"""The tokenizer of the touch task: one piece per word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pi0_ros.checkpoint.tokenizer import write_tokenizer


def write_task_tokenizer(
    directory: Path, sentences: Sequence[str], others: Sequence[str] = ()
) -> None:
    """Write a tokenizer in which every word of the sentences is one piece.

    With or without a space before it; other words fall apart into letters.

    Args:
        directory: gets tokenizer.model and tokenizer_config.json.
        sentences: all instructions of the policy.
        others: sentences whose words are one piece only as they stand there.
    """
    words = sorted({word for sentence in sentences for word in sentence.split()})
    known = sorted({word for sentence in (*sentences, *others) for word in sentence.split()})
    letters = sorted({letter for word in known for letter in word} | set("▁"))
    # Each merge of two pieces is a piece; a word of n letters takes at most 2 n of them.
    vocab_size = 5 + len(letters) + 2 * sum(map(len, known))
    write_tokenizer(directory, [*sentences, *words, *others] * 20, vocab_size)
