"""Every bundle behind MONAI Label, driven by MONAI Label's own client: labels, masks, uncertainty, training."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

client_module = pytest.importorskip(
    "monailabel.client.client", reason="MONAI Label has its own environment: make test-label"
)

TRAINING_S = 300


@pytest.fixture(scope="module")
def client(served: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return client_module.MONAILabelClient(served.address, tmpdir=str(tmp_path_factory.mktemp("received")))


@pytest.fixture(scope="module")
def predicted(served: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `hidiff predict` makes of the same images."""
    folder = tmp_path_factory.mktemp("predicted")
    (folder / "input").mkdir()
    for file in (file for files in served.images for file in files):
        shutil.copy(file, folder / "input")
    command = [
        sys.executable,
        "-m",
        "hidiff_monai",
        "predict",
        "--bundle",
        served.bundle,
        "--noreport",
        "--device",
        "cpu",
    ]
    command += ["--input", folder / "input", "--output", folder / "output"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=300)
    return folder / "output"


def read(file: str | Path) -> np.ndarray:
    if str(file).endswith(".png"):
        return np.asarray(Image.open(file))
    return np.asanyarray(nibabel.load(file).dataobj)


def test_info_lists_the_labels(served: Any, client: Any) -> None:
    info = client.info()
    assert list(info["models"]) == list(info["trainers"]) == [served.name]
    model = info["models"][served.name]
    assert model["labels"] == {name: number for number, name in enumerate(served.names, start=1)}
    assert (model["type"], model["dimension"]) == ("segmentation", 3 if served.is_volume else 2)
    assert {*served.ids} <= {*client.datastore()["objects"]}


def test_inference_is_that_of_predict(served: Any, client: Any, predicted: Path) -> None:
    manifest = json.loads((predicted / "manifest.json").read_text())
    assert [case["status"] for case in manifest["cases"]] == ["done", "done"]
    for image, files, case in zip(served.ids, served.images, manifest["cases"], strict=True):
        received, told = client.infer(served.name, image, {})
        mask = read(received)
        assert mask.any()
        np.testing.assert_array_equal(mask, read(predicted / case["outputs"]["mask"]))
        if served.is_volume:
            source = nibabel.load(files[0])
            assert mask.shape == source.shape
            np.testing.assert_array_equal(nibabel.load(received).affine, source.affine)
        else:
            assert received.endswith(".png") and Image.open(received).size == Image.open(files[0]).size
        assert told["uncertainty"] == pytest.approx(case["uncertainty"], rel=1e-3)
        assert told["verdict"] == {key: case["verdict"][key] for key in told["verdict"]}
        entropy = read(client.download_label(image, "uncertainty"))
        # of two processes the last bit may differ, here that of a half-precision number; in a PNG a grey level
        atol = 1e-3 if served.is_volume else 1
        np.testing.assert_allclose(entropy.astype(float), read(predicted / case["outputs"]["uncertainty"]), atol=atol)
    text = served.log.read_text()
    assert "Result File" not in text and "Checkpoint keys don't match" not in text


def test_the_next_sample_is_the_most_uncertain(served: Any, client: Any, predicted: Path) -> None:
    scores = {image: client.infer(served.name, image, {})[1]["uncertainty"] for image in served.ids}
    assert client.next_sample("uncertain", {})["id"] == max(scores, key=scores.__getitem__)


@pytest.mark.parametrize("served", ["drive"], indirect=True)
def test_all_images_are_run_at_once(served: Any, client: Any) -> None:
    shutil.copy(served.images[0][0], served.studies / "new.png")
    send = client_module.MONAILabelUtils.http_method
    assert send("POST", served.address, "/batch/infer/drive?images=unlabeled", {})[0] == 200
    end = time.monotonic() + TRAINING_S
    while "uncertainty" not in client.datastore()["objects"].get("new", {"image": {"info": {}}})["image"]["info"]:
        assert time.monotonic() < end, served.log.read_text()[-3000:]
        time.sleep(0.5)
    assert send("DELETE", served.address, "/datastore/?id=new")[0] == 200


def save_labels(served: Any, client: Any, folder: Path) -> None:
    """As a viewer does in which the reader has drawn the classes in the reverse order: values are not class numbers."""
    number = len(served.names)
    segments = [{"name": name, "idx": number - position} for position, name in enumerate(served.names)]
    for image, file in zip(served.ids, served.labels, strict=True):
        saved = folder / file.name
        if served.is_volume:
            label = nibabel.load(file)
            values = np.asanyarray(label.dataobj).astype(np.uint8) % (number + 1)
            nibabel.save(nibabel.Nifti1Image(values, label.affine), saved)
            client.save_label(image, str(saved), params={"label_info": segments})
        else:
            client.save_label(image, str(shutil.copy(file, saved)))


def infer(served: Any, client: Any, options: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Read at once: the client gives the next answer the same name."""
    file, told = client.infer(served.name, served.ids[0], options)
    return read(file), told


def wait_for_training(client: Any) -> dict[str, Any]:
    end = time.monotonic() + TRAINING_S
    while time.monotonic() < end:
        status: dict[str, Any] = client.train_status()
        if status["status"] not in ("SUBMITTED", "RUNNING"):
            return status
        time.sleep(0.5)
    pytest.fail(f"no end of the training within {TRAINING_S} s")


def test_training_changes_both_networks_and_is_served(served: Any, client: Any, tmp_path: Path) -> None:
    first, told = infer(served, client, {})
    before = torch.load(served.bundle / "models" / "model.pt", weights_only=True)
    assert told["weights"] == str(served.bundle / "models" / "model.pt")
    save_labels(served, client, tmp_path)
    client.train_start(served.name, {"max_epochs": 2, "val_split": 0.5})
    status = wait_for_training(client)
    assert status["status"] == "DONE", status["details"]

    second, told = infer(served, client, {})
    trained = served.bundle / "output" / "label" / "models" / "model.pt"
    assert told["weights"] == str(trained)
    after = torch.load(trained, weights_only=True)
    assert before.keys() == after.keys()
    for network in ("segmentor", "refiner"):
        weights = [key for key in before if key.startswith(network) and key.endswith("weight")]
        changed = [key for key in weights if not torch.equal(before[key], after[key])]
        assert len(changed) > len(weights) / 2
    assert not np.array_equal(first, second)
    again, told = infer(served, client, {"weights": "bundle"})
    assert told["weights"] == str(served.bundle / "models" / "model.pt")
    np.testing.assert_array_equal(again, first)


def test_weights_of_another_shape_are_an_error_and_no_mask(served: Any, client: Any) -> None:
    """Last: MONAI Label's own application answers with a mask of untrained weights."""
    trained = served.bundle / "output" / "label" / "models" / "model.pt"
    trained.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"segmentor": {}, "refiner": {}}, trained)
    with pytest.raises(client_module.MONAILabelClientException, match="expected a flat state dict of tensors"):
        client.infer(served.name, served.ids[0], {})
