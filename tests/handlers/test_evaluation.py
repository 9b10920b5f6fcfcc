"""Figures per case by hand, and the arrays and reverse chains a report is drawn from."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, State
from torch import nn

from hidiff_monai.handlers import EvaluationWriter, evaluation
from hidiff_monai.inferers import BernoulliDiffusionInferer, ResizeInferer


def mask(*pixels: tuple[int, int]) -> torch.Tensor:
    """(1, 4, 4), 1 at the given rows and columns."""
    array = torch.zeros(1, 4, 4)
    for row, column in pixels:
        array[0, row, column] = 1
    return array


LABEL = mask((1, 1), (1, 2), (2, 1), (2, 2))
PRIOR = 0.9 * mask((1, 1), (1, 2), (0, 0)) + 0.05  # two hits, one false alarm, two misses
REFINED = 0.8 * mask((1, 1), (1, 2), (2, 1)) + 0.1  # three hits, one miss
REGION = mask(*[(row, column) for row in (1, 2) for column in range(4)])
ENTROPY = torch.full((1, 4, 4), 0.25)


def case(name: str, *extra: str, maps: Callable[[torch.Tensor], torch.Tensor] = lambda value: value) -> Any:
    """An evaluator's batch item and output item."""
    item = {"id": name, "region": REGION, "picture": 200 * torch.ones(3, 4, 4)}
    values = {"label": LABEL, "prior": PRIOR, "refined": REFINED, "variance": 0.5 * ENTROPY, "entropy": ENTROPY}
    output = {
        "image": torch.linspace(-2, 2, 16).reshape(1, 4, 4),
        **{key: maps(value) for key, value in values.items()},
    }
    return {key: item[key] for key in ("id", *extra)}, output


def run(writer: EvaluationWriter, cases: list[Any], network: nn.Module | None = None, inferer: Any = None) -> None:
    def step(engine: Engine, pair: Any) -> list[dict[str, torch.Tensor]]:
        engine.state.batch = [pair[0]]
        return [pair[1]]

    engine = Engine(step)
    engine.state = State(device=torch.device("cpu"))
    engine.network, engine.inferer = network, inferer
    writer.attach(engine)
    engine.run(cases, max_epochs=1)


def test_the_patient_of_a_row_is_the_patient_the_sequence_or_the_case(tmp_path: Path) -> None:
    items = [case(name) for name in "abc"]
    items[0][0].update(patient="p1", sequence="s1")
    items[1][0].update(sequence="s1")
    writer = EvaluationWriter(tmp_path, ["vessel"])
    run(writer, items)
    assert [row["patient"] for row in writer.rows if row["method"] == "prior"] == ["p1", "s1", "c"]


