"""The network's buffers hold one image, and a server's requests come in threads."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("monailabel", reason="MONAI Label has its own environment: make test-label")

from hidiff_monai.label import inference  # noqa: E402


def test_requests_in_threads_are_predicted_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = [0], [0]

    def predict(*_: Any) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.05)
        inside[0] -= 1
        raise LookupError("far enough")

    monkeypatch.setattr(inference, "read_case", lambda *_: None)
    monkeypatch.setattr(inference, "predict_case", predict)
    served: Any = SimpleNamespace(
        names=("vessel",), is_volumetric=False, metadata={"description": "x"}, open=lambda *_: (None, {"id": "a"})
    )
    task = inference.BundleSegmentation(served)

    def ask(_: int) -> None:
        with contextlib.suppress(LookupError):
            task({"image": "a.png", "device": "cpu"})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))
    assert most == [1]
