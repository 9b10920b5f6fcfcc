"""Draws one fundus-like phantom: image, vessel label and field of view."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.special import expit
from skimage.draw import polygon
from skimage.transform import downscale_local_mean

from .vessel_tree import Branch, VesselTree

OVERSAMPLING = 3  # vessels are drawn on a finer grid and averaged down
RIBBON = 4  # a branch is drawn in ribbons of so many steps, each of one darkness
TIP_RADIUS_PX = 0.6  # the thinnest branches are a little over a pixel wide
# How much of red, green and blue a full vessel takes away: contrast is mainly in green.
VESSEL_COLOUR = np.array([0.12, 0.42, 0.32])


class Phantom(NamedTuple):
    """One drawn case: image (H, W, 3) uint8, label and region (H, W) bool."""

    image: np.ndarray
    label: np.ndarray
    region: np.ndarray


def draw_phantom(generator: np.random.Generator, size: tuple[int, int]) -> Phantom:
    """Draws a fundus with its vessel tree.

    Args:
        generator: the only source of randomness.
        size: (H, W) in pixels.
    """
    fundus_radius_px = 0.475 * min(size)
    rows, columns = _grid(size, fundus_radius_px)
    region = np.hypot(rows, columns) <= 1.0
    draw = generator.uniform
    side = generator.choice([-1.0, 1.0])
    disc = np.array([draw(-0.12, 0.12), side * draw(0.5, 0.78)])
    fovea = np.array([disc[0] + draw(0.0, 0.12), disc[1] - side * draw(0.62, 0.78)])
    tree = VesselTree(generator, disc, fovea, TIP_RADIUS_PX / fundus_radius_px)
    coverage, darkness = _draw_vessels(tree.grow(draw(0.12, 0.155)), size, fundus_radius_px)

    colour = _paint_background(generator, rows, columns, disc, fovea)
    spots, exudates = _draw_distractors(generator, rows, columns)
    darkness = np.maximum(ndimage.gaussian_filter(darkness, 0.5), spots)
    colour = colour + exudates[..., None] * np.array([18.0, 45.0, 25.0])
    colour = colour * (1 - darkness[..., None] * VESSEL_COLOUR)
    image = _photograph(generator, colour, region)
    return Phantom(image, (coverage > 0.45) & region, region)


def _grid(size: tuple[int, int], radius_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each pixel centre, in field-of-view radii from the image centre."""
    rows = (np.arange(size[0]) - (size[0] - 1) / 2) / radius_px
    columns = (np.arange(size[1]) - (size[1] - 1) / 2) / radius_px
    return np.meshgrid(rows, columns, indexing="ij")