def test_scores_by_hand_whole_and_inside_the_region(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    writer = EvaluationWriter(tmp_path, ["vessel"])
    run(writer, [case("a", "region", "picture"), case("b", "picture")])
    rows = {(row["case"], row["region"], row["method"]): row for row in writer.rows}
    assert list(rows) == [
        ("a", "whole image", "prior"),
        ("a", "whole image", "refined"),
        ("a", "field of view", "prior"),
        ("a", "field of view", "refined"),
        ("b", "whole image", "prior"),
        ("b", "whole image", "refined"),
    ]
    counts = {key: tuple(row[name] for name in ("tp", "fp", "fn", "tn")) for key, row in rows.items()}
    assert counts["a", "whole image", "prior"] == counts["b", "whole image", "prior"] == (2, 1, 2, 11)
    assert counts["a", "field of view", "prior"] == (2, 0, 2, 4)  # the false alarm lies outside
    assert counts["a", "whole image", "refined"] == (3, 0, 1, 12)
    assert rows["a", "whole image", "prior"]["dice"] == pytest.approx(4 / 7)
    assert rows["a", "field of view", "prior"]["dice"] == pytest.approx(4 / 6)
    assert rows["b", "whole image", "refined"]["dice"] == pytest.approx(6 / 7)
    assert rows["b", "whole image", "refined"]["recall"] == pytest.approx(3 / 4)
    assert rows["a", "whole image", "prior"]["uncertainty"] == pytest.approx(8 * 0.25 / 3)
    assert rows["b", "whole image", "prior"]["uncertainty"] == pytest.approx(16 * 0.25 / 3)
    assert {row["target"] for row in writer.rows} == {"vessel"}
    with open(tmp_path / "cases.csv", newline="") as file:
        assert [float(row["dice"]) for row in csv.DictReader(file)] == pytest.approx([r["dice"] for r in writer.rows])
    assert len(json.loads((tmp_path / "cases.json").read_text())) == 6
    assert (tmp_path / "summary.json").is_file()
    assert (tmp_path / "table.txt").read_text().strip() == capsys.readouterr().out.strip()


def test_threshold_decides_what_is_foreground(tmp_path: Path) -> None:
    writer = EvaluationWriter(tmp_path, ["vessel"], threshold=0.92)
    run(writer, [case("a", "picture")])
    assert [(row["tp"], row["fp"]) for row in writer.rows] == [(2, 1), (0, 0)]
    assert writer.rows[1]["uncertainty"] == pytest.approx(16 * 0.25)  # of the mask as it was cut, here an empty one


def test_exclusive_classes_are_scored_as_they_are_delivered(tmp_path: Path) -> None:
    """The likeliest class is the right one everywhere, although no probability reaches the threshold."""
    item, output = case("a", "picture")
    probability = torch.tensor([0.25, 0.45, 0.30])[:, None, None].expand(3, 4, 4)
    label = torch.zeros(3, 4, 4)
    label[1] = 1
    output |= {key: probability for key in ("prior", "refined", "variance", "entropy")} | {"label": label}
    network = nn.Module()
    network.exclusive = True
    writer = EvaluationWriter(tmp_path, ["background", "a", "b"])
    run(writer, [(item, output)], network)
    scores = {(row["target"], row["method"]): (row["tp"], row["fp"], row["fn"]) for row in writer.rows}
    assert scores["a", "prior"] == scores["a", "refined"] == (16, 0, 0)
    assert scores["b", "refined"] == scores["background", "refined"] == (0, 0, 0)
    assert writer.calibration[1].retention.error_rate == 0
    with pytest.raises(ValueError, match="expected 'background' first"):
        run(EvaluationWriter(tmp_path, ["a", "background", "b"]), [(item, output)], network)


@pytest.mark.parametrize("names", [["vessel", "disc"], []])
def test_names_for_other_channels_than_there_are_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ValueError, match="target_names are .* 1 channels"):
        run(EvaluationWriter(tmp_path, names), [case("a")])


def test_a_picture_of_12_bits_in_16_is_brightened_to_be_seen(tmp_path: Path) -> None:
    item, output = case("a", "picture")
    item["picture"] = torch.linspace(0, 16, 48).reshape(3, 4, 4)
    run(EvaluationWriter(tmp_path, ["vessel"]), [(item, output)])
    assert np.load(tmp_path / "arrays" / "a.npz")["image"].max() == 255


def test_a_temperature_moves_the_refined_mask_s_threshold_only(tmp_path: Path) -> None:
    """At temperature 2, 0.7 becomes 0.604."""
    item, output = case("a", "picture")
    output["refined"] = torch.where(REFINED > 0.5, 0.65, REFINED)  # at 0.7 none, as it is
    writer = EvaluationWriter(tmp_path, ["vessel"], threshold=0.7, temperature=2)
    run(writer, [(item, output)])
    assert [(row["method"], row["tp"], row["fp"]) for row in writer.rows] == [("prior", 2, 1), ("refined", 3, 0)]
    assert np.load(tmp_path / "arrays" / "a.npz")["threshold"] == pytest.approx([0.7, 0.6044], abs=1e-4)


def test_arrays_hold_the_maps_in_the_report_s_types(tmp_path: Path) -> None:
    half = case("b", "picture", maps=lambda value: value.to(torch.bfloat16))
    run(EvaluationWriter(tmp_path, ["vessel"]), [case("a", "region", "picture"), half])
    arrays = np.load(tmp_path / "arrays" / "a.npz")
    assert {key: (arrays[key].dtype.name, arrays[key].shape) for key in arrays} == {
        "image": ("uint8", (4, 4, 3)),
        **{key: ("uint8", (4, 4)) for key in ("label", "region")},
        **{key: ("float32", (4, 4)) for key in ("prior", "refined", "variance", "entropy")},
        **{key: ("bool", (4, 4)) for key in ("prior_mask", "refined_mask")},
        "threshold": ("float64", (2,)),
    }
    assert np.array_equal(arrays["prior_mask"], PRIOR[0].numpy() > 0.5)
    assert np.array_equal(arrays["prior"], PRIOR[0].numpy()) and np.array_equal(arrays["label"], LABEL[0].numpy())
    assert np.array_equal(arrays["region"], REGION[0].numpy())
    assert (arrays["image"] == 200).all() and (arrays["threshold"] == 0.5).all()
    other = np.load(tmp_path / "arrays" / "b.npz")
    assert (other["region"] == 1).all()
    assert other["refined"].dtype == np.float32
    assert np.allclose(other["refined"], REFINED[0].numpy(), atol=5e-3)


