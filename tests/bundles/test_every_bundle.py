"""Every bundle on made-up raw data: training, resume, evaluation, inference, MONAI's property checks."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image

from hidiff_monai.data import LoadScand, LoadVolumed, load_volumes
from hidiff_monai.data.prepare import prepare_dataset
from hidiff_monai.data.prepare.synapse import ORGANS, RAW_VALUES
from hidiff_monai.io import SaveVolumePrediction

REPOSITORY = Path(__file__).parents[2]
BUNDLES = sorted(path.name for path in (REPOSITORY / "bundles").iterdir() if path.is_dir())
SPEC = importlib.util.spec_from_file_location("raw", Path(__file__).with_name("raw.py"))
assert SPEC is not None and SPEC.loader is not None
raw = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(raw)

WIDTHS = [4, 4, 4, 4, 4, 4]
TINY = {"pretrain_epochs": 1, "max_epochs": 1, "val_interval": 1, "seed": 1}
SEGMENTOR_FIRST = {"kvasir_seg", "cvc_clinicdb"}  # to its end; the refiner then learns alone
COMPLETE = ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf")


class Bundle:
    """A bundle with its data, made-up ones by default; every workflow runs in this process, from elsewhere."""

    def __init__(self, name: str, folder: Path, prepared: tuple[Path, Path] | None = None) -> None:
        self.name = name
        self.root = REPOSITORY / "bundles" / name
        self.output = folder / "output"
        self.dataset_dir, self.datalist = prepared or raw.make_dataset(name, folder / "data")
        self.is_volume = name in raw.VOLUMES

    def workflow(self, *files: str, kind: str = "train", **overrides: Any) -> ConfigWorkflow:
        paths = [str(self.root / "configs" / f"{file}.json") for file in files]
        config = ConfigParser.load_config_files(paths)
        settings: dict[str, Any] = {
            "bundle_root": str(self.root),
            "dataset_dir": str(self.dataset_dir),
            "output_dir": str(self.output),
            "segmentor#channels": WIDTHS,
            "refiner#channels": WIDTHS,
        }
        if kind == "train":
            settings |= {**TINY, "datalist_file": str(self.datalist)}
            settings["image_size" if "image_size" in config else "crop_size"] = [64, 64]
            if "repeats_per_epoch" in config:
                settings["repeats_per_epoch"] = 2
        if "window_size" in config:
            settings["window_size"] = [64, 64]
        workflow = ConfigWorkflow(
            paths,
            meta_file=str(self.root / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type=kind,
            **{**settings, **overrides},
        )
        workflow.initialize()
        return workflow

    def save_untrained(self) -> str:
        """A checkpoint of the bundle's network as it is drawn."""
        parser = ConfigParser()
        parser.read_config(self.root / "configs" / "inference.json")
        parser.update({"segmentor#channels": WIDTHS, "refiner#channels": WIDTHS})
        self.output.mkdir()
        torch.save(parser.get_parsed_content("network").state_dict(), self.output / "untrained.pt")
        return str(self.output / "untrained.pt")

    def sources(self) -> Path:
        """A folder of what a user would predict."""
        if not self.is_volume:
            return self.dataset_dir / "2.png"
        return self.datalist.parents[1] / "raw"


