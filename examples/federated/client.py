"""One site: receives the average of all sites, scores it, trains on it, sends what has changed in both networks."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nvflare.client as flare
from monai.fl.utils.constants import FlStatistics
from monai.fl.utils.exchange_object import ExchangeObject
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType

from hidiff_monai.recipes import federated_client


def take_part(bundle: str, settings: dict[str, object], rounds: int, local_epochs: int) -> int:
    """Trains whenever the server asks; returns how often it did."""
    flare.init()
    done = 0
    algo = federated_client(bundle, settings, rounds, local_epochs)
    algo.initialize({"CLIENT_NAME": flare.get_site_name()})
    while flare.is_running():
        received = flare.receive()
        weights = ExchangeObject(weights=received.params)
        metrics = algo.evaluate(weights).metrics
        algo.train(weights)
        trained = algo.get_weights()
        steps = trained.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS]
        meta = {FLMetaKey.NUM_STEPS_CURRENT_ROUND: steps}
        flare.send(FLModel(ParamsType.DIFF, trained.weights, metrics=dict(metrics), meta=meta))
        done += 1
    algo.finalize()
    return done


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", type=Path, help="JSON: bundle, settings (keys of train.json), rounds, local_epochs")
    task = parser.parse_args().task
    finished = take_part(**json.loads(task.read_text(encoding="utf-8")))
    task.with_suffix(".rounds").write_text(str(finished))
