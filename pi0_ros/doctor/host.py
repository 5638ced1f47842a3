"""What this machine has: the contract, versions, the device, memory, the graph cache."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch

from pi0_ros.checkpoint.checkpoint import WEIGHTS, Checkpoint
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.checkpoint.metadata import read_declared
from pi0_ros.checkpoint.weights import CheckpointError, read_keys
from pi0_ros.doctor.findings import FAIL, PASS, WARN, Finding
from pi0_ros.node.contract_fit import plain_name
from pi0_ros.node.parameters import NodeParameters
from pi0_ros.node.preflight import contract_problems
from pi0_ros.policy.device import DeviceError, resolve_device
from pi0_ros.policy.policy import DTYPES
from pi0_ros.policy.prompt import TokenizerError, load_tokenizer, tokenize

CACHE_BYTES = 1 << 30
"""A full model's compiled graphs need hundreds of megabytes on disk."""

SHARED_MEMORY = Path("/dev/shm")
SHARED_BYTES = 64 << 20
"""Fast DDS takes up to 18 MiB of it per ROS process (config/fastdds.xml). Where the pages are not
there a process that touches them is ended by SIGBUS."""

_PACKAGES = ("rclpy", "torch", "torch_npu", "numpy", "opencv-python", "transformers", "rosbags")
# As ROS's apt packages and the wheels from PyPI call it.
_OTHER_NAMES = {"rclpy": ("ros-jazzy-rclpy", "ros-kilted-rclpy")}


def judge_contract(parameters: NodeParameters) -> tuple[list[Finding], Checkpoint | None]:
    """What `configure` would refuse, the graph apart, and the checkpoint where it can be read."""
    problems = contract_problems(parameters, None)
    findings = [Finding(FAIL, "contract", problem) for problem in problems]
    try:
        checkpoint = read_checkpoint(Path(parameters.checkpoint).expanduser())
    except (CheckpointError, OSError):
        return findings, None  # is among the problems
    if not problems:
        text = (
            f"{checkpoint.format} checkpoint {checkpoint.path}: cameras"
            f" {list(parameters.camera_names)}, {checkpoint.joints} joints,"
            f" {checkpoint.config.horizon} steps of {parameters.action_dt:g} s fit"
        )
        findings.append(Finding(PASS, "contract", text))
    left_out = [name for name in checkpoint.cameras if name not in parameters.camera_names]
    if left_out and not problems:
        text = f"cameras {left_out} of the checkpoint are left out: the model does not see them"
        findings.append(Finding(WARN, "contract", text, "right only if training had such cases"))
    if not parameters.joint_limits:
        text = "no joint_limits: the node makes only dry runs"
        advice = "give joint_limits.yaml or the URDF by joint_limits"
        findings.append(Finding(WARN, "contract", text, advice))
    findings += _recorded_names(parameters, checkpoint)
    findings += _words(parameters, checkpoint)
    return findings, checkpoint


def _recorded_names(parameters: NodeParameters, checkpoint: Checkpoint) -> Iterator[Finding]:
    try:
        declared = read_declared(checkpoint.path, checkpoint.joints)
    except CheckpointError:
        return  # is among the problems
    names = parameters.joint_names
    if not declared.joints:
        text = "the checkpoint records no joint names: the order of `joints` cannot be proved"
        yield Finding(WARN, "order", text, "compare it with the data set's meta/info.json")
        return
    pairs = list(zip(names, declared.joints, strict=False))
    if all(plain_name(ours) == plain_name(theirs) for ours, theirs in pairs):
        text = f"`joints` are in the order of the checkpoint ({declared.joints_source})"
        yield Finding(PASS, "order", text)
    else:
        listed = ", ".join(f"{ours} = {theirs}" for ours, theirs in pairs)
        text = f"names differ from the checkpoint's ({declared.joints_source}): {listed}"
        yield Finding(WARN, "order", text, "make sure that each pair is the same joint")


def _words(parameters: NodeParameters, checkpoint: Checkpoint) -> Iterator[Finding]:
    """The tokenizer, and the instruction through it."""
    given = Path(parameters.tokenizer).expanduser() if parameters.tokenizer else None
    instruction = parameters.instruction if parameters.instruction.strip() else "touch the cube"
    config = checkpoint.config
    try:
        tokenize(
            load_tokenizer(checkpoint.path, given),
            instruction,
            cleans=checkpoint.cleans_prompt,
            length=config.prompt_length,
            vocab_size=config.vocab_size,
        )
    except (TokenizerError, ValueError, ImportError) as error:
        yield Finding(FAIL, "tokenizer", str(error))
    else:
        yield Finding(PASS, "tokenizer", f"reads {instruction!r}")


