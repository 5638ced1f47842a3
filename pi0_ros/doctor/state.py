"""Judging joint states: names, order, numbers, and their range against the checkpoint's statistics.

A state far from all training data is rarely a rare pose. It is degrees for radians, joints in
another order, or a joint with another zero or sign; `explain` tries these and says which one fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.doctor.findings import FAIL, PASS, WARN, Finding
from pi0_ros.doctor.guess import FAR_OUT, Guess, deviations, explain, misfit, rearranged
from pi0_ros.doctor.samples import Collected, Settings
from pi0_ros.node.contract_fit import joint_units
from pi0_ros.node.joint_states import positions_of
from pi0_ros.policy.compatibility import has_statistics, radian_range

OFTEN = 0.05
"""Share of the states that may lie far out before it counts as wrong: a rare pose is not."""


def judge_joints(
    settings: Settings, collected: Collected, checkpoint: Checkpoint | None
) -> list[Finding]:
    """All findings about joint states; values only with a checkpoint of as many joints."""
    if not collected.joints:
        return []
    findings = list(_names(settings, collected))
    states = states_of(settings, collected)
    if not len(states):
        return findings
    if checkpoint is None or checkpoint.joints != len(settings.parameters.joints):
        text = "values not compared: there is no checkpoint that fits the joints"
        return [*findings, Finding(WARN, "values", text, "see the lines `contract`")]
    if not has_statistics(checkpoint.state):
        text = "the checkpoint does not normalise states: nothing to compare their values with"
        return [*findings, Finding(WARN, "values", text)]
    return [*findings, *_values(settings, states, checkpoint)]


def states_of(settings: Settings, collected: Collected) -> np.ndarray:
    """[n, joints] radians in the order of `joints`: the states that the node could use."""
    names = settings.parameters.joint_names
    states = []
    for sample in collected.joints:
        try:
            states.append(positions_of(sample, names))
        except ValueError:
            continue  # `_names` tells about them
    return np.array(states).reshape(-1, len(names))


def _names(settings: Settings, collected: Collected) -> Iterator[Finding]:
    names = settings.parameters.joint_names
    ours = [s for s in collected.joints if not set(s.name).isdisjoint(names)]
    others = {sample.name for sample in collected.joints} - {sample.name for sample in ours}
    if not ours:
        text = f"no joint state names any of {list(names)}; they name {list(min(others))}"
        yield Finding(FAIL, "joints", text, "`joints` takes the names of the messages")
        return
    problems: Counter[str] = Counter()
    for sample in ours:
        try:
            positions_of(sample, names)
        except ValueError as error:
            problems[str(error)] += 1
    for problem, number in problems.most_common(3):
        text = f"{number} of {len(ours)} joint states cannot be used: {problem}"
        advice = "the driver must send every joint of `joints` once, with a finite position"
        yield Finding(FAIL, "joints", text, advice)
    orders = Counter(tuple(n for n in sample.name if n in names) for sample in ours)
    order = orders.most_common(1)[0][0]
    if problems.total() == len(ours):
        return
    if len(orders) > 1:
        yield Finding(WARN, "joints", f"the order of the names changes: {list(map(list, orders))}")
    same = "in the order of `joints`" if order == names else f"as {list(order)}; taken by name"
    extra = sorted({n for sample in ours for n in sample.name} - set(names))
    more = f"; further ones are ignored: {extra}" if extra else ""
    yield Finding(PASS, "joints", f"all {len(names)} are there, {same}{more}")


def _values(settings: Settings, states: np.ndarray, checkpoint: Checkpoint) -> Iterator[Finding]:
    parameters = settings.parameters
    units = joint_units(parameters)
    lower, upper = radian_range(checkpoint.state, units)
    values = units.from_radians(states)
    out = np.abs(deviations(values, checkpoint.state))
    often = np.mean(out > FAR_OUT, axis=0)
    for i, name in enumerate(parameters.joint_names):
        text = (
            f"{name}: {states[:, i].min():.4g} to {states[:, i].max():.4g} rad, up to"
            f" {out[:, i].max():.1f} standard deviations from the training's mean"
            f" ([{lower[i]:.4g}, {upper[i]:.4g}] is mean -+ one)"
        )
        level = FAIL if often[i] > OFTEN else WARN if often[i] > 0 else PASS
        advice = "a pose that no training data had" if level == WARN else ""
        yield Finding(level, "values", text, advice)
    if np.any(often > OFTEN):
        guess = explain(states, units, checkpoint.state, parameters.joint_names)
        if guess is None:
            text = "neither degrees nor another order, sign or zero explains these values"
            advice = "is it this robot's checkpoint? Compare a pose with one of its data set"
            yield Finding(FAIL, "values", text, advice)
        else:
            yield _explained(guess)
        return
    better = rearranged(values, checkpoint.state)
    if better is not None:
        order = [parameters.joint_names[i] for i in better]
        cost, least = misfit(values, checkpoint.state), misfit(values[:, better], checkpoint.state)
        text = (
            f"another order of the joints fits the statistics much better ({_ratio(cost, least)}):"
            f" {order}"
        )
        advice = "compare `joints` with the order of the training's state"
        yield Finding(WARN, "values", text, advice)


def _explained(guess: Guess) -> Finding:
    text = f"{guess.text} ({_ratio(guess.before, guess.after)})"
    return Finding(FAIL, "values", text, guess.advice)


def _ratio(before: float, after: float) -> str:
    """Root mean square deviations before and after a hypothesis."""
    return f"{before**0.5:.1f} standard deviations become {after**0.5:.1f}"
