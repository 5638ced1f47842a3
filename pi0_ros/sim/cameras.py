"""The robot's pictures, drawn beside the simulation: they may be late, time may not."""

from __future__ import annotations

import array
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pi0_ros.sim.recorder import jpeg
from pi0_ros.sim.stage import CAMERAS, load_mujoco
from pi0_ros.sim.world import World


@dataclass(frozen=True)
class Moment:
    """What the simulation was like at a time.

    Attributes:
        stamp: nanoseconds.
        seed: of the scene.
        state: [nq] float64, MuJoCo's generalised positions.
    """

    stamp: int
    seed: int
    state: np.ndarray


@dataclass(frozen=True)
class Pictures:
    """What the cameras saw at a moment.

    Attributes:
        stamp: nanoseconds.
        data: camera -> bytes of the picture, [height, width, 3] uint8 RGB or a JPEG file. An array
            of bytes, which messages take as it is; from an ndarray they copy number by number.
    """

    stamp: int
    data: dict[str, array.array]


class Cameras:
    """Draws in a thread of its own, with a world of its own: OpenGL belongs to one thread.

    Args:
        variant: of the world.
        compressed: JPEG instead of raw pictures.
        ready: called in that thread when pictures can be taken, or drawing failed.

    Raises:
        RenderError: there is no OpenGL here.
        ImportError: mujoco is not installed.
    """

    def __init__(self, variant: str, compressed: bool, ready: Callable[[], object]) -> None:
        self._variant, self._compressed, self._ready = variant, compressed, ready
        self._wanted: queue.SimpleQueue[Moment | None] = queue.SimpleQueue()
        self._drawn: queue.SimpleQueue[Pictures | BaseException | None] = queue.SimpleQueue()
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="cameras", daemon=True)
        self._thread.start()
        started = self._drawn.get()
        if isinstance(started, BaseException):
            raise started

    def look(self, moment: Moment) -> bool:
        """Have a moment drawn; False, and nothing is drawn, while an earlier one is not taken."""
        if self._busy:
            return False
        self._busy = True
        self._wanted.put(moment)
        return True

    def take(self) -> Pictures | None:
        """What was drawn since the last call. Raises what drawing raised."""
        try:
            drawn = self._drawn.get_nowait()
        except queue.Empty:
            return None
        if isinstance(drawn, BaseException):
            raise drawn
        self._busy = False
        return drawn

    def close(self) -> None:
        """End the thread, which frees its OpenGL context."""
        self._wanted.put(None)
        self._thread.join()

    def _run(self) -> None:
        world = None
        try:
            seed = 0
            world = World(seed, variant=self._variant)
            world.images()
            self._drawn.put(None)
            while (moment := self._wanted.get()) is not None:
                if moment.seed != seed:
                    seed = moment.seed
                    world.reset(seed)
                self._drawn.put(self._draw(world, moment))
                self._ready()
        except BaseException as error:  # raised again by `take`
            self._drawn.put(error)
            self._ready()
        finally:
            if world is not None:
                world.close()

    def _draw(self, world: World, moment: Moment) -> Pictures:
        model, data = world.stage.model, world.stage.data
        data.qpos[:] = moment.state
        load_mujoco().mj_forward(model, data)
        pictures = world.images()
        encode = jpeg if self._compressed else np.asarray
        return Pictures(
            moment.stamp,
            {camera: array.array("B", encode(pictures[camera]).tobytes()) for camera in CAMERAS},
        )
