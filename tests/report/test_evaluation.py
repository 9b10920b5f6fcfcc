import json

import numpy as np
import pytest

from hidiff_monai.metrics import paired_bootstrap
from hidiff_monai.report.evaluation import (
    CASE_KEYS,
    compare,
    read_arrays,
    read_conventions,
    read_history,
    read_rows,
)


def test_compare_prefers_the_field_of_view(evaluation_dir):
    rows = read_rows(evaluation_dir)
    assert compare([row for row in rows if row["region"] != "field of view"]).region == "whole image"
    comparison = compare(rows[::-1])
    assert comparison.region == "field of view"
    for i, case in enumerate(comparison.cases):
        scored = [row for row in rows if (row["case"], row["region"]) == (case, "field of view")]
        values = {row["method"]: row["dice"] for row in scored}
        assert (comparison.prior[i], comparison.refined[i]) == (values["prior"], values["refined"])
    np.testing.assert_array_equal(comparison.gain, comparison.refined - comparison.prior)
    assert comparison.interval == paired_bootstrap(comparison.gain)


def test_compare_takes_the_mean_over_targets():
    row = {"case": "1", "region": "whole image"}
    dice = {("prior", "a"): 0.2, ("prior", "b"): 0.4, ("refined", "a"): 0.5, ("refined", "b"): 0.9}
    rows = [{**row, "method": method, "target": target, "dice": value} for (method, target), value in dice.items()]
    comparison = compare(rows)
    np.testing.assert_allclose([comparison.prior[0], comparison.refined[0]], [0.3, 0.7])
    assert comparison.interval is None
    assert comparison.array_names("1") == ["1_a", "1_b"]


def test_compare_leaves_a_background_out_of_the_mean():
    row = {"case": "1", "region": "whole image"}
    dice = {("prior", "background"): 0.99, ("prior", "a"): 0.4, ("refined", "background"): 1.0, ("refined", "a"): 0.9}
    rows = [{**row, "method": method, "target": target, "dice": value} for (method, target), value in dice.items()]
    comparison = compare(rows)
    assert (comparison.prior[0], comparison.refined[0]) == (0.4, 0.9)
    assert comparison.array_names("1") == ["1_background", "1_a"]


def test_compare_refuses_a_lone_case(evaluation_dir):
    rows = [row for row in read_rows(evaluation_dir) if (row["case"], row["method"]) != ("02", "prior")]
    with pytest.raises(ValueError, match="'02'"):
        compare(rows)


def test_missing_files_are_named_with_the_command(tmp_path):
    for name, read in (("cases.json", read_rows), ("summary.json", read_conventions)):
        with pytest.raises(ValueError, match=f"(?s){name}.*monai.bundle run"):
            read(tmp_path)
    with pytest.raises(ValueError, match=r"(?s)7\.npz.*monai.bundle run"):
        read_arrays(tmp_path / "7.npz", CASE_KEYS)


@pytest.mark.parametrize(("text", "message"), [("{", "not a JSON list"), ("[]", "no rows"), ("[3]", "not a JSON list")])
def test_bad_cases_json(tmp_path, text, message):
    (tmp_path / "cases.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path)


def test_rows_without_a_key(tmp_path):
    (tmp_path / "cases.json").write_text(json.dumps([{"case": "1", "method": "prior", "region": "whole image"}]))
    with pytest.raises(ValueError, match="'dice'"):
        read_rows(tmp_path)


def test_arrays_without_a_key_or_no_archive(tmp_path):
    np.savez(tmp_path / "1.npz", image=np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match="lacks prior, refined"):
        read_arrays(tmp_path / "1.npz", CASE_KEYS)
    (tmp_path / "2.npz").write_text("no archive")
    with pytest.raises(ValueError, match="2.npz"):
        read_arrays(tmp_path / "2.npz", CASE_KEYS)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 4)])
def test_images_without_colour_become_grey(tmp_path, shape):
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    np.savez(tmp_path / "1.npz", image=image)
    grey = read_arrays(tmp_path / "1.npz", ("image",))["image"]
    np.testing.assert_array_equal(grey, np.stack([image.reshape(2, 3, -1)[..., 0]] * 3, axis=-1))


def test_history_keeps_empty_cells_apart_from_zero(history):
    rows = read_history(history)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["loss_refiner"] for row in rows] == [None, None, 0.03]
    assert rows[2]["phase"] == "alternate"


def test_bad_history(tmp_path):
    path = tmp_path / "history.csv"
    with pytest.raises(ValueError, match=r"history\.csv is missing"):
        read_history(path)
    path.write_text("epoch,phase\n1,pretrain\n")
    with pytest.raises(ValueError, match="lacks loss_segmentor"):
        read_history(path)
    path.write_text("epoch,phase,loss_segmentor,loss_refiner,val_dice_prior,val_dice_refined\none,pretrain,1,,,\n")
    with pytest.raises(ValueError, match="'one'"):
        read_history(path)
