"""`hidiff predict`: every case of an input through a bundle, with a manifest and a report of the run."""

from __future__ import annotations

import errno
import gc
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import hidiff_monai
from hidiff_monai.data.labels import RULES
from hidiff_monai.io import hash_file, require_highdicom, write_atomically
from hidiff_monai.io.errors import find_value_error
from hidiff_monai.prediction.case import CaseMaps, batch_size, predict_case, read_case
from hidiff_monai.prediction.labels import dice_of_class, find_label, read_label
from hidiff_monai.prediction.model import Model, load_model
from hidiff_monai.prediction.outputs import draw_case, write_case
from hidiff_monai.prediction.places import Places, require_places
from hidiff_monai.prediction.plan import Budget, Plan, make_plan
from hidiff_monai.prediction.processes import Processes, describe_missing, interruptible
from hidiff_monai.prediction.records import ForeignFileError, Records, files_of, with_safe_id
from hidiff_monai.prediction.reference import NAMED, Usual, compare_with_usual, find_usual, read_usual
from hidiff_monai.prediction.verdict import (
    axial_axis,
    compare_masks,
    describe_place,
    measure_classes,
    measure_uncertainty,
    most_telling_slice,
    voxel_volume_ml,
    why_hard,
)
from hidiff_monai.prediction.workload import network_megapixels
from hidiff_monai.report import write_manifest, write_prediction_report

TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Options:
    """What is written for each case.

    Attributes:
        rtstruct: whether a DICOM series gets a structure set too.
        report: whether pictures and the page are made.
    """

    rtstruct: bool
    report: bool


def run_prediction(
    bundle: str | Path,
    source: str | Path,
    output: str | Path,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    steps: int | None = None,
    samples: int | None = None,
    labels: str | Path | None = None,
    reference: str | Path | None = None,
    rtstruct: bool = False,
    report: bool = True,
    overrides: Mapping[str, Any] | None = None,
    eager: bool = False,
    timeout_s: float = TIMEOUT_S,
    budget: Budget | None = None,
) -> dict[str, Any] | None:
    """Predicts every case; a bad one is recorded and passed over, what an earlier run has done is kept.

    Under torchrun the processes share the cases, and the first one waits for all and writes manifest and report.

    Per case the output receives ``<id>_mask`` and ``<id>_entropy`` in the format that came in, on its grid, and
    ``cases/<id>.json``; the run gets ``manifest.json`` and, with ``report``, ``index.html``.

    Args:
        bundle: the bundle's folder.
        source: a DICOM file, a folder tree of series, a NIfTI file, a picture, or a folder of these.
        output: the folder for everything that is written, outside the source.
        checkpoint: the weights; None for the bundle's.
        device: "cuda", "mps" or "cpu"; None for the best there is.
        steps: steps of the reverse chain; None for the bundle's.
        samples: chains behind the uncertainty; None for the bundle's.
        labels: a folder with ``<id>.nii.gz``, ``<id>_gt.png`` and the like, for Dice and error maps.
        reference: the output of an earlier run on cases the model is known on, see `read_usual`; None for what the
            bundle brings, see `find_usual`.
        rtstruct: writes a structure set beside each DICOM-SEG.
        report: makes the page.
        overrides: further keys of the bundle's inference configuration.
        eager: see `load_model`.
        timeout_s: the longest time in which no other process ends a case, after which the first one waits no more.
        budget: chooses steps and sampler by the time that a case may take, in the place of ``steps``.

    Returns:
        The manifest; of its "cases" those that failed have "status": "failed" and an "error". None in all processes but
        the first.

    Raises:
        ValueError: if the run cannot start: bundle, weights, input, output or an option is wrong; or another process
            was lost, with the cases that are missing.
    """
    if budget is not None:
        budget.require_valid(steps, overrides)
    start, processes = perf_counter(), Processes()
    places, options = require_places(source, output, labels), Options(rtstruct, report)
    model = load_model(bundle, places.source, checkpoint, processes.device(device), steps, samples, overrides, eager)
    plan = None if budget is None else _plan(model, budget, places, processes)
    facts = _facts(model)
    form = model.refiner.partition(" (avx")[0]  # instruction sets give the same masks
    settings = {**model.settings, **facts, "refiner": form, "rtstruct": rtstruct}
    facts["overrides"] = {key: value for key, value in model.settings.items() if key not in (*NAMED, *RULES)}
    facts["given"] = sorted(key for key, value in model.settings.items() if value is not None and key not in RULES)
    usual = find_usual(model.bundle, facts) if reference is None else read_usual(str(reference), facts)
    settings |= {} if plan is None else {"budget": [plan.budget.milliseconds, plan.dial_sha256, *plan.cost]}
    records = Records(places.output, settings, needs_picture=report)
    items = [with_safe_id(item) for item in model.items]
    if any(item["format"] == "dicom" for item in items):
        require_highdicom()  # before hours of inference
    _require_labels(places.labels, items)
    run = _Run(model, places, options, records, facts, usual, items, start, plan)
    with interruptible(processes):
        try:
            _predict_cases(run, processes, timeout_s)
        except KeyboardInterrupt:
            if processes.is_first and processes.number > 1:
                ended = processes.ended(len(items))
                names = [item["id"] for index, item in enumerate(items) if index not in ended]
                print(f"\n{describe_missing(names, len(items))}", file=sys.stderr)
            raise
        finally:  # interrupted, what is there is told all the same
            manifest = _tell(run, processes) if processes.is_first else None
    _require_all(manifest, items, timeout_s)
    return manifest