@pytest.fixture(scope="module", params=BUNDLES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """Pre-trained for an epoch."""
    made = Bundle(request.param, tmp_path_factory.mktemp(request.param))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        workflow = made.workflow("train")
        assert workflow.check_properties() == []
        workflow.run()
        yield made


def test_training_leaves_a_model_and_resumes(bundle: Bundle) -> None:
    assert all((bundle.root / name).is_file() for name in COMPLETE)
    state = torch.load(bundle.output / "models" / "model.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state.values())
    history = bundle.output / "history.csv"
    assert len(history.read_text().splitlines()) == 1 + 1
    bundle.workflow("train", max_epochs=2).run()
    rows = [row.split(",")[:2] for row in history.read_text().splitlines()[1:]]
    assert rows == [["1", "pretrain"], ["2", "refine" if bundle.name in SEGMENTOR_FIRST else "alternate"]]


def test_without_pretraining_the_segmentor_learns_beside_the_refiner(bundle: Bundle) -> None:
    """So that weights trained on with data of one's own are so whole."""
    alternation = bundle.workflow("train", pretrain_epochs=0).parser.get_parsed_content("alternation")
    assert alternation.phase(1) == alternation.phase(9) == "alternate"


def test_the_overlay_for_several_processes_trains_in_one(
    bundle: Bundle, torchrun_of_one: Callable[[], AbstractContextManager[None]], tmp_path: Path
) -> None:
    with torchrun_of_one():
        workflow = bundle.workflow("train", "multi_gpu_train", output_dir=str(tmp_path))
        assert workflow.check_properties() == []
        assert torch.distributed.is_initialized()
        workflow.run()
        workflow.finalize()
        assert not torch.distributed.is_initialized()
    assert (tmp_path / "resume" / "resume_1.pt").is_file()


def test_the_overlay_without_torchrun_says_so(bundle: Bundle) -> None:
    with pytest.raises(RuntimeError) as error:
        bundle.workflow("train", "multi_gpu_train")
    assert "RANK is not set; expected a process that torchrun started" in str(error.value.__cause__)


def test_evaluation_scores_every_structure(bundle: Bundle) -> None:
    workflow = bundle.workflow("train", "evaluate", num_inference_steps=1, num_samples=1)
    assert workflow.check_properties() == []
    workflow.run()
    folder = bundle.output / "evaluation_test"
    rows = json.loads((folder / "cases.json").read_text())
    names = json.loads(bundle.datalist.read_text())["label_names"] if bundle.is_volume else None
    assert {row["method"] for row in rows} == {"prior", "refined"}
    assert names is None or [row["target"] for row in rows if row["method"] == "prior"][: len(names)] == names
    assert (folder / "index.html").stat().st_size > 10_000
    calibration = json.loads((folder / "calibration.json").read_text())
    assert {target["target"] for target in calibration["targets"]} == {row["target"] for row in rows}
    assert json.loads((folder / "manifest.json").read_text())["temperature"] == 1.0


def test_temperature_of_both_configurations_reaches_the_inferer(bundle: Bundle) -> None:
    evaluate, inference = (
        bundle.workflow(*files, kind=kind, temperature=1.4, checkpoint=str(bundle.output / "models" / "model.pt"))
        for files, kind in ((("train", "evaluate"), "train"), (("inference",), "inference"))
    )
    for inferer in (evaluate.parser.get_parsed_content("validate#inferer"), inference.inferer):
        assert getattr(inferer, "inferer", inferer).temperature == 1.4
    if not bundle.is_volume:
        for workflow, key in ((evaluate, "validate#inferer"), (inference, "inferer")):
            workflow.parser.update({"flip_axes": [1]})
            workflow.parser.parse()
            assert workflow.parser.get_parsed_content(key).flip_axes == [1]
    own = {
        name: json.loads((bundle.root / "configs" / f"{name}.json").read_text())["temperature"]
        for name in ("evaluate", "inference")
    }
    assert own["evaluate"] == 1.0  # it scores any weights; a fitted one belongs to those that come with the bundle
    assert own["inference"] == 1.0 or (bundle.root / "models" / "model.pt").is_file()


def test_inference_writes_masks_on_the_source_grid(bundle: Bundle, tmp_path: Path) -> None:
    chosen = bundle.sources()
    overrides: dict[str, Any] = {"dataset_dir": str(chosen), "output_dir": str(tmp_path / "out")}
    overrides["checkpoint"] = str(bundle.output / "models" / "model.pt")
    if bundle.name == "acdc":
        overrides["dataset_dir"] = str(next((chosen / "training" / "patient001").glob("*_frame01.nii.gz")))
    elif bundle.name == "synapse":
        overrides["dataset_dir"] = str(chosen / "img" / "img0001.nii.gz")
    elif bundle.name == "brats":
        overrides["dataset_dir"] = str(chosen / "BraTS2021_00000")
        overrides["inferer#inferer#num_inference_steps"] = 1
    workflow = bundle.workflow("inference", kind="inference", **overrides)
    assert workflow.check_properties() == []
    workflow.run()
    if not bundle.is_volume:
        assert Image.open(tmp_path / "out" / "2_mask.png").size == (80, 72)
        return
    (file,) = (tmp_path / "out").glob("*_mask.nii.gz")
    mask = nibabel.load(file)
    assert mask.shape == raw.SHAPES[bundle.name]
    np.testing.assert_allclose(mask.affine, raw.LPS, rtol=1e-6)
    assert int(np.asanyarray(mask.dataobj).max()) <= 8


def test_training_and_inference_define_the_same_network(bundle: Bundle) -> None:
    train, inference = (
        json.loads((bundle.root / "configs" / f"{name}.json").read_text()) for name in ("train", "inference")
    )
    for key in ("segmentor", "refiner", "scheduler"):
        assert train[key] == inference[key]
    assert train["network_def"]["scheduler"] == inference["network_def"]["scheduler"] == "@scheduler"
    for key in ("exclusive", "sampler"):
        assert train["network_def"].get(key) == inference["network_def"].get(key)
    assert train["network_def"].get("exclusive", False) == train["discriminative_loss"].get("exclusive", False)


@pytest.mark.parametrize("bundle", ["synapse"], indirect=True)
def test_a_model_is_scored_on_the_one_organ_that_another_set_labels(bundle: Bundle, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        volume = nibabel.Nifti1Image(generator.integers(0, 2, (64, 64, 3), dtype=np.uint8), raw.LPS)
        nibabel.save(volume, tmp_path / f"raw/{folder}/spleen_2.nii.gz")
    dataset_dir, datalist = prepare_dataset("msd", tmp_path / "raw", tmp_path / "prepared")
    overrides = {"dataset_dir": str(dataset_dir), "datalist_file": str(datalist), "num_inference_steps": 1}
    bundle.workflow("train", "evaluate", **overrides, evaluation_dir=str(tmp_path / "scores")).run()
    rows = json.loads((tmp_path / "scores" / "cases.json").read_text())
    assert [(row["case"], row["target"]) for row in rows] == [("spleen_2", "spleen")] * 2
    assert (tmp_path / "scores" / "index.html").is_file()


def test_synapse_takes_a_real_scan(data_root: Path, tmp_path: Path) -> None:
    """13 organs in, 8 scored, and masks on the very grid of the scan."""
    source = data_root / "ct_organs_sample"
    made = Bundle("synapse", tmp_path, prepare_dataset("synapse", source, tmp_path / "prepared"))
    chosen: dict[str, Any] = {"checkpoint": made.save_untrained()}
    made.workflow("train", "evaluate", **chosen, num_inference_steps=1, num_samples=1).run()
    rows = json.loads((made.output / "evaluation_test" / "cases.json").read_text())
    label = nibabel.load(source / "label" / "label0001.nii.gz")
    numbers = np.asarray(label.dataobj)
    for method in ("prior", "refined"):
        voxels = {row["target"]: row["tp"] + row["fn"] for row in rows if row["method"] == method}
        assert list(voxels) == ORGANS
        for value, number in RAW_VALUES.items():
            assert number == 0 or voxels[ORGANS[number - 1]] == (numbers == value).sum()

    scan = str(source / "img" / "img0001.nii.gz")
    chosen |= {"dataset_dir": scan, "inferer#inferer#num_inference_steps": 1, "inferer#inferer#num_samples": 1}
    made.workflow("inference", kind="inference", **chosen, crop_size=[64, 64]).run()
    predicted = nibabel.load(made.output / "img0001_mask.nii.gz")
    assert predicted.shape == label.shape and np.asarray(predicted.dataobj).max() <= len(ORGANS)
    np.testing.assert_array_equal(predicted.affine, label.affine)

    (case,) = load_volumes(made.datalist, made.dataset_dir, "test")
    item = LoadScand()({"id": "label", "image": scan})
    classes = LoadVolumed()(case)["label"]
    SaveVolumePrediction(tmp_path)({**item, "pred": {"refined": classes, "entropy": classes}})
    written = nibabel.load(tmp_path / "label_mask.nii.gz")
    expected = np.vectorize(RAW_VALUES.get, otypes=[np.uint8])(numbers)
    np.testing.assert_array_equal(np.asarray(written.dataobj), expected)
    np.testing.assert_array_equal(written.affine, label.affine)


@pytest.mark.slow
def test_brats_takes_patients_of_the_true_shape(tmp_path: Path) -> None:
    made = Bundle("brats", tmp_path, raw.make_dataset("brats", tmp_path / "data", (240, 240, 155)))
    chosen: dict[str, Any] = {"checkpoint": made.save_untrained()}
    made.workflow("train", max_epochs=2, crop_size=[224, 224]).run()
    assert len((made.output / "history.csv").read_text().splitlines()) == 1 + 2
    made.workflow("train", "evaluate", num_inference_steps=1, num_samples=1).run()
    rows = json.loads((made.output / "evaluation_test" / "cases.json").read_text())
    volumes = {row["method"]: row["tp"] + row["fp"] + row["fn"] + row["tn"] for row in rows if "tp" in row}
    assert volumes == {"prior": 240 * 240 * 49, "refined": 240 * 240 * 49}
    chosen |= {"inferer#inferer#num_inference_steps": 1, "inferer#inferer#num_samples": 1}
    patient = str(made.sources() / "BraTS2021_00000")
    made.workflow("inference", kind="inference", **chosen, dataset_dir=patient).run()
    predicted = nibabel.load(made.output / "BraTS2021_00000_mask.nii.gz")
    assert predicted.shape == (240, 240, 155)
    np.testing.assert_allclose(predicted.affine, raw.LPS, rtol=1e-6)
