"""A policy server with a stub of a policy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.policy_server import StubPolicy, policy_server


@pytest.fixture
def policy() -> StubPolicy:
    return StubPolicy()


@pytest.fixture
def url(policy: StubPolicy) -> Iterator[str]:
    with policy_server(policy) as url:
        yield url