@dataclass(frozen=True)
class _Run:
    """What every case of a run has in common; ``facts`` as `_facts` gives them, ``start`` on `perf_counter`'s clock."""

    model: Model
    places: Places
    options: Options
    records: Records
    facts: dict[str, Any]
    usual: Usual
    items: list[dict[str, Any]]
    start: float
    plan: Plan | None


def _plan(model: Model, budget: Budget, places: Places, processes: Processes) -> Plan:
    """The plan of all processes; the model draws as it says."""
    plan = make_plan(model, budget, places.output, partial(processes.share, "budget"), places.shorten)
    plan.choice.setting.apply(model.sampling)
    return plan


def _predict_cases(run: _Run, processes: Processes, timeout_s: float) -> None:
    """This process's share; the first one waits for the others'."""
    number = len(run.items)
    processes.wait_for_first()
    with tqdm(total=number, desc="Predicting", unit="case", disable=not processes.is_first) as bar:
        for index in processes.take(number):
            bar.update(index - bar.n)  # those that other processes took, too
            processes.end(index, _one_case(run, run.items[index]))
        if processes.is_first:
            processes.wait(number, timeout_s)
        bar.update(number - bar.n)


def _tell(run: _Run, processes: Processes) -> dict[str, Any]:
    """Writes manifest and page of the cases that have ended."""
    ended = processes.ended(len(run.items))
    records = [record for index in ended if (record := run.records.read(run.items[index])) is not None]
    likeness = compare_with_usual(_uncertainties(records, run.plan), run.usual)
    manifest = write_manifest(
        run.places.output / "manifest.json",
        **run.facts,
        checkpoint=run.model.checkpoint,
        device=str(run.model.device),
        processes=processes.number,
        hard_uncertainty=run.usual.uncertainty,
        hard_change=run.usual.changed_share,
        reference={"source": run.usual.source, "cases": len(run.usual.cases)},
        likeness=None if likeness is None else {**likeness._asdict(), "warning": likeness.describe()},
        seconds=round(perf_counter() - run.start, 2),
        planned=len(run.items),
        done_before=sum(ended.values()),
        cases=[_told(record, run) for record in records],
        **({} if run.plan is None else {"budget": run.plan.facts()}),
    )
    _write_page(manifest, run.places.output, run.options.report and bool(records))
    return manifest


