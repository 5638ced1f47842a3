"""The operators of pi0 on NVIDIA GPUs: cuBLAS for the products, Triton kernels between them.

Which kernels are used is measured: `prepare` compares each with the reference at the sizes of the
model, on the card, and keeps those that agree and are faster. Without Triton, which torch's wheels
for CUDA bring, and where none wins, this is the reference.
"""

import logging
from collections.abc import Callable
from importlib import util
from typing import Any

import torch
from torch import Tensor

from pi0_ros.model.config import Pi0Config
from pi0_ros.model.linear import Linear
from pi0_ros.model.ops.reference import EPS, Reference
from pi0_ros.model.quantised import Calibration, Model

Pair = tuple[Tensor, Tensor]

_LOG = logging.getLogger(__name__)

KERNELS = ("attention", "add_rms_norm", "split_rope", "geglu")
CHOICES = ("auto", "triton", "none")
"""What users may ask for: those kernels that win, all of them, or none."""

PARTS = ("prefix", "suffix")
"""Of a model: all tokens of the prefix; those of one denoise step."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.05}
"""By which share of the largest value a kernel may differ from the reference, to be used."""

_CAMERAS = 2


def supported(device: torch.device) -> bool:
    """Whether this backend is for a device: a GPU of NVIDIA, with Triton installed."""
    return device.type == "cuda" and util.find_spec("triton") is not None


class Cuda(Reference):
    """RoPE tables, keys, values and gains are those of the reference. With the attention kernel a
    mask is bool [1 or batch, 2, keys]: what is masked out for the first query, and for all others,
    which in pi0 are alike.

    Attributes:
        kernels: those in use.
    """

    def __init__(
        self,
        choice: str = "auto",
        *,
        compiled: bool = False,
        precision: str = "full",
        calibration: Calibration | None = None,
    ) -> None:
        """
        Args:
            choice: of `CHOICES`.
            compiled: whether inductor fuses what is no product; then only attention is left to win.
            precision, calibration: see `Reference`.
        """
        super().__init__(precision, calibration)
        if choice not in CHOICES:
            raise ValueError(f"kernels must be one of {', '.join(CHOICES)}, got {choice!r}")
        self.choice = choice
        self.candidates = KERNELS[:1] if compiled else KERNELS
        self.kernels: frozenset[str] = frozenset()

    def prepare(self, model: Model) -> Model:
        """Decide which kernels to use; parameters stay as they are, but for those of eight bits."""
        m: Any = model
        candidates = () if self.choice == "none" else self.candidates
        if candidates and m.config.head_dim & (m.config.head_dim - 1):
            candidates = tuple(name for name in candidates if name != "attention")
        wins = [name for name in candidates if self._wins(name, m.config, m.dtype, m.device)]
        self.kernels = frozenset(wins)
        if candidates:
            _LOG.info("Triton kernels in use: %s", ", ".join(wins) or "none")
        return super().prepare(model)

    def attention_mask(self, mask: Tensor, group: int, dtype: torch.dtype) -> Tensor:
        if "attention" not in self.kernels:
            return super().attention_mask(mask, group, dtype)
        return torch.stack((mask[:, 0, 0], mask[:, 0, -1]), dim=1)

    def qkv(
        self,
        x: Tensor,
        linear: Linear,
        heads: int,
        kv_heads: int,
        rope: Pair | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, Pair]:
        if rope is None or "split_rope" not in self.kernels:
            return super().qkv(x, linear, heads, kv_heads, rope, bias)
        from pi0_ros.model.ops.triton_kernels import split_rope

        q, k, v = split_rope(linear(x, bias), *rope, heads, kv_heads)
        return q, (k, v)

    def attention(
        self, q: Tensor, kv: Pair, mask: Tensor | None, scale: float, past: Pair | None = None
    ) -> Tensor:
        # Heads with keys of their own, as in the vision tower, have a kernel in torch.
        if "attention" not in self.kernels or q.shape[2] == kv[0].shape[2]:
            return super().attention(q, kv, mask, scale, past)
        from pi0_ros.model.ops.triton_attention import attention

        return attention(q, *kv, *(past or (None, None)), mask, scale)

    def linear_add_rms_norm(
        self,
        x: Tensor,
        linear: Linear,
        residual: Tensor,
        gain: Tensor,
        gate: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        # The kernel has one gain for all tokens.
        if "add_rms_norm" not in self.kernels or gain.dim() > 1:
            return super().linear_add_rms_norm(x, linear, residual, gain, gate)
        from pi0_ros.model.ops.triton_kernels import add_rms_norm

        return add_rms_norm(linear(x), residual, gain, gate, EPS)

    def geglu(self, x: Tensor, linear: Linear, bias: Tensor | None = None) -> Tensor:
        if "geglu" not in self.kernels:
            return super().geglu(x, linear, bias)
        from pi0_ros.model.ops.triton_kernels import geglu

        return geglu(linear(x, bias))

    def _wins(self, name: str, c: Pi0Config, dtype: torch.dtype, device: torch.device) -> bool:
        """Whether a kernel agrees with the reference at this model's sizes, and is faster."""
        try:
            for part in PARTS:
                share = disagreement(name, part, c, dtype, device)
                if not share <= TOLERANCE[dtype]:  # NaN is not within it
                    _LOG.warning(
                        "the Triton kernel %s is not used: it differs from the reference by %.2g "
                        "of the largest value, on %s; please report it",
                        name,
                        share,
                        device,
                    )
                    return False
            if self.choice != "auto":
                return True
            ours, reference = spent(name, c, dtype, device)
        except Exception as error:  # of Triton's compiler and driver there are many kinds
            _LOG.warning("the Triton kernel %s cannot be used on %s: %s", name, device, error)
            return False
        return ours < reference


