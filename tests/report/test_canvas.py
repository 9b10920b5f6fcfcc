import io

import numpy as np
from PIL import Image

from hidiff_monai.report.canvas import (
    ERROR_COLOURS,
    OUTSIDE_REGION,
    busiest_window,
    error_map,
    palette_png,
    picture_palette,
)


def test_error_map_colours_each_outcome():
    prediction = np.array([[1, 1, 0, 0, 1]], bool)
    label = np.array([[1, 0, 1, 0, 1]], bool)
    region = np.array([[1, 1, 1, 1, 0]], bool)
    expected = [*ERROR_COLOURS.values(), (0, 0, 0), OUTSIDE_REGION]
    assert [tuple(pixel) for pixel in error_map(prediction, label, region)[0]] == expected


def test_busiest_window_equals_brute_force():
    amount = np.random.default_rng(0).random((37, 50))
    rows, columns = busiest_window(amount, 4)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (9, 12)
    sums = {(i, j): amount[i : i + 9, j : j + 12].sum() for i in range(29) for j in range(39)}
    assert (rows.start, columns.start) == max(sums, key=sums.__getitem__)


def test_busiest_window_of_a_tiny_image_is_the_image():
    assert busiest_window(np.zeros((5, 6)), 4) == (slice(0, 5), slice(0, 6))


def test_palette_keeps_the_error_colours_true():
    photo = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    swatch = np.array([[*ERROR_COLOURS.values(), OUTSIDE_REGION]], np.uint8)
    shown = Image.open(io.BytesIO(palette_png(Image.fromarray(swatch), picture_palette(photo)))).convert("RGB")
    np.testing.assert_allclose(np.asarray(shown, int), swatch, atol=3)
