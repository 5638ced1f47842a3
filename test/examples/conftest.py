"""A few demonstrations, made once."""

import pytest

from examples.touch_task.demonstrations import Demonstrations, demonstrate
from pi0_ros.model.config import TINY


@pytest.fixture(scope="session")
def demonstrations() -> Demonstrations:
    return demonstrate(6, seed=0, wrist_share=0.4, horizon=TINY.horizon, image_size=TINY.image_size)
