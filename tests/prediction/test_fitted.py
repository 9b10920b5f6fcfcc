"""Temperature and threshold: what they do to masks, and whose weights they are for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hidiff_monai.prediction import load_model, run_prediction
from hidiff_monai.prediction.case import infer_case, read_case

Arguments = Callable[[str], dict[str, Any]]


def test_a_temperature_moves_no_mask_at_any_threshold(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None]
) -> None:
    write_photograph(tmp_path / "in" / "x.png")
    arguments = bundle_arguments("kvasir_seg")
    untempered = {**arguments["overrides"], "temperature": 1.0}
    model = load_model(source=tmp_path / "in", **{**arguments, "overrides": untempered})
    values = np.sort(infer_case(model, read_case(model, model.items[0]))[0]["refined"].numpy().ravel())
    middle = values[len(values) // 4 : -len(values) // 4]
    widest = np.diff(middle).argmax()
    threshold = float(middle[widest : widest + 2].mean())
    masks = []
    for temperature in (1.0, 3.0):
        overrides = {**arguments["overrides"], "threshold": threshold, "temperature": temperature}
        run = {**arguments, "source": tmp_path / "in", "output": tmp_path / str(temperature), "overrides": overrides}
        manifest = run_prediction(**run)
        assert (manifest["threshold"], manifest["temperature"]) == (threshold, temperature)
        with Image.open(tmp_path / str(temperature) / "x_mask.png") as mask:
            masks.append(np.asarray(mask))
    assert 0.2 < (masks[0] > 0).mean() < 0.8
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize("value", [50, -0.1, "high"])
def test_a_threshold_is_a_probability(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None], value: object
) -> None:
    write_photograph(tmp_path / "in" / "x.png")
    arguments = bundle_arguments("kvasir_seg")
    overrides = {**arguments["overrides"], "threshold": value}
    with pytest.raises(ValueError, match=rf"--threshold '?{value}'?; expected a number in \[0, 1\]"):
        load_model(source=tmp_path / "in", **{**arguments, "overrides": overrides})


def test_other_weights_are_told_what_was_fitted_to_the_bundle_s_own(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    write_photograph(tmp_path / "in" / "x.png")
    arguments = bundle_arguments("kvasir_seg")
    load_model(source=tmp_path / "in", **arguments)
    assert "temperature of kvasir_seg: 1.406: chosen for the weights that come with the bundle" in caplog.text
    assert "give --temperature 1, or your own" in caplog.text
    caplog.clear()
    given = {**arguments["overrides"], "temperature": 1.0}
    load_model(source=tmp_path / "in", **{**arguments, "overrides": given})
    load_model(arguments["bundle"], tmp_path / "in", device="cpu")
    assert "chosen for the weights" not in caplog.text
