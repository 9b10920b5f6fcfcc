"""Memory that runs out, and the device that is chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hidiff_monai.inferers import VolumeInferer
from hidiff_monai.prediction import choose_device, load_model
from hidiff_monai.prediction.case import halve_batches, is_out_of_memory, predict_case, read_case
from hidiff_monai.prediction.model import Model


def load(tmp_path: Path, arguments: dict[str, Any]) -> Model:
    return load_model(source=tmp_path, **arguments)


@pytest.mark.parametrize("largest", [1, 2])
def test_what_does_not_fit_goes_in_smaller_batches_to_the_same_result(
    tmp_path: Path,
    bundle_arguments: Callable[[str], dict[str, Any]],
    write_volume: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    largest: int,
) -> None:
    write_volume(tmp_path / "x.nii.gz", shape=(20, 24, 5))
    model = load(tmp_path, bundle_arguments("acdc"))
    image = read_case(model, model.items[0])
    expected = predict_case(model, image)
    whole = model.network.predict_prior

    def predict_prior(batch: torch.Tensor) -> Any:
        if len(batch) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return whole(batch)

    monkeypatch.setattr(model.network, "predict_prior", predict_prior)
    maps = predict_case(model, image)
    np.testing.assert_array_equal(maps.refined, expected.refined)
    assert isinstance(model.inferer, VolumeInferer) and model.inferer.batch_size == largest
    said = capsys.readouterr().err
    assert f"x.nii.gz: out of memory on cpu, goes on with batches of {largest}" in said
    predict_case(model, image)
    assert "out of memory" not in capsys.readouterr().err  # the size is kept


def test_what_does_not_fit_at_all_is_named(
    tmp_path: Path,
    bundle_arguments: Callable[[str], dict[str, Any]],
    write_volume: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_volume(tmp_path / "x.nii.gz")
    model = load(tmp_path, bundle_arguments("acdc"))

    def predict_prior(batch: torch.Tensor) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(model.network, "predict_prior", predict_prior)
    with pytest.raises(ValueError, match=r"x.nii.gz: does not fit into the memory of cpu"):
        predict_case(model, read_case(model, model.items[0]))


def test_another_error_is_not_taken_for_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))


def test_windows_and_slices_are_halved_until_one(
    tmp_path: Path, bundle_arguments: Callable[[str], dict[str, Any]], write_volume: Callable[..., np.ndarray]
) -> None:
    write_volume(tmp_path / "x.nii.gz")
    model = load(tmp_path, bundle_arguments("acdc"))
    assert [halve_batches(model.inferer) for _ in range(3)] == [2, 1, None]


def test_the_device_is_chosen_or_named() -> None:
    best = choose_device().type
    assert best == ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="--device cuda: there is none here"):
            choose_device("cuda")
