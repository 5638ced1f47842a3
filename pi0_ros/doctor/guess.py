"""Why a state lies far from the training's: units, order, sign or zero. Pure numbers.

A hypothesis fits when nearly all states, so changed, lie within the training's range and the mean
square deviation falls to a quarter or less. The simplest one is named, unless another fits twice as
well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pi0_ros.checkpoint.normalization import Normalization
from pi0_ros.policy.units import JointUnits

FAR_OUT = 5.0
"""Standard deviations (half ranges, where a checkpoint normalises by range)."""

_FULL_TURN = 2 * np.pi
_CLIP = 100.0
_BETTER = 0.25
_ODD = 4.0
"""Mean square deviation of the joints concerned above which a better order is worth a word; the
training's own data have 1 on average."""

_DEGREE = np.pi / 180


@dataclass(frozen=True)
class Guess:
    """A hypothesis that fits: what is wrong, what to do, the misfit before and after."""

    text: str
    advice: str
    before: float
    after: float


def deviations(values: np.ndarray, norm: Normalization) -> np.ndarray:
    """[n, joints] in the checkpoint's unit -> how many of its scales off the training's mean."""
    return (np.asarray(values, np.float64) - norm.offset) / norm.scale


def misfit(values: np.ndarray, norm: Normalization) -> float:
    """Mean square deviation, each clipped so that one wild joint does not hide the others."""
    return float(np.mean(np.minimum(deviations(values, norm) ** 2, _CLIP)))


def explain(
    states: np.ndarray, units: JointUnits, norm: Normalization, names: Sequence[str]
) -> Guess | None:
    """The hypothesis that explains states far from the training's; None where none does.

    Args:
        states: [n, joints] as received, in the order of `names`.
        units: as configured.
    """
    values = units.from_radians(states)
    before = misfit(values, norm)

    def fitting(candidates: Iterator[tuple[np.ndarray, str, str]]) -> list[Guess]:
        guesses = []
        for changed, text, advice in candidates:
            after = misfit(changed, norm)
            within = np.mean(np.all(np.abs(deviations(changed, norm)) <= FAR_OUT, axis=1))
            if within >= 0.95 and after <= _BETTER * before:
                guesses.append(Guess(text, advice, before, after))
        return guesses

    # The simplest first: another one must fit twice as well. Single joints have one cause each.
    guesses = fitting(_whole(states, units, norm, names))
    single = fitting(_single(states, units, norm, names))
    if single:
        guesses.append(min(single, key=lambda guess: guess.after))
    best = None
    for guess in guesses:
        if best is None or guess.after < 0.5 * best.after:
            best = guess
    return best


def rearranged(values: np.ndarray, norm: Normalization) -> list[int] | None:
    """The order of joints that fits much better than the present one; None where there is none.

    Returns:
        For each place of the checkpoint, which joint to put there.
    """
    order = best_order(values, norm)
    moved = np.array(order) != np.arange(len(order))
    if not moved.any():
        return None
    squares = np.minimum(deviations(values, norm) ** 2, _CLIP)[:, moved]
    better = np.minimum(deviations(values[:, order], norm) ** 2, _CLIP)[:, moved]
    fits = squares.mean() > _ODD and better.mean() <= _BETTER * squares.mean()
    return order if fits else None


def best_order(values: np.ndarray, norm: Normalization) -> list[int]:
    """The order that fits best, by swaps from three beginnings: as is, reversed, halves swapped."""
    cost = _place_costs(values, norm)
    joints = len(cost)
    half = joints // 2
    starts = [list(range(joints)), list(range(joints))[::-1]]
    starts.append([*range(half, joints), *range(half)])
    orders = [_improved(start, cost) for start in starts]
    return min(orders, key=lambda order: _total(order, cost))


def _place_costs(values: np.ndarray, norm: Normalization) -> np.ndarray:
    """[joint, place] mean square deviation of a joint's values in a place of the checkpoint."""
    every = (values[:, :, None] - norm.offset) / norm.scale
    return np.mean(np.minimum(every**2, _CLIP), axis=0)


