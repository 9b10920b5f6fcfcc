"""A small evaluation folder, written by the package's own metrics; one case is worsened by the refiner."""

import csv
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hidiff_monai.metrics import score_case, write_cases, write_summary

CASES = ("01", "02", "03", "a<b>&'c")
HEADER = "epoch,phase,loss_segmentor,loss_refiner,lr_segmentor,lr_refiner,val_dice_prior,val_dice_refined"


class Page(HTMLParser):
    """What a browser would see: open tags must close, references, text, sections."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.sections: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.references += [values[key] for key in ("src", "href", "srcset", "data", "action") if values.get(key)]
        if tag == "section":
            self.sections.append(values["id"])
        if tag not in ("meta", "link", "img", "source", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def make_arrays(seed: int, sharpness: float) -> dict[str, np.ndarray]:
    """A disc seen through noise; the higher the sharpness, the better the refined mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :48]
    distance = 12 - np.hypot(rows - 20, columns - 24)
    prior, refined = (1 / (1 + np.exp(-distance + rng.normal(0, s, distance.shape))) for s in (3.0, 3.0 / sharpness))
    entropy = -(refined * np.log(refined) + (1 - refined) * np.log1p(-refined))
    return {
        "image": rng.integers(0, 255, (40, 48, 3), dtype=np.uint8),
        "label": (distance > 0).astype(np.uint8),
        "region": (distance > -7).astype(np.uint8),
        "prior": prior.astype(np.float32),
        "refined": refined.astype(np.float32),
        "variance": (refined * (1 - refined)).astype(np.float32),
        "entropy": entropy.astype(np.float32),
        "threshold": np.array(0.5),
    }


def make_trajectory(arrays: dict[str, np.ndarray], num_steps: int) -> dict[str, np.ndarray]:
    """A chain that moves from the prior to the refined mask."""
    weights = np.linspace(0, 1, num_steps + 1)[:, None, None]
    chain = (1 - weights) * arrays["prior"] + weights * arrays["refined"]
    return {
        "states": (chain > 0.5).astype(np.uint8),
        "estimates": chain[1:].astype(np.float32),
        "timesteps": np.arange(num_steps)[::-1],
        "image": arrays["image"],
        "label": arrays["label"],
    }


@pytest.fixture
def parse() -> type[Page]:
    """Reads the text of a page."""
    return Page


@pytest.fixture(scope="session")
def _written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "arrays").mkdir()
    (folder / "trajectory").mkdir()
    rows = []
    for i, case in enumerate(CASES):
        arrays = make_arrays(i, sharpness=0.7 if case == "03" else 1.5 + i)
        np.savez(folder / "arrays" / f"{case}.npz", **arrays)
        for region_name, region in (("field of view", arrays["region"]), ("whole image", None)):
            for method in ("prior", "refined"):
                scores = score_case(arrays[method] > 0.5, arrays["label"], region)
                rows.append({"case": case, "method": method, "region": region_name, "target": "disc", **scores})
    np.savez(folder / "trajectory" / "01.npz", **make_trajectory(make_arrays(0, 1.5), 3))
    write_cases(rows, folder)
    write_summary(rows, folder)
    return folder


@pytest.fixture
def evaluation_dir(_written: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(_written, tmp_path / "evaluation"))


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        file.write(HEADER + "\n")
        writer.writerow([1, "pretrain", 1.5, "", 1e-3, "", 0.5, ""])
        writer.writerow([2, "pretrain", 0.9, "", 1e-3, "", "", ""])
        writer.writerow([3, "alternate", 0.8, 0.03, 1e-3, 1e-4, 0.7, 0.71])
    return path


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    arrays = make_arrays(9, 2.0)
    del arrays["label"], arrays["region"]
    path = tmp_path / "photograph.npz"
    np.savez(path, caption="Seen <elsewhere> & unlabelled.", **arrays)
    return path
