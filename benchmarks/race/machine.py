"""What this machine can do: its rate of matrix products, and the bandwidth of its memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.race.case import STAGES, Product
from pi0_ros.model.ops import onednn

_SIDES = (1024, 2048)
_BANDWIDTH_BYTES = 512 * 2**20
_ENOUGH_SECONDS = 2.0
_COLD_BYTES = 256 * 2**20
_FEW_ROWS = 64

Way = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Machine:
    """Rates per second of process CPU time, of the threads that torch may use.

    Attributes:
        gemm: FLOP/s of the fastest square product, by torch or by oneDNN.
        torch_gemm, onednn_gemm: FLOP/s of either: in float32 the first is MKL's on x86.
        bandwidth: bytes/s of reading memory that is in no cache.
    """

    gemm: float
    torch_gemm: float
    onednn_gemm: float
    bandwidth: float


def least_seconds(run: Callable[[], object], runs: int = 5) -> float:
    """The shortest process CPU time of a call, after one that does not count."""
    run()
    best, spent = float("inf"), 0.0
    for _ in range(runs):
        start = time.process_time()
        run()
        seconds = time.process_time() - start
        best, spent = min(best, seconds), spent + seconds
        if spent > _ENOUGH_SECONDS:
            break
    return best


@torch.inference_mode()
def measure_machine(dtype: torch.dtype) -> Machine:
    """The rates of this process's thread count."""
    rates: dict[str, float] = {}
    for side in _SIDES:
        a, b = _random(side, side, dtype), _random(side, side, dtype)
        for name, way in _ways(dtype).items():
            rate = 2 * side**3 / least_seconds(_in_turn(a, [b], way), 9)
            rates[name] = max(rates.get(name, 0.0), rate)
    block = torch.ones(_BANDWIDTH_BYTES // 4)
    bandwidth = _BANDWIDTH_BYTES / least_seconds(block.sum)
    gemm = max(rates.values())
    return Machine(gemm, rates["torch"], rates.get("onednn", 0.0), bandwidth)


@torch.inference_mode()
def by_shape(found: Sequence[Product], dtype: torch.dtype) -> dict[str, float]:
    """Stage -> seconds of its products alone, each shape measured by itself, the best way of it.

    Weights take turns, so that they come from memory as those of a model's layers do.
    """
    seconds = dict.fromkeys(STAGES, 0.0)
    for product in found:
        a, b = _random(product.m, product.k, dtype), _random(product.n, product.k, dtype)
        copies = 1
        if product.weight:
            wanted = _COLD_BYTES // (b.numel() * dtype.itemsize) + 1
            copies = min(product.count, wanted)
        weights = [b, *(b.clone() for _ in range(copies - 1))]
        ways = [_in_turn(a, weights, way) for way in _ways(dtype).values()]
        if product.weight and product.m <= _FEW_ROWS and onednn.supported(dtype):
            pack = torch.ops.mkldnn._reorder_linear_weight
            packed = [pack(weight, product.m) for weight in weights]
            ways.append(_in_turn(a, packed, _ways(dtype)["onednn"]))
        best = min(least_seconds(run, 3) for run in ways)
        seconds[product.stage] += best / copies * product.count
    return seconds


def in_int8(found: Sequence[Product], dtype: torch.dtype) -> float:
    """Seconds of the products alone if those with weights were of int8, without scaling anything.

    The least that quantised weights and activations could take: `torch._int_mm` is oneDNN's.
    """
    weights = [product for product in found if product.weight]
    others = [product for product in found if not product.weight]
    parts = (by_shape(weights, torch.int8), by_shape(others, dtype))
    return sum(seconds for part in parts for seconds in part.values())


def _in_turn(a: Tensor, weights: Sequence[Tensor], way: Way) -> Callable[[], object]:
    return lambda: [way(a, weight) for weight in weights]


def bound(found: Sequence[Product], machine: Machine, item: int) -> dict[str, float]:
    """Stage -> the least seconds that its arithmetic and the reading of its weights allow.

    Args:
        item: bytes of a weight's element.
    """
    seconds = dict.fromkeys(STAGES, 0.0)
    for product in found:
        read = item * product.k * product.n * product.count if product.weight else 0
        compute = product.flops / machine.gemm
        seconds[product.stage] += max(compute, read / machine.bandwidth)
    return seconds


def _ways(dtype: torch.dtype) -> dict[str, Way]:
    """a, b -> a @ b^T, by torch's own choice, and by oneDNN's product."""
    if dtype == torch.int8:
        return {"int8": lambda a, b: torch._int_mm(a, b.t())}
    ways: dict[str, Way] = {"torch": lambda a, b: a @ b.t()}
    if onednn.supported(dtype):
        ways["onednn"] = lambda a, b: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return ways


def _random(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    if dtype == torch.int8:
        return torch.randint(-127, 128, (rows, columns), dtype=dtype)
    return torch.randn(rows, columns).to(dtype)
