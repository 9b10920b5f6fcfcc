"""One MLflow run for a training, however often it is taken up, and for its evaluations."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.handlers import MLFlowHandler

from hidiff_monai.handlers.history import HistoryWriter
from hidiff_monai.io import write_atomically

RUN_FILE = "mlflow_run.txt"
EVALUATION_FILES = ("index.html", "table.txt", "slices_table.txt", "cases.csv", "summary.json", "manifest.json")
MAX_PARAMETERS = 100  # in one request to MLflow
FORBIDDEN = re.compile(r"[^/\w.\- :]")  # in the name of a metric, which holds that of a class


class ExperimentTracking:
    """Gives the ``MLFlowHandler`` of ``--tracking mlflow`` the run of an output folder, and what only HiDiff has.

    Left to itself MONAI's handler takes up any unfinished run of the experiment, a finished one never, and logs the sum
    of both losses with the refiner's learning rate. Here the run is the one that ``mlflow_run.txt`` names, a row of
    ``history.csv`` is logged per epoch, and the numbers of the configuration are its parameters. Without such a handler
    nothing is tracked.

    Args:
        handlers: the configuration's; those that are no ``MLFlowHandler`` are left alone.
        output_dir: keeps the name of the run, the executed configuration and ``history.csv``.
    """

    def __init__(self, handlers: Iterable[Any], output_dir: str | Path) -> None:
        self.handlers = [handler for handler in handlers if isinstance(handler, MLFlowHandler)]
        self.output_dir = Path(output_dir)
        self.run_id = self._open_run(self.handlers[0]) if self.handlers else ""
        for handler in self.handlers:
            handler.iteration_logger = _log_nothing
            handler.cur_run = handler.client.get_run(self.run_id)

    def _open_run(self, handler: MLFlowHandler) -> str:
        """The id of this folder's run, which is running again; a new one where there is none in this store."""
        client, file = handler.client, self.output_dir / RUN_FILE
        found = client.get_experiment_by_name(handler.experiment_name)
        name, place = handler.experiment_name, handler.artifact_location
        experiment = found.experiment_id if found else client.create_experiment(name, artifact_location=place)
        run_id = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
        if run_id and client.search_runs([experiment], f"attributes.run_id = '{run_id}'"):
            client.update_run(run_id, status="RUNNING")
            return run_id
        run_name = handler.run_name or f"{self.output_dir.name}_{time.strftime('%Y%m%d_%H%M%S')}"
        run_id = str(client.create_run(experiment, run_name=run_name).info.run_id)
        with write_atomically(file) as temporary:
            temporary.write_text(run_id + "\n", encoding="utf-8")
        return run_id

    def attach(self, engine: Engine, history: HistoryWriter) -> None:
        """Registers with the trainer, after ``history`` has been attached."""
        if not self.handlers:
            return
        configuration = max(self.output_dir.glob("config_*.json"), default=None)  # MONAI wrote it, with its time
        if configuration is not None:
            self._log_parameters(json.loads(configuration.read_text(encoding="utf-8")))
        # MONAI's own path is no path where output_dir was given on the command line
        self.handlers[0].artifacts = (configuration, history.path)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self._log_row(history.row, engine.state.epoch))

    def _log_parameters(self, configuration: Mapping[str, Any]) -> None:
        client = self.handlers[0].client
        known = client.get_run(self.run_id).data.params  # a parameter keeps its first value
        for key, value in [item for item in _numbers(configuration, "") if item[0] not in known][:MAX_PARAMETERS]:
            client.log_param(self.run_id, key, value)

    def _log_row(self, row: Mapping[str, object], epoch: int) -> None:
        for key, value in row.items():
            if key.startswith(("loss_", "lr_")):  # the validation's metrics are logged by its own handler
                self.handlers[0].client.log_metric(self.run_id, key, float(str(value)), step=epoch)

    def record_evaluation(self, folder: str | Path) -> None:
        """Logs what an evaluation has written: every mean as a metric, report and tables as artefacts; ends the run.

        Args:
            folder: of the evaluation; its name goes before the metrics'.
        """
        if not self.handlers:
            return
        folder, client = Path(folder), self.handlers[0].client
        for group in json.loads((folder / "summary.json").read_text(encoding="utf-8"))["groups"]:
            place = "/".join(str(group[key]) for key in ("region", "target", "method") if group.get(key))
            for name, value in group.items():
                if isinstance(value, dict) and value.get("mean") is not None:
                    key = FORBIDDEN.sub("_", f"{folder.name}/{place}/{name}")
                    client.log_metric(self.run_id, key, value["mean"])
        for file in EVALUATION_FILES:
            if (folder / file).is_file():
                client.log_artifact(self.run_id, str(folder / file), folder.name)
        for handler in self.handlers:
            handler.close()


def _log_nothing(engine: Engine) -> None:
    """Iterations are TensorBoard's; a request each to a database would slow the training down."""


def _numbers(content: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Every number of a configuration, and every list of numbers, by its key with dots; the metadata's left out."""
    for key, value in content.items() if isinstance(content, dict) else ():
        name = f"{place}.{key}" if place else str(key)
        is_list = isinstance(value, list) and value and all(isinstance(item, (int, float)) for item in value)
        if isinstance(value, (int, float)) or is_list:
            yield name, value
        elif key != ConfigParser.meta_key:
            yield from _numbers(value, name)
