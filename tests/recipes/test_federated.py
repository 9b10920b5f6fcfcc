"""Two sites in one process: FedAvg by hand over what MONAI's client sends and takes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from hidiff_monai.data import write_phantoms
from hidiff_monai.recipes import build_federated_network, federated, federated_client

BUNDLE = Path(__file__).parents[2] / "bundles" / "drive"
WIDTHS = [4, 4, 4, 4, 4, 4]
NETWORK = {"segmentor#channels": WIDTHS, "refiner#channels": WIDTHS}
ROUNDS = 2
Weights = dict[str, torch.Tensor]


@pytest.fixture
def make_client(tmp_path: Path) -> Callable[[int], MonaiAlgo]:
    """A site with its own phantoms, and with a state that an earlier run has left in its output folder."""

    def make(number: int) -> MonaiAlgo:
        folder = tmp_path / f"site_{number}"
        datalist = write_phantoms(folder / "data", 2, 1, 0, size=(70, 66), seed=number, progress=False)
        (folder / "output" / "resume").mkdir(parents=True)
        (folder / "output" / "resume" / "resume_9.pt").write_bytes(b"of another training")
        settings: dict[str, Any] = {
            **NETWORK,
            "dataset_dir": str(datalist.parent),
            "datalist_file": str(datalist),
            "output_dir": str(folder / "output"),
            "crop_size": [64, 64],
            "repeats_per_epoch": 1,
            "pretrain_epochs": 1,
            "val_interval": 5,
        }
        client = federated_client(BUNDLE, settings, ROUNDS)
        client.initialize({"CLIENT_NAME": f"site_{number}"})
        return client

    return make


@pytest.mark.parametrize(("settings", "epochs"), [({}, 2), ({"pretrain_epochs": 3}, 3)])
def test_pre_training_has_its_share_of_the_rounds(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], epochs: int
) -> None:
    """12 of 22 epochs, at 5 rounds 2: else the refiner of a short federation would never train."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(federated, "MonaiAlgo", lambda *_, **options: told.append(options["train_kwargs"]))
    federated_client(BUNDLE, settings, rounds=5)
    assert (told[0]["pretrain_epochs"], told[0]["max_epochs"]) == (epochs, 5)


def largest_change(difference: Weights, part: str) -> float:
    of_part = [value for key, value in difference.items() if key.startswith(f"{part}.") and "num_batches" not in key]
    return max(float(value.abs().max()) for value in of_part)


def test_an_average_of_two_sites_moves_both_networks(make_client: Callable[[int], MonaiAlgo], tmp_path: Path) -> None:
    clients = [make_client(number) for number in range(2)]
    average: Weights = build_federated_network(BUNDLE, NETWORK).state_dict()
    averages_at_start: list[Weights] = []
    trainer = clients[1].trainer
    assert trainer is not None
    trainer.add_event_handler(
        Events.STARTED, lambda: averages_at_start.append({**_clone(trainer.prior_network.state_dict())})
    )
    changes = []
    for _ in range(ROUNDS):
        sent = []
        for client in clients:
            client.train(ExchangeObject(weights=_clone(average)))
            received = client.get_weights()
            assert received.weight_type == WeightType.WEIGHT_DIFF
            assert received.weights.keys() == average.keys()
            sent.append(received.weights)
        assert all(torch.equal(averages_at_start[-1][key], value) for key, value in average.items())
        average = {key: (value + (sent[0][key] + sent[1][key]) / 2).to(value.dtype) for key, value in average.items()}
        changes.append([[largest_change(weights, part) for part in ("segmentor", "refiner")] for weights in sent])
    # the segmentor is pre-trained in the first round, both are trained in the second
    assert all(segmentor > 0 and refiner == 0 for segmentor, refiner in changes[0])
    assert all(segmentor > 0 and refiner > 0 for segmentor, refiner in changes[1])
    assert changes[1][0] != changes[1][1]

    build_federated_network(BUNDLE, NETWORK).load_state_dict(average, strict=True)
    metrics = clients[0].evaluate(ExchangeObject(weights=_clone(average))).metrics
    assert set(metrics) == {"val_dice_refined", "val_dice_prior"}
    scored = clients[0].evaluator.network.state_dict()
    assert all(torch.equal(scored[key], value) for key, value in average.items())
    with open(tmp_path / "site_0" / "output" / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["phase"]) for row in rows] == [("1", "pretrain"), ("2", "alternate")]
    assert [float(row["lr_segmentor"]) for row in rows] == sorted([float(row["lr_segmentor"]) for row in rows])[::-1]
    assert float(rows[1]["lr_segmentor"]) > 0  # a decay over one round would have come to its end


def _clone(weights: Weights) -> Weights:
    return {key: value.clone() for key, value in weights.items()}


def test_mistakes_of_a_site_are_named() -> None:
    with pytest.raises(ValueError, match="--crop_sze: no key 'crop_sze' .* did you mean --crop_size?"):
        federated_client(BUNDLE, {"crop_sze": [64, 64]}, 1)
    with pytest.raises(ValueError, match="no key 'chanels' in 'refiner'"):
        build_federated_network(BUNDLE, {"refiner#chanels": WIDTHS})
    with pytest.raises(ValueError, match="0 rounds of 1 epochs; expected 1 or more of both"):
        federated_client(BUNDLE, {}, 0)
