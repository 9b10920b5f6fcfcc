"""Exact grey values and thresholds through one transform, and what the check says of a label's values."""

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from hidiff_monai.data import Pixels, label_transform
from hidiff_monai.data.labels import check_label, require_label_rule

CASES = [{"id": "a", "image": "a.png"}]


def _datalist(tmp_path, **rules):
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"channels": 3, "training": CASES, **rules}))
    return path


def _findings(array, **rules):
    return list(check_label(Pixels(np.asarray(array, np.uint8), None), rules))


@pytest.mark.parametrize("make", [torch.tensor, lambda values: MetaTensor(torch.tensor(values))])
def test_values_and_threshold_give_float_classes(tmp_path, make):
    path = _datalist(tmp_path, label_values={"0": 0, "200": 2, "7": 1})
    label = label_transform(path)({"label": make([[[0.0, 7.0, 200.0]]])})["label"]
    assert label.tolist() == [[[0, 1, 2]]] and label.dtype == torch.float32
    path = _datalist(tmp_path, label_threshold=127)
    label = label_transform(path)({"label": make([[[0.0, 127.0, 128.0, 255.0]]])})["label"]
    assert label.tolist() == [[[0, 0, 1, 1]]] and label.dtype == torch.float32


@pytest.mark.parametrize("rules", [{"label_values": {"0": 0}}, {"label_threshold": 127}])
def test_items_without_label_pass(tmp_path, rules):
    assert label_transform(_datalist(tmp_path, **rules))({"image": 1}) == {"image": 1}


def test_neither_both_and_no_whole_number_are_refused(tmp_path):
    for rules in ({}, {"label_values": {"0": 0}, "label_threshold": 127}):
        with pytest.raises(ValueError, match="expected one"):
            label_transform(_datalist(tmp_path, **rules))
    for wrong in (127.5, True, "127"):
        with pytest.raises(ValueError, match="whole number"):
            require_label_rule("x.json", {"label_threshold": wrong})


def test_blurred_masks_and_grey_in_colour_pass_the_threshold():
    blurred = np.zeros((20, 20, 1))
    blurred[5:, 5:] = 255
    blurred[5, 5:15] = 120  # 10 of 400 pixels: 2.5 %
    assert _findings(blurred, label_threshold=127) == []
    assert _findings(np.repeat(blurred, 3, axis=-1), label_threshold=127) == []
    assert _findings(np.zeros((4, 4, 1)), label_threshold=127) == []


def test_channels_of_a_volume_are_no_grey_picture_in_colour():
    """One-hot 0 and 1 differ by less than the tint of a picture, and two classes of three would be lost."""
    one_hot = np.eye(3, dtype=np.uint8)[np.arange(24).reshape(2, 3, 4) % 3]
    ((found, *_),) = check_label(Pixels(one_hot, np.eye(4)), {"label_values": {"0": 0, "1": 1}})
    assert found.startswith("3 channels")
    ((found, *_),) = check_label(Pixels(one_hot[0], None), {"label_values": {"0": 0, "1": 1}})
    assert found == "3 channels"


def test_a_tint_is_for_thresholds_only():
    """Turned to grey, (255, 255, 248) is 254, which no class has."""
    tinted = np.zeros((4, 4, 3))
    tinted[1:3, 1:3] = (255, 255, 248)
    assert _findings(tinted, label_threshold=127) == []
    ((found, *_),) = _findings(tinted, label_values={"0": 0, "255": 1})
    assert found == "3 channels"


def test_masks_that_would_read_as_empty_or_are_none_are_found():
    ((found, _, mend),) = _findings(np.eye(4)[..., None], label_threshold=127)
    assert found == "no grey value above 127, though up to 1" and "reads as empty" in mend
    ramp = np.linspace(0, 255, 256).reshape(16, 16, 1)
    ((found, _, _),) = _findings(ramp, label_threshold=127)  # 64 ... 191 of 256 grey values
    assert found == "50% of the pixels neither dark nor bright"
    ((found, _, _),) = _findings(np.arange(48).reshape(4, 4, 3) * 5, label_threshold=127)
    assert found == "3 channels"
