"""Three folds of phantoms: each case once, a fold that is there is kept, a failing one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hidiff_monai import cross_validation
from hidiff_monai.cli import main
from hidiff_monai.data import read_datalist, write_phantoms

BUNDLE = Path(__file__).parents[1] / "bundles" / "drive"
WIDTHS = "[4,4,4,4,4,4]"
TINY = ["--pretrain_epochs", "1", "--max_epochs", "1", "--repeats_per_epoch", "1", "--crop_size", "[64,64]"]
TINY += ["--num_samples", "1", "--num_inference_steps", "1", "--segmentor#channels", WIDTHS]
TINY += ["--refiner#channels", WIDTHS, "--amp", "False"]


@pytest.fixture
def folded(tmp_path: Path) -> Path:
    datalist = write_phantoms(tmp_path / "set", 2, 1, 1, size=(64, 64), seed=0, progress=False)
    content = read_datalist(datalist)
    ids = [case["id"] for section in ("training", "validation") for case in content[section]]
    datalist.write_text(json.dumps({**content, "folds": {str(fold): [name] for fold, name in enumerate(ids)}}))
    return datalist


def test_every_case_is_tested_once(folded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    line = ["cross-validate", str(BUNDLE), str(folded.parent), str(output), "--datalist_file", str(folded)]
    main([*line, "--folds", "0,2", *TINY])
    assert "folds 1 are not evaluated yet" in capfd.readouterr().out
    for extra, message in (
        (["--learning_rate", "0.5"], "expected the same in all runs that are put together"),
        (["--section", "validation"], "got ['section']; expected none of these"),
    ):
        with pytest.raises(SystemExit):
            main([*line, *TINY, *extra])
        assert message in capfd.readouterr().err
    kept = output / "fold_0" / "models" / "model.pt"
    before = kept.stat().st_mtime_ns
    main([*line, *TINY])
    shown = capfd.readouterr().out
    assert "difference" in shown and f"report: {output / 'index.html'}" in shown
    assert kept.stat().st_mtime_ns == before
    rows = json.loads((output / "cases.json").read_text())
    ids = [name for names in read_datalist(folded)["folds"].values() for name in names]
    tested = [
        (row["fold"], row["case"]) for row in rows if (row["method"], row["region"]) == ("refined", "whole image")
    ]
    assert tested == list(zip("012", ids, strict=True))
    trained = read_datalist(output / "fold_0" / "datalist.json")
    assert [case["id"] for case in trained["training"]] == [ids[2]]


def test_a_threshold_fitted_on_cases_that_a_fold_tests_is_not_used(
    folded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    monkeypatch.setattr(cross_validation, "train_and_evaluate", lambda *run: seen.append(run[2].get("threshold")))
    for number, given in enumerate(({}, {"threshold": 0.6})):
        arguments = (folded.parent, tmp_path / str(number), folded, ["0"], given)
        cross_validation.run_cross_validation(BUNDLE.parent / "chase_db1", *arguments)
    assert seen == [0.5, 0.6]
    assert capsys.readouterr().out.count("threshold 0.5 in place of the bundle's 0.7") == 1


def test_what_fails_is_named(folded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = ["cross-validate", str(BUNDLE), str(folded.parent), str(tmp_path / "out"), "--datalist_file", str(folded)]
    for extra, message in (
        (["--folds", "7"], "asked for ['7']"),
        (["--max_epoch", "3"], "did you mean --max_epochs?"),
    ):
        with pytest.raises(SystemExit) as end:
            main([*line, *extra])
        assert end.value.code == 1
        assert message in capfd.readouterr().err


def test_folds_of_another_datalist_are_not_mixed_in(
    folded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    (output / "fold_0").mkdir(parents=True)
    (output / "fold_0" / "datalist.json").write_text("{}")
    with pytest.raises(SystemExit):
        main(["cross-validate", str(BUNDLE), str(folded.parent), str(output), "--datalist_file", str(folded), *TINY])
    assert "fold_0/datalist.json holds another division of the cases" in capfd.readouterr().err
    assert (output / "fold_0" / "datalist.json").read_text() == "{}"
    assert not (output / "fold_0" / "models").exists()