def _uncertainties(records: Sequence[Mapping[str, Any]], plan: Plan | None) -> list[float | None]:
    """Of the cases that are done, without those that a budget gave another setting."""
    setting = None if plan is None else plan.choice.setting._asdict()
    return [
        record["uncertainty"] for record in records if record["status"] == "done" and record.get("setting") == setting
    ]


def _require_all(manifest: Mapping[str, Any] | None, items: Sequence[Mapping[str, Any]], timeout_s: float) -> None:
    """Of several processes one may be lost while the first goes on."""
    there = {case["id"] for case in manifest["cases"]} if manifest else set()
    missing = [item["id"] for item in items if item["id"] not in there]
    if manifest is not None and missing:
        raise ValueError(
            f"no case has ended for {timeout_s:g} s, as if a process were lost; {describe_missing(missing, len(items))}"
        )


def _require_labels(folder: Path | None, items: Sequence[Mapping[str, Any]]) -> None:
    """Labels that belong to no case would leave a report that says there are none."""
    if folder is not None and not any(find_label(folder, item["id"]) for item in items):
        name = items[0]["id"]
        raise ValueError(
            f"--labels {folder}: no label for any of the {len(items)} cases; expected {name}.nii.gz, {name}_gt.png or "
            "the like: rename them, or name another folder"
        )


def _one_case(run: _Run, item: dict[str, Any]) -> bool:
    """Sees to it that a case has its record; whether an earlier run had made it."""
    label = find_label(run.places.labels, item["id"])
    fingerprint = run.records.fingerprint([*files_of(item), *([label] if label else [])])
    if run.records.find_done(item, fingerprint) is not None:
        return True
    run.records.finish(item, _try_case(run, item, label), fingerprint)
    return False


def _told(record: Mapping[str, Any], run: _Run) -> dict[str, Any]:
    """A record as it stands in the manifest, with what follows from what is usual, and files changed since."""
    case = {key: value for key, value in record.items() if key not in ("fingerprint", "owner", "written", "before")}
    if case["status"] == "done":
        reasons = why_hard(case["verdict"], case["uncertainty"], run.usual)
        case["verdict"] = {**case["verdict"], "looks_hard": bool(reasons), "reasons": reasons}
        case["edited"] = run.records.edited(record)
    return case


def _write_page(manifest: Mapping[str, Any], output: Path, is_wanted: bool) -> None:
    """The page of this run; one of an earlier run would tell of other masks."""
    if not is_wanted:
        (output / "index.html").unlink(missing_ok=True)
        return
    pictures = {case["id"]: output / "pictures" / f"{case['id']}.png" for case in manifest["cases"]}
    write_prediction_report(output, manifest, {name: file for name, file in pictures.items() if file.is_file()})


def _facts(model: Model) -> dict[str, Any]:
    """What a case's result depends on beside its files and the command line."""
    sampling = model.sampling
    configs = [model.bundle / "configs" / f"{name}.json" for name in ("inference", "metadata")]
    return {
        "hidiff_monai": hidiff_monai.__version__,
        "bundle": model.bundle.name,
        "bundle_sha256": [hash_file(config) for config in configs],
        "checkpoint_sha256": hash_file(model.checkpoint),
        "task": model.task,
        "steps": sampling.num_inference_steps or model.network.num_inference_steps,
        "samples": sampling.num_samples or model.network.num_samples,
        "sampler": sampling.sampler or model.network.sampler,
        "seed": sampling.seed,
        "temperature": sampling.temperature,
        "flip_axes": sampling.flip_axes,
        "refiner": model.refiner,
        "threshold": model.threshold,
    }


