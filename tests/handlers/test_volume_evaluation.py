"""Volumes: figures by hand in voxels and mm, and the slice that shows a class."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, State

from hidiff_monai.handlers import VolumeEvaluationWriter
from hidiff_monai.metrics import read_cases

SPACING = [torch.tensor(0.5), torch.tensor(0.5), torch.tensor(3.0)]


def run(
    writer: VolumeEvaluationWriter, items: list[dict[str, Any]], label: torch.Tensor, prior: torch.Tensor
) -> VolumeEvaluationWriter:
    """Volumes (1, 6, 8, 5) whose refined mask is their label."""
    image = torch.zeros(1, 6, 8, 5)
    image[0, 1, 6] = 1
    output = {"image": image, "label": label, "refined": label, "prior": prior, "entropy": 0.5 * torch.ones(1, 6, 8, 5)}

    def step(engine: Engine, pair: Any) -> list[Any]:
        engine.state.batch = [pair[0]]
        return [pair[1]]

    engine = Engine(step)
    engine.state = State(device=torch.device("cpu"))
    writer.attach(engine)
    engine.run([(item, output) for item in items], max_epochs=1)
    return writer


def evaluate(folder: Path, items: list[dict[str, Any]]) -> VolumeEvaluationWriter:
    """A liver of 2 x 2 x 2 voxels in slices 2 and 3, found in full; its prior lacks slice 3. No spleen, but one voxel
    of it in the prior."""
    label = torch.zeros(1, 6, 8, 5, dtype=torch.uint8)
    label[0, 1:3, 5:7, 2:4] = 1
    prior = label.clone()
    prior[..., 3] = 0
    prior[0, 5, 0, 4] = 2
    return run(VolumeEvaluationWriter(str(folder), ["liver", "spleen"]), items, label, prior)


@pytest.fixture
def written(tmp_path: Path) -> tuple[VolumeEvaluationWriter, Path]:
    return evaluate(tmp_path, [{"id": "0001", "patient": "0001", "spacing": SPACING}]), tmp_path


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


def test_every_slice_has_its_row(written: tuple[VolumeEvaluationWriter, Path]) -> None:
    rows = [row for row in read_cases(written[1], "slices") if row["target"] == "liver"]
    prior = {row["slice"]: row for row in rows if row["method"] == "prior"}
    assert len(rows) == 2 * 5 and prior[2]["case"] == "0001 slice 002" and prior[2]["patient"] == "0001"
    assert [prior[number]["dice"] for number in range(5)] == [1, 1, 1, 0, 1]
    assert [prior[number]["is_labelled"] for number in range(5)] == [False, False, True, True, False]
    table = (written[1] / "slices_table.txt").read_text()
    assert "every slice" in table and "slices with a label" in table


def test_what_the_labels_do_not_hold_is_not_scored(tmp_path: Path) -> None:
    writer = VolumeEvaluationWriter(str(tmp_path), ["liver", "spleen"], labelled_names=["spleen"])
    label = torch.zeros(1, 6, 8, 5, dtype=torch.uint8)
    label[0, 1:3, 5:7, 2:4] = 2
    run(writer, [{"id": "7", "spacing": SPACING}], label, label)
    assert [(row["target"], row["dice"]) for row in writer.rows] == [("spleen", 1), ("spleen", 1)]
    assert [path.name for path in (tmp_path / "arrays").iterdir()] == ["7.npz"]  # one structure: as for images
    with pytest.raises(ValueError, match=r"labels hold \['kidney'\]"):
        VolumeEvaluationWriter(str(tmp_path), ["liver", "spleen"], ["kidney"])
