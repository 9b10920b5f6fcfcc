"""Pictures of the same sight under two names, which a hash of their bytes cannot find."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from hidiff_monai.io.images import DEEP_GREY, open_picture

EDGE = 32  # of the thumbnail that is compared
MAX_BITS = 48  # of EDGE² = 1024; frames a second apart differ in 10 to 20, in Kvasir-SEG any others in 91 or more
BLOCK = 1000  # images that are compared with all at a time: memory grows with the number of images, not its square


def find_similar(files: Sequence[Path]) -> list[tuple[int, int]]:
    """Pairs of images that show the same sight: positions (i, j), i < j.

    A difference hash: one bit a pixel of a small grey thumbnail, whether it is brighter than its left neighbour; it
    forgives compression, resizing and slight motion. Unreadable files are similar to none.
    """
    hashes = {i: _hash(file) for i, file in enumerate(tqdm(files, desc="Looking for look-alikes", unit="image"))}
    readable = {i: bits for i, bits in hashes.items() if bits is not None}
    if not readable:
        return []
    positions, bits = np.array(list(readable)), np.array(list(readable.values()), np.float32)
    numbers_set = bits.sum(axis=1)
    pairs = []
    for start in range(0, len(bits), BLOCK):
        rest, number_set = bits[start:], numbers_set[start:]  # those before have been compared with all
        differing = number_set[:BLOCK, None] + number_set - 2 * rest[:BLOCK] @ rest.T  # set in one, not in the other
        first, second = start + np.array(np.nonzero(np.triu(differing <= MAX_BITS, k=1)))
        pairs += [(int(i), int(j)) for i, j in zip(positions[first], positions[second], strict=True)]
    return pairs


def _hash(file: Path) -> np.ndarray | None:
    try:
        with open_picture(file) as image:
            shade = image.convert("F" if image.mode in DEEP_GREY else "L")  # to L, Pillow clips 16 bits at 255
            grey = np.asarray(shade.resize((EDGE + 1, EDGE), Image.Resampling.BILINEAR))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return (grey[:, 1:] > grey[:, :-1]).ravel()
