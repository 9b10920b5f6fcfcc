"""What is on the Pareto front, and that the picture shows the points."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from hidiff_monai.report.canvas import THEMES
from hidiff_monai.report.dial_chart import DialPoint, dial_chart, pareto_front


def points(*pairs: tuple[float, float]) -> list[DialPoint]:
    return [DialPoint("hard", str(number), seconds, dice) for number, (seconds, dice) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("pairs", "front"),
    [
        ([(1, 0.5), (2, 0.6), (3, 0.7)], [0, 1, 2]),
        ([(3, 0.7), (1, 0.5), (2, 0.6)], [1, 2, 0]),
        ([(1, 0.7), (2, 0.6), (3, 0.71)], [0, 2]),
        ([(1, 0.5), (1, 0.6), (2, 0.6)], [1]),  # as fast and worse; slower and no better
        ([(1, 0.5)], [0]),
        ([], []),
    ],
)
def test_front(pairs: list[tuple[float, float]], front: list[int]) -> None:
    assert pareto_front(points(*pairs)) == front


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_picture_has_a_mark_of_each_kind_in_its_colour(theme: str) -> None:
    kinds = [DialPoint("prior", "", 0.1, 0.8), DialPoint("hard", "1", 0.2, 0.81), DialPoint("ddim", "5 × 4", 2.0, 0.79)]
    pictures = {}
    for shown in (kinds, kinds[:2]):
        with Image.open(io.BytesIO(dial_chart(shown, "drive: 4 cases", theme))) as picture:
            pictures[len(shown)] = np.asarray(picture.convert("RGB")).astype(int)
    colour = np.array([int(THEMES[theme].worse[i : i + 2], 16) for i in (1, 3, 5)])
    near = {number: int((np.abs(values - colour).max(axis=-1) < 12).sum()) for number, values in pictures.items()}
    assert near[3] > 40 and near[2] == 0
