"""Random retinal vessel trees: centre lines with radii, grown from the optic disc. No pixels here.

Lengths are in units of the field-of-view radius, origin at its centre, coordinates (row, column).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np

STEP = 0.025  # distance between two points of a centre line
TRUNK_RADIUS = 0.021  # half the width of a main vein near the disc, about DRIVE's
FORKS_PER_LENGTH = 6.0  # of a trunk; thin branches fork less
FOVEA_RADIUS = 0.11  # no vessel enters the foveal avascular zone
CORRELATION_LENGTH = 0.12  # of the wiggles


@dataclass(frozen=True)
class Branch:
    """A vessel between its origin and its tip.

    Attributes:
        points: (N, 2), row and column of the centre line.
        radii: (N,), half the width at each point.
        contrast: how dark it is, in (0, 1].
    """

    points: np.ndarray
    radii: np.ndarray
    contrast: float


@dataclass(order=True)
class Sprout:
    """A branch still to grow; the thickest grows first."""

    order: tuple[float, int]
    position: np.ndarray = field(compare=False)
    heading: float = field(compare=False)
    radius: float = field(compare=False)
    curvature: float = field(compare=False)
    length: float = field(compare=False)
    contrast: float = field(compare=False)


class VesselTree:
    """Grows branches until they would cover a given share of the field of view.

    A side branch of radius r_1 leaves a parent of radius r_0 with r_2 = (r_0^3 - r_1^3)^(1/3) (Murray's law).

    Args:
        generator: the only source of randomness.
        disc: centre of the optic disc, (row, column).
        fovea: centre of the macula, (row, column).
        tip_radius: no branch gets thinner than this.
    """

    def __init__(self, generator: np.random.Generator, disc: np.ndarray, fovea: np.ndarray, tip_radius: float) -> None:
        self.generator = generator
        self.fovea = fovea
        self.tip_radius = tip_radius
        self.sprouts: list[Sprout] = []
        self.count = 0
        self._plant(disc)

    def grow(self, share: float) -> list[Branch]:
        """Grows the tree, thickest branches first.

        Args:
            share: area of all branches (overlaps counted twice) over the area of the field of view.
        """
        branches: list[Branch] = []
        area = 0.0
        while self.sprouts and area < share * np.pi:
            branch = self._extend(heapq.heappop(self.sprouts))
            if len(branch.points) > 2:
                branches.append(branch)
                area += float(2 * branch.radii.sum() * STEP)
        return branches

    def _plant(self, disc: np.ndarray) -> None:
        """Sprouts the arcades (a vein and an artery each way), nasal and macular vessels around the disc."""
        draw = self.generator.uniform
        row, column = self.fovea - disc
        temporal = float(np.arctan2(row, column))
        for way in (-1, 1):
            for is_vein in (True, False):
                radius = TRUNK_RADIUS * (1.0 if is_vein else 0.8) * draw(0.85, 1.15)
                contrast = (1.0 if is_vein else 0.8) * draw(0.85, 1.0)
                start = disc + draw(-0.03, 0.03, 2)
                arcade = temporal + way * np.radians(draw(62, 92))
                self._sprout(start, arcade, radius, -way * draw(1.0, 1.5), 2.2, contrast)
                nasal = temporal + np.pi - way * np.radians(draw(15, 75))
                self._sprout(start, nasal, 0.6 * radius, way * draw(-0.6, 0.3), 0.8, contrast)
        for _ in range(int(self.generator.integers(3, 6))):
            heading = temporal + np.radians(draw(-45, 45))
            self._sprout(disc, heading, 0.45 * TRUNK_RADIUS, 0.0, draw(0.4, 0.8), draw(0.7, 1.0))

    def _sprout(
        self, position: np.ndarray, heading: float, radius: float, curvature: float, length: float, contrast: float
    ) -> None:
        self.count += 1
        radius = max(radius, self.tip_radius)
        order = (-radius * float(self.generator.uniform(0.6, 1.0)), self.count)
        heapq.heappush(self.sprouts, Sprout(order, position, heading, radius, curvature, length, contrast))

    def _extend(self, sprout: Sprout) -> Branch:
        """Walks a sprout to its tip: smooth random curvature, tapering, and new sprouts on the way."""
        position, heading, radius = sprout.position, sprout.heading, sprout.radius
        points, radii = [position], [radius]
        wiggle, side = 0.0, float(self.generator.choice([-1.0, 1.0]))
        memory = np.exp(-STEP / CORRELATION_LENGTH)
        amplitude = 0.6 + 2.0 * self.tip_radius / radius  # thin vessels wind more
        for step in range(int(sprout.length / STEP)):
            wiggle = memory * wiggle + amplitude * np.sqrt(1 - memory**2) * self.generator.normal()
            bend = sprout.curvature * np.exp(-step * STEP / 1.5)
            heading += (bend + wiggle) * STEP
            position = position + STEP * np.array([np.sin(heading), np.cos(heading)])
            if np.hypot(*position) > 1.0 or np.hypot(*(position - self.fovea)) < FOVEA_RADIUS:
                break
            forks = FORKS_PER_LENGTH * STEP * min(1.0, 0.25 + 0.75 * radius / TRUNK_RADIUS)
            if self.generator.random() < forks and step > 4:
                radius = self._fork(position, heading, radius, side, sprout.contrast)
                side *= -1 if self.generator.random() < 0.75 else 1
            radius = max(radius * (1 - 0.25 * STEP), self.tip_radius)
            points.append(position)
            radii.append(radius)
        return Branch(np.array(points), np.array(radii), sprout.contrast)

    def _fork(self, position: np.ndarray, heading: float, radius: float, side: float, contrast: float) -> float:
        """Sprouts a side branch and returns the radius that Murray's law leaves to the parent."""
        draw = self.generator.uniform
        ratio = draw(0.3, 0.78)
        angle = heading + side * np.radians(draw(28, 68))
        length = draw(0.15, 0.4) + draw(0.2, 1.1) * min(1.0, ratio * radius / TRUNK_RADIUS)
        self._sprout(position, angle, ratio * radius, side * draw(-0.8, 0.4), length, contrast * draw(0.75, 1.0))
        return float(radius * (1 - ratio**3) ** (1 / 3))
