"""Cases in which versions of LeRobot should agree, and those of one or two tests."""

from typing import Any

from reference import parity
from reference.oracle_case import OTHER_SIZES

SHARED: list[dict[str, Any]] = [
    {"name": "plain", "image_hw": [112, 112], "joints": 7},
    {"name": "peaked", "peaked": True, "seed": 1, "tokens": list(range(2, 50))},
    {
        "name": "masked",
        "cameras": ["left", "top", "right"],
        "masked": ["left"],
        "empty_cameras": 1,
        "joints": 14,
        "tokens": [2],
        "seed": 2,
    },
    {
        "name": "sizes",
        "seed": 3,
        "joints": 5,
        "sizes": {**OTHER_SIZES, "tokenizer_max_length": 9},
        "image_hw": [42, 42],
    },
]
ROUNDED = [
    {"name": "rounded, float32", "bf16_weights": True},
    {"name": "rounded, bfloat16", "bf16_weights": True, "dtype": "bfloat16"},
]
PREPROCESS: dict[str, Any] = {
    "name": "preprocess",
    "mode": "preprocess",
    "preprocess_hw": [[480, 640], [224, 224], [116, 116], [300, 200]],
    "sizes": {"image_size": 224},
}
QUANTILES = {
    "name": "quantiles and min-max",
    "state_norm": "QUANTILES",
    "action_norm": "MIN_MAX",
    "seed": 4,
}
HUB = {
    "name": "hub, min-max",
    "hub_layout": True,
    "state_norm": "MIN_MAX",
    "action_norm": "MIN_MAX",
}
ALOHA = {"name": "aloha", "joints": 14, "adapt_to_pi_aloha": True}


def _of_new(case: dict[str, Any]) -> dict[str, Any]:
    # 0.4.4 also declares the camera that empty_cameras adds; the masked one alone matches 0.3.3.
    cameras = {"empty_cameras": 0} if "empty_cameras" in case else {}
    return {**case, "accumulated_time": True, **cameras}


CASES = {
    "0.6.1": [*parity.cases("0.6.1"), PREPROCESS],
    "0.4.4": [
        *parity.cases("0.4.4"),
        *map(_of_new, SHARED),
        *ROUNDED,
        QUANTILES,
        PREPROCESS,
    ],
    "0.3.3": [*parity.cases("0.3.3"), *SHARED, *ROUNDED, HUB, ALOHA, PREPROCESS],
}
"""Version -> all cases that tests ask it for."""
