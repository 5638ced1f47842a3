"""Judging joint states: names, order, numbers, and their range against the checkpoint's statistics.

A state far from all training data is rarely a rare pose. It is degrees for radians, joints in
another order, or a joint with another zero or sign; `explain` tries these and names what fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from pi0_ros.checkpoint.checkpoint import Checkpoint
from pi0_ros.doctor.findings import FAIL, PASS, WARN, Finding, fail, ok, warn
from pi0_ros.doctor.guess import FAR_OUT, deviations, explain, misfit, rearranged
from pi0_ros.doctor.samples import Collected, JointSample
from pi0_ros.node.interface import Interface
from pi0_ros.node.joint_evidence import Contradictions
from pi0_ros.node.joint_states import JointStateReader
from pi0_ros.node.preflight import units_of
from pi0_ros.node.preflight_checkpoint import joint_units
from pi0_ros.policy.compatibility import has_statistics, radian_range

OFTEN = 0.05
"""Share of the states that may lie far out before it counts as wrong: a rare pose is not."""


def judge_joints(
    interface: Interface, collected: Collected, checkpoint: Checkpoint | None
) -> list[Finding]:
    """All findings about joint states; values only with a checkpoint of as many joints."""
    names = interface.parameters.joint_names
    ours = [s for s in collected.joints if not set(s.name).isdisjoint(names)]
    if collected.joints and not ours:
        found = list(min({sample.name for sample in collected.joints}))
        text = f"no joint state names any of {list(names)}; they name {found}"
        return [fail("joints", text, "`joints` takes the names of the messages")]
    states, findings = _states(ours, names, collected)
    if not len(states):
        return findings
    findings += _order([sample.name for sample in ours if sample.position], names)
    if checkpoint is None or checkpoint.joints != len(names):
        text = "values not compared: there is no checkpoint that fits the joints"
        return [*findings, warn("values", text, "see the lines `preflight`")]
    if not has_statistics(checkpoint.state):
        text = "values not compared: the checkpoint does not normalise states"
        return [*findings, warn("values", text)]
    return [*findings, *_values(interface, states, checkpoint)]


def _states(
    ours: Sequence[JointSample], names: tuple[str, ...], collected: Collected
) -> tuple[np.ndarray, list[Finding]]:
    """[n, joints] radians, what is known after each message once all joints came; and problems."""
    reader, problems = JointStateReader(names), Counter[str]()
    contradictions = Contradictions(names, None, lambda topic: _publishers(collected, topic))
    state, states, silent = np.full(len(names), np.nan), [], 0
    for sample in ours:
        try:
            reading = reader.read(sample)
        except ValueError as error:
            problems[str(error)] += 1
            continue
        if reading is None:
            silent += 1
            continue
        columns = np.array(reading.columns)
        contradictions.put(columns, reading.positions, sample.stamp, sample.topic, sample.arrival)
        state[columns] = reading.positions
        if not np.isnan(state).any():
            states.append(state.copy())
    findings = []
    for problem, number in problems.most_common(3):
        text = f"{number} of {len(ours)} joint states cannot be used: {problem}"
        advice = "the driver must send each joint once, with a finite position"
        findings.append(fail("joints", text, advice))
    if contradictions.fault:
        advice = "only one may publish a joint: stop the other, or remap its topic"
        findings.append(fail("joints", contradictions.fault, advice))
    if silent:
        text = f"{silent} of {len(ours)} joint states have no positions (velocity or effort only)"
        findings.append(warn("joints", text, "they are ignored"))
    absent = [name for name, angle in zip(names, state, strict=True) if np.isnan(angle)]
    if absent and not problems:
        text = f"no joint state has a position of {absent}"
        advice = "start their publisher, or add its topic to joint_states_topics"
        findings.append(fail("joints", text, advice))
    return np.array(states), findings


def _publishers(collected: Collected, topic: str) -> list[str]:
    return [endpoint.node for endpoint in collected.publishers.get(topic, ())]


def _order(sent: list[tuple[str, ...]], names: tuple[str, ...]) -> Iterator[Finding]:
    orders = Counter(tuple(n for n in message if n in names) for message in sent)
    by_joints: dict[frozenset[str], set[tuple[str, ...]]] = {}
    for order in orders:
        by_joints.setdefault(frozenset(order), set()).add(order)
    for changing in by_joints.values():
        if len(changing) > 1:
            yield warn("joints", f"the order of the names changes: {sorted(map(list, changing))}")
    order = orders.most_common(1)[0][0]
    same = "in the order of `joints`" if order == names else f"as {list(order)}; taken by name"
    if len(by_joints) > 1:
        same = f"in {len(by_joints)} parts: {'; '.join(', '.join(part) for part in orders)}"
    extra = sorted({n for message in sent for n in message} - set(names))
    more = f"; further ones are ignored: {extra}" if extra else ""
    yield ok("joints", f"all {len(names)} are there, {same}{more}")


def _values(interface: Interface, states: np.ndarray, checkpoint: Checkpoint) -> Iterator[Finding]:
    """`states` are [n, joints] radians in the order of `joints`."""
    names, units = interface.parameters.joint_names, joint_units(interface.parameters)
    shown = units_of(interface.parameters)
    norm = checkpoint.state
    lower, upper = radian_range(norm, units)
    values = units.from_radians(states)
    out = np.abs(deviations(values, norm))
    often = np.mean(out > FAR_OUT, axis=0)
    for i, name in enumerate(names):
        text = (
            f"{name}: {states[:, i].min():.4g} to {states[:, i].max():.4g} {shown[i]}, up to"
            f" {out[:, i].max():.1f} standard deviations from the training's mean"
            f" ([{lower[i]:.4g}, {upper[i]:.4g}] is mean -+ one)"
        )
        level = FAIL if often[i] > OFTEN else WARN if often[i] > 0 else PASS
        advice = "a pose that no training data had" if level == WARN else ""
        yield Finding(level, "values", text, advice)
    if np.any(often > OFTEN):
        guess = explain(states, units, norm, names)
        if guess is None:
            text = "neither degrees nor another order, sign or zero explains these values"
            advice = "is it this robot's checkpoint? Compare a pose with one of its data set"
            yield fail("values", text, advice)
        else:
            text = f"{guess.text} ({_improvement(guess.before, guess.after)})"
            yield fail("values", text, guess.advice)
        return
    better = rearranged(values, norm)
    if better is not None:
        change = _improvement(misfit(values, norm), misfit(values[:, better], norm))
        order = [names[i] for i in better]
        text = f"another order of the joints fits the statistics much better ({change}): {order}"
        yield warn("values", text, "compare `joints` with the order of the training's state")


def _improvement(before: float, after: float) -> str:
    """Of mean square deviations, by a hypothesis."""
    return f"{before**0.5:.1f} standard deviations become {after**0.5:.1f}"