def _total(order: Sequence[int], cost: np.ndarray) -> float:
    return float(sum(cost[joint, place] for place, joint in enumerate(order)))


def _improved(order: list[int], cost: np.ndarray) -> list[int]:
    """Swap the pair that gains most, until none gains anything."""
    while True:
        best, swap = -1e-9, None
        for a in range(len(order)):
            for b in range(a + 1, len(order)):
                gain = cost[order[b], a] + cost[order[a], b] - cost[order[a], a] - cost[order[b], b]
                if gain < best:
                    best, swap = gain, (a, b)
        if swap is None:
            return order
        a, b = swap
        order[a], order[b] = order[b], order[a]


def _whole(
    states: np.ndarray, units: JointUnits, norm: Normalization, names: Sequence[str]
) -> Iterator[tuple[np.ndarray, str, str]]:
    """Hypotheses about all joints: the changed values [n, joints], a sentence, and advice."""
    values = units.from_radians(states)
    degrees = units.from_radians(states * _DEGREE)
    # Small numbers lie near many means; degrees must look like degrees.
    turned = np.abs(states).max() > _FULL_TURN
    to_radians = "ROS's joint states are radians: convert them in the driver"
    if turned:
        yield degrees, "the joint states are in degrees: as radians they fit", to_radians
    yield (
        units.from_radians(states / _DEGREE),
        "the checkpoint speaks degrees: the states fit if they are converted",
        "set joint.<joint>.scale to 0.017453293",
    )
    order = best_order(values, norm)
    yield values[:, order], *_order_words(order, names)
    if turned:
        order = best_order(degrees, norm)
        text, advice = _order_words(order, names)
        yield degrees[:, order], f"the joint states are in degrees, and {text}", advice


def _order_words(order: Sequence[int], names: Sequence[str]) -> tuple[str, str]:
    count = len(order)
    half = count // 2
    what = "the joints are in another order than the checkpoint's"
    if list(order) == list(range(count))[::-1]:
        what = "the joints are in reversed order"
    elif list(order) == [*range(half, count), *range(half)]:
        what = "the two halves of the joints are swapped (left and right arm?)"
    listed = ", ".join(names[i] for i in order)
    return what, f"values fit as [{listed}]: check `joints`, or the names that the driver gives"


def _single(
    states: np.ndarray, units: JointUnits, norm: Normalization, names: Sequence[str]
) -> Iterator[tuple[np.ndarray, str, str]]:
    """Hypotheses about the joints that are far out, each by itself."""
    far = np.mean(np.abs(deviations(units.from_radians(states), norm)) > FAR_OUT, axis=0) > 0.05
    changes: list[tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = [
        ("in degrees", "convert it in the driver", lambda x: x * _DEGREE),
        ("in percent", "scale it in the driver", lambda x: x / 100),
        ("of the other sign", "turn its direction round in the driver", lambda x: -x),
        ("a turn ahead", "unwrap it in the driver", lambda x: x - _FULL_TURN),
        ("a turn behind", "unwrap it in the driver", lambda x: x + _FULL_TURN),
        ("half a turn ahead", "set its zero in the driver", lambda x: x - np.pi),
        ("half a turn behind", "set its zero in the driver", lambda x: x + np.pi),
        ("a quarter turn ahead", "set its zero in the driver", lambda x: x - np.pi / 2),
        ("a quarter turn behind", "set its zero in the driver", lambda x: x + np.pi / 2),
    ]
    which = [names[i] for i in np.flatnonzero(far)]
    for what, advice, change in changes:
        small = np.abs(states[:, far]).max(axis=0, initial=0.0) <= _FULL_TURN
        if what in ("in degrees", "in percent") and np.any(small):
            continue
        changed = states.copy()
        changed[:, far] = change(states[:, far])
        verb = "is" if len(which) == 1 else "are"
        yield units.from_radians(changed), f"{' and '.join(which)} {verb} {what}", advice