def disagreement(
    name: str, part: str, c: Pi0Config, dtype: torch.dtype, device: torch.device
) -> float:
    """By which share of the largest value a kernel differs from the reference, at a model's sizes.

    Args:
        name: of `KERNELS`.
        part: of `PARTS`.
    """
    got, expected = (
        trial(name, part, c, dtype, device, ops)() for ops in (_only(name), Reference())
    )
    most = max(float((a - b).abs().max()) for a, b in zip(got, expected, strict=True))
    return most / max(float(b.abs().max()) for b in expected)


def spent(name: str, c: Pi0Config, dtype: torch.dtype, device: torch.device) -> tuple[float, float]:
    """Seconds of a frame in a kernel, and in what the reference has in its place."""
    times = dict(zip(PARTS, (c.depth, c.depth * c.num_steps), strict=True))
    ours, reference = (
        sum(n * seconds(trial(name, p, c, dtype, device, ops), device) for p, n in times.items())
        for ops in (_only(name), Reference())
    )
    return ours, reference


def _only(name: str) -> Cuda:
    """The operators with one kernel."""
    ops = Cuda()
    ops.kernels = frozenset({name})
    return ops


def trial(
    name: str, part: str, c: Pi0Config, dtype: torch.dtype, device: torch.device, ops: Reference
) -> Callable[[], tuple[Tensor, ...]]:
    """One operator without its product, at the sizes of a model with two cameras, random numbers.

    Args:
        name, part: of `KERNELS` and `PARTS`.
    """
    g = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g).to(device, dtype)

    prefix = _CAMERAS * c.tokens_per_image + c.prompt_length
    tokens = prefix if part == "prefix" else c.horizon + (not c.pi05)
    width, mlp = (
        (c.prefix_width, c.prefix_mlp) if part == "prefix" else (c.expert_width, c.expert_mlp)
    )
    size, kv_heads = c.head_dim, c.kv_heads

    def product(*shape: int) -> Any:
        y = draw(1, tokens, *shape)
        return lambda x, bias=None: y

    nothing = torch.empty(0)  # what the products do not read
    if name == "attention":
        past = None
        if part == "suffix":
            past = draw(1, prefix, kv_heads, size), draw(1, prefix, kv_heads, size)
        keys = tokens + (prefix if past else 0)
        masked = torch.zeros(1, 1, tokens, keys, dtype=torch.bool, device=device)
        masked[..., prefix - c.prompt_length // 2 : prefix] = True
        mask = ops.attention_mask(masked, c.heads // kv_heads, dtype)
        q = draw(1, tokens, c.heads, size)
        kv = draw(1, tokens, kv_heads, size), draw(1, tokens, kv_heads, size)
        return lambda: (ops.attention(q, kv, mask, size**-0.5, past),)
    if name == "split_rope":
        linear = product((c.heads + 2 * kv_heads) * size)
        rope = ops.rope_tables(torch.arange(tokens, device=device)[None], c, dtype)

        def rotated() -> tuple[Tensor, ...]:
            q, kv = ops.qkv(nothing, linear, c.heads, kv_heads, rope)
            return q, *kv

        return rotated
    if name == "geglu":
        linear = product(2 * mlp)
        return lambda: (ops.geglu(nothing, linear),)
    linear, residual, gain = product(width), draw(1, tokens, width), draw(width).float()
    return lambda: ops.linear_add_rms_norm(nothing, linear, residual, gain)


def seconds(call: Callable[[], object], device: torch.device, calls: int = 20) -> float:
    """Of one call on a GPU: the least of five replays of a graph of several, without the host."""
    with torch.cuda.device(device):
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            for _ in range(calls):
                call()
        spent = []
        for _ in range(5):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            spent.append(start.elapsed_time(end) / 1e3 / calls)
    return min(spent)
