"""A REST service over a small real model, started once for all tests that call it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import serving


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Service]:
    """`fusechat serve`, with a key of each role."""
    with serving.served(tmp_path_factory.mktemp("service"), max_body_bytes=200_000) as found:
        yield found
