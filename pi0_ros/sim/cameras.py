"""The robot's images, rendered beside the simulation: they may be late, time may not."""

from __future__ import annotations

import array
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pi0_ros.sim.stage import CAMERAS, load_mujoco
from pi0_ros.sim.world import World

_JPEG_QUALITY = 90


def jpeg(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 RGB -> [bytes] uint8, a JPEG file."""
    import cv2

    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise RuntimeError(f"OpenCV could not encode an image of shape {image.shape} as JPEG")
    return data.reshape(-1)


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
class Images:
    """What the cameras saw at a moment.

    Attributes:
        stamp: nanoseconds.
        data: camera -> bytes of the image, [height, width, 3] uint8 RGB or a JPEG file. An array
            of bytes, which messages take as it is; from an ndarray they copy number by number.
    """

    stamp: int
    data: dict[str, array.array]


class Cameras:
    """Renders in a thread of its own, with a world of its own: OpenGL belongs to one thread.

    Args:
        variant: of the world.
        compressed: JPEG instead of raw images.
        ready: called in that thread when images can be taken, or rendering failed.

    Raises:
        RenderError: there is no OpenGL here.
        UserError: mujoco is not installed.
    """

    def __init__(self, variant: str, compressed: bool, ready: Callable[[], object]) -> None:
        self._variant, self._compressed, self._ready = variant, compressed, ready
        self._wanted: queue.SimpleQueue[Moment | None] = queue.SimpleQueue()
        self._rendered: queue.SimpleQueue[Images | BaseException | None] = queue.SimpleQueue()
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="cameras", daemon=True)
        self._thread.start()
        started = self._rendered.get()
        if isinstance(started, BaseException):
            raise started

    def request(self, moment: Moment) -> bool:
        """Have a moment rendered; False, and nothing is, while an earlier one is not taken."""
        if self._busy:
            return False
        self._busy = True
        self._wanted.put(moment)
        return True

    def take(self) -> Images | None:
        """What was rendered since the last call. Raises what rendering raised."""
        try:
            rendered = self._rendered.get_nowait()
        except queue.Empty:
            return None
        if isinstance(rendered, BaseException):
            raise rendered
        self._busy = False
        return rendered

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
            self._rendered.put(None)
            while (moment := self._wanted.get()) is not None:
                if moment.seed != seed:
                    seed = moment.seed
                    world.reset(seed)
                self._rendered.put(self._render(world, moment))
                self._ready()
        except BaseException as error:  # raised again by `take`
            self._rendered.put(error)
            self._ready()
        finally:
            if world is not None:
                world.close()

    def _render(self, world: World, moment: Moment) -> Images:
        model, data = world.stage.model, world.stage.data
        data.qpos[:] = moment.state
        load_mujoco().mj_forward(model, data)
        images = world.images()
        encode = jpeg if self._compressed else np.asarray
        return Images(
            moment.stamp,
            {camera: array.array("B", encode(images[camera]).tobytes()) for camera in CAMERAS},
        )
