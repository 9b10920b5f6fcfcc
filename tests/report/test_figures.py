import io

import numpy as np
import pytest
from PIL import Image

from hidiff_monai.report import figures
from hidiff_monai.report.canvas import ERROR_COLOURS
from hidiff_monai.report.evaluation import read_arrays, read_history


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)


def count_of(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture - np.array(colour)).max(-1) <= 3).sum())


@pytest.fixture
def arrays(evaluation_dir):
    return read_arrays(evaluation_dir / "arrays" / "01.npz", ())


def test_overview_shows_each_kind_of_error(arrays):
    arrays["image"] = np.zeros_like(arrays["image"])
    picture = pixels(figures.overview(arrays))
    assert picture.shape[1] > 2 * picture.shape[0] > 800
    arrays["refined"] = arrays["label"].astype(np.float32)
    perfect = pixels(figures.overview(arrays))
    for name in ("false positive", "false negative"):
        drawn, legend_only = (count_of(p, ERROR_COLOURS[name]) for p in (picture, perfect))
        assert 0 < legend_only < 400 < drawn


def test_overview_scores_only_inside_the_region(arrays):
    arrays["refined"] = np.ones_like(arrays["refined"])
    inside = count_of(pixels(figures.overview(arrays)), ERROR_COLOURS["false positive"])
    arrays["region"] = np.ones_like(arrays["region"])
    assert count_of(pixels(figures.overview(arrays)), ERROR_COLOURS["false positive"]) > inside


def test_photograph_needs_no_label(photograph):
    picture = pixels(figures.photograph(read_arrays(photograph, ())))
    assert picture.shape[1] > 1000


@pytest.mark.parametrize(("num_steps", "lines"), [(1, 1), (4, 1), (10, 2), (30, 2)])
def test_trajectory_shows_at_most_ten_steps(arrays, num_steps, lines):
    states = np.random.default_rng(0).integers(0, 2, (num_steps + 1, 40, 48), dtype=np.uint8)
    chain = {"states": states, "estimates": states[1:].astype(np.float32), "timesteps": np.arange(num_steps)[::-1]}
    picture = pixels(figures.trajectory({**arrays, **chain}))
    panel = figures.PANEL_IN * 40 / 48
    assert round(picture.shape[0] / 130 / (panel + 0.28) / 2) == lines


def test_thumbnail_has_the_aspect_of_the_case(arrays):
    assert pixels(figures.thumbnail(arrays)).shape == (round(88 * 40 / 48), 88, 3)


def test_charts_follow_the_theme(history):
    prior, refined = np.array([0.7, 0.8]), np.array([0.75, 0.78])
    for draw in (
        lambda theme: figures.paired_dice(["a", "b"], prior, refined, (-0.02, 0.05), theme),
        lambda theme: figures.training_curves(read_history(history), theme),
    ):
        light, dark = pixels(draw("light")), pixels(draw("dark"))
        assert light.shape == dark.shape
        assert light.mean() > 230 and dark.mean() < 60


def test_curves_survive_columns_without_a_value(history):
    empty = {"loss_refiner": None, "val_dice_refined": None, "val_dice_prior": None}
    rows = [{**row, **empty} for row in read_history(history)]
    assert pixels(figures.training_curves(rows)).size


def test_paired_dice_of_one_and_of_many_cases():
    assert pixels(figures.paired_dice(["only"], np.array([0.5]), np.array([0.6]))).size
    assert pixels(figures.paired_dice(["a$x_$b"], np.array([0.5]), np.array([0.6]))).size  # no mathematics
    dice = np.linspace(0.5, 0.9, 60)
    assert pixels(figures.paired_dice([f"case {i}" for i in range(60)], dice, dice[::-1], (0.0, 0.0))).size