def _draw_vessels(branches: list[Branch], size: tuple[int, int], radius_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Rasterises branches: share of each pixel covered, and darkness, both (H, W) in [0, 1]."""
    fine = (OVERSAMPLING * size[0], OVERSAMPLING * size[1])
    covered, darkness = np.zeros(fine), np.zeros(fine)
    centre = (np.array(fine) - 1) / 2
    for branch in branches:
        points = branch.points * OVERSAMPLING * radius_px + centre
        along = np.gradient(points, axis=0)
        along /= np.hypot(along[:, 0], along[:, 1])[:, None]
        across = branch.radii[:, None] * OVERSAMPLING * radius_px * along[:, ::-1] * [-1, 1]
        left, right = points + across, points - across
        for start in range(0, len(points) - 1, RIBBON):
            piece = slice(start, start + RIBBON + 1)
            outline = np.concatenate([left[piece], right[piece][::-1]])
            area = polygon(outline[:, 0], outline[:, 1], shape=fine)
            width_px = 2 * branch.radii[piece].mean() * radius_px
            covered[area] = 1
            darkness[area] = np.maximum(darkness[area], branch.contrast * np.clip(0.22 + 0.2 * width_px, 0, 1))
    factors = (OVERSAMPLING, OVERSAMPLING)
    return downscale_local_mean(covered, factors), downscale_local_mean(darkness, factors)


def _smooth_noise(generator: np.random.Generator, shape: tuple[int, ...], sigma_px: float) -> np.ndarray:
    """Gaussian noise of that correlation length, zero mean, unit standard deviation."""
    noise = ndimage.gaussian_filter(generator.normal(size=shape), sigma_px, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def _paint_background(
    generator: np.random.Generator, rows: np.ndarray, columns: np.ndarray, disc: np.ndarray, fovea: np.ndarray
) -> np.ndarray:
    """The fundus without vessels, (H, W, 3) in grey values: illumination, choroid, disc and macula."""
    draw = generator.uniform
    scale_px = 0.475 * min(rows.shape)
    base = np.array([draw(165, 228), draw(88, 124), draw(38, 74)])
    angle = draw(0, 2 * np.pi)
    slope = draw(0.05, 0.22) * (rows * np.sin(angle) + columns * np.cos(angle))
    falloff = draw(0.05, 0.25) * (rows**2 + columns**2)
    light = 1.0 + slope - falloff + 0.05 * _smooth_noise(generator, rows.shape, 0.3 * scale_px)
    mottle = 0.022 * _smooth_noise(generator, rows.shape, 0.03 * scale_px)
    light = light + mottle + _choroid(generator, rows, columns)

    from_fovea = np.hypot(rows - fovea[0], columns - fovea[1])
    light = light - draw(0.12, 0.3) * np.exp(-0.5 * (from_fovea / 0.14) ** 2)
    colour = base * light[..., None]
    from_disc = np.hypot((rows - disc[0]) / 1.1, columns - disc[1])
    rim = expit((draw(0.13, 0.16) - from_disc) / 0.015)
    cup = np.exp(-0.5 * (from_disc / 0.07) ** 2)
    glow = np.stack([40 * rim + 10 * cup, 70 * rim + 45 * cup, 35 * rim + 40 * cup], axis=-1)
    return colour + draw(0.6, 1.0) * glow


def _choroid(generator: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Wavy stripes of choroidal vessels shining through in part of the fundus: faint look-alikes."""
    scale_px = 0.475 * min(rows.shape)
    angle = generator.uniform(0, np.pi)
    warp = 1.4 * _smooth_noise(generator, rows.shape, 0.18 * scale_px)
    phase = generator.uniform(14, 24) * (rows * np.sin(angle) + columns * np.cos(angle)) + warp
    where = np.clip(_smooth_noise(generator, rows.shape, 0.4 * scale_px), 0, 1.5)
    return generator.uniform(0.01, 0.05) * where * np.sin(phase)


def _draw_distractors(
    generator: np.random.Generator, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Haemorrhage-like dark blobs and exudate-like bright ones, each (H, W) in [0, 1]."""
    spots, exudates = np.zeros(rows.shape), np.zeros(rows.shape)
    edge = 0.35 * _smooth_noise(generator, rows.shape, 0.025 * 0.475 * min(rows.shape))
    for canvas, number, largest in ((spots, 6, 0.05), (exudates, 5, 0.035)):
        for _ in range(int(generator.poisson(number))):
            radius, angle = generator.uniform(0.012, largest), generator.uniform(0, 2 * np.pi)
            reach = 0.9 * np.sqrt(generator.random())
            down, right = rows - reach * np.sin(angle), columns - reach * np.cos(angle)
            turn, stretch = generator.uniform(0, np.pi), generator.uniform(1.0, 2.5)
            long = (down * np.sin(turn) + right * np.cos(turn)) / stretch
            wide = down * np.cos(turn) - right * np.sin(turn)
            blob = expit((1 - edge - np.hypot(long, wide) / radius) / 0.15)
            np.maximum(canvas, generator.uniform(0.3, 0.9) * blob, out=canvas)
    return spots, exudates


def _photograph(generator: np.random.Generator, colour: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Blur, sensor noise (coarse and fine) and the dark surround of the camera; (H, W, 3) uint8."""
    sigma_px = generator.uniform(0.45, 0.8)
    blurred = ndimage.gaussian_filter(colour, (sigma_px, sigma_px, 0))
    level = generator.uniform(0.6, 1.3) * np.array([3.0, 3.5, 3.5])
    noise = generator.normal(size=colour.shape)
    noise += 2.0 * ndimage.gaussian_filter(generator.normal(size=colour.shape), (0.8, 0.8, 0))
    field = ndimage.gaussian_filter(region.astype(float), 0.6)[..., None]
    noisy = field * (blurred + level * noise) + (1 - field) * np.abs(2.0 * noise)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
