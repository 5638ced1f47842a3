"""Checkpoints made to do harm, or broken: they run no code, cost little, and get one list of
errors.

The fuzzer bends one or two places of a checkpoint's files. Whatever comes of it, the checkpoint is
read or refused with a `CheckpointError`, in less than 2 s of CPU time and with less than 200 MB.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pi0_ros.checkpoint.convert import convert, tokenizer_files
from pi0_ros.checkpoint.directory import ADAPTER, ADAPTER_CONFIG, CONFIG
from pi0_ros.checkpoint.document import MOST_BYTES
from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.formats import ReadOptions, read_checkpoint
from pi0_ros.checkpoint.metadata import read_declared
from pi0_ros.checkpoint.sizes import SIZES_KEY
from pi0_ros.checkpoint.steps import POSTPROCESSOR, PREPROCESSOR
from pi0_ros.checkpoint.tensors import INDEX, WEIGHTS
from pi0_ros.policy.prompt import TokenizerError, load_tokenizer

SECONDS, BYTES = 2.0, 200e6
CASES = {"fast": 8, "slow": 110}
"""Of each format."""


@pytest.fixture
def copy(demo_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_checkpoint, tmp_path / "checkpoint"))


def edit(file: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def refused(path: Path) -> str:
    begin = time.process_time()
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    assert time.process_time() - begin < SECONDS
    return str(error.value)


# Code ---------------------------------------------------------------------------------------------


def test_a_tokenizer_s_code_never_runs(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # transformers would ask the person at the terminal.
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    ran = tmp_path / "ran"
    for file in copy.glob("tokenizer*"):
        file.unlink()
    (copy / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "EvilTokenizer",
                "auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", None]},
                "bos_token": "<bos>",
            }
        )
    )
    (copy / "evil.py").write_text(
        f"open({str(ran)!r}, 'w').close()\n"
        "from transformers import PreTrainedTokenizer\n"
        "class EvilTokenizer(PreTrainedTokenizer):\n    pass\n"
    )
    with pytest.raises(TokenizerError, match="cannot be read"):
        load_tokenizer(copy, None)
    assert not ran.exists()


@pytest.mark.parametrize("depth", [10_000, 500_000])
def test_a_tokenizer_s_deep_nesting(copy: Path, depth: int) -> None:
    (copy / "tokenizer_config.json").write_text("[" * depth + "]" * depth)
    with pytest.raises(TokenizerError, match="cannot be read"):
        load_tokenizer(copy, None)


# Paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../outside.safetensors", "{}/outside.safetensors", "a/../../x"])
def test_paths_stay_inside(copy: Path, name: str) -> None:
    statistics = next(copy.glob("policy_postprocessor*.safetensors"))
    shutil.copy(statistics, copy.parent / "outside.safetensors")
    name = name.format(copy.parent)
    edit(copy / POSTPROCESSOR, lambda d: d["steps"][0].update(state_file=name))
    assert "state_file leads out of the checkpoint's directory" in refused(copy)


# Sizes, numbers, kinds ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["depth", "vocab_size", "prefix_width", "horizon", "image_size"])
@pytest.mark.parametrize("value", [10**9, 10**30, -1, 0, 1.5, True, "9", [], {}, 1e400])
def test_sizes_are_bounded(copy: Path, name: str, value: object) -> None:
    edit(copy / CONFIG, lambda d: d[SIZES_KEY].update({name: value}))
    assert f"{SIZES_KEY}: {name} must be" in refused(copy)


def test_sizes_that_divide_by_nothing(copy: Path) -> None:
    edit(copy / CONFIG, lambda d: d[SIZES_KEY].update(patch_size=0, heads=0))
    message = refused(copy)
    assert "patch_size must be" in message and "heads must be" in message


@pytest.mark.parametrize("value", [-1.0, 1.0, "small", float("nan")])
def test_nonsense_for_epsilon(copy: Path, value: object) -> None:
    edit(copy / POSTPROCESSOR, lambda d: d["steps"][0]["config"].update(eps=value))
    assert "eps must be a number from 0 to 0.001" in refused(copy)


@pytest.mark.parametrize(
    "mode,low,high,expected",
    [
        ("MEAN_STD", ("mean", 0.0), ("std", -0.1), "'std' is negative"),
        ("MIN_MAX", ("min", 1.0), ("max", 0.0), "'min' is above 'max'"),
        ("QUANTILES", ("q01", 1.0), ("q99", 0.0), "'q01' is above 'q99'"),
        ("MIN_MAX", ("min", -3e38), ("max", 3e38), "the range is larger than float32 goes"),
    ],
)
def test_spreads_that_cannot_be(
    copy: Path, mode: str, low: tuple[str, float], high: tuple[str, float], expected: str
) -> None:
    file = next(copy.glob("policy_postprocessor*.safetensors"))
    tensors = {f"action.{name}": torch.full((6,), value) for name, value in (low, high)}
    save_file(tensors, file)
    edit(copy / POSTPROCESSOR, lambda d: d["steps"][0]["config"]["norm_map"].update(ACTION=mode))
    assert expected in refused(copy)


@pytest.mark.parametrize("file", [CONFIG, PREPROCESSOR])
@pytest.mark.parametrize(
    "text,expected",
    [
        ("[" * 100_000 + "]" * 100_000, "not valid JSON"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "not valid JSON"),
        ("[]", "expected a JSON object, got list"),
        ('{"steps": ' + "9" * 10_000 + "}", "not valid JSON"),
        ("\0" * 100, "not valid JSON"),
        (" " * (MOST_BYTES + 1), "this is another file, or a damaged one"),
    ],
    ids=["deep lists", "deep objects", "a list", "a long number", "zeros", "a large file"],
)
def test_files_that_are_no_objects(copy: Path, file: str, text: str, expected: str) -> None:
    (copy / file).write_text(text)
    assert expected in refused(copy)


def test_a_header_without_end(copy: Path) -> None:
    (copy / WEIGHTS).write_bytes((2**62).to_bytes(8, "little") + b"{}")
    assert "its header would have more than 8 MB" in refused(copy)


def test_statistics_without_end(copy: Path) -> None:
    file = next(copy.glob("policy_postprocessor*.safetensors"))
    save_file({"action.mean": torch.zeros(1 << 20), "action.std": torch.ones(6)}, file)
    assert "the statistic action.mean has shape [1048576]" in refused(copy)


def test_a_message_is_no_longer_than_a_screenful_of_names(copy: Path) -> None:
    """Names come from the file: neither control characters nor a book reach a terminal."""
    name = "\x1b[2J" + "x" * 10_000
    edit(copy / CONFIG, lambda d: d.update(type=name))
    message = refused(copy)
    assert "\x1b" not in message and len(message) < 1000


# Fuzzing ------------------------------------------------------------------------------------------


def lerobot(path: Path) -> None:
    """As it is."""


def old_lerobot(path: Path) -> None:
    for name in (PREPROCESSOR, POSTPROCESSOR):
        (path / name).unlink()
    tensors = load_file(path / WEIGHTS)
    for buffer in (
        "normalize_inputs.buffer_observation_state",
        "unnormalize_outputs.buffer_action",
    ):
        tensors |= {f"{buffer}.mean": torch.zeros(6), f"{buffer}.std": torch.ones(6)}
    save_file(tensors, path / WEIGHTS)
    edit(path / CONFIG, lambda d: d.update(resize_imgs_with_padding=[224, 224]))


def sharded(path: Path) -> None:
    tensors = load_file(path / WEIGHTS)
    (path / WEIGHTS).unlink()
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(tensors)}
    for file in set(files.values()):
        save_file({n: v for n, v in tensors.items() if files[n] == file}, path / file)
    (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))


def adapter(path: Path) -> None:
    (path / WEIGHTS).unlink()
    name = "base_model.model.model.action_time_mlp_out"
    tensors = {f"{name}.lora_{half}.weight": torch.ones(4, 4) for half in "AB"}
    tensors[f"{name}.lora_A.weight"] = torch.ones(4, 64)
    tensors[f"{name}.lora_B.weight"] = torch.ones(64, 4)
    save_file(tensors, path / ADAPTER)
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "alpha_pattern": {"x.y": 3}}
    (path / ADAPTER_CONFIG).write_text(json.dumps(settings))


NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**30, -(10**30), 1.5, 1e-300, 1e308,
    float("nan"), float("inf"), "", "x", "..", "../../etc/passwd", "\0", "\ud800", "a" * 100_000,
    "state", "MEAN_STD", "VISUAL", [], [[]], [0], [None] * 10_000, [-1], [1e9], [3, 480, 640],
    ["a"],
    {}, {"a": {}}, {"type": "VISUAL"}, {"shape": [10**9]}, {"": None},
    {str(i): i for i in range(10_000)},
]  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value of a JSON document, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from places(item)


def bend_json(file: Path, dice: random.Random) -> str:
    document = json.loads(file.read_text())
    container, key = dice.choice(list(places(document)))
    what = dice.choice(("replace", "delete", "rename", "deepen", "repeat"))
    if what == "delete":
        del container[key]
    elif what == "rename" and isinstance(container, dict):
        container[dice.choice(("x", "", "observation.images.empty_camera_0", "a\nb"))] = (
            container.pop(key)
        )
    elif what == "deepen":
        for _ in range(dice.choice((1, 20, 300))):
            container[key] = [container[key]] if dice.random() < 0.5 else {"a": container[key]}
    elif what == "repeat" and isinstance(container, list):
        container.extend(container[:] * dice.choice((1, 100)))
    else:
        container[key] = dice.choice(NASTY)
    file.write_text(json.dumps(document))
    return f"{file.name}: {what} {key!r}"


def bend_tensors(file: Path, dice: random.Random) -> str:
    data = bytearray(file.read_bytes())
    what = dice.choice(("cut", "flip", "header", "length", "tensor", "name"))
    size = int.from_bytes(data[:8], "little")
    if what == "cut":
        data = data[: dice.randrange(len(data))]
    elif what == "flip":
        for _ in range(dice.choice((1, 10))):
            data[dice.randrange(8 + size)] ^= 1 << dice.randrange(8)
    elif what == "length":
        data[:8] = dice.choice((0, 1, size + 1, 2**32, 2**63)).to_bytes(8, "little")
    else:
        header = json.loads(bytes(data[8 : 8 + size]))
        name = dice.choice([name for name in header if name != "__metadata__"])
        if what == "header":
            container, key = dice.choice(list(places(header[name])))
            container[key] = dice.choice(NASTY)
        elif what == "name":
            header[dice.choice(("x", "", "model.", "_orig_mod.", "\x1b[2J"))] = header.pop(name)
        else:
            del header[name]
        text = json.dumps(header).encode()
        data = bytearray(len(text).to_bytes(8, "little")) + text + data[8 + size :]
    file.write_bytes(data)
    return f"{file.name}: {what}"


def native(path: Path) -> None:
    read = read_checkpoint(path)
    convert(read, path.parent / "native", torch.bfloat16, None, tokenizer_files([path]))
    shutil.rmtree(path)
    (path.parent / "native").rename(path)


FORMATS = {
    "0.4": lerobot,
    "0.3": old_lerobot,
    "openpi": None,
    "shards": sharded,
    "LoRA": adapter,
    "pi0.5": lerobot,
    "native": native,
}


def fuzz(
    name: str, cases: int, start: Path, folder: Path, as_openpi: Callable[[Path], Path]
) -> None:
    source = folder / "source"
    shutil.copytree(start, source)
    (FORMATS[name] or as_openpi)(source)
    (source / "info.json").write_text('{"fps": 30, "features": {"action": {"names": ["a"]}}}')
    options = ReadOptions(base=str(start) if name == "LoRA" else "")
    read_checkpoint(source, options=options)
    refusals = 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(cases):
        dice = random.Random(f"{name}/{seed}")
        path = folder / "case"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(source, path)
        files = [
            file for file in sorted(path.rglob("*")) if file.suffix in (".json", ".safetensors")
        ]
        done = []
        for file in dice.sample(files, dice.choice((1, 1, 2))):
            bend = bend_json if file.suffix == ".json" else bend_tensors
            done.append(bend(file, dice))
        label = f"{name}/{seed}: {done}"
        begin = time.process_time()
        try:
            read = read_checkpoint(path, options=options)
            read_declared(path, read.joints)
        except CheckpointError as error:
            refusals += 1
            assert str(error), label
        except Exception as error:
            raise AssertionError(label) from error
        else:
            for norm in (read.state, read.action):
                values = np.stack([norm.offset, norm.scale, norm.inverse_scale])
                assert np.isfinite(values).all() and (values[1:] >= 0).all(), label
        assert time.process_time() - begin < SECONDS, label
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert (used - most) * 1024 < BYTES, label
    assert cases / 10 < refusals < cases, "the fuzzer bends too much or too little"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("suite", ["fast", pytest.param("slow", marks=pytest.mark.slow)])
def test_bent_checkpoints_are_read_or_refused(
    demo_checkpoint: Path,
    demo_pi05: Path,
    tmp_path: Path,
    as_openpi: Callable[[Path], Path],
    suite: str,
    name: str,
) -> None:
    start = demo_pi05 if name == "pi0.5" else demo_checkpoint
    fuzz(name, CASES[suite], start, tmp_path, as_openpi)
