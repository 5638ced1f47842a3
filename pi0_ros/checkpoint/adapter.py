"""LoRA adapters (PEFT): what they add to the weights of the checkpoint they were trained on.

An adapter holds, for some weights W [out, in], A [r, in] and B [out, r]; the policy computes with
W + alpha / r * B A, which is what `Tensors.reader` then gives. Tensors that were trained whole
(`modules_to_save`) replace those of the base.
"""

from __future__ import annotations

import re
from pathlib import Path

from pi0_ros.checkpoint.directory import ADAPTER, ADAPTER_CONFIG, base_of, is_adapter, weight_files
from pi0_ros.checkpoint.document import Document, read_document
from pi0_ros.checkpoint.errors import CheckpointError, plain, shown
from pi0_ros.checkpoint.tensors import LowRank, TensorInfo, Tensors, canonical, read_infos

_PARTS = re.compile(r"(?P<module>.*)\.lora_(?P<part>[AB])(\.\w+)?\.weight")
_MOST_RANK = 4096
_OTHER_SUMS = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "fan_in_fan_out",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
)
"""Settings of PEFT under which an adapter is something else than W + scale * B A."""
_HARMLESS_STARTS = ("true", "false", "gaussian", "eva", "orthogonal")


def read_tensors(path: Path, base: str, problems: list[str]) -> Tensors:
    """The tensors of a checkpoint; an adapter's are those of its base, changed.

    Args:
        base: directory of the checkpoint that an adapter was trained on; "" if not given.

    Raises:
        CheckpointError: there are no weights, or the adapter's base is not given.
    """
    if not is_adapter(path):
        if base:
            problems.append(f"base_checkpoint is given, but {path.name} is a whole checkpoint")
        return Tensors(read_infos(weight_files(path), problems))
    if not base:
        raise CheckpointError(
            f"{path} is an adapter (LoRA) of {base_of(path) or 'another checkpoint'}, and holds the"
            " differences only: set the parameter `base_checkpoint` to a directory with that"
            " checkpoint, or write both as one with `pi0 convert --base-checkpoint`"
        )
    for name in (ADAPTER, ADAPTER_CONFIG):
        if not (path / name).is_file():
            raise CheckpointError(f"{path}: {name} is missing; an adapter consists of both files")
    if is_adapter(Path(base)):
        raise CheckpointError(f"{base} is an adapter itself: give its base as `base_checkpoint`")
    whole = Tensors(read_infos(weight_files(Path(base)), problems))
    return _merged(path, whole, problems)


def _merged(path: Path, whole: Tensors, problems: list[str]) -> Tensors:
    settings = read_document(path, ADAPTER_CONFIG, problems)
    _check_kind(settings)
    infos = dict(whole)
    halves: dict[str, dict[str, TensorInfo]] = {}
    for name, info in read_infos([path / ADAPTER], problems, str).items():
        name = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        match = _PARTS.fullmatch(name)
        if match:
            halves.setdefault(canonical(f"{match['module']}.weight"), {})[match["part"]] = info
        elif "lora_" in name:
            problems.append(f"{ADAPTER}: {plain(info.name)} is of a kind that cannot be merged")
        else:
            key = canonical(re.sub(r"\.modules_to_save(\.default)?\.", ".", name))
            if key not in whole:
                problems.append(f"{ADAPTER}: the base has no tensor {plain(key)}")
            infos[key] = info
    changes = {}
    for key, parts in halves.items():
        shapes = [parts[part].shape if part in parts else () for part in "BA"]
        up, down = shapes
        fits = len(up) == len(down) == 2 and up[1] == down[0] <= _MOST_RANK
        if not fits or key not in whole or whole[key].shape != (up[0], down[1]):
            there = list(whole[key].shape) if key in whole else "none"
            problems.append(
                f"{ADAPTER}: B {list(up)} and A {list(down)} do not fit {plain(key)} of the base:"
                f" {there}"
            )
            continue
        scale = _scale(settings, key, down[0])
        changes[key] = LowRank(parts["A"], parts["B"], scale)
        # The sum is computed in float32, whatever the base has.
        infos[key] = whole[key]._replace(dtype="F32")
    if not halves:
        problems.append(f"{ADAPTER} has no LoRA tensors")
    return Tensors(infos, changes)


def _check_kind(settings: Document) -> None:
    if settings.raw("peft_type") != "LORA":
        settings.problem(
            f"peft_type is {shown(settings.raw('peft_type'))}: only LORA can be merged here; merge"
            " it with PEFT (merge_and_unload)"
        )
    for name in _OTHER_SUMS:
        if settings.raw(name):
            settings.problem(f"{name} is set: merge the adapter with PEFT (merge_and_unload)")
    start = settings.raw("init_lora_weights")
    if isinstance(start, str) and start.lower() not in _HARMLESS_STARTS:
        settings.problem(
            f"init_lora_weights is {shown(start)}, which changes the base too: merge the adapter"
            " with PEFT (merge_and_unload)"
        )


def _scale(settings: Document, key: str, rank: int) -> float:
    """alpha / r, or alpha / sqrt(r) with rsLoRA; alpha may be another one for some modules."""
    alpha = settings.number("lora_alpha", 8.0, 0.0, 1e6)
    own = settings.child("alpha_pattern")
    module = key.removesuffix(".weight")
    for pattern in own:
        name = canonical(pattern.removeprefix("^").removesuffix("$") + ".").removesuffix(".")
        if not re.fullmatch(r"[\w.]+", name):
            own.problem(f"{shown(pattern)} is a pattern; only names of modules are supported")
        elif f".{module}".endswith(f".{name}"):
            alpha = own.number(pattern, alpha, 0.0, 1e6)
    return alpha / (rank**0.5 if settings.flag("use_rslora") else rank)
