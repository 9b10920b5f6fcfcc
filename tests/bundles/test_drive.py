"""The DRIVE bundle from its command lines, on phantoms, with a network of width 4."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.transforms import Compose
from PIL import Image

from hidiff_monai.data import write_phantoms

REPOSITORY = Path(__file__).parents[2]
CONFIGS = Path("bundles/drive/configs")
TINY = {
    "crop_size": [64, 64],
    "pretrain_epochs": 1,
    "max_epochs": 2,
    "val_interval": 5,  # the last epoch is validated none the less
    "repeats_per_epoch": 1,
    "segmentor#channels": [4, 4, 4, 4, 4, 4],
    "refiner#channels": [4, 4, 4, 4, 4, 4],
}


def config_files(*names: str) -> str:
    return str([str(CONFIGS / f"{name}.json") for name in names])


def bundle(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "monai.bundle", *arguments],
        cwd=REPOSITORY,
        env=environment,
        text=True,
        capture_output=True,
        timeout=300,
    )


def options(**settings: object) -> list[str]:
    return [part for key, value in settings.items() for part in (f"--{key}", str(value))]


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "set"
    return write_phantoms(folder, 2, 1, 2, size=(70, 66), seed=1, progress=False)


@pytest.fixture(scope="session")
def settings(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return {
        **TINY,
        "dataset_dir": phantoms.parent,
        "datalist_file": phantoms,
        "output_dir": tmp_path_factory.mktemp("run"),
    }


@pytest.fixture(scope="session")
def trained(settings: dict[str, object]) -> Path:
    """Runs `training`; returns the output folder. Nothing may appear in the repository."""
    watched = (REPOSITORY, REPOSITORY / "bundles", REPOSITORY / "bundles" / "drive")
    before = [sorted(folder.iterdir()) for folder in watched]
    done = bundle("run", "training", "--config_file", str(CONFIGS / "train.json"), *options(**settings))
    assert done.returncode == 0, done.stderr[-3000:]
    assert [sorted(folder.iterdir()) for folder in watched] == before
    return Path(str(settings["output_dir"]))


def test_training_leaves_model_history_state_and_tensorboard(trained: Path) -> None:
    weights = torch.load(trained / "models" / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    assert {key.split(".")[0] for key in weights} == {"segmentor", "refiner"}
    history = [row.split(",") for row in (trained / "history.csv").read_text().splitlines()[1:]]
    assert [row[1] for row in history] == ["pretrain", "alternate"]
    assert [bool(row[-1]) for row in history] == [False, True]
    assert (trained / "resume" / "resume_2.pt").exists()
    assert list((trained / "tensorboard").glob("events.*"))


def test_a_training_begins_with_weights_that_it_is_given(trained: Path, settings: dict[str, object]) -> None:
    weights = trained / "models" / "model.pt"
    parser = ConfigParser()
    parser.read_config(str(REPOSITORY / CONFIGS / "train.json"))
    parser.update({**settings, "initial_weights": str(weights), "device": "cpu"})
    state, expected = parser.get_parsed_content("network").state_dict(), torch.load(weights, weights_only=True)
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    average = parser.get_parsed_content("ema").ema_model.state_dict()
    assert all(torch.equal(average[key], value) for key, value in expected.items())
    parser.update({"initial_weights": str(trained / "history.csv")})
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content("network")
    assert "history.csv" in str(error.value.__cause__)


def test_labels_are_read_by_the_grey_values_of_the_datalist(phantoms: Path, tmp_path: Path) -> None:
    datalist = json.loads(phantoms.read_text())
    case = datalist["training"][0]
    label = np.asarray(Image.open(phantoms.parent / case["label"]).convert("L")) > 0
    Image.fromarray(np.where(label, 7, 200).astype(np.uint8)).save(tmp_path / "label.png")
    (tmp_path / "datalist.json").write_text(json.dumps({**datalist, "label_values": {"200": 0, "7": 1}}))
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "train.json"))
    parser["datalist_file"] = str(tmp_path / "datalist.json")
    files = {key: str(phantoms.parent / case[key]) for key in ("image", "region")}
    item = Compose(parser.get_parsed_content("load_transforms"))({**files, "label": str(tmp_path / "label.png")})
    assert np.array_equal(item["label"][0], label)
    assert set(np.unique(item["region"])) == {0, 1}


def test_evaluation_writes_tables_and_report(trained: Path, settings: dict[str, object]) -> None:
    done = bundle(
        "run",
        "run",
        "--config_file",
        config_files("train", "evaluate"),
        *options(**settings, num_inference_steps=2, num_samples=2),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "field of view" in done.stdout and "refined" in done.stdout
    rows = json.loads((trained / "evaluation_test" / "cases.json").read_text())
    assert {(row["method"], row["region"]) for row in rows} == {
        (method, region) for method in ("prior", "refined") for region in ("whole image", "field of view")
    }
    assert (trained / "evaluation_test" / "index.html").stat().st_size > 10_000


def test_inference_returns_masks_of_the_source_size(trained: Path, settings: dict[str, object], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 83, 3), dtype=np.uint8)).save(images / "eye.png")
    overrides = {key: settings[key] for key in ("segmentor#channels", "refiner#channels")}
    done = bundle(
        "run",
        "run",
        "--config_file",
        str(CONFIGS / "inference.json"),
        *options(
            **overrides,
            dataset_dir=images,
            output_dir=tmp_path / "out",
            checkpoint=trained / "models" / "model.pt",
        ),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    mask = np.asarray(Image.open(tmp_path / "out" / "eye_mask.png"))
    assert mask.shape == (50, 83)
    assert set(np.unique(mask)) <= {0, 255}
    assert Image.open(tmp_path / "out" / "eye_entropy.png").size == (83, 50)


def test_ckpt_export_runs_without_the_package(trained: Path, settings: dict[str, object], tmp_path: Path) -> None:
    exported = tmp_path / "model.ts"
    overrides = {key: settings[key] for key in ("segmentor#channels", "refiner#channels")}
    done = bundle(
        "ckpt_export",
        "--net_id",
        "network_def",
        *options(
            filepath=exported,
            ckpt_file=trained / "models" / "model.pt",
            meta_file=CONFIGS / "metadata.json",
            config_file=CONFIGS / "inference.json",
            **overrides,
        ),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    inference = ConfigWorkflow(
        str(REPOSITORY / CONFIGS / "inference.json"),
        workflow_type="inference",
        logging_file=False,
        dataset_dir=str(Path(str(settings["dataset_dir"])) / "test" / "images"),
        checkpoint=str(trained / "models" / "model.pt"),
        **overrides,
    )
    inference.initialize()
    network = inference.network_def.eval()
    images = [torch.rand(1, 3, 64, 64), torch.rand(2, 3, 45, 71)]
    with torch.no_grad():
        expected = [network(image) for image in images]
    torch.save({"images": images, "expected": expected}, tmp_path / "pairs.pt")
    code = (
        "import sys, torch\n"
        "sys.modules['hidiff_monai'] = None\n"
        "network = torch.jit.load('model.ts')\n"
        "pairs = torch.load('pairs.pt')\n"
        "for image, expected in zip(pairs['images'], pairs['expected']):\n"
        "    print(float((network(image) - expected).abs().max()))\n"
    )
    alone = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, text=True, capture_output=True)
    assert alone.returncode == 0, alone.stderr
    assert [float(line) for line in alone.stdout.split()] == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "names"), [("train", ["train"]), ("train", ["train", "evaluate"]), ("inference", ["inference"])]
)
def test_bundle_properties_are_complete(
    kind: str, names: list[str], trained: Path, settings: dict[str, object]
) -> None:
    workflow = ConfigWorkflow(
        [str(REPOSITORY / CONFIGS / f"{name}.json") for name in names],
        meta_file=str(REPOSITORY / CONFIGS / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        **{
            **{key: str(value) if isinstance(value, Path) else value for key, value in settings.items()},
            "checkpoint": str(trained / "models" / "model.pt"),
            **({"dataset_dir": str(Path(str(settings["dataset_dir"])) / "test" / "images")} if kind != "train" else {}),
        },
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_bad_data_stops_before_training_and_leaves_nothing(settings: dict[str, object], tmp_path: Path) -> None:
    output = tmp_path / "output"
    done = bundle(
        "run",
        "training",
        "--config_file",
        str(CONFIGS / "train.json"),
        *options(**{**settings, "output_dir": output, "dataset_dir": tmp_path}),
    )
    assert done.returncode != 0
    assert "training" in done.stderr and ".tif" in done.stderr
    assert not output.exists()
