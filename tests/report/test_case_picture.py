import io

import numpy as np
import pytest
import torch
from PIL import Image

from hidiff_monai.inferers.bernoulli import binary_entropy
from hidiff_monai.report import case_picture as draw
from hidiff_monai.report.canvas import ERROR_COLOURS, HEAT
from hidiff_monai.report.case_picture import (
    GAP_PX,
    HEAD_PX,
    PANEL_PX,
    SIDE_PX,
    case_picture,
    structures_window,
)
from hidiff_monai.report.class_maps import (
    CLASS_COLOURS,
    OTHER_CLASS,
    class_colour,
    difference_map,
    outline,
    overlay,
    resize_classes,
)

H = W = 270  # a panel, pixel for pixel


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)


def panel(picture: np.ndarray, number: int) -> np.ndarray:
    left = SIDE_PX + number * (W + GAP_PX)
    return picture[HEAD_PX : HEAD_PX + H, left : left + W]


def is_near(pixel: np.ndarray, colour: tuple[int, ...], tolerance: int = 3) -> bool:
    return bool(np.abs(pixel - np.array(colour)).max() <= tolerance)


@pytest.fixture
def case() -> dict[str, np.ndarray]:
    """Two squares on grey, so large that nothing is cut off; the refiner adds, removes and renames a corner of each."""
    prior = np.zeros((H, W), int)
    prior[20:250, 20:130], prior[20:250, 130:250] = 1, 2
    refined = prior.copy()
    refined[30:70, 1:20], refined[100:140, 20:60], refined[200:240, 60:100] = 1, 0, 2
    label = prior.copy()
    label[100:140, 200:250] = 0
    entropy = np.zeros((H, W))
    entropy[:, 200:] = np.log(2)
    picture = np.full((H, W, 3), 90, np.uint8)
    return {"picture": picture, "prior": prior, "refined": refined, "entropy": entropy, "label": label}


def test_every_panel_has_its_colours_where_they_belong(case):
    shown = pixels(case_picture(**case, names=["left", "right"]))
    assert PANEL_PX[1] == W  # drawn pixel for pixel
    image, prior, refined, changed, errors, heat = (panel(shown, number) for number in range(6))
    assert is_near(image[135, 135], (90, 90, 90))
    for row in (20, 249):
        assert is_near(prior[row, 80], CLASS_COLOURS[0]) and is_near(prior[row, 200], CLASS_COLOURS[1])
    assert is_near(refined[200, 80], CLASS_COLOURS[1]) and not is_near(prior[200, 80], CLASS_COLOURS[1], 20)
    same, more, less = ERROR_COLOURS.values()
    for place, colour in (((50, 10), more), ((120, 40), less), ((220, 80), OTHER_CLASS), ((180, 180), same)):
        assert is_near(changed[place], colour)
    for place, colour in (((50, 10), more), ((120, 40), less), ((220, 80), OTHER_CLASS), ((120, 220), more)):
        assert is_near(errors[place], colour)
    assert is_near(heat[100, 100], (0, 0, 4)) and is_near(heat[100, 260], (252, 255, 164))  # the ends of inferno
    assert HEAT == "inferno"


def test_without_a_label_there_is_no_panel_of_errors(case):
    with_label = pixels(case_picture(**case, names=["left", "right"]))
    without = pixels(case_picture(**{**case, "label": None}, names=["left", "right"]))
    assert with_label.shape[1] - without.shape[1] == W + GAP_PX
    assert is_near(panel(without, 4)[100, 260], (252, 255, 164))


def test_a_single_class_is_mistaken_for_no_other(case):
    binary = {**case, **{key: (case[key] > 0).astype(int) for key in ("prior", "refined", "label")}}
    shown = pixels(case_picture(**binary, names=["lesion"]))
    assert not (np.abs(shown - OTHER_CLASS).max(-1) <= 3).any()


