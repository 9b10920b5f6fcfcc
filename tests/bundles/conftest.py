"""What tests of several bundles share."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from hidiff_monai.engines import distributed


@pytest.fixture
def torchrun_of_one(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Within it, this process is the only one that torchrun has started."""

    @contextmanager
    def within() -> Iterator[None]:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        for key, value in place.items():
            monkeypatch.setenv(key, str(value))
        try:
            yield
        finally:
            distributed.leave_processes()  # also where a line of the run failed

    return within
