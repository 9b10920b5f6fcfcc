"""The loader against the training step, on phantoms and on a made-up clock."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hidiff_monai.cli import main
from hidiff_monai.data import write_phantoms
from hidiff_monai.recipes.loading import LoaderBenchmark, benchmark_loader

DRIVE = Path(__file__).parents[2] / "bundles" / "drive"
TINY = {
    "bundle_root": str(DRIVE),
    "segmentor#channels": [4, 4, 4, 4, 4, 4],
    "refiner#channels": [4, 4, 4, 4, 4, 4],
    "crop_size": [32, 32],
    "batch_size": 2,
    "crops_per_image": 2,
    "repeats_per_epoch": 2,
    "alternation#segmentor_every": 4,
}


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    datalist = write_phantoms(tmp_path / "set", 3, 1, 1, size=(64, 64), seed=0, progress=False)
    return {**TINY, "dataset_dir": str(datalist.parent), "datalist_file": str(datalist)}


def test_an_epoch_is_loaded_and_both_phases_are_trained(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    plans = []
    monkeypatch.setattr(
        "hidiff_monai.engines.AlternateCollaborativeTrainer._descend",
        lambda self, name, *_: plans.append((self.state.epoch, name, self.plan.lambda_diff)),
    )
    measured = benchmark_loader(str(DRIVE / "configs/train.json"), settings, steps=4)
    assert (measured.num_batches, measured.num_workers, measured.worker_gib) == (3, 0, 0)  # 3 phantoms twice, by two
    assert plans[:5] == [(1, "loss_segmentor", 0)] * 5
    assert [name for epoch, name, _ in plans[5:] if epoch == 2].count("loss_refiner") == 5
    assert plans.count((2, "loss_segmentor", 1)) == 2  # every fourth of five
    assert 0 < measured.loader_s < 60 and all(0 < step < 60 for step in measured.step_s.values())
    assert 0.05 < measured.loading_gib <= measured.training_gib < 64
    assert set(tmp_path.rglob("*")) == before


def test_workers_are_counted(settings):
    measured = benchmark_loader(str(DRIVE / "configs/train.json"), {**settings, "num_workers": 1}, steps=1)
    assert measured.num_workers == 1 and 0.05 < measured.worker_gib < 64


def test_a_later_file_overrides(settings, tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"batch_size": 1}))
    files = [str(DRIVE / "configs/train.json"), str(tmp_path / "mine.json")]
    settings.pop("batch_size")
    assert benchmark_loader(files, settings, steps=1).num_batches == 6


def test_mistakes_are_named(settings):
    with pytest.raises(ValueError, match="no key 'batchsize'.*did you mean --batch_size"):
        benchmark_loader(str(DRIVE / "configs/train.json"), {**settings, "batchsize": 1})
    with pytest.raises(ValueError, match="steps is 0; expected 1 or more"):
        benchmark_loader(str(DRIVE / "configs/train.json"), settings, steps=0)


def test_ratios_and_shares():
    step_s = {"segmentor alone": 1.0, "alternating": 3.0}
    alone = LoaderBenchmark(7, 0, 2.0, step_s, 1.5, 0.0, 2.5)
    assert [alone.waiting_share(phase) for phase in step_s] == pytest.approx([2 / 3, 2 / 5])
    helped = LoaderBenchmark(7, 2, 2.0, step_s, 1.5, 0.75, 2.5)
    assert [helped.waiting_share(phase) for phase in step_s] == pytest.approx([1 / 2, 0])
    lines = helped.format().splitlines()
    assert re.fullmatch(r"loader +0.500 +\(7 mini-batches, 2 workers\)", lines[1])
    assert re.fullmatch(r"segmentor alone +1.000 +0.5 x +50.0 %", lines[2])
    assert re.fullmatch(r"alternating +0.333 +1.5 x +0.0 %", lines[3])
    assert lines[4].endswith("1.50 GiB after loading, each worker up to 0.75 GiB, 2.50 GiB after training")
    assert "worker up to" not in alone.format()


def test_the_command_takes_keys_of_the_configuration(settings, capsys):
    options = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    main(["benchmark-loader", str(DRIVE / "configs/train.json"), "--steps", "1", *options])
    assert re.search(r"alternating +[\d.]+ +[\d.]+ x", capsys.readouterr().out)
    with pytest.raises(SystemExit) as end:
        main(["benchmark-loader", str(DRIVE / "configs/train.json"), "--datasetdir", "x"])
    assert end.value.code == 1
    assert "did you mean --dataset_dir?" in capsys.readouterr().err
