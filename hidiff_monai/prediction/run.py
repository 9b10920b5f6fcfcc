"""`hidiff predict`: every case of an input through a bundle, with a manifest and a report of the run."""

from __future__ import annotations

import errno
import gc
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from tqdm import tqdm

from hidiff_monai.io import require_writable, write_atomically
from hidiff_monai.io.errors import find_value_error
from hidiff_monai.prediction.case import CaseMaps, predict_case, read_case
from hidiff_monai.prediction.labels import dice_of_class, find_label, read_label
from hidiff_monai.prediction.model import Model, load_model
from hidiff_monai.prediction.outputs import draw_case, write_case
from hidiff_monai.prediction.records import Records, files_of
from hidiff_monai.prediction.reference import usual_uncertainty
from hidiff_monai.prediction.verdict import judge, measure_classes, measure_uncertainty, most_telling_slice
from hidiff_monai.report import hash_file, write_manifest, write_prediction_report

MAX_LISTED = 10


@dataclass(frozen=True)
class Options:
    """What is written for each case.

    Attributes:
        output: the run's folder.
        source: file or folder with the cases.
        labels: a folder with a reader's labels, for Dice and error maps; None without.
        rtstruct: whether a DICOM series gets a structure set too.
        report: whether pictures and the page are made.
        hard_uncertainty: nats a mask pixel from which on a case looks hard; None where nothing is known.
    """

    output: Path
    source: Path
    labels: Path | None
    rtstruct: bool
    report: bool
    hard_uncertainty: float | None = None


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
) -> dict[str, Any]:
    """Predicts every case; a bad one is recorded and passed over, what an earlier run has done is kept.

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
        reference: the output of an earlier run on cases the model is known on, see `usual_uncertainty`.
        rtstruct: writes a structure set beside each DICOM-SEG.
        report: makes the page.
        overrides: further keys of the bundle's inference configuration.

    Returns:
        The manifest; of its "cases" those that failed have "status": "failed" and an "error".

    Raises:
        ValueError: if the run cannot start: bundle, weights, input, output or an option is wrong.
    """
    start = perf_counter()
    options = _check_places(source, output, labels, rtstruct, report)
    model = load_model(bundle, options.source, checkpoint, device, steps, samples, overrides)
    facts = _facts(model)
    if reference is not None:
        options = replace(options, hard_uncertainty=usual_uncertainty(str(reference), facts))
        facts["hard_uncertainty"] = options.hard_uncertainty
    settings = {**model.settings, **facts, "rtstruct": rtstruct, "report": report, "labels": str(labels)}
    records = Records(options.output, settings)
    done = []
    try:
        for item in tqdm(model.items, desc="Predicting", unit="case"):
            done.append(records.find_done(item) or records.write(item, _try_case(model, item, options)))
    finally:  # interrupted, what is there is told all the same
        manifest = write_manifest(
            options.output / "manifest.json",
            **facts,
            checkpoint=model.checkpoint,
            seconds=round(perf_counter() - start, 2),
            planned=len(model.items),
            cases=[{key: value for key, value in record.items() if key != "fingerprint"} for record in done],
        )
        if report and done:
            pictures = {case["id"]: options.output / "pictures" / f"{case['id']}.png" for case in manifest["cases"]}
            shown = {name: file for name, file in pictures.items() if file.is_file()}
            write_prediction_report(options.output, manifest, shown)
    return manifest


def _check_places(
    source: str | Path, output: str | Path, labels: str | Path | None, rtstruct: bool, report: bool
) -> Options:
    here, there = (Path(str(place)).expanduser().absolute() for place in (source, output))
    if not here.exists():
        raise ValueError(f"--input {here}: there is no such file or folder; expected images: correct the path")
    if there == here or (here.is_dir() and here in there.parents):
        raise ValueError(f"--output {there}: lies in the input; expected another folder: a rerun would read its masks")
    folder = Path(str(labels)).expanduser().absolute() if labels is not None else None
    if folder is not None and not folder.is_dir():
        raise ValueError(f"--labels {folder}: is no folder; expected one with a label for each case's name: correct it")
    require_writable(there)
    return Options(there, here, folder, rtstruct, report)


def _facts(model: Model) -> dict[str, Any]:
    sampling = model.sampling
    return {
        "bundle": model.bundle.name,
        "checkpoint_sha256": hash_file(model.checkpoint),
        "task": model.task,
        "steps": sampling.num_inference_steps or model.network.num_inference_steps,
        "samples": sampling.num_samples or model.network.num_samples,
        "sampler": sampling.sampler or model.network.sampler,
        "seed": sampling.seed,
        "threshold": model.threshold,
        "hard_uncertainty": None,
        "device": str(model.device),
    }


