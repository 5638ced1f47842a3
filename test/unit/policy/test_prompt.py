"""Tokenizers from local files, and what instructions become."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sentencepiece import SentencePieceTrainer

from pi0_ros.policy.prompt import TokenizerError, load_tokenizer, tokenize, unknown_tokens
from pi0_ros.sim.task import TOUCH_CHECKPOINT

RULES = {"cleans": False, "length": 48, "vocab_size": 256}


def test_transformers_and_sentencepiece_agree(demo_checkpoint: Path) -> None:
    ours = load_tokenizer(demo_checkpoint, None)
    bare = load_tokenizer(demo_checkpoint, demo_checkpoint / "tokenizer.model")
    for text in ("touch the red cube\n", "pick up a ball\n", "\n"):
        assert ours(text) == bare(text)
        assert ours(text)[0] == 2


def test_the_prompt_ends_with_one_newline(demo_checkpoint: Path) -> None:
    encode = load_tokenizer(demo_checkpoint, None)
    newline = encode("\n")[-1]
    a = tokenize(encode, "touch the red cube", **RULES)[0].tolist()
    b = tokenize(encode, "touch the red cube\n", **RULES)[0].tolist()
    assert a == b
    assert a[-1] == newline and a.count(newline) == 1


def test_openpi_cleans_prompts_and_lerobot_does_not(demo_checkpoint: Path) -> None:
    encode = load_tokenizer(demo_checkpoint, None)
    plain = tokenize(encode, "touch the cube", **RULES).tolist()
    cleaned = tokenize(encode, " touch_the\ncube ", **{**RULES, "cleans": True}).tolist()
    assert cleaned == plain
    assert tokenize(encode, "touch_the\ncube", **RULES).tolist() != plain


def test_long_instructions_are_cut_with_a_warning(
    demo_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encode = load_tokenizer(demo_checkpoint, None)
    tokens = tokenize(encode, "touch the red cube " * 20, **RULES)
    assert tokens.shape == (1, 48)
    assert "cut from" in caplog.text


def test_the_state_is_written_as_openpi_writes_it() -> None:
    """Its `PaligemmaTokenizer.tokenize`: 256 parts of [-1, 1], -1 below, 255 above."""
    text = []

    def encode(prompt: str) -> list[int]:
        text.append(prompt)
        return [2, 3]

    state = np.array([-1.01, -1.0, -0.9921875, 0.0, 0.99, 1.0, 7.0], np.float32)
    rules = {**RULES, "cleans": True}
    assert tokenize(encode, " pick_up\nthe cube ", state=state, **rules).tolist() == [[2, 3]]
    assert text == ["Task: pick up the cube, State: -1 0 1 128 254 255 255;\nAction: "]


def test_a_state_of_nothing_is_no_prompt() -> None:
    with pytest.raises(ValueError, match="not finite"):
        tokenize(lambda _: [2], "touch", state=np.array([0.0, np.nan]), **RULES)


def test_another_models_tokenizer_is_noticed(demo_checkpoint: Path) -> None:
    encode = load_tokenizer(demo_checkpoint, None)
    with pytest.raises(ValueError, match="tokenizer is another model's"):
        tokenize(encode, "touch the red cube", **{**RULES, "vocab_size": 10})


def test_a_missing_tokenizer_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="google/paligemma-3b-pt-224"):
        load_tokenizer(tmp_path, None)
    with pytest.raises(TokenizerError, match="elsewhere"):
        load_tokenizer(tmp_path, tmp_path / "elsewhere")


def test_a_tokenizer_directory_can_be_given(demo_checkpoint: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(demo_checkpoint / name, tmp_path)
    assert load_tokenizer(Path("/nowhere"), tmp_path)("a\n") == load_tokenizer(
        demo_checkpoint, None
    )("a\n")


@pytest.mark.parametrize("with_config", [True, False])
def test_a_damaged_tokenizer_is_named(
    demo_checkpoint: Path, tmp_path: Path, with_config: bool
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    if with_config:
        shutil.copy(demo_checkpoint / "tokenizer_config.json", tmp_path)
    with pytest.raises(TokenizerError, match=str(tmp_path)):
        load_tokenizer(tmp_path, None)


@pytest.mark.parametrize(
    ("name", "value"), [("unk_token", "x" * 10_000), ("unk_token", ""), ("model_max_length", [])]
)
def test_settings_that_only_fail_in_use_are_told_at_once(
    demo_checkpoint: Path, tmp_path: Path, name: str, value: object
) -> None:
    shutil.copy(demo_checkpoint / "tokenizer.model", tmp_path)
    config = json.loads((demo_checkpoint / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(TokenizerError, match=f"{tmp_path}: its tokenizer cannot be read") as error:
        load_tokenizer(tmp_path, None)
    assert len(str(error.value)) < 1000


def test_a_sentencepiece_model_without_a_begin_token(tmp_path: Path) -> None:
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(["touch the red cube"]),
        model_writer=model,
        vocab_size=20,
        hard_vocab_limit=False,
        bos_id=-1,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    with pytest.raises(TokenizerError, match="begin token"):
        load_tokenizer(tmp_path, None)


@pytest.mark.parametrize("instruction", ["TOUCH the red cube", "\u89e6\u6478"])
def test_unknown_tokens_are_told(instruction: str, caplog: pytest.LogCaptureFixture) -> None:
    """The policy would take one unknown word for another."""
    tokenizer = load_tokenizer(TOUCH_CHECKPOINT, None)
    tokenize(tokenizer, "touch the red cube", cleans=False, length=48, vocab_size=256)
    assert not caplog.records and not unknown_tokens(tokenizer, "touch the red cube")
    tokenize(tokenizer, instruction, cleans=False, length=48, vocab_size=256)
    assert unknown_tokens(tokenizer, instruction) == 1
    assert "are unknown to the tokenizer" in caplog.text and repr(instruction) in caplog.text