@pytest.mark.parametrize(("shape", "classes"), [((35, 50), 13), ((2000, 3000), 16), ((400, 90), 2), ((90, 400), 1)])
@pytest.mark.parametrize("has_label", [True, False])
def test_every_size_stays_small_in_bytes_and_pixels(shape, classes, has_label):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(rows / shape[0] - 0.5, columns / shape[1] - 0.5)
    mask = np.clip((classes * (1 - 2.5 * distance)).round(), 0, classes).astype(np.uint8)
    refined = np.roll(mask, shape[0] // 20, axis=0)
    picture = np.stack([255 * distance, 200 * rows / shape[0], 90 + 0 * distance], -1).astype(np.uint8)
    names = [f"structure number {k} of this organ" for k in range(1, classes + 1)]
    entropy = np.minimum(distance, np.log(2)).astype(np.float16)
    png = case_picture(picture, mask, refined, entropy, names, mask if has_label else None)
    assert 10_000 < len(png) < 100_000
    height, width = pixels(png).shape[:2]
    assert height < 520 and 1000 < width < 1800


def test_an_empty_mask_is_drawn(case):
    nothing = np.zeros((H, W), np.uint8)
    png = case_picture(case["picture"], nothing, nothing, np.zeros((H, W)), ["a", "b"])
    assert is_near(panel(pixels(png), 3)[100, 100], tuple(panel(pixels(png), 1)[100, 100]))


def test_what_does_not_fit_together_is_named(case):
    with pytest.raises(ValueError, match=r"refined is \(5, 6\); expected the picture's \(270, 270\)"):
        draw(**{**case, "refined": np.zeros((5, 6), int)}, names=["a", "b"])
    with pytest.raises(ValueError, match="prior holds class 2; expected at most 1"):
        draw(**case, names=["a"])


def test_window_holds_all_that_is_marked_in_the_proportions_of_the_image():
    marked = np.zeros((200, 300), bool)
    marked[150:180, 260:299] = True
    rows, columns = structures_window(marked)
    assert not np.delete(marked, np.r_[rows], 0).any() and not np.delete(marked, np.r_[columns], 1).any()
    height, width = rows.stop - rows.start, columns.stop - columns.start
    assert height / 200 == pytest.approx(width / 300, abs=0.01)
    assert rows.start >= 0 and rows.stop <= 200 and columns.stop <= 300
    assert height < 50


@pytest.mark.parametrize("side", [0, 60])
def test_window_is_the_image_where_cutting_is_of_no_use(side):
    marked = np.zeros((64, 80), bool)
    marked[:side, :side] = True
    assert structures_window(marked) == (slice(0, 64), slice(0, 80))


def test_doubtful_pixels_far_from_the_mask_are_not_cut_off(case):
    small = np.zeros((H, W), int)
    small[10:30, 10:30] = 1
    entropy = np.zeros((H, W))
    entropy[260, 260] = 0.6
    far, near = (
        panel(pixels(case_picture(case["picture"], small, small, e, ["a"])), 1) for e in (entropy, 0 * entropy)
    )
    covered = [(np.abs(shown - CLASS_COLOURS[0]).max(-1) <= 3).sum() for shown in (far, near)]
    assert covered[0] < covered[1]  # the whole image is shown, so the mask stands small


def test_thin_vessels_outlive_the_shrinking():
    classes = np.zeros((1000, 1000), int)
    classes[500:504] = 3  # four tenths of a shown pixel
    small = resize_classes(classes, (100, 100))
    assert set(np.unique(small)) == {0, 3} and (small == 3).sum() == 100
    classes[500:504] = 0
    classes[500:502] = 3  # two tenths
    assert not resize_classes(classes, (100, 100)).any()


def test_a_shown_pixel_takes_the_commonest_class():
    classes = np.zeros((10, 10), int)
    classes[:, :3], classes[:, 3:8] = 1, 2
    assert resize_classes(classes, (1, 1)) == 2


def test_enlarged_classes_repeat_their_pixels():
    classes = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(resize_classes(classes, (6, 9)), np.kron(classes, np.ones((3, 3), int)))


def test_outline_has_both_sides_of_a_border_but_not_the_edge_of_the_picture():
    classes = np.zeros((5, 6), int)
    classes[:, :3], classes[:, 3:5] = 1, 2
    expected = np.zeros((5, 6), bool)
    expected[:, 2:5] = True
    np.testing.assert_array_equal(outline(classes), expected)


def test_difference_of_equal_masks_shows_no_error():
    mask, ground = np.array([[0, 1, 2]]), np.full((1, 3, 3), 7, np.uint8)
    same = ERROR_COLOURS["true positive"]
    assert [tuple(pixel) for pixel in difference_map(mask, mask, ground)[0]] == [(7, 7, 7), same, same]


def test_overlay_leaves_the_background_alone():
    ground = np.random.default_rng(0).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    classes = np.zeros((6, 6), int)
    classes[2:4, 2:4] = 17
    shown = overlay(ground, classes)
    np.testing.assert_array_equal(shown[classes == 0], ground[classes == 0])
    assert (shown[classes > 0] == class_colour(17)).all() and class_colour(17) == CLASS_COLOURS[0]


def test_class_colours_differ_from_each_other():
    distances = [np.abs(np.subtract(a, b)).sum() for a in CLASS_COLOURS for b in CLASS_COLOURS if a != b]
    assert len(set(CLASS_COLOURS)) == 16 and min(distances) > 40


@pytest.mark.parametrize("structures", [2, 8])
def test_a_coin_toss_between_two_classes_is_brightest_however_many_there_are(case, structures):
    """The mean over the classes falls with their number; the picture must not look surer for it."""
    probability = torch.tensor([0.5, 0.5] + [0.0] * (structures - 1))
    tossed = float(binary_entropy(probability).mean())
    entropy = np.where(case["entropy"] > 0, tossed, 0)
    shown = pixels(case_picture(**{**case, "entropy": entropy}, names=[*"abcdefgh"[:structures]]))
    assert is_near(panel(shown, 5)[100, 260], (252, 255, 164))
    half = pixels(case_picture(**{**case, "entropy": entropy / 2}, names=[*"abcdefgh"[:structures]]))
    assert not is_near(panel(half, 5)[100, 260], (252, 255, 164), tolerance=40)


def test_names_are_not_read_as_mathematics(case):
    assert case_picture(**case, names=[r"$\frac$", "$x_1$"])
