"""From a folder to a bundle that trains, evaluates and predicts: volumes of two classes, CT, photographs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow, verify_metadata, verify_net_in_out
from PIL import Image

from hidiff_monai.cli import main
from hidiff_monai.new_bundle import plan, write_new_bundle
from hidiff_monai.new_bundle.template import CONFIGS, Config, read_template
from hidiff_monai.prediction import run_prediction

REPOSITORY = Path(__file__).parents[1]
RULES = REPOSITORY / "hidiff_monai" / "sharing" / "metadata_rules.json"
WIDTHS = [4, 4, 4, 4, 4, 4]
SMALL = {"segmentor#channels": WIDTHS, "refiner#channels": WIDTHS}
TINY = {"pretrain_epochs": 1, "max_epochs": 2, "val_interval": 1, "batch_size": 64, "seed": 1}


def draw_blobs(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with an ellipsoid whose halves are classes 1 and 2."""
    generator = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    inside = sum(axis**2 for axis in grid) < generator.uniform(0.2, 0.4)
    label = np.where(inside, np.where(grid[0] > 0, 1, 2), 0).astype(np.uint8)
    return generator.normal(0, 10, shape) + 100 + 50 * label, label


AXIAL = np.diag([-1.0, -1, 2, 1])
SAGITTAL = np.array([[0, 0, 4.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def write_volumes(
    folder: Path, number: int = 8, offset: float = 0, channels: int = 1, affine: np.ndarray = AXIAL
) -> None:
    """`imagesTr/` and `labelsTr/` as MSD names them, about 35 × 50 × 35, with left and posterior axes."""
    for case in range(number):
        image, label = draw_blobs((32 + case % 4, 50, 10), case)
        for kind in ("imagesTr", "labelsTr"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for channel in range(channels):
            name = f"h_{case:03d}" + (f"_t{channel + 1}" if channels > 1 else "")
            volume = np.where(label, image, image + offset).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(volume, affine), folder / f"imagesTr/{name}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, affine), folder / f"labelsTr/h_{case:03d}.nii.gz")


def write_photographs(folder: Path, shape: tuple[int, int] = (72, 80), width: int | None = None) -> None:
    """`<id>.png` and `<id>_mask.png`: a disc, or with `width` a stripe."""
    folder.mkdir(parents=True)
    for case in range(6):
        image, label = draw_blobs(shape, case)
        if width:
            label[:] = 0
            label[:, 20 + case : 20 + case + width] = 1
        Image.fromarray(np.stack([image.clip(0, 255)] * 3, axis=-1).astype(np.uint8)).save(folder / f"{case}.png")
        Image.fromarray((label > 0).astype(np.uint8) * 255).save(folder / f"{case}_mask.png")


def make_datalist(tmp_path: Path, images: str, labels: str, *options: str) -> Path:
    line = ["datalist", "--source", str(tmp_path / "raw"), "--images", images, "--labels", labels]
    main([*line, "--output", str(tmp_path / "prepared"), *options])
    return tmp_path / "prepared" / "datalist.json"


def list_volumes(tmp_path: Path, *options: str) -> Path:
    return make_datalist(tmp_path, "imagesTr/{id}.nii.gz", "labelsTr/{id}.nii.gz", *options)


def read(bundle: Path, name: str) -> dict[str, Any]:
    return json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))


def workflow(bundle: Path, *files: str, kind: str = "train", **overrides: Any) -> ConfigWorkflow:
    """A workflow of the bundle with all its own settings but the widths of the networks."""
    made = ConfigWorkflow(
        [str(bundle / "configs" / f"{file}.json") for file in files],
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        **{**SMALL, **overrides},
    )
    made.initialize()
    assert made.check_properties() == []
    return made


def run_all(bundle: Path, tmp_path: Path, source: Path) -> list[dict[str, Any]]:
    """Trains two epochs, evaluates and predicts; returns the scores."""
    workflow(bundle, "train", **TINY).run()
    workflow(bundle, "train", "evaluate", num_samples=1).run()
    weights = str(bundle / "output" / "models" / "model.pt")
    paths = {"dataset_dir": str(source), "checkpoint": weights, "output_dir": str(tmp_path / "predicted")}
    workflow(bundle, "inference", kind="inference", **paths).run()
    return json.loads((bundle / "output" / "evaluation_test" / "cases.json").read_text())


def require_true_metadata(bundle: Path, tmp_path: Path) -> None:
    """Valid by MONAI's schema, and true of the network."""
    rules = shutil.copy(RULES, tmp_path / "rules.json")  # so that no schema is downloaded
    configs = bundle / "configs"
    metadata, train = read(bundle, "metadata"), read(bundle, "train")
    verify_metadata(meta_file=str(configs / "metadata.json"), filepath=str(rules))
    files = {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / "inference.json")}
    verify_net_in_out("network_def", **files, device="cpu", n=2)
    for place, key in (("inputs", "in_channels"), ("outputs", "num_targets")):
        (maps,) = metadata["network_data_format"][place].values()
        assert maps["num_channels"] == train["segmentor"][key] == len(maps["channel_def"])
    inference = read(bundle, "inference")
    assert (train["segmentor"], train["refiner"]) == (inference["segmentor"], inference["refiner"])


def test_volumes_from_folder_to_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_volumes(tmp_path / "raw")
    datalist = list_volumes(tmp_path, "--names", "front,back", "--name", "Hippo")
    main(["new-bundle", "--name", "My Hippo", "--datalist", "prepared/datalist.json"])
    shown = capsys.readouterr().out
    bundle = tmp_path / "bundles" / "my_hippo"
    assert "size, X × Y × D            32–35 × 50 × 10" in shown and shown.endswith("bundle: bundles/my_hippo\n")
    assert "python -m monai.bundle run training --config_file bundles/my_hippo/configs/train.json" in shown
    configs = [f"bundles/my_hippo/configs/{name}.json" for name in ("train", "evaluate")]
    assert f"python -m monai.bundle run --config_file '{json.dumps(configs)}'" in shown
    train, evaluate = read(bundle, "train"), read(bundle, "evaluate")
    assert train["crop_size"] == [35, 50]
    assert train["datalist_file"] == "$@dataset_dir + '/datalist.json'" and train["dataset_dir"] == str(datalist.parent)
    assert train["train"]["preprocessing"]["transforms"] == "$slice_transforms(2) + @train#augmentation"
    assert train["validate"]["key_metric"]["val_dice_refined"]["num_classes"] == 3
    assert "title='My Hippo, ' + @section" in evaluate["report"]
    require_true_metadata(bundle, tmp_path)
    card = (bundle / "docs" / "README.md").read_text()
    assert "| `crop_size` | [35, 50] | slices are 32–35 × 50–50: alike" in card and "| cases | 5 training" in card
    assert {path.name for path in (tmp_path / "bundles").iterdir()} == {"my_hippo"}

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    scan = tmp_path / "raw" / "imagesTr" / "h_003.nii.gz"
    rows = run_all(bundle, tmp_path, scan)
    assert [row["target"] for row in rows if row["method"] == "refined"] == ["front", "back"] * 2
    mask = nibabel.load(tmp_path / "predicted" / "h_003_mask.nii.gz")
    assert mask.shape == (35, 50, 10) and np.asarray(mask.dataobj).max() <= 2
    np.testing.assert_array_equal(mask.affine, nibabel.load(scan).affine)


def test_what_looks_like_ct_gets_a_window(tmp_path: Path) -> None:
    write_volumes(tmp_path / "raw", offset=-1100)
    bundle, text = write_new_bundle("ct", list_volumes(tmp_path), output=tmp_path / "bundles")
    train, inference, metadata = (read(bundle, name) for name in ("train", "inference", "metadata"))
    low, high = train["intensity_window"]
    assert low % 5 == high % 5 == 0 and -100 < low < 120 < 230 < high < 330
    assert inference["intensity_window"] == [low, high] and f"Hounsfield units from {low} to {high}" in text + str(
        metadata
    )
    assert train["train"]["preprocessing"]["transforms"].startswith("$slice_transforms(2, @intensity_window)")
    assert "intensity=0.2," in train["train"]["augmentation"]  # the template's 0.4 is of a deviation of 1
    assert train["validate"]["preprocessing"]["transforms"] == "$volume_transforms(@intensity_window)"
    assert inference["preprocessing"]["transforms"].endswith("_transforms(@intensity_window)")
    require_true_metadata(bundle, tmp_path)
    workflow(bundle, "train", **{**TINY, "max_epochs": 1}).run()


def test_sagittal_planes_are_trained_on_and_predicted_as_such(tmp_path: Path) -> None:
    """And a reader's labels mean in prediction what they meant in training."""
    write_volumes(tmp_path / "raw", affine=SAGITTAL)
    datalist = list_volumes(tmp_path, "--label_values", "{0:0,1:2,2:1}")
    bundle, text = write_new_bundle("knee", datalist, output=tmp_path / "bundles")
    assert "as they were acquired, not axial" in text
    assert read(bundle, "train")["crop_size"] in ([35, 50], [50, 35])
    assert read(bundle, "inference")["preprocessing"]["transforms"] == "$scan_transforms(acquired=True)"
    assert read(bundle, "inference")["label_values"] == {"0": 0, "1": 2, "2": 1}
    require_true_metadata(bundle, tmp_path)
    workflow(bundle, "train", **TINY).run()
    workflow(bundle, "train", "evaluate", num_samples=1).run()
    rows = json.loads((bundle / "output" / "evaluation_test" / "cases.json").read_text())
    expected = {(row["case"], row["target"]): row["dice"] for row in rows if row["method"] == "refined"}
    manifest = run_prediction(
        bundle, tmp_path / "raw/imagesTr", tmp_path / "out", labels=tmp_path / "raw/labelsTr", device="cpu",
        overrides=SMALL, samples=1,
    )  # fmt: skip
    found = {(case["id"], entry["name"]): entry["dice"] for case in manifest["cases"] for entry in case["classes"]}
    for key, dice in expected.items():
        assert found[key] == pytest.approx(dice, abs=1e-3)


def test_channels_are_told_apart_by_name(tmp_path: Path) -> None:
    write_volumes(tmp_path / "raw", channels=2)
    names = "imagesTr/{id}_t1.nii.gz,imagesTr/{id}_t2.nii.gz"
    datalist = make_datalist(tmp_path, names, "labelsTr/{id}.nii.gz")
    bundle, _ = write_new_bundle("two", datalist, output=tmp_path / "bundles")
    inference = read(bundle, "inference")
    assert inference["dataset"]["data"] == "$list_volumes(@dataset_dir, ['t1', 't2'])"
    assert "`<name>_t1.nii.gz`, `<name>_t2.nii.gz`" in (bundle / "docs" / "README.md").read_text()
    require_true_metadata(bundle, tmp_path)


def test_photographs_from_folder_to_prediction(tmp_path: Path) -> None:
    write_photographs(tmp_path / "raw")
    datalist = make_datalist(tmp_path, "{id}.png", "{id}_mask.png", "--names", "lesion")
    with pytest.raises(ValueError, match="set --dataset_dir to what `hidiff datalist` printed"):
        write_new_bundle("skin", datalist, output=tmp_path / "bundles")
    bundle, _ = write_new_bundle("skin", datalist, tmp_path / "raw", tmp_path / "bundles")
    train = read(bundle, "train")
    assert train["image_size"] == read(bundle, "inference")["image_size"] == [96, 96]
    assert train["datalist_file"] == str(datalist)
    require_true_metadata(bundle, tmp_path)
    rows = run_all(bundle, tmp_path, tmp_path / "raw" / "3.png")
    assert {row["target"] for row in rows} == {"lesion"}
    assert Image.open(tmp_path / "predicted" / "3_mask.png").size == (80, 72)


def test_thin_structures_in_large_photographs_are_cropped(tmp_path: Path) -> None:
    write_photographs(tmp_path / "raw", (400, 400), width=3)
    datalist = make_datalist(tmp_path, "{id}.png", "{id}_mask.png")
    bundle, text = write_new_bundle("thin", datalist, tmp_path / "raw", tmp_path / "bundles")
    train = read(bundle, "train")
    assert (train["crop_size"], train["repeats_per_epoch"]) == ([256, 256], 12)
    assert "template                   chase_db1: objects" in text
    assert read(bundle, "evaluate")["threshold"] == read(bundle, "inference")["threshold"] == 0.5  # not the template's
    assert read(bundle, "evaluate")["window_size"] == read(bundle, "inference")["window_size"] == [416, 416]  # of 400
    require_true_metadata(bundle, tmp_path)


def test_what_the_template_has_no_key_for_is_not_said_to_be_chosen(tmp_path: Path) -> None:
    write_photographs(tmp_path / "raw", (400, 400), width=3)
    datalist = make_datalist(tmp_path, "{id}.png", "{id}_mask.png")
    template = REPOSITORY / "bundles" / "drive"
    _, text = write_new_bundle("thin", datalist, tmp_path / "raw", tmp_path / "bundles", template)
    assert "crop_size" in text and "window_size" not in text


def test_what_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(tmp_path / "raw", 4)
    datalist = list_volumes(tmp_path)
    output = tmp_path / "bundles"
    (output / "there").mkdir(parents=True)
    (output / "there" / "mine.txt").write_text("kept")
    for options, message in (
        ({"name": "there"}, "there exists already; expected a new folder"),
        ({"name": "!"}, "expected letters, digits"),
        ({"name": "a", "template": tmp_path}, "holds no configs/train.json; expected the bundle to start from"),
        ({"name": "a", "template": REPOSITORY / "bundles" / "drive"}, "is for pictures, the data are volumes"),
    ):
        with pytest.raises(ValueError, match=message):
            write_new_bundle(datalist=datalist, output=output, **options)
    unvalidated = json.loads(datalist.read_text())
    unvalidated["training"] += unvalidated.pop("validation")
    (datalist.parent / "other.json").write_text(json.dumps(unvalidated))
    with pytest.raises(ValueError, match="no case validates; expected some.*--validation above 0"):
        write_new_bundle("a", datalist.parent / "other.json", output=output)
    assert [path.name for path in output.rglob("*")] == ["there", "mine.txt"]
    with pytest.raises(SystemExit):
        main(["new-bundle", "--name", "a", "--datalist", str(tmp_path / "none.json"), "--output", str(output)])
    assert "none.json: not readable as JSON" in capsys.readouterr().err


def test_pictures_of_several_classes_are_refused(tmp_path: Path) -> None:
    write_photographs(tmp_path / "raw")
    for case in range(6):
        Image.fromarray(draw_blobs((72, 80), case)[1]).save(tmp_path / f"raw/{case}_mask.png")
    datalist = make_datalist(tmp_path, "{id}.png", "{id}_mask.png")
    with pytest.raises(ValueError, match=r"pictures with 2 classes \['class 1', 'class 2'\]; expected one"):
        write_new_bundle("a", datalist, tmp_path / "raw", tmp_path / "bundles")


@pytest.mark.parametrize(
    ("smallest", "largest", "expected"),
    [(32, 38, 38), (32, 64, 32), (111, 111, 111), (154, 428, 160), (512, 512, 256), (240, 240, 256), (20, 22, 22)],
)
def test_crops_are_of_the_size_of_slices(smallest: int, largest: int, expected: int) -> None:
    assert plan._choose_crop(smallest, largest) == expected


@pytest.mark.parametrize(("num_items", "expected"), [(100, 16), (97, 17), (6, 3), (3, 3), (1, 1)])
def test_no_mini_batch_of_one(num_items: int, expected: int) -> None:
    assert plan._choose_batch_size([38, 54], num_items) == expected


def test_time_is_that_of_the_padded_crop() -> None:
    train = {"crop_size": [38, 54], "pretrain_epochs": 71, "max_epochs": 142}
    shown = plan.estimate_time(train, 270)
    assert shown == plan.estimate_time({**train, "crop_size": [64, 64]}, 270)
    assert shown.value == "about 25 minutes on one CPU core"  # 8 were measured for 22 and 44 epochs


@pytest.fixture
def change_template(tmp_path: Path) -> Callable[[str, str, str], Path]:
    """A copy of ACDC's bundle with another text in one of its files."""

    def change(file: str, old: str, new: str) -> Path:
        folder = tmp_path / "template"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(REPOSITORY / "bundles" / "acdc", folder)
        path = folder / "configs" / f"{file}.json"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        return folder

    return change


def test_a_template_without_what_must_be_changed(tmp_path: Path, change_template: Callable[..., Path]) -> None:
    write_volumes(tmp_path / "raw", 4)
    datalist = list_volumes(tmp_path)
    for file, old, new, message in (
        ("train", "slice_transforms(3)", "my_transforms(3)", "expected 'slice_transforms.*once in it"),
        ("train", '"num_classes"', '"classes"', "no key 'validate#key_metric#val_dice_refined#num_classes'"),
        ("evaluate", "target_names", "names", "no handler has target_names"),
        ("inference", '"in_channels"', '"channels_in"', "no key 'segmentor#in_channels'"),
        ("metadata", '"version"', "version", "not readable"),
    ):
        with pytest.raises(ValueError, match=message):
            write_new_bundle("a", datalist, output=tmp_path / "out", template=change_template(file, old, new))
    assert not (tmp_path / "out" / "a").exists()


@pytest.mark.parametrize("name", ["acdc", "kvasir_seg", "chase_db1"])
def test_templates_are_written_as_people_wrote_them(name: str) -> None:
    configs = read_template(REPOSITORY / "bundles" / name)
    assert list(configs) == list(CONFIGS)
    for config in configs.values():
        assert config.format() == config.file.read_text(encoding="utf-8")


def test_keys_with_a_hash_in_them(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a#b": [{"c": 1}], "a": {"b": "x(1)"}, "d": 0}')
    config = Config(tmp_path / "a.json")
    config.set("a#b#0#c", 2)
    config.insert_after("a", "e", 3)
    assert (config.get("a#b"), config.get("a"), list(config.content)) == (
        [{"c": 2}],
        {"b": "x(1)"},
        ["a#b", "a", "e", "d"],
    )
