"""`--tracking mlflow`, on the bundle of DRIVE with phantoms: one run in a real store, from training to report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

from hidiff_monai.data import write_phantoms
from hidiff_monai.io import guard_command_line

mlflow = pytest.importorskip("mlflow", reason='mlflow is not installed: pip install "hidiff-monai[tracking]"')
pytest.importorskip("sqlalchemy", reason='sqlalchemy is not installed: pip install "hidiff-monai[tracking]"')

CONFIGS = Path(__file__).parents[2] / "bundles" / "drive" / "configs"
WIDTHS = [4, 4, 4, 4, 4, 4]


class Tracked:
    """A folder of runs, and the store below it."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "output"
        self.datalist = write_phantoms(folder / "data", 2, 1, 1, size=(70, 66), seed=1, progress=False)

    def run(self, *files: str, **overrides: Any) -> None:
        settings = {
            "bundle_root": str(CONFIGS.parent),
            "dataset_dir": str(self.datalist.parent),
            "datalist_file": str(self.datalist),
            "output_dir": str(self.output),
            "segmentor#channels": WIDTHS,
            "refiner#channels": WIDTHS,
            "crop_size": [64, 64],
            "repeats_per_epoch": 1,
            "pretrain_epochs": 1,
            "val_interval": 1,
            "experiment_name": "retina",
            **overrides,
        }
        paths = [str(CONFIGS / f"{file}.json") for file in files]
        workflow = ConfigWorkflow(paths, logging_file=False, tracking="mlflow", **settings)
        workflow.initialize()
        workflow.run()

    @property
    def client(self) -> Any:
        return mlflow.MlflowClient(f"sqlite:///{self.output}/mlruns.db")

    def runs(self) -> list[Any]:
        client = self.client
        return client.search_runs([client.get_experiment_by_name("retina").experiment_id])

    def steps(self, key: str) -> list[int]:
        return [metric.step for metric in self.client.get_metric_history(self.runs()[0].info.run_id, key)]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """Trained for an epoch."""
    tracked = Tracked(tmp_path_factory.mktemp("tracked"))
    tracked.run("train", max_epochs=1)
    return tracked


def test_a_training_its_continuation_and_its_evaluation_are_one_run(tracked: Tracked) -> None:
    (first,) = tracked.runs()
    assert first.info.status == "FINISHED"
    assert first.data.params["max_epochs"] == "1"
    tracked.run("train", max_epochs=2)
    (run,) = tracked.runs()
    assert (run.info.run_id, run.info.status) == (first.info.run_id, "FINISHED")

    history = [row.split(",") for row in (tracked.output / "history.csv").read_text().splitlines()]
    latest = {key: float(value) for key, value in zip(history[0], history[-1], strict=True) if key != "phase"}
    for key, steps in {
        "loss_segmentor": [1, 2],
        "loss_refiner": [2],
        "lr_segmentor": [1, 2],
        "lr_refiner": [1, 2],
        "val_dice_prior": [1, 2],
        "val_dice_refined": [1, 2],
    }.items():
        assert tracked.steps(key) == steps
        assert run.data.metrics[key] == pytest.approx(latest[key])
    expected = {"refiner.channels": str(WIDTHS), "learning_rate": "0.001", "crop_size": "[64, 64]", "seed": "0"}
    assert expected.items() <= run.data.params.items()
    assert not any(key.startswith("_meta_") for key in run.data.params)

    tracked.run("train", "evaluate", max_epochs=2, num_inference_steps=1, num_samples=1)
    (run,) = tracked.runs()
    assert (run.info.run_id, run.info.status) == (first.info.run_id, "FINISHED")
    groups = json.loads((tracked.output / "evaluation_test" / "summary.json").read_text())["groups"]
    refined = next(group for group in groups if (group["method"], group["region"]) == ("refined", "whole image"))
    logged = run.data.metrics["evaluation_test/whole image/vessel/refined/dice"]
    assert logged == pytest.approx(refined["dice"]["mean"])
    names = {artefact.path for artefact in tracked.client.list_artifacts(run.info.run_id)}
    assert {"history.csv", "evaluation_test"} < names and any(name.startswith("config_") for name in names)
    report = tracked.client.download_artifacts(run.info.run_id, "evaluation_test/index.html")
    assert Path(report).read_bytes() == (tracked.output / "evaluation_test" / "index.html").read_bytes()


def test_another_folder_is_another_run_though_one_is_unfinished(tracked: Tracked, tmp_path: Path) -> None:
    store = f"sqlite:///{tracked.output}/mlruns.db"
    client = tracked.client
    (experiment,) = {run.info.experiment_id for run in tracked.runs()}
    client.create_run(experiment, run_name="of a colleague")  # MONAI's handler alone would take it up
    tracked.run("train", max_epochs=1, output_dir=str(tmp_path / "other"), tracking_uri=store, run_name="mine")
    names = {run.info.run_name: run.data.metrics for run in tracked.runs()}
    assert len(names) == 3
    assert names["of a colleague"] == {} and "loss_segmentor" in names["mine"]


def test_the_keys_of_tracking_are_known_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.excepthook", None)
    line = ["run", "--config_file", str(CONFIGS / "train.json"), "--run_name", "mine"]
    with pytest.raises(ValueError, match="--run_name: no key 'run_name'"):
        guard_command_line(line)
    guard_command_line([*line, "--tracking", "mlflow", "--experiment_name", "retina", "--tracking_uri", "http://x"])
