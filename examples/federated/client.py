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


def take_part(bundle: str, settings: dict[str, object], rounds: int, local_epochs: int) -> None:
    """Trains whenever the server asks."""
    flare.init()
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
    algo.finalize()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--settings", required=True, help="JSON files of keys of train.json, with commas between them")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--local_epochs", type=int, default=1)
    given = parser.parse_args()
    keys: dict[str, object] = {}
    for file in given.settings.split(","):
        keys |= json.loads(Path(file).read_text(encoding="utf-8"))
    take_part(given.bundle, keys, given.rounds, given.local_epochs)
