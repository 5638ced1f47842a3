"""One scene, closed loop, in one process and in simulated time: observe, infer, move, until touch.

Nothing depends on how fast this machine is: a chunk reaches the controller a set delay after its
observation, and the next observation is made no earlier, as in the node, where ticks meanwhile are
counted as busy. The same arguments give the same episode, but for the wall time of inferences.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from benchmarks.link import Link
from benchmarks.simulated.ablations import ABLATIONS, NONE
from benchmarks.simulated.drive import Driver
from benchmarks.simulated.setup import NodeSetup
from benchmarks.simulated.succession import Succession
from pi0_ros.motion.refusal import Measured, Reason
from pi0_ros.policy.types import ActionChunk, ActionPrefix, Observation
from pi0_ros.sim.expert import CONTROL_SECONDS, Expert
from pi0_ros.sim.world import World

PERIOD = 0.01
"""Seconds between two commands of the controller, and between two joint states."""

QUESTION, ANSWER = 228_000, 2_000
"""Bytes, with the images of two cameras as `policy_images: fitted` sends them."""

_START = 1_000_000_000_000  # nanoseconds of the clock at the beginning: a stamp of 0 is none
_STEP = round(PERIOD * 1e9)
_REST = 20  # steps


class Pilot(Protocol):
    """What controls the arm in a scene; pi0_ros.policy.policy.Policy is one.

    Attributes:
        cameras: whose images it needs.
        horizon: steps of a chunk.
    """

    @property
    def cameras(self) -> tuple[str, ...]: ...

    @property
    def horizon(self) -> int: ...

    def infer(
        self, observation: Observation, *, prefix: ActionPrefix | None = None
    ) -> ActionChunk: ...

    def reset(self) -> None: ...


class ExpertPilot:
    """The scripted expert in the place of a policy: it shows what the loop itself does.

    It reads the world, neither observations nor prefixes.
    """

    cameras: tuple[str, ...] = ()
    horizon = 50

    def __init__(self, world: World) -> None:
        self._expert = Expert(world)
        self._sequence = 0

    def infer(self, observation: Observation, *, prefix: ActionPrefix | None = None) -> ActionChunk:
        chunk = self._expert.chunk(observation.instruction, self.horizon)
        positions = chunk.astype(np.float32)
        sequence, self._sequence = self._sequence, self._sequence + 1
        return ActionChunk(positions, CONTROL_SECONDS, observation.stamp, sequence, seed=0)

    def reset(self) -> None:
        self._expert.forget()
        self._sequence = 0


@dataclass(frozen=True)
class Loop:
    """How the loop is closed.

    Attributes:
        setup: the node's parameters and limits; its rate_hz is the rate of ticks.
        delay: simulated seconds from an observation to the publication of its chunk.
        seconds: simulated time that a scene may take.
        controller: a key of `drive.CONTROLLERS`.
        stitched: False sends chunks to the controller as they are.
        ablation: a key of `ablations.ABLATIONS`.
        ambiguous: instructions that leave the choice of the object to the policy.
        link: to a policy elsewhere: its simulated time comes on top of the delay.
    """

    setup: NodeSetup
    delay: float = 0.0
    seconds: float = 8.0
    controller: str = "jazzy"
    stitched: bool = True
    ablation: str = NONE
    ambiguous: bool = False
    link: Link | None = None


@dataclass(frozen=True)
class Episode:
    """What happened in one scene; times are simulated seconds from its beginning.

    Attributes:
        seed: of the scene.
        instruction: that was meant.
        targets: the objects that satisfy it.
        touched: the object touched first, or None.
        seconds: until the touch, or until the end without one.
        start: [joints] radians, measured at the beginning.
        commands: [n, joints] radians, PERIOD apart.
        boundaries: [m] when a new trajectory was spliced in: its arrival, and its first point.
        ticks: at which an observation was due.
        busy: those of them that found the inference before not done.
        published: trajectories that the controller took, stops apart.
        stops: trajectories that stopped the arm because no chunk came.
        recoveries: trajectories of a chunk that followed one of those.
        refused: reason -> chunks not published.
        rejected: trajectories that the controller did not take.
        clamped: limit -> chunks clamped to it.
        latched: whether so many chunks in a row were refused that the node gave up.
        inference: wall seconds of each inference.
        rtc_used: inferences that were given what executes (real-time chunking).
        rtc_fallbacks: cause -> inferences that were not, although the parameter `rtc` asks for it.
        aims, chunk_steps: see `succession.Succession`; empty where they are not observed.
    """

    seed: int
    instruction: str
    targets: tuple[str, ...]
    touched: str | None
    seconds: float
    start: np.ndarray
    commands: np.ndarray
    boundaries: np.ndarray
    ticks: int
    busy: int
    published: int
    stops: int
    refused: Mapping[str, int]
    rejected: int
    clamped: Mapping[str, int]
    latched: bool
    inference: tuple[float, ...]
    recoveries: int = 0
    rtc_used: int = 0
    rtc_fallbacks: Mapping[str, int] = field(default_factory=dict)
    aims: tuple[str, ...] = ()
    chunk_steps: tuple[float, ...] = ()

    @property
    def success(self) -> bool:
        """The first object touched is one that satisfies the instruction."""
        return self.touched in self.targets


def rollout(world: World, pilot: Pilot, seed: int, loop: Loop) -> Episode:
    """Arrange a scene and let the pilot follow one of its instructions, chosen by the seed.

    It ends with the first touch, when time is up, or when the node would have given up.

    Args:
        seed: of the scene; see `World.reset`.
    """
    ablation = ABLATIONS[loop.ablation]
    world.reset(seed)
    pilot.reset()
    named, ambiguous = world.instructions(), world.ambiguous_instructions()
    instructions = ambiguous if loop.ambiguous else named
    meant = instructions[seed % len(instructions)]
    told = ablation.tell(meant, instructions)
    delay = round(loop.delay * 1e9)
    driver = Driver(loop.setup, loop.controller, _STEP, loop.stitched, delay)
    succession = Succession(world)
    start, commands, inference = world.positions, [], []
    for step in range(-_REST, 0):  # the arm has rested, as the node sees before it is enabled
        now = _START + step * _STEP
        driver.tick(Measured(start, np.zeros_like(start), now), now)
    # When a chunk is published; None in its place: the node gives up, as it came too late.
    coming: tuple[int, ActionChunk | None] | None = None
    chance = random.Random(seed)
    limit = round(loop.setup.parameters.inference_timeout * 1e9)
    ticks = busy = 0
    for step in range(round(loop.seconds / PERIOD)):
        now = _START + step * _STEP
        measured = Measured(world.positions, world.velocities, now)
        if coming is not None and coming[0] <= now:
            if coming[1] is None:
                driver.refused[Reason.TIMEOUT.value] += 1
            else:
                succession.note(coming[1], now)
                driver.move(coming[1], measured, now, told)
            coming = None
        if step * PERIOD >= ticks / loop.setup.parameters.rate_hz - 1e-9:
            ticks += 1
            busy += coming is not None
            if coming is None:
                images = world.images() if pilot.cameras else {}
                seen = ablation.observe(Observation(images, measured.positions, told, now))
                prefix = driver.agreement(now, told, pilot).prefix
                more = {} if prefix is None else {"prefix": prefix}
                began = time.perf_counter()
                chunk = pilot.infer(seen, **more)
                inference.append(time.perf_counter() - began)
                chunk, takes = ablation.act(chunk), delay
                if loop.link is not None:
                    way = loop.link.round_trip((now - _START) / 1e9, QUESTION, ANSWER, chance)
                    takes += round(way * 1e9)
                coming = (now + takes, chunk) if takes <= limit else (now + limit, None)
                if not takes:
                    succession.note(chunk, now)
                    driver.move(chunk, measured, now, told)
                    coming = None
        driver.tick(measured, now)
        commands.append(driver.command(measured, now))
        world.step(commands[-1], PERIOD)
        if world.touched is not None or driver.latched:
            break
    return Episode(
        seed=seed,
        instruction=meant,
        targets=world.targets(meant),
        touched=world.touched,
        seconds=len(commands) * PERIOD,
        start=start,
        commands=np.array(commands),
        boundaries=(np.array(driver.boundaries) - _START) / 1e9,
        ticks=ticks,
        busy=busy,
        published=driver.published,
        stops=driver.stops,
        recoveries=driver.recoveries,
        refused=dict(driver.refused),
        rejected=driver.rejected,
        clamped=dict(driver.clamped),
        latched=bool(driver.latched),
        inference=tuple(inference),
        rtc_used=driver.rtc.counts.used,
        rtc_fallbacks=dict(driver.rtc.counts.fallbacks),
        aims=tuple(succession.aims),
        chunk_steps=tuple(succession.steps),
    )
