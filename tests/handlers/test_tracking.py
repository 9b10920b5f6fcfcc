"""Tracking that nobody asked for, or that another process does; with MLflow itself: tests/bundles/test_tracking.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from monai.bundle import ConfigParser

from hidiff_monai.handlers import AlternateCollaborativeHandler, ExperimentTracking, HistoryWriter


def from_config(handlers: list[dict[str, Any]], folder: Path) -> ExperimentTracking:
    """As a bundle's configuration makes it."""
    own = {
        "_target_": "hidiff_monai.handlers.ExperimentTracking",
        "handlers": "$@train#handlers + @validate#handlers",
        "output_dir": str(folder),
    }
    parser = ConfigParser({"train": {"handlers": handlers}, "validate": {"handlers": []}, "experiment": own})
    return parser.get_parsed_content("experiment")


@pytest.mark.parametrize(
    "handler",
    [
        {"_target_": "ignite.handlers.ProgressBar"},
        {"_target_": "MLFlowHandler", "_disabled_": True, "tracking_uri": "http://localhost:1"},
    ],
    ids=["of another kind", "disabled, as in all processes but the first"],
)
def test_other_handlers_are_left_alone(
    handler: dict[str, Any], tmp_path: Path, make_network: Callable, make_trainer: Callable, make_batches: Callable
) -> None:
    tracking = from_config([handler], tmp_path)
    trainer = make_trainer(make_network(), make_batches(1))
    history = HistoryWriter(tmp_path / "history.csv", AlternateCollaborativeHandler(0), trainer)
    history.attach(trainer)
    tracking.attach(trainer, history)
    trainer.run()
    tracking.record_evaluation(tmp_path / "nothing was written here")
    assert tracking.handlers == []
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]
    assert history.row["epoch"] == 1 and set(history.row) >= {"loss_segmentor", "loss_refiner", "lr_segmentor"}


def test_names_of_classes_become_names_that_mlflow_takes(tmp_path: Path) -> None:
    logged: dict[str, float] = {}
    tracking = from_config([], tmp_path)
    client = SimpleNamespace(log_metric=lambda run, key, value: logged.update({key: value}), log_artifact=print)
    tracking.handlers = [SimpleNamespace(client=client, close=lambda: None)]
    group = {"region": "whole image", "target": "kidney (left)+", "method": "prior", "dice": {"mean": 0.5}}
    (tmp_path / "summary.json").write_text(json.dumps({"groups": [group]}))
    tracking.record_evaluation(tmp_path)
    assert logged == {f"{tmp_path.name}/whole image/kidney _left__/prior/dice": 0.5}
