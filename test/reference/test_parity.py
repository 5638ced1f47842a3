"""The policy against LeRobot's own pi0, from its checkpoint to its actions."""

from collections.abc import Callable

import pytest
import torch
from reference.agreement import PREPROCESS
from reference.oracle_runner import OracleResult
from reference.parity import (
    ONLY,
    PI05_COMPILED,
    PI05_ROUNDED,
    ROUNDED,
    Row,
    cases,
    compare,
    measure,
)

from pi0_ros.checkpoint.checkpoint import ImageRule
from pi0_ros.checkpoint.errors import CheckpointError
from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.policy.preprocess import fit_image

Oracle = Callable[[str], dict[str, OracleResult]]
NAMES = [(version, case["name"]) for version in ONLY for case in cases(version)]


@pytest.fixture(scope="module")
def rows(oracle: Oracle) -> dict[tuple[str, str, str, str], Row]:
    measured = [row for version in ONLY for row in measure(version, oracle(version), forms=())]
    return {(row.version, row.case, row.dtype, row.form): row for row in measured}


@pytest.mark.parametrize("version,case", NAMES)
def test_float32_actions_are_lerobots(
    rows: dict[tuple[str, str, str, str], Row], version: str, case: str
) -> None:
    row = rows[version, case, "float32", "eager"]
    assert row.max_abs <= (1e-4 if "peaked attention" in case else 2e-5), row


@pytest.mark.compile
@pytest.mark.timeout(900)
@pytest.mark.parametrize("form", ["two-graph", pytest.param("frame", marks=pytest.mark.slow)])
def test_a_graph_that_makes_its_own_prompt_computes_the_same(oracle: Oracle, form: str) -> None:
    """As a frame the same functions are unrolled: a minute of C++ compilation."""
    result = oracle("0.6.1")[PI05_COMPILED["name"]]
    assert compare("0.6.1", result, "float32", form=form).max_abs <= 2e-5


@pytest.mark.parametrize(
    "version,case",
    [*((version, ROUNDED["name"]) for version in ONLY), ("0.6.1", PI05_ROUNDED["name"])],
)
def test_bfloat16_actions_follow_lerobots_float32(
    rows: dict[tuple[str, str, str, str], Row], version: str, case: str
) -> None:
    row = rows[version, case, "bfloat16", "eager"]
    assert row.cosine >= 0.9999, row
    assert row.max_abs > 1e-4, "bfloat16 did not take part"


@pytest.mark.parametrize(
    "version,rule,border",
    [
        ("0.6.1", ImageRule(antialias=False, centred=True), -1.0),
        ("0.4.4", ImageRule(antialias=False, centred=True), -3.0),
        ("0.3.3", ImageRule(antialias=False, centred=False), -1.0),
    ],
)
def test_images_are_fitted_as_lerobot_fits_them(
    oracle: Oracle, version: str, rule: ImageRule, border: float
) -> None:
    tensors = oracle(version)["preprocess"].tensors()
    for height, width in PREPROCESS["preprocess_hw"]:
        theirs = tensors[f"network_image.{height}x{width}"].squeeze()
        ours = fit_image(tensors[f"image_u8.{height}x{width}"].numpy(), 224, rule)
        # LeRobot 0.4 fills its border with -3, which it meant to be -1: black.
        theirs = torch.where(theirs == border, torch.tensor(-1.0), theirs)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_alohas_joint_conversions_are_refused(oracle: Oracle) -> None:
    with pytest.raises(CheckpointError, match="adapt_to_pi_aloha is set"):
        read_checkpoint(oracle("0.3.3")["aloha"].checkpoint)
