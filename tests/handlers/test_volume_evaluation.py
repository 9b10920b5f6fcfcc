"""Volumes: figures by hand in voxels and mm, and the slice that shows a class."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, State
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator

from hidiff_monai.handlers import VolumeEvaluationWriter
from hidiff_monai.inferers import BernoulliDiffusionInferer, VolumeInferer
from hidiff_monai.metrics import ProbabilitySums, area_under_error_retention, read_cases
from hidiff_monai.recipes import unpack_predictions

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


def test_a_plane_kept_as_it_was_acquired_is_shown_as_it_is(tmp_path: Path) -> None:
    evaluate(tmp_path, [{"id": "0001", "spacing": SPACING, "acquired": True}])
    arrays = np.load(tmp_path / "arrays" / "0001_liver.npz")
    assert arrays["image"].shape == (6, 8, 3) and tuple(np.argwhere(arrays["image"][..., 0] == 255)[0]) == (1, 6)
    assert arrays["label"][1:3, 5:7].sum() == 4 == arrays["label"].sum()


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


class Drawn(BernoulliDiffusionInferer):
    """Softmax over background, liver, spleen of noise that the image holds; the prior is half as sure."""

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        refined, prior = (scale * inputs for scale in (1.0, 0.5))
        entropy = torch.special.entr(refined.softmax(1))
        return {"refined": refined.softmax(1), "prior": prior.softmax(1), "entropy": entropy}


def evaluate_drawn(
    folder: Path, shape: tuple[int, int, int], labelled: list[str] | None = None
) -> list[dict[str, torch.Tensor]]:
    """Two volumes through MONAI's evaluator, batch by batch of both."""
    logits = 2 * torch.randn(2, 3, *shape)
    classes = logits.movedim(1, -1).softmax(-1).flatten(0, 3).multinomial(1).view(2, 1, *shape)
    items = [
        {"image": image, "label": label, "id": str(number), "patient": str(number), "spacing": SPACING}
        for number, (image, label) in enumerate(zip(logits, classes, strict=True))
    ]
    writer = VolumeEvaluationWriter(str(folder), ["liver", "spleen"], labelled)
    SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset(items), batch_size=2),
        torch.nn.Conv2d(1, 1, 1),
        inferer=VolumeInferer(Drawn(outputs=("refined", "prior", "entropy")), batch_size=2, progress=False),
        postprocessing=unpack_predictions(),
        val_handlers=[writer],
    ).run()
    return items


def test_probabilities_are_calibrated_while_the_slices_pass(tmp_path: Path) -> None:
    items = evaluate_drawn(tmp_path, (6, 8, 5))
    found = json.loads((tmp_path / "calibration.json").read_text())
    assert [(target["target"], target["region"], target["n"]) for target in found["targets"]] == [
        ("liver", "whole volume", 2),
        ("spleen", "whole volume", 2),
    ]
    refined = torch.stack([item["image"] for item in items]).softmax(1)
    label = torch.stack([item["label"] for item in items])[:, 0]
    for number, target in enumerate(found["targets"], start=1):
        sums = ProbabilitySums.of(refined[:, number], label == number)
        assert target["refined"]["pooled"]["bins"]["counts"] == sums.counts.tolist()
        for name, value in sums.scores().items():
            assert target["refined"]["pooled"][name] == pytest.approx(value, rel=1e-4)
        entropy = torch.special.entr(refined).mean(1).half()
        wrong = (refined.argmax(1) == number) != (label == number)
        areas = [area_under_error_retention(entropy[case], wrong[case], torch.zeros(6, 8, 5)) for case in (0, 1)]
        assert target["retention"]["area"] == pytest.approx(np.mean(areas), rel=1e-4)


def test_a_sample_of_voxels_is_kept_evenly_and_within_bounds(tmp_path: Path) -> None:
    items = evaluate_drawn(tmp_path, (60, 50, 10))
    with np.load(tmp_path / "probabilities" / "1.npz") as arrays:
        refined, label = arrays["refined"], arrays["label"]
    assert refined.shape == (20_000, 3) and label.shape == (20_000,) and label.dtype == np.uint8
    assert refined.sum(1) == pytest.approx(np.ones(20_000), abs=1e-5)
    of_first_slice = items[1]["image"][..., 0].softmax(0).flatten(1).T.numpy()
    assert {tuple(row) for row in refined[:2000].round(5)} <= {tuple(row) for row in of_first_slice.round(5)}
    assert len({tuple(row) for row in refined.round(6)}) > 19_000  # drawn without replacement


def test_labels_that_lack_classes_give_no_sample(tmp_path: Path) -> None:
    evaluate_drawn(tmp_path, (6, 8, 5), ["spleen"])
    assert not (tmp_path / "probabilities").exists()
    (target,) = json.loads((tmp_path / "calibration.json").read_text())["targets"]
    assert target["target"] == "spleen"


def test_another_inferer_leaves_calibration_out(written: tuple[VolumeEvaluationWriter, Path]) -> None:
    assert not (written[1] / "calibration.json").exists()