def judge_host(parameters: NodeParameters, checkpoint: Checkpoint | None) -> list[Finding]:
    """Versions, the device, memory for the weights and for DDS, and the graph cache."""
    return [
        _versions(),
        *_device(parameters, checkpoint),
        *_shared_memory(),
        *_cache(parameters),
    ]


def _versions() -> Finding:
    versions = [f"pi0_ros {_version('pi0_ros')}", f"Python {platform.python_version()}"]
    versions.append(f"ROS {os.environ.get('ROS_DISTRO', 'of this Python environment')}")
    versions += [f"{name} {_version(name)}" for name in _PACKAGES]
    return Finding(PASS, "versions", f"{', '.join(versions)}; {platform.machine()}")


def _version(package: str) -> str:
    for name in (package, *_OTHER_NAMES.get(package, ())):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"


def _device(parameters: NodeParameters, checkpoint: Checkpoint | None) -> Iterator[Finding]:
    try:
        device = resolve_device(parameters.device)
    except DeviceError as error:
        yield Finding(FAIL, "device", str(error))
        return
    if parameters.device == "auto" and device.type == "cpu":
        text = "auto: no NPU can be used, the model runs on the CPU"
        yield Finding(WARN, "device", text, "-p device:=npu:0 says why")
    else:
        yield Finding(PASS, "device", f"{device} can be used")
    if checkpoint is None:
        return
    needed = weight_bytes(checkpoint, DTYPES[parameters.dtype])
    free = free_memory(device)
    text = f"the weights take {_size(needed)} as {parameters.dtype}; {device} has"
    text = f"{text} {_size(free)} free" if free is not None else f"{text} memory of unknown size"
    if free is not None and needed > free:
        yield Finding(FAIL, "memory", text, "free some, or -p dtype:=bfloat16")
    elif free is not None and needed > 0.8 * free:
        yield Finding(WARN, "memory", text, "activations and graphs need room beside them")
    else:
        yield Finding(PASS, "memory", text)


def weight_bytes(checkpoint: Checkpoint, dtype: torch.dtype) -> int:
    """Bytes of a checkpoint's weights once loaded in a number format, by the tensors' headers."""
    numbers = 0
    for info in read_keys(checkpoint.path / WEIGHTS).values():
        size = 1
        for side in info.shape:
            size *= side
        numbers += size
    return numbers * dtype.itemsize


def free_memory(device: torch.device) -> int | None:
    """Bytes that a device has left; None where nothing says."""
    if device.type == "cpu":
        try:
            lines = Path("/proc/meminfo").read_text().splitlines()
        except OSError:
            return None
        found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
        return int(found[0]) * 1024 if found else None
    module = getattr(torch, device.type, None)
    if module is None or not hasattr(module, "mem_get_info"):
        return None
    return int(module.mem_get_info(device)[0])


def _shared_memory() -> Iterator[Finding]:
    """Room for Fast DDS, the default of ROS 2; nothing to say of another middleware."""
    middleware = os.environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    if not middleware.startswith("rmw_fastrtps") or not SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    text = f"{SHARED_MEMORY} has {_size(free)} free for Fast DDS"
    if free < SHARED_BYTES:
        advice = (
            "stop all ROS processes and run `fastdds shm clean`: processes that were killed leave"
            " theirs behind; in Docker raise --shm-size (default 64 MB)"
        )
        yield Finding(WARN, "shared memory", f"{text}: a new ROS process may die of SIGBUS", advice)
    else:
        yield Finding(PASS, "shared memory", text)


def _cache(parameters: NodeParameters) -> Iterator[Finding]:
    if not parameters.graph_cache:
        if parameters.graph not in ("auto", "eager"):
            text = f"no graph_cache: {parameters.graph} compiles anew at each start"
            yield Finding(WARN, "cache", text, "set graph_cache, and run pi0_compile once")
        return
    cache = Path(parameters.graph_cache).expanduser()
    there = next(path for path in (cache, *cache.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        text = f"graph_cache {cache} cannot be written ({there})"
        yield Finding(FAIL, "cache", text, "choose another directory, or change its owner")
        return
    free = shutil.disk_usage(there).free
    text = f"graph_cache {cache} can be written, {_size(free)} free"
    if free < CACHE_BYTES:
        yield Finding(WARN, "cache", text, f"compiled graphs may need {_size(CACHE_BYTES)}")
    else:
        yield Finding(PASS, "cache", text)


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
