"""The cache of compiled graphs: its keys, what was measured for `graph: auto`, and the scales of
`precision: float8`.
"""

import hashlib
import json
import logging
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.quantised import Calibration, CalibrationError
from pi0_ros.policy import cann
from pi0_ros.policy.compile import (
    CAPTURED,
    CONTESTANTS,
    DEFAULT_GRAPH,
    NEEDS,
    TORCHAIR_MODES,
    GraphOptions,
    torchair_config,
)
from pi0_ros.policy.device import DeviceError, chip_name

_LOG = logging.getLogger(__name__)
# `auto` becomes one of the graphs, which have folders of their own, after the key is made.
_NOT_IN_A_KEY = ("graph", "cache")
MEASURED = "measured.json"
"""File in a key's directory with seconds per inference by compiler."""

CALIBRATION = "calibration.json"
"""File in the cache with the scales of one checkpoint's products, which names its weights."""


def plan_graphs(
    options: GraphOptions, config: Pi0Config, dtype: torch.dtype, device: torch.device, cameras: int
) -> tuple[GraphOptions, str]:
    """Decide what `auto` means, before a model is loaded; nothing is compiled yet.

    Args:
        cameras: number of cameras that the graphs will take.

    Returns:
        The options without `auto`, and the key of the graphs; see `cache_key`.

    Raises:
        DeviceError: a graph of another device.
        GraphError: the installed torchair does not have it.
    """
    key = cache_key(options, config, dtype, device, cameras)
    # Also where `auto` becomes eager, perhaps for want of the measurement that has another key.
    if options.cache is not None and options.graph != "eager":
        warn_of_stale(options.cache, key)
    graph = resolve_graph(options, device, key)
    if graph in TORCHAIR_MODES:
        torchair_config(graph)  # before a model is loaded and compiled for minutes
    return replace(options, graph=graph, form="frame" if graph in CAPTURED else options.form), key


def resolve_graph(options: GraphOptions, device: torch.device, key: str) -> str:
    """The compiler that `options.graph` stands for on a device.

    Raises:
        DeviceError: a graph of another device.
    """
    needs = NEEDS.get(options.graph, device.type)
    if needs != device.type:
        kind = {"npu": "an NPU", "cuda": "a GPU of NVIDIA"}[needs]
        raise DeviceError(f"graph '{options.graph}' needs {kind}, the device is {device}")
    if options.graph != "auto":
        return options.graph
    measured = read_measurement(options.cache, key)
    return DEFAULT_GRAPH.get(device.type, "eager") if measured is None else choose(measured)


def choose(measured: dict[str, float]) -> str:
    """The compiler that `auto` takes, from seconds per inference; the first is quick to start.

    Another has to be a tenth faster: less is noise, and its first start takes minutes.
    """
    first = next(iter(measured))
    best = min(measured, key=lambda graph: measured[graph])
    return best if measured[best] < 0.9 * measured[first] else first


def read_measurement(cache: Path | None, key: str) -> dict[str, float] | None:
    """Compiler -> seconds per inference, as `write_measurement` left it; None where it did not."""
    file = None if cache is None else cache / key / MEASURED
    if file is None or not file.is_file():
        return None
    try:
        seconds = json.loads(file.read_text())
        names = next(n for n in CONTESTANTS.values() if set(n) == set(seconds))
        measured = {graph: float(seconds[graph]) for graph in names}
    except (ValueError, TypeError, StopIteration) as error:
        _LOG.warning("%s cannot be read: run pi0 compile again: %r", file, error)
        return None
    return measured


def write_measurement(cache: Path, key: str, seconds: dict[str, float]) -> None:
    """Keep what was measured for `auto`."""
    (cache / key).mkdir(parents=True, exist_ok=True, mode=0o700)
    (cache / key / MEASURED).write_text(json.dumps(seconds, indent=2) + "\n")


def read_calibration(cache: Path | None) -> Calibration | None:
    """What `write_calibration` left in a cache; None where it did not.

    Raises:
        CalibrationError: the file holds something else.
    """
    file = None if cache is None else cache / CALIBRATION
    if file is None or not file.is_file():
        return None
    try:
        document = json.loads(file.read_text())
        inputs = {str(name): float(value) for name, value in document["inputs"].items()}
        if not all(math.isfinite(value) and value >= 0 for value in inputs.values()):
            raise ValueError("a value is negative or not finite")
        return Calibration(str(document["weights"]), inputs)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CalibrationError(
            f"{file} is no calibration ({error!r}): make it anew with pi0 compile --calibrate"
        ) from error


def write_calibration(cache: Path, calibration: Calibration) -> Path:
    """Keep what float8 needs; returns the file."""
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = cache / f"{CALIBRATION}.new"  # a node may read meanwhile, or the disk be full
    new.write_text(json.dumps(asdict(calibration), indent=2) + "\n")
    return new.replace(cache / CALIBRATION)


def warn_of_stale(cache: Path, key: str) -> bool:
    """Say so where a cache has graphs, but none for this key."""
    others = [path.name for path in cache.glob("[0-9a-f]*") if len(path.name) == len(key)]
    stale = bool(others) and key not in others
    if stale:
        _LOG.warning(
            "graph cache %s: sources, versions or sizes are not those of the %d graphs there; "
            "compiling anew",
            cache,
            len(others),
        )
    return stale


def cache_key(
    options: GraphOptions, config: Pi0Config, dtype: torch.dtype, device: torch.device, cameras: int
) -> str:
    """A hash of everything that a compiled graph depends on but the weights.

    Graph caches do not check this themselves: the sources of the model and of `compile`, versions
    of torch, CUDA, torch_npu and CANN, the chip, sizes, dtype, number of cameras and the options.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for source in [*sorted((root / "model").rglob("*.py")), root / "policy" / "compile.py"]:
        digest.update(source.read_bytes())
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": device.type,
        "chip": chip_name(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "sizes": asdict(config),
        "dtype": str(dtype),
        "cameras": cameras,
        **{name: value for name, value in asdict(options).items() if name not in _NOT_IN_A_KEY},
    }
    if device.type == "npu":
        import torch_npu

        facts["torch_npu"] = torch_npu.__version__
        facts["cann"] = cann.version()
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()[:16]
