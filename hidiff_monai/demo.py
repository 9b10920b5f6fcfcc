"""The whole pipeline on a laptop: train, refine, evaluate, explain, and apply to a real photograph."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from monai.transforms import Compose
from skimage import data as skimage_data
from skimage.transform import resize

from hidiff_monai.data import write_phantoms
from hidiff_monai.inferers import OUTPUTS, accelerate
from hidiff_monai.io import load_weights, require_writable, write_atomically
from hidiff_monai.networks import HiDiff
from hidiff_monai.prediction.model import parse_config, read_config
from hidiff_monai.report import write_report
from hidiff_monai.report.manifest import write_manifest

REPOSITORY = Path(__file__).resolve().parent.parent
PHANTOM_SIZE = (160, 160)
DRIVE_HEIGHT = 584
NUM_TRAINING, NUM_VALIDATION, NUM_TEST = 24, 4, 12
PHOTOGRAPH_CAPTION = (
    "A fundus photograph that comes with scikit-image (skimage.data.retina), segmented with the weights that come with "
    "the DRIVE bundle, not those of this demo; from another camera and without a reference mask: judge by eye."
)


def run_demo(output: str | Path = "demo_report", data: str | Path | None = None, seed: int = 0) -> Path:
    """Trains a small HiDiff with the DRIVE bundle's configuration, evaluates it and writes a report.

    An interrupted demo goes on where it stopped.

    Args:
        output: folder for everything that is written; ``index.html`` in it is the report.
        data: a DRIVE folder; None draws phantoms in DRIVE's layout.
        seed: seed of phantoms, training and sampling.

    Returns:
        The path of the report.

    Raises:
        ValueError: when the output cannot be written, the data is not valid, or the bundles are not there.
    """
    started = time.monotonic()
    print(
        "four steps: data, training, evaluation, report; about 10 minutes on an idle machine of two cores", flush=True
    )
    output = require_writable(output).resolve()
    run_dir = output / f"{'phantoms' if data is None else 'drive'}_seed{seed}"
    bundle = _find_bundle()
    print(f"step 1 of 4: {'drawing phantoms' if data is None else 'DRIVE from ' + str(data)}", flush=True)
    if data is None:
        datalist = write_phantoms(
            run_dir / "images", NUM_TRAINING, NUM_VALIDATION, NUM_TEST, size=PHANTOM_SIZE, seed=seed
        )
        dataset_dir = datalist.parent
    else:
        datalist, dataset_dir = REPOSITORY / "data_lists" / "drive.json", Path(data).resolve()
    settings = {
        "bundle_root": str(bundle),
        "dataset_dir": str(dataset_dir),
        "datalist_file": str(datalist),
        "output_dir": str(run_dir),
        "evaluation_dir": str(run_dir / "evaluation"),
        "seed": seed,
    }
    print("step 2 of 4: training, progress below", flush=True)
    _run(bundle, ["train.json", "demo.json"], settings)
    print("step 3 of 4: evaluation on test images that neither network has seen", flush=True)
    _run(
        bundle,
        ["train.json", "demo.json", "evaluate.json"],
        {**settings, "run": ["$@validate#evaluator.run()"]},
    )
    print("step 4 of 4: a real photograph, and the report", flush=True)
    photograph = _segment_photograph(bundle, run_dir / "photograph.npz", seed)
    manifest = write_manifest(
        run_dir / "manifest.json",
        seed=seed,
        data="phantoms" if data is None else "DRIVE",
        command="hidiff demo",
        checkpoint=run_dir / "models" / "model.pt",
        runtime_s=round(time.monotonic() - started, 1),
    )
    return write_report(
        output,
        run_dir / "evaluation",
        history=run_dir / "history.csv",
        manifest=manifest,
        photograph=photograph,
        title="HiDiff demo: retinal vessels, " + ("phantoms" if data is None else "DRIVE"),
    )


def _find_bundle() -> Path:
    bundle = REPOSITORY / "bundles" / "drive"
    if not bundle.is_dir():
        raise ValueError(f"{bundle} is missing; the demo uses the repository's bundles: run it from a clone")
    return bundle


def _run(bundle: Path, files: list[str], settings: dict[str, Any]) -> None:
    configs = bundle / "configs"
    workflow = ConfigWorkflow(
        [str(configs / name) for name in files],
        meta_file=str(configs / "metadata.json"),
        logging_file=str(configs / "logging.conf"),
        workflow_type="train",
        **settings,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def _segment_photograph(bundle: Path, path: Path, seed: int) -> Path:
    """Applies the bundle's own weights to scikit-image's retina, brought to the height of DRIVE's images."""
    places = {"bundle_root": str(bundle), "inferer#outputs": list(OUTPUTS), "inferer#seed": seed}
    parser = parse_config(read_config(bundle, "inference.json"), {}, places)
    network: HiDiff = parser.get_parsed_content("network")
    load_weights(network, bundle / "models" / "model.pt")
    device = next(network.parameters()).device
    picture = resize(skimage_data.retina(), (DRIVE_HEIGHT, DRIVE_HEIGHT), anti_aliasing=True)
    after_loading = Compose(parser.get_parsed_content("preprocessing").transforms[1:])
    image = after_loading({"image": torch.as_tensor(255 * picture, dtype=torch.float32).permute(2, 0, 1)})["image"]
    accelerated = accelerate(network.eval(), device).network
    maps = parser.get_parsed_content("inferer")(image[None].to(device), accelerated)
    arrays: dict[str, Any] = {name: value[0, 0].cpu().numpy() for name, value in maps.items()}
    arrays |= {"image": (picture * 255).round().astype(np.uint8), "threshold": 0.5, "caption": PHOTOGRAPH_CAPTION}
    with write_atomically(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    return path