def test_without_a_picture_the_input_is_stretched_to_grey(tmp_path: Path) -> None:
    run(EvaluationWriter(tmp_path, ["vessel"]), [case("a")])
    image = np.load(tmp_path / "arrays" / "a.npz")["image"]
    assert image.shape == (4, 4, 3) and image.dtype == np.uint8
    assert image[0, 0].tolist() == [0] * 3 and image[3, 3].tolist() == [255] * 3
    assert image[..., 0].ravel().tolist() == [17 * i for i in range(16)]


def test_several_targets_are_scored_and_written_one_by_one(tmp_path: Path) -> None:
    item, output = case("a", "picture", maps=lambda value: torch.cat([value, 1 - value]))
    output["entropy"] = torch.cat([ENTROPY, 2 * ENTROPY])
    writer = EvaluationWriter(tmp_path, ["vessel", "rest"])
    run(writer, [(item, output)])
    assert [(row["target"], row["method"]) for row in writer.rows] == [
        ("vessel", "prior"),
        ("vessel", "refined"),
        ("rest", "prior"),
        ("rest", "refined"),
    ]
    rest = writer.rows[3]
    assert (rest["tp"], rest["fp"], rest["fn"], rest["tn"]) == (12, 1, 0, 3)
    assert rest["uncertainty"] == pytest.approx(16 * 0.5 / 13)
    assert sorted(path.name for path in (tmp_path / "arrays").iterdir()) == ["a_rest.npz", "a_vessel.npz"]
    assert np.array_equal(np.load(tmp_path / "arrays" / "a_rest.npz")["label"], 1 - LABEL[0].numpy())


@pytest.mark.parametrize("targets", [["vessel"], ["vessel", "rest"]])
def test_trajectories_of_the_first_cases_are_the_inferer_s_for_every_target(
    targets: list[str], tmp_path: Path, make_network: Callable
) -> None:
    network = make_network(num_targets=len(targets))
    inferer = BernoulliDiffusionInferer(num_inference_steps=3, sampler="ddim", seed=4)
    writer = EvaluationWriter(tmp_path, targets, trajectory_cases=2, inferer=inferer)
    cases = [case(name, "picture", maps=lambda value: value.repeat(len(targets), 1, 1)) for name in "abc"]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    run(writer, cases, network)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    suffixes = [f"_{target}" for target in targets] if len(targets) > 1 else [""]
    names = [f"{name}{suffix}.npz" for name in "ab" for suffix in suffixes]
    assert sorted(path.name for path in (tmp_path / "trajectory").iterdir()) == sorted(names)
    refined, expected = inferer.sample(cases[0][1]["image"][None], network.eval())
    for channel, suffix in enumerate(suffixes):
        chain = np.load(tmp_path / "trajectory" / f"a{suffix}.npz")
        assert chain["states"].shape == (4, 4, 4) and chain["states"].dtype == np.uint8
        assert chain["estimates"].shape == (3, 4, 4) and chain["estimates"].dtype == np.float32
        assert chain["timesteps"].tolist() == expected.timesteps
        assert np.array_equal(chain["states"][:3], expected.states[:, 0, channel].numpy())
        assert np.array_equal(chain["estimates"], expected.estimates[:, 0, channel].numpy())
        assert np.array_equal(chain["states"][3], refined[0, channel].numpy() > 0.5)
        assert np.array_equal(chain["label"], LABEL[0].numpy()) and (chain["image"] == 200).all()


def test_a_trajectory_is_drawn_at_the_size_at_which_masks_are(tmp_path: Path, make_network: Callable) -> None:
    network = make_network()
    inferer = BernoulliDiffusionInferer(num_inference_steps=2, sampler="ddim", seed=4)
    writer = EvaluationWriter(tmp_path, ["polyp"], trajectory_cases=1, inferer=inferer)
    item, output = case("a", "picture")
    run(writer, [(item, output)], network, BernoulliDiffusionInferer(window=ResizeInferer([8, 8])))
    chain = np.load(tmp_path / "trajectory" / "a.npz")
    image = nn.functional.interpolate(output["image"][None], [8, 8], mode="area")
    expected = inferer.sample(image, network.eval())[1].estimates[:, 0, 0]
    assert expected.shape == (2, 8, 8) and chain["estimates"].shape == (2, 4, 4) == chain["states"][1:].shape
    assert np.array_equal(chain["estimates"], expected[:, 1::2, 1::2].numpy())  # the nearest of each two


