"""Units of joints."""

import numpy as np
import pytest

from pi0_ros.policy.units import JointUnits, delta_mask


def test_there_and_back() -> None:
    units = JointUnits(np.array([np.pi / 180, 0.01]), np.array([0.5, -0.2]))
    np.testing.assert_allclose(units.to_radians(np.array([180.0, 100.0])), [np.pi + 0.5, 0.8])
    np.testing.assert_allclose(units.from_radians(np.array([np.pi + 0.5, 0.8])), [180.0, 100.0])


@pytest.mark.parametrize(
    "scale,offset", [([1, 0], [0, 0]), ([1, 1], [0]), ([1, np.nan], [0, 0]), (1.0, 0.0)]
)
def test_useless_units_are_refused(scale: object, offset: object) -> None:
    with pytest.raises(ValueError, match="JointUnits"):
        JointUnits(np.asarray(scale), np.asarray(offset))


def test_delta_mask_by_name() -> None:
    assert delta_mask(["a", "b", "gripper"], ["b", "a"]) == [True, True, False]
    with pytest.raises(ValueError, match=r"delta joints \['c'\]"):
        delta_mask(["a"], ["c"])
