"""What a refined mask is worth beside the prior's once both are of one size."""

from pathlib import Path

import numpy as np
import pytest

from hidiff_monai.cli import main
from hidiff_monai.metrics import compare_methods, score_case, write_cases
from hidiff_monai.report import SAME_AREA, rows_at_same_area
from hidiff_monai.report.same_area import likeliest

METHODS = ("prior", SAME_AREA)


def write(folder: Path, prior: np.ndarray, refined: np.ndarray, label: np.ndarray, region: np.ndarray) -> None:
    (folder / "arrays").mkdir()
    rows = []
    for name, inside in (("whole image", None), ("field of view", region)):
        for method, probability in (("prior", prior), ("refined", refined)):
            row = {"case": "a", "method": method, "region": name, "target": "vessel"}
            rows.append({**row, **score_case(probability > 0.5, label, region=inside)})
    write_cases(rows, folder)
    maps = {"prior": prior, "refined": refined, "entropy": prior, "label": label, "region": region}
    np.savez(folder / "arrays" / "a.npz", image=np.zeros((*label.shape, 3), np.uint8), threshold=0.5, **maps)


@pytest.fixture
def maps() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    label = np.zeros((20, 24), np.uint8)
    label[5:15, 6:18] = 1
    prior = 0.25 * label + 0.05 + 0.6 * rng.random(label.shape)
    region = np.zeros_like(label)
    region[:, 4:] = 1
    return {"prior": prior, "label": label, "region": region}


def test_a_mask_that_is_the_prior_s_at_another_threshold_gains_nothing(tmp_path: Path, maps) -> None:
    """Its Dice rises, as the prior's own would at a lower threshold."""
    write(tmp_path, refined=maps["prior"] ** 0.8, **maps)
    rows = rows_at_same_area(tmp_path)
    assert len({row["tp"] + row["fp"] for row in rows if row["region"] == "whole image"}) == 1
    for row, other in zip(rows[::2], rows[1::2], strict=True):
        assert (row["method"], other["method"]) == METHODS and row["region"] == other["region"]
        assert {**row, "method": ""} == {**other, "method": ""}


def test_a_mask_that_knows_more_gains_in_each_region(tmp_path: Path, maps, capsys) -> None:
    write(tmp_path, refined=0.7 * maps["prior"] + 0.3 * maps["label"], **maps)
    found = {score.region: score for score in compare_methods([rows_at_same_area(tmp_path)], METHODS)}
    assert all(found[region].difference > 1 for region in ("whole image", "field of view"))
    inside = maps["region"] > 0
    areas = {row["region"]: row["tp"] + row["fp"] for row in rows_at_same_area(tmp_path) if row["method"] == SAME_AREA}
    assert areas["field of view"] == (maps["prior"][inside] > 0.5).sum() <= areas["whole image"]
    main(["compare", str(tmp_path), "--same_area"])
    assert SAME_AREA in capsys.readouterr().out


def test_volumes_have_no_probabilities_to_rank(tmp_path: Path, maps) -> None:
    write(tmp_path, refined=maps["prior"], **maps)
    (tmp_path / "slices.json").write_text("[]")
    with pytest.raises(ValueError, match="is of volumes"):
        rows_at_same_area(tmp_path)


def test_of_equal_probabilities_as_many_as_asked_for_are_taken() -> None:
    assert likeliest(np.array([[0.5, 0.5], [0.9, 0.5]]), 2).tolist() == [[True, False], [True, False]]
    assert not likeliest(np.ones((2, 2)), 0).any()
