"""Products of vision and prefix in eight bits: other linear modules, which a backend's `prepare`
puts in the place of `Linear`. The action expert, whose time is the reading of weights and whose
errors add up over the denoise steps, keeps its dtype.

* `int8` (W8A8): a scale per output channel of the weights, and one per token of what they are
  multiplied by, which is found while it runs: nothing needs to be calibrated.
* `float8` (e4m3): a scale per weight, and one per input, from recorded observations (`observed`).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pi0_ros.errors import UserError
from pi0_ros.model.linear import Linear, frozen, replace

Model = TypeVar("Model", bound=nn.Module)

PRECISIONS = ("full", "int8", "float8")
"""Of those products; `full` is the model's dtype."""

_LEAST = 1e-12
"""Of a scale: a column of zeros, such as those that pad heads, has one, too."""

_FLOAT8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(_FLOAT8).max
_ROOM = 2.0
"""An input may be so many times larger than any that was recorded. A power of two costs float8 none
of its digits."""

_ADVICE = "run `pi0 compile --precision float8 --calibrate BAG` with this checkpoint"


class CalibrationError(UserError, ValueError):
    """There are no scales for a model; the message says what to do."""


@dataclass(frozen=True)
class Calibration:
    """What the scales of float8 are made of.

    Attributes:
        weights: `fingerprint` of the model that was observed.
        inputs: product -> largest absolute value that it was given.
    """

    weights: str
    inputs: Mapping[str, float]


def product_names(model: nn.Module) -> list[str]:
    """The products that are quantised: of all layers of vision and prefix, first and last apart."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, Linear)
        and (name.startswith(("vision.layers.", "prefix.layers.")) or name == "prefix_last_kv")
    ]


def fingerprint(model: nn.Module) -> str:
    """A hash of samples of the weights that are quantised, whatever dtype they were loaded in.

    Args:
        model: of which nothing is quantised yet.
    """
    digest = hashlib.sha256()
    for name in product_names(model):
        weight = model.get_submodule(name).weight.detach()
        rows, columns = (max(1, size // 8) for size in weight.shape)
        sample = weight[::rows, ::columns].bfloat16().float().cpu().contiguous()
        digest.update(f"{name} {list(weight.shape)}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def observed(model: nn.Module) -> Iterator[Callable[[], Calibration]]:
    """Notes the inputs of the products while the model infers, operator by operator.

    Yields:
        What was seen so far, as a calibration.
    """
    largest: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            most = args[0].detach().abs().amax().float()
            largest[name] = torch.maximum(largest[name], most) if name in largest else most

        return hook

    names = product_names(model)
    hooks = [model.get_submodule(n).register_forward_pre_hook(note(n)) for n in names]
    try:
        yield lambda: Calibration(
            fingerprint(model), {name: float(value) for name, value in largest.items()}
        )
    finally:
        for hook in hooks:
            hook.remove()


def quantise(model: Model, precision: str, calibration: Calibration | None = None) -> Model:
    """Put the modules of a precision in the place of those that it is for, in plain PyTorch.

    Raises:
        CalibrationError: float8 without scales, or with those of another model.
    """
    if precision == "int8":
        return swap(model, lambda name, linear: Int8Linear(linear))
    if precision == "float8":
        known = require(calibration)
        _check(model, known)
        return swap(model, lambda name, linear: Float8Linear(linear, known.inputs[name]))
    return model


def swap(model: Model, make: Callable[[str, Linear], nn.Module]) -> Model:
    """Replace the products one by one, so that two copies of one weight are in memory at most."""
    for name in product_names(model):
        replace(model, name, make(name, model.get_submodule(name)))
    return model


def require(calibration: Calibration | None) -> Calibration:
    """Raises CalibrationError where there is none."""
    if calibration is None:
        raise CalibrationError(
            f"precision 'float8' needs scales of recorded observations in graph_cache: {_ADVICE}"
        )
    return calibration


def _check(model: nn.Module, calibration: Calibration) -> None:
    """Raises CalibrationError where a calibration is not of this model."""
    if (made := calibration.weights) != (own := fingerprint(model)):
        raise CalibrationError(
            f"the scales of precision 'float8' were made of other weights ({made}) than those of "
            f"the checkpoint ({own}): {_ADVICE}"
        )
    if missing := [name for name in product_names(model) if name not in calibration.inputs]:
        raise CalibrationError(f"there are no scales of {', '.join(missing[:3])} ...: {_ADVICE}")


class Int8Linear(nn.Module):
    """A `Linear` of int8 weights that quantises what it is given, token by token.

    Sums are exact, in int32; what they stand for is rounded once.
    """

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scale = (weight.abs().amax(dim=0) / 127).clamp(min=_LEAST)
        self.weight = frozen((weight / scale).round().to(torch.int8).contiguous())
        self.scale = frozen(scale)
        self.bias = linear.bias
        self.dtype = linear.weight.dtype

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """[..., in] -> [..., out]; see `Linear`, but for biases that are broadcast."""
        bias = self.bias if bias is None else bias
        wide = x.flatten(0, -2).float()
        scale = (wide.abs().amax(dim=-1, keepdim=True) / 127).clamp(min=_LEAST)
        sums = torch._int_mm((wide / scale).round().to(torch.int8), self.weight)
        out = sums.float() * scale * self.scale
        out = out if bias is None else out + bias.float()
        return out.to(self.dtype).unflatten(0, x.shape[:-1])


class Float8Linear(nn.Module):
    """A `Linear` of float8 weights, whose input has a scale that does not change."""

    def __init__(self, linear: Linear, largest: float) -> None:
        """
        Args:
            largest: absolute value of the inputs that were observed.
        """
        super().__init__()
        weight = linear.weight.detach().float()
        scale = (weight.abs().amax() / _LARGEST).clamp(min=_LEAST)
        # The kernels want columns that are dense in memory.
        self.weight = frozen((weight / scale).t().to(_FLOAT8).contiguous().t())
        self.scale = frozen(scale)
        self.input_scale = frozen(scale.new_tensor(max(_ROOM * largest / _LARGEST, _LEAST)))
        self.bias = linear.bias

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """[..., in] -> [..., out]; see `Linear`, but for biases that are broadcast."""
        bias = self.bias if bias is None else bias
        # A cast to float8 makes NaN of what is too large.
        rows = (x.flatten(0, -2) / self.input_scale).clamp(-_LARGEST, _LARGEST).to(_FLOAT8)
        out = torch._scaled_mm(
            rows, self.weight, self.input_scale, self.scale, bias, out_dtype=x.dtype
        )
        return out.unflatten(0, x.shape[:-1])
