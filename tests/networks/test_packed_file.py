"""The packed file: small, bit-equal when read again, and refused when anything in it is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hidiff_monai.networks import DiffusionRefiner
from hidiff_monai.networks.packed_file import hash_tensors, read_packed, read_source, write_packed
from hidiff_monai.networks.packed_refiner import PackedRefiner

Build = Callable[..., DiffusionRefiner]
Change = Callable[[dict[str, str], dict[str, torch.Tensor]], Any]


@pytest.fixture
def packed(trained_refiner: Build) -> PackedRefiner:
    return trained_refiner(num_targets=2).compile_inference(10, torch.float32)


@pytest.fixture
def file(packed: PackedRefiner, tmp_path: Path) -> Path:
    write_packed(packed, tmp_path / "refiner.safetensors", "abc")
    return tmp_path / "refiner.safetensors"


def rewrite(file: Path, change: Change) -> None:
    """Writes the file again with other metadata or tensors."""
    with safe_open(str(file), framework="pt") as content:
        metadata = content.metadata()
    state = load_file(file)
    change(metadata, state)
    save_file(state, file, metadata)


def change_setting(name: str, value: Any) -> Change:
    def change(metadata: dict[str, str], state: dict[str, torch.Tensor]) -> None:
        settings = json.loads(metadata["settings"])
        metadata["settings"] = json.dumps({**settings, name: value})

    return change


@pytest.mark.parametrize("storage", [torch.float16, torch.float32])
@torch.no_grad()
def test_what_is_read_gives_the_same_bits(
    storage: torch.dtype, trained_refiner: Build, draw_inputs: Callable[..., Any], tmp_path: Path
) -> None:
    refiner = trained_refiner(num_targets=2)
    written = refiner.compile_inference(10, storage)
    write_packed(written, tmp_path / "refiner.safetensors", hash_tensors(refiner.state_dict()))
    read = read_packed(tmp_path / "refiner.safetensors")
    assert not read.training and read.workspace.values.dtype == storage
    for t in (0, 9):
        inputs = draw_inputs(refiner, size=(21, 34), t=t)
        assert torch.equal(read(*inputs), written(*inputs))
    assert read_source(tmp_path / "refiner.safetensors") == hash_tensors(refiner.state_dict())


def test_weights_take_a_bit(tmp_path: Path) -> None:
    refiner = DiffusionRefiner(3, 1, (8, 8, 8, 8), channels=(64, 64, 128, 128, 256, 256))
    write_packed(refiner.compile_inference(10), tmp_path / "refiner.safetensors", "")
    binary = sum(p.numel() for name, p in refiner.named_parameters() if name.endswith(("conv.weight", "linear.weight")))
    size = (tmp_path / "refiner.safetensors").stat().st_size
    assert binary / 8 < size < binary / 8 + 4e6 and size < sum(p.numel() * 4 for p in refiner.parameters()) / 10


def test_hash_knows_names_types_shapes_and_contents() -> None:
    tensors = {"a": torch.arange(6.0), "b": torch.ones(2, dtype=torch.int32)}
    others = [
        {"b": tensors["b"], "c": tensors["a"]},
        {**tensors, "a": torch.arange(6.0).reshape(2, 3)},
        {**tensors, "a": torch.arange(6.0) + 1e-6},
        {**tensors, "b": torch.ones(2).view(torch.int32)},
        {"a": tensors["a"]},
    ]
    assert hash_tensors(dict(reversed(tensors.items()))) == hash_tensors(tensors)
    assert len({hash_tensors(one) for one in [tensors, *others]}) == 1 + len(others)


def test_a_file_cut_off_anywhere_is_refused(file: Path) -> None:
    content = file.read_bytes()
    for length in (0, 4, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match="is truncated or no safetensors"):
            read_packed(file)


def test_a_byte_turned_over_is_noticed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="its tensors are not those written"):
        read_packed(file)


def empty(metadata: dict[str, str], state: dict[str, torch.Tensor]) -> None:
    metadata.clear()


def break_settings(metadata: dict[str, str], state: dict[str, torch.Tensor]) -> None:
    metadata["settings"] = "{"


def drop_a_tensor(metadata: dict[str, str], state: dict[str, torch.Tensor]) -> None:
    del state["head_bias"]
    change_setting("content", hash_tensors(state))(metadata, state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (empty, "holds other tensors; expected hidiff-packed-refiner"),
        (lambda metadata, state: metadata.update(version="2"), "has version 2; expected 1"),
        (break_settings, "its settings are damaged"),
        (change_setting("storage", "int8"), "its settings are damaged"),
        (change_setting("channels", []), "its settings are damaged"),
        (change_setting("channels", "wide"), "its settings are damaged"),
        (change_setting("num_targets", None), "its settings are damaged"),
        (change_setting("prior_epsilon", "small"), "its settings are damaged"),
        (change_setting("num_timesteps", 9), "does not fit its own settings"),
        (drop_a_tensor, "does not fit its own settings"),
        (lambda metadata, state: state.pop("head_bias"), "its tensors are not those written"),
    ],
)
def test_what_is_wrong_is_said(file: Path, change: Change, message: str) -> None:
    rewrite(file, change)
    with pytest.raises(ValueError, match=message):
        read_packed(file)


def test_no_file_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file"):
        read_packed(tmp_path / "nowhere.safetensors")
    torch.save({"a": torch.ones(1)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="is truncated or no safetensors"):
        read_packed(tmp_path / "model.pt")


def test_a_failed_write_leaves_the_old_file(file: Path, packed: PackedRefiner, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hidiff_monai.networks.packed_file.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        write_packed(packed, file, "")
    assert file.read_bytes() == before and [path.name for path in file.parent.iterdir()] == [file.name]
