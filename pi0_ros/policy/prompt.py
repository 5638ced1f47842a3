"""Instructions to token ids, with the checkpoint's tokenizer."""

import logging
from collections.abc import Callable
from functools import lru_cache
from os.path import isfile
from pathlib import Path

import numpy as np
import torch

from pi0_ros.checkpoint.directory import SENTENCEPIECE
from pi0_ros.checkpoint.errors import shown
from pi0_ros.errors import UserError

_LOG = logging.getLogger(__name__)

WARM_UP_INSTRUCTION = "warm up"
"""What a policy is asked before anybody asks it, which no tokenizer need know."""

Tokenizer = Callable[[str], list[int]]
"""Text to token ids, the begin-of-sequence token (BOS) first."""


class TokenizerError(UserError, ValueError):
    """There is no usable tokenizer; the message says where to get one."""


def load_tokenizer(checkpoint: Path, tokenizer: str | Path | None) -> Tokenizer:
    """The tokenizer of a checkpoint, from local files only.

    A directory with tokenizer_config.json is read by `transformers`; a bare SentencePiece model, as
    openpi uses it, by `sentencepiece`.

    Args:
        checkpoint: searched, and its subdirectory `tokenizer`, when `tokenizer` is None.
        tokenizer: a directory, or a SentencePiece `.model` file.

    Raises:
        TokenizerError: none is there, or it does not begin prompts with BOS.
    """
    places = [Path(tokenizer)] if tokenizer else [checkpoint, checkpoint / "tokenizer"]
    for place in places:
        # Path.is_file raises an OSError where a name is too long.
        models = [place] if isfile(place) else [place / name for name in SENTENCEPIECE]
        if isfile(place / "tokenizer_config.json"):
            return _from_transformers(place)
        for model in models:
            if isfile(model):
                return _from_sentencepiece(model)
    raise TokenizerError(
        f"no tokenizer in {' or '.join(map(str, places))}: expected tokenizer_config.json with"
        f" tokenizer.json, or one of {', '.join(SENTENCEPIECE)}. LeRobot and openpi checkpoints"
        " do not bring PaliGemma's: download the tokenizer files of google/paligemma-3b-pt-224"
        " (its licence must be accepted there) and give their directory as `tokenizer`."
    )


def _from_transformers(directory: Path) -> Tokenizer:
    # Imported here, since it takes seconds that a message about a wrong parameter need not cost.
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
        begin, unknown = loaded.bos_token_id, loaded.unk_token_id
        # Some settings only fail when they are used, one for what has no token.
        first = loaded("a\n\U0010ffff").input_ids[:1]
    except Exception as error:  # transformers raises many kinds, some about other libraries
        raise TokenizerError(
            f"{directory}: its tokenizer cannot be read, perhaps a file is damaged: {shown(error)}"
        ) from error
    if begin is None or first != [begin]:
        raise TokenizerError(
            f"{directory}: the tokenizer does not begin prompts with its begin token "
            f"({shown(loaded.bos_token)}); pi0 was trained with one (add_bos_token: true)"
        )
    return _named(lambda text: list(loaded(text).input_ids), unknown)


def _from_sentencepiece(file: Path) -> Tokenizer:
    from sentencepiece import SentencePieceProcessor

    try:
        loaded = SentencePieceProcessor(model_file=str(file))
        loaded.encode("a", add_bos=True)
    except (OSError, RuntimeError, ValueError) as error:  # ValueError: it has no BOS
        raise TokenizerError(
            f"{file} is no SentencePiece model with a begin token (BOS): {shown(error)}"
        ) from error
    return _named(lambda text: list(loaded.encode(text, add_bos=True)), loaded.unk_id())


def _named(tokenizer: Tokenizer, unknown: int | None) -> Tokenizer:
    """With the attribute `unknown`: the id of what it has no token for."""
    tokenizer.unknown = unknown  # type: ignore[attr-defined]
    return tokenizer


def unknown_tokens(tokenizer: Tokenizer, text: str) -> int:
    """How many tokens of a text say no more than that the tokenizer does not know it."""
    unknown = getattr(tokenizer, "unknown", None)
    return 0 if unknown is None else tokenizer(text).count(unknown)


def discretized(state: np.ndarray) -> np.ndarray:
    """A normalised state -> int64: which of 256 equal parts of [-1, 1] each value lies in.

    Parts count from 0 to 255; below -1 is -1, and 255 is also everything from 1 on.

    Raises:
        ValueError: a value is not finite.
    """
    if not np.isfinite(state).all():
        raise ValueError(f"the state is not finite: {state.tolist()}")
    return np.digitize(state, np.linspace(-1.0, 1.0, 257)[:-1]) - 1


def tokenize(
    tokenizer: Tokenizer,
    instruction: str,
    *,
    cleans: bool,
    length: int,
    vocab_size: int,
    state: np.ndarray | None = None,
) -> torch.Tensor:
    """The tokens of a prompt as in training: BOS, and the instruction and a newline; or, for
    pi0.5, `Task: {instruction}, State: {numbers};\\nAction: `.

    Args:
        cleans: replace underscores and newlines by spaces first, as openpi does.
        length: longest prompt; longer ones are cut, with a warning, as in training.
        vocab_size: rows of the model's token embedding.
        state: normalised; written into the prompt after `discretized`. None: the prompt has none.

    Returns:
        [1, n] int64, n <= length; not padded.

    Raises:
        ValueError: the instruction is empty, the state not finite, or a token unknown to the model.
    """
    text = instruction.strip().replace("_", " ").replace("\n", " ") if cleans else instruction
    if not text.strip():
        raise ValueError("the instruction is empty: pi0 needs a task in words")
    if state is not None:
        numbers = " ".join(map(str, discretized(state)))
        text = f"Task: {text}, State: {numbers};\nAction: "
    elif not text.endswith("\n"):
        text += "\n"
    ids = tokenizer(text)
    if max(ids) >= vocab_size:
        raise ValueError(
            f"the tokenizer gives token {max(ids)} for {shown(instruction)}, the model's embedding"
            f" has {vocab_size} rows: the tokenizer is another model's"
        )
    unknown = ids.count(getattr(tokenizer, "unknown", None))
    if unknown and instruction != WARM_UP_INSTRUCTION:
        _warn_of_unknown(instruction, unknown, len(ids))
    if len(ids) > length:
        _warn_of_cut(instruction, len(ids), length)
    return torch.tensor([ids[:length]], dtype=torch.int64)


@lru_cache(maxsize=64)
def _warn_of_unknown(instruction: str, unknown: int, tokens: int) -> None:
    _LOG.warning(
        "%d of %d tokens of %s are unknown to the tokenizer: the policy cannot tell such words from"
        " each other; use the words and the script of the training data",
        unknown,
        tokens,
        shown(instruction),
    )


@lru_cache(maxsize=64)
def _warn_of_cut(instruction: str, tokens: int, length: int) -> None:
    """Once: a prompt with a state is made for every observation."""
    _LOG.warning("the prompt of %s is cut from %d to %d tokens", shown(instruction), tokens, length)
