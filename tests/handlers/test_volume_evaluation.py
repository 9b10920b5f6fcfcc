"""Volumes: figures by hand in voxels and mm, and the slice that shows a class."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, State

from hidiff_monai.handlers import VolumeEvaluationWriter


def evaluate(folder: Path, items: list[dict[str, Any]]) -> VolumeEvaluationWriter:
    """A liver of 2 x 2 x 2 voxels in slices 2 and 3, found in full; its prior lacks slice 3. No spleen, but one voxel
    of it in the prior."""
    label = torch.zeros(1, 6, 8, 5, dtype=torch.uint8)
    label[0, 1:3, 5:7, 2:4] = 1
    prior = label.clone()
    prior[..., 3] = 0
    prior[0, 5, 0, 4] = 2
    image = torch.zeros(1, 6, 8, 5)
    image[0, 1, 6] = 1
    output = {"image": image, "label": label, "refined": label, "prior": prior, "entropy": 0.5 * torch.ones(1, 6, 8, 5)}

    def step(engine: Engine, pair: Any) -> list[Any]:
        engine.state.batch = [pair[0]]
        return [pair[1]]

    engine = Engine(step)
    engine.state = State(device=torch.device("cpu"))
    writer = VolumeEvaluationWriter(str(folder), ["liver", "spleen"])
    writer.attach(engine)
    engine.run([(item, output) for item in items], max_epochs=1)
    return writer


@pytest.fixture
def written(tmp_path: Path) -> tuple[VolumeEvaluationWriter, Path]:
    spacing = [torch.tensor(0.5), torch.tensor(0.5), torch.tensor(3.0)]
    return evaluate(tmp_path, [{"id": "0001", "spacing": spacing}]), tmp_path


def test_without_spacing_there_are_voxels_and_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = evaluate(tmp_path, [{"id": "0001"}, {"id": "0002"}])
    rows = [row for row in writer.rows if row["target"] == "liver" and row["method"] == "prior"]
    assert [row["hd95"] for row in rows] == [1, 1]
    assert all(np.isnan(row["hd95_mm"]) for row in writer.rows)
    assert caplog.text.count("case 0001: the size of its voxels is unknown") == 1
    assert "case 0002" not in caplog.text
    saved = json.loads((tmp_path / "cases.json").read_text())
    assert all(row["hd95_mm"] is None for row in saved)


def test_every_class_has_its_row_for_both_methods(written: tuple[VolumeEvaluationWriter, Path]) -> None:
    rows = {(row["target"], row["method"]): row for row in written[0].rows}
    assert len(rows) == 4 and all(row["region"] == "whole volume" for row in rows.values())
    assert rows["liver", "refined"]["dice"] == 1 and rows["liver", "refined"]["hd95_mm"] == 0
    prior = rows["liver", "prior"]
    assert prior["dice"] == pytest.approx(2 * 4 / (4 + 8)) and (prior["tp"], prior["fn"]) == (4, 4)
    assert prior["hd95"] == pytest.approx(1) and prior["hd95_mm"] == pytest.approx(3)
    assert rows["spleen", "refined"]["dice"] == 1  # empty and found empty
    assert rows["spleen", "prior"]["dice"] == 0 and np.isnan(rows["spleen", "prior"]["hd95_mm"])
    assert prior["uncertainty"] == pytest.approx(0.5)


def test_the_picture_of_a_class_is_its_largest_slice_upright(written: tuple[VolumeEvaluationWriter, Path]) -> None:
    arrays = np.load(written[1] / "arrays" / "0001_liver.npz")
    assert arrays["image"].shape == (8, 6, 3)
    assert arrays["label"].sum() == 4 and arrays["label"][8 - 7, 6 - 1 - 1] == 1  # anterior up, right on the left
    assert tuple(np.argwhere(arrays["image"][..., 0] == 255)[0]) == (8 - 1 - 6, 6 - 1 - 1)
    assert np.array_equal(arrays["refined"], arrays["label"])
