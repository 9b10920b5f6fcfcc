"""Weights: written whole, read safely, and refused in words where they do not fit."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hidiff_monai.io import load_weights, read_checkpoint, save_checkpoint, with_segmentor


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_a_flat_state_dict_loads_strictly_into_a_fresh_network(tmp_path: Path, make_network: Callable) -> None:
    trained, fresh = make_network(seed=1), make_network(seed=2)
    save_checkpoint(trained.state_dict(), tmp_path / "model.pt")
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    load_weights(fresh, tmp_path / "model.pt")
    for key, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value), key


def test_an_exception_while_writing_leaves_the_old_checkpoint(tmp_path: Path, network: nn.Module) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint({"step": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save_checkpoint({"weights": torch.zeros(9), "bad": lambda: None}, path)
    assert read_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_never_replace_good_ones(tmp_path: Path, value: float) -> None:
    path = tmp_path / "resume_3.pt"
    save_checkpoint({"network": {"weight": torch.ones(2)}}, path)
    with pytest.raises(ValueError, match="resume_3.pt: not written, network.weight holds NaN or infinity"):
        save_checkpoint({"network": {"weight": torch.tensor([1.0, value])}}, path)
    assert torch.equal(read_checkpoint(path)["network"]["weight"], torch.ones(2))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named_with_its_size(share: float, tmp_path: Path, network: nn.Module) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"{path}: is truncated or no checkpoint \({path.stat().st_size} bytes\)"):
        load_weights(network, path)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "model.pt"

    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (marker,))

    torch.save({"weights": Harmful()}, path)
    with pytest.raises(ValueError, match="model.pt: is truncated or no checkpoint"):
        read_checkpoint(path)
    assert not marker.exists()


def test_text_a_missing_file_and_a_bare_tensor_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("weights to follow")
    with pytest.raises(ValueError, match="text.pt: is truncated or no checkpoint"):
        read_checkpoint(tmp_path / "text.pt")
    with pytest.raises(ValueError, match="missing.pt: there is no such checkpoint"):
        read_checkpoint(tmp_path / "missing.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(ValueError, match="tensor.pt: holds a Tensor; expected a dictionary"):
        read_checkpoint(tmp_path / "tensor.pt")


def test_a_nested_checkpoint_is_refused(tmp_path: Path, network: nn.Module) -> None:
    save_checkpoint({"segmentor": network.state_dict()}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model.pt: holds \['segmentor'\]; expected a flat state dict"):
        load_weights(network, tmp_path / "model.pt")


def test_another_architecture_is_named_key_by_key_and_loads_nothing(tmp_path: Path, network: nn.Module) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    other = nn.Sequential(nn.Conv2d(1, 2, 5), nn.Identity(), nn.Linear(2, 2))
    save_checkpoint(other.state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="belongs to another architecture") as error:
        load_weights(network, tmp_path / "model.pt")
    message = str(error.value)
    assert (
        "1.weight is missing" in message
        and "(8 differences in all): give the segmentor and refiner settings" in message
    )
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_another_width_is_told_by_shape(tmp_path: Path, make_network: Callable) -> None:
    save_checkpoint(make_network(width=8).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"segmentor\.stem\.\S+ is \(8, 1, 3, 3\), expected \(4, 1, 3, 3\)"):
        load_weights(make_network(width=4), tmp_path / "model.pt")


def test_a_segmentor_is_taken_up_alone(tmp_path: Path, make_network: Callable) -> None:
    trained, network = make_network(seed=1), make_network(seed=2)
    save_checkpoint(trained.state_dict(), tmp_path / "model.pt")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert with_segmentor(network, tmp_path / "model.pt") is network
    for name, value in network.state_dict().items():
        source = trained.state_dict() if name.startswith("segmentor.") else before
        assert torch.equal(value, source[name]), name
    save_checkpoint({"segmentor.head.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other.pt: belongs to another architecture"):
        with_segmentor(network, tmp_path / "other.pt")
