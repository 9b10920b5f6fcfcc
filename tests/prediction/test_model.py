"""Which weights a bundle predicts with where none are named."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hidiff_monai.prediction.model import find_checkpoint


def test_shipped_weights_come_first_and_own_ones_are_not_passed_over_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="no weights in .*models/model.pt; expected a trained bundle"):
        find_checkpoint(tmp_path)
    shipped, own = (tmp_path / place / "model.pt" for place in ("models", "output/models"))
    for file in (own, shipped):
        file.parent.mkdir(parents=True)
        file.touch()
        assert not caplog.records
        with caplog.at_level(logging.WARNING):
            assert find_checkpoint(tmp_path) == file
    assert f"for your own give --checkpoint {own}" in caplog.text
