"""Data sets of both versions, made once; do not write to them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """version -> its data set."""
    from support.data_sets import MAKERS

    folder = tmp_path_factory.mktemp("sets")
    return {version: make(folder / version) for version, make in MAKERS.items()}