def test_a_trajectory_of_a_large_image_is_its_middle_s(
    tmp_path: Path, make_network: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, a photograph of 12 megapixels would take the memory of a workstation."""
    monkeypatch.setattr(evaluation, "LARGEST_CHAIN", 2)
    network = make_network()
    inferer = BernoulliDiffusionInferer(num_inference_steps=2, sampler="ddim", seed=4)
    item, output = case("a", "picture")
    run(EvaluationWriter(tmp_path, ["vessel"], trajectory_cases=1, inferer=inferer), [(item, output)], network)
    chain = np.load(tmp_path / "trajectory" / "a.npz")
    expected = inferer.sample(output["image"][None, :, 1:3, 1:3], network.eval())[1].estimates[:, 0, 0]
    assert chain["image"].shape == (2, 2, 3) and np.array_equal(chain["estimates"], expected.numpy())
    assert np.array_equal(chain["label"], LABEL[0, 1:3, 1:3].numpy())
    assert np.load(tmp_path / "arrays" / "a.npz")["refined"].shape == (4, 4)


def test_an_evaluator_run_twice_starts_anew(tmp_path: Path) -> None:
    writer = EvaluationWriter(tmp_path, ["vessel"])
    run(writer, [case("a", "picture")])
    run(writer, [case("b", "picture")])
    assert {row["case"] for row in writer.rows} == {"b"}


def test_an_empty_mask_is_scored_zero_without_hd95(tmp_path: Path) -> None:
    item, output = case("a", "picture")
    output["refined"] = torch.zeros(1, 4, 4)
    writer = EvaluationWriter(tmp_path, ["vessel"])
    run(writer, [(item, output)])
    assert writer.rows[1]["dice"] == 0 and math.isnan(writer.rows[1]["hd95"])


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    engine = Engine(lambda engine, batch: None)
    with pytest.raises(ValueError, match="cannot be written"):
        EvaluationWriter(tmp_path / "file" / "evaluation", ["vessel"]).attach(engine)


def test_calibration_by_hand_inside_the_region(tmp_path: Path) -> None:
    """Eight pixels inside: refined 0.9 three times, right, and 0.1 five times, one of them structure."""
    entropy = ENTROPY.clone()
    entropy[0, 2, 2] = 0.6  # the miss is the least sure pixel
    item, output = case("a", "region", "picture")
    run(EvaluationWriter(tmp_path, ["vessel"]), [(item, {**output, "entropy": entropy}), case("b", "region")])
    found = json.loads((tmp_path / "calibration.json").read_text())
    (target,) = found["targets"]
    assert found["exclusive"] is False
    assert (target["target"], target["region"], target["n"], target["pixels"]) == ("vessel", "field of view", 2, 16)
    refined, prior = (target[method]["pooled"] for method in ("refined", "prior"))
    assert refined["ece"] == pytest.approx((3 * 0.1 + 5 * abs(0.1 - 1 / 5)) / 8, rel=1e-4)
    assert refined["brier"] == pytest.approx((7 * 0.01 + 0.81) / 8, rel=1e-4)
    assert refined["nll"] == pytest.approx(-(7 * math.log(0.9) + math.log(0.1)) / 8, rel=1e-4)
    assert prior["ece"] == pytest.approx((2 * 0.05 + 6 * abs(0.05 - 2 / 6)) / 8, rel=1e-4)
    areas = {record["case"]: record["retention"] for record in found["cases"]}
    assert areas["a"]["error_rate"] == 1 / 8
    assert areas["a"]["area"] == pytest.approx(1 / 128) == areas["a"]["ideal_area"]  # the error is found first
    assert areas["b"]["area"] == pytest.approx(1 / 16) == areas["b"]["random_area"]  # all equally unsure
    assert target["correlation"]["n"] == 2 and target["correlation"]["interval"] is None


def test_without_a_region_every_pixel_counts(tmp_path: Path) -> None:
    run(EvaluationWriter(tmp_path, ["vessel"]), [case("a")])
    (target,) = json.loads((tmp_path / "calibration.json").read_text())["targets"]
    assert (target["region"], target["pixels"]) == ("whole image", 16)
