"""Why a state lies far from the training's: units, order, sign or zero. Pure numbers.

A hypothesis fits when nearly all states, so changed, lie within the training's range and the mean
square deviation falls to a quarter or less. The simplest one is named, unless another fits twice as
well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.checkpoint.normalization import Normalization
from pi0_ros.policy.units import JointUnits

FAR_OUT = 5.0
"""Standard deviations (half ranges, where a checkpoint normalises by range)."""

_CLIP = 100.0
"""Square deviation above which values count alike: one wild joint must not hide the others."""
_BETTER = 0.25
_ODD = 4.0
"""Mean square deviation of the joints concerned above which a better order is reported; the
training's own data have 1 on average."""

_DEGREE = np.pi / 180
_REVOLUTION = 2 * np.pi

Hypothesis = tuple[np.ndarray, str, str]
"""States [n, joints] as they would be in the checkpoint's unit, a sentence, and advice."""


@dataclass(frozen=True)
class Guess:
    """A hypothesis that fits: what is wrong, what to do, the misfit before and after."""

    text: str
    advice: str
    before: float
    after: float


def deviations(values: np.ndarray, norm: Normalization) -> np.ndarray:
    """[n, joints] in the checkpoint's unit -> distance from the training's mean, in its scales."""
    return (np.asarray(values, np.float64) - norm.offset) / norm.scale


def misfit(values: np.ndarray, norm: Normalization) -> float:
    """Mean square deviation, each clipped."""
    return float(np.mean(_squares(values, norm)))


def _squares(values: np.ndarray, norm: Normalization) -> np.ndarray:
    return np.minimum(deviations(values, norm) ** 2, _CLIP)


def explain(
    states: np.ndarray, units: JointUnits, norm: Normalization, names: Sequence[str]
) -> Guess | None:
    """The hypothesis that explains states far from the training's; None where none does.

    Args:
        states: [n, joints] as received, in the order of `names`.
        units: as configured.
    """
    before = misfit(units.from_radians(states), norm)

    def fitting(hypotheses: Iterable[Hypothesis]) -> list[Guess]:
        guesses = []
        for changed, text, advice in hypotheses:
            after = misfit(changed, norm)
            within = np.mean(np.all(np.abs(deviations(changed, norm)) <= FAR_OUT, axis=1))
            if within >= 0.95 and after <= _BETTER * before:
                guesses.append(Guess(text, advice, before, after))
        return guesses

    # The simplest first: another one must fit twice as well. Single joints have one cause each.
    guesses = fitting(_about_all_joints(states, units, norm, names))
    single = fitting(_about_single_joints(states, units, norm, names))
    guesses += sorted(single, key=lambda guess: guess.after)[:1]
    best = None
    for guess in guesses:
        if best is None or guess.after < 0.5 * best.after:
            best = guess
    return best


def _about_all_joints(
    states: np.ndarray, units: JointUnits, norm: Normalization, names: Sequence[str]
) -> Iterator[Hypothesis]:
    values = units.from_radians(states)
    radians = units.from_radians(states * _DEGREE)
    # Small numbers lie near many means; degrees must look like degrees.
    large = np.abs(states).max() > _REVOLUTION
    if large:
        advice = "ROS's joint states are radians: convert them in the driver"
        yield radians, "the joint states are in degrees: as radians they fit", advice
    yield (
        units.from_radians(states / _DEGREE),
        "the checkpoint's unit is degrees: the states fit if they are converted",
        "set joint.<joint>.scale to 0.017453293",
    )
    order = best_order(values, norm)
    yield values[:, order], *_about_order(order, names)
    if large:
        order = best_order(radians, norm)
        text, advice = _about_order(order, names)
        yield radians[:, order], f"the joint states are in degrees, and {text}", advice


def _about_order(order: Sequence[int], names: Sequence[str]) -> tuple[str, str]:
    what = "the joints are in another order than the checkpoint's"
    _, backwards, swapped = _orders(len(order))
    if order == backwards:
        what = "the joints are in reversed order"
    elif order == swapped:
        what = "the two halves of the joints are swapped (left and right arm?)"
    listed = ", ".join(names[i] for i in order)
    return what, f"values fit as [{listed}]: check `joints`, or the names that the driver gives"


def _about_single_joints(
    states: np.ndarray, units: JointUnits, norm: Normalization, names: Sequence[str]
) -> Iterator[Hypothesis]:
    """About the joints that are far out, all of them changed alike."""
    often_far = np.mean(np.abs(deviations(units.from_radians(states), norm)) > FAR_OUT, axis=0)
    far = often_far > 0.05
    convert, turn = "convert it in the driver", "turn its direction round in the driver"
    unwrap, set_zero = "unwrap it in the driver", "set its zero in the driver"
    changes: list[tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = [
        ("of the other sign", turn, lambda x: -x),
        ("a revolution ahead", unwrap, lambda x: x - _REVOLUTION),
        ("a revolution behind", unwrap, lambda x: x + _REVOLUTION),
        ("half a revolution ahead", set_zero, lambda x: x - np.pi),
        ("half a revolution behind", set_zero, lambda x: x + np.pi),
        ("a quarter revolution ahead", set_zero, lambda x: x - np.pi / 2),
        ("a quarter revolution behind", set_zero, lambda x: x + np.pi / 2),
    ]
    if np.all(np.abs(states[:, far]).max(axis=0, initial=0.0) > _REVOLUTION):
        changes[:0] = [
            ("in degrees", convert, lambda x: x * _DEGREE),
            ("in percent", convert, lambda x: x / 100),
        ]
    which = [name for name, is_far in zip(names, far, strict=True) if is_far]
    subject = f"{' and '.join(which)} {'is' if len(which) == 1 else 'are'}"
    for what, advice, change in changes:
        changed = states.copy()
        changed[:, far] = change(states[:, far])
        yield units.from_radians(changed), f"{subject} {what}", advice


# Orders of the joints -----------------------------------------------------------------------------


def rearranged(values: np.ndarray, norm: Normalization) -> list[int] | None:
    """The order of joints that fits much better than the present one; None where there is none.

    Returns:
        For each place of the checkpoint, which joint to put there.
    """
    order = best_order(values, norm)
    moved = np.array(order) != np.arange(len(order))
    if not moved.any():
        return None
    before = _squares(values, norm)[:, moved].mean()
    after = _squares(values[:, order], norm)[:, moved].mean()
    return order if before > _ODD and after <= _BETTER * before else None


def best_order(values: np.ndarray, norm: Normalization) -> list[int]:
    """The order that fits best, by swaps from three beginnings: as is, reversed, halves swapped."""
    every = (values[:, :, None] - norm.offset) / norm.scale
    cost = np.mean(np.minimum(every**2, _CLIP), axis=0)  # [joint, place]
    orders = [_improved(order, cost) for order in _orders(len(cost))]
    return min(orders, key=lambda order: cost[order, range(len(order))].sum())


def _orders(joints: int) -> tuple[list[int], list[int], list[int]]:
    """As is, reversed, halves swapped."""
    order = list(range(joints))
    half = joints // 2
    return order, order[::-1], [*order[half:], *order[:half]]


def _improved(order: list[int], cost: np.ndarray) -> list[int]:
    """Swap the pair that gains most, until none gains anything."""
    order = list(order)
    while True:
        placed = cost[order]  # [place, place]: the joint at a place, moved to another place
        own = np.diag(placed)
        gain = placed + placed.T - own[:, None] - own[None, :]
        a, b = np.unravel_index(np.argmin(gain), gain.shape)
        if gain[a, b] >= -1e-9:
            return order
        order[a], order[b] = order[b], order[a]