def _try_case(model: Model, item: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """The record of a case, also of one that cannot be done: one bad case does not cost the others."""
    start = perf_counter()
    files = [_relative(file, options.source) for file in files_of(item)]
    told = {"input": {"files": files, "format": item["format"]}}
    try:
        result = _run_case(model, dict(item), options)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        message = find_value_error(error)
        if message is not None:
            return {"status": "failed", "error": _shorten(str(message), options.source), **told}
        # the text of any other error may quote a header, so only its place is told
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
        return {"status": "failed", "error": f"{files[0]}: cannot be predicted ({place}); please report this", **told}
    return {"status": "done", "error": None, **told, **result, "seconds": round(perf_counter() - start, 3)}


def _relative(file: Path, source: Path) -> str:
    return file.relative_to(source).as_posix() if source.is_dir() else file.name


def _shorten(message: str, source: Path) -> str:
    """Paths as they stand below the input: a manifest may be passed on, and folders above it name people."""
    return message.replace(f"{source}/", "") if source.is_dir() else message.replace(f"{source.parent}/", "")


def _run_case(model: Model, item: dict[str, Any], options: Options) -> dict[str, Any]:
    image = read_case(model, item)
    label_file = find_label(options.labels, item["id"])
    grid = tuple(image.shape[1:])
    label = None if label_file is None else read_label(label_file, dict(image.meta), grid, len(model.names))
    maps = predict_case(model, image)
    number = most_telling_slice(maps.refined, maps.prior, maps.entropy) if maps.refined.ndim == 3 else None
    outputs = write_case(
        options.output / item["id"], maps, model.names, f"HiDiff {model.bundle.name}", options.rtstruct
    )
    if options.report:
        with write_atomically(options.output / "pictures" / f"{item['id']}.png") as temporary:
            temporary.write_bytes(draw_case(maps, model.names, label, number))
        gc.collect()  # a figure of matplotlib is a cycle: without this a cohort grows by more than 1 MiB a case
    return {"outputs": outputs, **_describe(model, maps, label, options.hard_uncertainty), "slice": number}


def _describe(model: Model, maps: CaseMaps, label: np.ndarray | None, hard_uncertainty: float | None) -> dict[str, Any]:
    """Sizes, uncertainty and verdict of a case, in the axes of the prediction."""
    affine = np.asarray(maps.meta["affine"], float)[:3, :3] if maps.refined.ndim == 3 else None
    voxel_ml = None if affine is None else abs(float(np.linalg.det(affine))) / 1000
    classes = measure_classes(maps.refined, maps.prior, model.names, voxel_ml)
    if label is not None:
        for number, entry in enumerate(classes, start=1):
            entry["dice"] = dice_of_class(maps.refined, label, number)
    uncertainty = measure_uncertainty(maps.entropy, maps.refined)
    return {
        "shape": list(maps.refined.shape),
        "spacing_mm": None if affine is None else [round(float(edge), 4) for edge in np.linalg.norm(affine, axis=0)],
        "classes": classes,
        "uncertainty": uncertainty,
        "verdict": judge(maps.refined, maps.prior, uncertainty, hard_uncertainty),
    }


def format_summary(manifest: Mapping[str, Any], output: Path) -> str:
    """What a run came to, in lines: its numbers, the cases to look at first, and every case that failed."""
    done = [case for case in manifest["cases"] if case["status"] == "done"]
    failed = [case for case in manifest["cases"] if case["status"] == "failed"]
    hard = sorted((case for case in done if case["verdict"]["looks_hard"]), key=_by_uncertainty, reverse=True)
    lines = [f"{len(done)} of {manifest['planned']} case(s) predicted in {output}, {len(hard)} look hard"]
    lines += [f"  {case['id']}: {'; '.join(case['verdict']['reasons'])}" for case in hard[:MAX_LISTED]]
    lines += [f"  ... and {len(hard) - MAX_LISTED} more"] if len(hard) > MAX_LISTED else []
    lines += [f"{len(failed)} failed:"] if failed else []
    lines += [f"  {case['id']}: {case['error']}" for case in failed]
    page = output / "index.html"
    return "\n".join([*lines, f"report: {page}"] if page.is_file() else lines)


def _by_uncertainty(case: Mapping[str, Any]) -> float:
    """An empty mask, which has none, comes first."""
    return float("inf") if case["uncertainty"] is None else float(case["uncertainty"])