def _try_case(run: _Run, item: dict[str, Any], label: Path | None) -> dict[str, Any]:
    """The record of a case, also of one that cannot be done: one bad case does not cost the others."""
    start, places = perf_counter(), run.places
    files = [places.relative(file) for file in files_of(item)]
    told: dict[str, Any] = {"input": {"files": files, "format": item["format"]}}
    has_begun = False
    try:
        run.records.begin(item)
        has_begun = True
        result = _run_case(run, item, label)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if has_begun:
            with suppress(OSError):
                run.records.discard(item)
        message = find_value_error(error)
        told |= {"foreign": True} if isinstance(error, ForeignFileError) else {}
        if message is not None:
            return {"status": "failed", "error": places.shorten(str(message)), **told}
        # the text of any other error may quote a header, so only its place is told
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
        return {"status": "failed", "error": f"{files[0]}: cannot be predicted ({place}); please report this", **told}
    return {"status": "done", "error": None, **told, **result, "seconds": round(perf_counter() - start, 3)}


def _run_case(run: _Run, item: dict[str, Any], label_file: Path | None) -> dict[str, Any]:
    model, places, options = run.model, run.places, run.options
    image = read_case(model, item)
    label = None
    if label_file is not None:
        label = read_label(label_file, dict(image.meta), image.shape[1:], model.names, model.label_rule)
    sampling = _choose_for_case(run, item["id"], image)
    maps = predict_case(model, image)
    number = most_telling_slice(maps.refined, maps.prior, maps.entropy) if maps.refined.ndim == 3 else None
    algorithm = f"HiDiff {model.bundle.name}"
    outputs = write_case(places.output / item["id"], maps, model.names, algorithm, options.rtstruct)
    if options.report:
        with write_atomically(places.output / "pictures" / f"{item['id']}.png") as temporary:
            temporary.write_bytes(draw_case(maps, model.names, label, number))
        gc.collect()  # a figure of matplotlib is a cycle: without this a cohort grows by more than 1 MiB a case
    shown = None if number is None else axial_axis(maps.meta).to_source(number)
    batch = {"batch_size": batch_size(model.inferer), "inference_ms": _ms(maps.seconds)}
    return {"outputs": outputs, **_describe(maps, model.names, label), "slice": shown, **batch, **sampling}


def _choose_for_case(run: _Run, name: str, image: torch.Tensor) -> dict[str, Any]:
    """Under a budget, makes the model draw as this case's size allows, and says how."""
    if run.plan is None:
        return {}
    choice = run.plan.choose(network_megapixels(run.model.inferer, image.shape[1:]))
    choice.setting.apply(run.model.sampling)
    if run.plan.choice.fits and (choice.setting != run.plan.choice.setting or not choice.fits):
        which = "the best that fits" if choice.fits else "one hard step, which does not fit either"
        told_now = f"{name}: too large for the run's setting, takes {which}: {choice.setting.describe()}"
        tqdm.write(told_now, file=sys.stderr)
    told = {"setting": choice.setting._asdict(), "described": choice.setting.describe()}
    return {**told, "estimated_ms": _ms(choice.seconds)}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


def _describe(maps: CaseMaps, names: Sequence[str], label: np.ndarray | None) -> dict[str, Any]:
    """Sizes, uncertainty and verdict of a case; shape, spacing and slices as in its source."""
    is_volume = maps.refined.ndim == 3
    affine = np.asarray(maps.meta["source_affine"], float)[:3, :3] if is_volume else None
    voxel_ml = None if affine is None else voxel_volume_ml(affine)
    classes = measure_classes(maps.refined, maps.prior, names, voxel_ml)
    if label is not None:
        for number, entry in enumerate(classes, start=1):
            entry["dice"] = dice_of_class(maps.refined, label, number)
    where = describe_place(maps.refined != maps.prior, axial_axis(maps.meta) if is_volume else None)
    return {
        "shape": [int(size) for size in (maps.meta["source_shape"] if is_volume else maps.refined.shape)],
        "spacing_mm": None if affine is None else [round(float(edge), 4) for edge in np.linalg.norm(affine, axis=0)],
        "classes": classes,
        "uncertainty": measure_uncertainty(maps.entropy, maps.refined),
        "verdict": {**compare_masks(maps.refined, maps.prior), "where": where},
    }
