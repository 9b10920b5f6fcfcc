"""The report: one HTML file that holds its pictures, style and script, and loads nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from hidiff_monai.io import require_writable, write_atomically
from hidiff_monai.metrics import BACKGROUND, read_calibration, without_background
from hidiff_monai.report import figures
from hidiff_monai.report.calibration import calibration_section
from hidiff_monai.report.evaluation import (
    CASE_KEYS,
    PHOTOGRAPH_KEYS,
    TRAJECTORY_KEYS,
    Comparison,
    compare,
    read_arrays,
    read_conventions,
    read_history,
    read_rows,
)
from hidiff_monai.report.page import chart, lightbox, manifest_section, render, section
from hidiff_monai.report.tables import case_table, signed, summary_table


def write_report(
    output: Path,
    evaluation_dir: Path,
    history: Path | None = None,
    manifest: Mapping[str, Any] | None = None,
    photograph: Path | None = None,
    title: str = "HiDiff on the test images",
) -> Path:
    """Write the evaluation as one self-contained page.

    Args:
        output: a folder, where `index.html` is written, or the `.html` file itself.
        evaluation_dir: what the evaluate workflow wrote: cases.json, summary.json, arrays/<case>.npz and, where
            recorded, calibration.json and trajectory/<case>.npz.
        history: `history.csv` of the training.
        manifest: facts of the run, as from `write_manifest`.
        photograph: an `.npz` like a case's, without label and region, with a text `caption`.
        title: the name of the run.

    Returns:
        The file written.

    Raises:
        ValueError: a file of the evaluation is missing or wrong, or the output cannot be written.
    """
    output, evaluation_dir = Path(output), Path(evaluation_dir)
    target = output if output.suffix == ".html" else output / "index.html"
    require_writable(target.parent)
    rows = read_rows(evaluation_dir)
    comparison = compare(rows)
    sections = [_scores(rows), _paired(comparison), _cases(evaluation_dir, rows, comparison)]
    temperature = float((manifest or {}).get("temperature", 1.0))
    sections += [calibration_section(read_calibration(evaluation_dir), rows, temperature)]
    sections += [_trajectory(evaluation_dir, comparison)]
    sections += [_training(Path(history)) if history else "", _photograph(Path(photograph)) if photograph else ""]
    page = render(
        "template.html",
        title=escape(title),
        kicker=f"HiDiff evaluation report, {date.today().isoformat()}",
        headline=escape(headline(comparison)),
        verdict=escape(verdict(comparison)),
        figures=_key_figures(comparison),
        nav=_nav(sections, has_manifest=bool(manifest)),
        sections="\n".join(section for section in sections if section),
        threshold=_threshold(evaluation_dir, comparison),
        conventions="".join(f"<li>{escape(line)}</li>" for line in read_conventions(evaluation_dir)),
        manifest=manifest_section(manifest) if manifest else "",
    )
    with write_atomically(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def headline(comparison: Comparison) -> str:
    """The result in a sentence that claims no more than its interval."""
    n, gain = len(comparison.cases), 100 * comparison.gain.mean()
    images = "1 image" if n == 1 else f"{n} images"
    scores = f"{100 * comparison.refined.mean():.2f} % against {100 * comparison.prior.mean():.2f} % for the prior"
    if comparison.interval is None:
        return f"On {images} the refined mask scores Dice {scores}: a difference of {signed(gain)} points."
    low, high = (100 * bound for bound in comparison.interval)
    points = f"{abs(gain):.2f} points"
    change = f"a difference of {signed(gain)} points"
    if low > 0 or high < 0:
        change = f"a gain of {points}" if gain > 0 else f"a loss of {points}"
    interval = f"95 % paired bootstrap interval {signed(low)} to {signed(high)}"
    return f"On {images} the refined mask scores Dice {scores}: {change} ({interval})."


def verdict(comparison: Comparison) -> str:
    """What follows from the headline, and what does not."""
    gain = comparison.gain
    counts = f"{(gain > 0).sum()} of {len(gain)} images gain, {(gain < 0).sum()} lose."
    where = f"Scored over the region “{comparison.region}”."
    if comparison.refined.max() == 0:
        return f"No refined mask meets its label: too short a training, or images unlike those it trained on. {where}"
    if comparison.interval is None and len(gain) == 1:
        return f"A single image has no interval: nothing follows for other images. {where}"
    if comparison.interval is None:
        return f"All images are of one patient, so there is no interval: nothing follows for others. {counts} {where}"
    low, high = comparison.interval
    if low > 0:
        says = "The interval lies above 0: on images like these the refiner improves the mean Dice."
    elif high < 0:
        says = "The interval lies below 0: on images like these the refiner lowers the mean Dice. Use the prior."
    else:
        says = "The interval holds 0: these images do not show that the refined mask is better or worse than the prior."
    return f"{says} {counts} {where}"


def _key_figures(comparison: Comparison) -> str:
    prior, refined, gain = (100 * values for values in (comparison.prior, comparison.refined, comparison.gain))
    interval = f"points; no interval from one {'image' if len(gain) == 1 else 'patient'}"
    if comparison.interval is not None:
        low, high = (100 * bound for bound in comparison.interval)
        interval = f"points; 95 % interval {signed(low)} to {signed(high)}"
    spread = [f", sd {values.std(ddof=1):.2f}" if len(gain) > 1 else "" for values in (prior, refined)]
    entries = [
        ("Prior", f"{prior.mean():.2f} %", f"mean Dice{spread[0]}"),
        ("Refined", f"{refined.mean():.2f} %", f"mean Dice{spread[1]}"),
        ("Difference", signed(gain.mean()), interval),
        ("Images that gain", f"{(gain > 0).sum()} of {len(gain)}", f"{(gain < 0).sum()} lose"),
    ]
    return "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in entries)


def _scores(rows: Sequence[Mapping[str, Any]]) -> str:
    note = (
        "Mean over images ± standard deviation. In brackets the 95 % paired bootstrap interval of the difference, "
        "which is coloured where that does not hold 0; p of the Wilcoxon signed-rank test. Both take patients, not "
        "images, as independent."
    )
    return section("scores", "Scores", note, summary_table(rows))


def _paired(comparison: Comparison) -> str:
    light, dark = (
        figures.paired_dice(comparison.cases, comparison.prior, comparison.refined, comparison.interval, theme)
        for theme in ("light", "dark")
    )
    note = "Each image before and after the refiner. Blue: the refined mask is better; orange: worse."
    return section("paired", "Image by image", note, chart(light, dark, "Dice of each case as prior and as refined"))


def _cases(evaluation_dir: Path, rows: Sequence[Mapping[str, Any]], comparison: Comparison) -> str:
    gallery = ""
    for name, i in featured(comparison.gain):
        case = comparison.cases[i]
        scores = f"Dice {100 * comparison.prior[i]:.2f} → {100 * comparison.refined[i]:.2f} %"
        gallery += f"<h3>{name}: case {escape(case)}</h3>{scores} ({signed(100 * comparison.gain[i])} points)"
        for target, arrays in zip(comparison.targets, _case_arrays(evaluation_dir, comparison, case), strict=True):
            named = f", {target}" if len(comparison.targets) > 1 else ""
            gallery += f"<p>{escape(target)}</p>" if named else ""
            content = f"Case {case}{named}: image, prior, refined, errors, uncertainty"
            gallery += lightbox(figures.overview(arrays), content)
    scored = [
        row for row in without_background(rows) if (row["method"], row["region"]) == ("refined", comparison.region)
    ]
    shown = next((target for target in comparison.targets if target != BACKGROUND), comparison.targets[0])
    uncertainty, thumbnails = [], []
    for case in comparison.cases:
        targets = _case_arrays(evaluation_dir, comparison, case)
        uncertainty.append(_told_uncertainty([row for row in scored if row["case"] == case], targets))
        thumbnails.append(figures.thumbnail(targets[comparison.targets.index(shown)]))
    note = (
        "Below each image, enlarged, the framed part in which the refiner changed the mask most. "
        "In the table, a click on a column's name sorts; uncertainty is the entropy in nats per pixel of the mask."
    )
    errors = f"Errors, {shown}" if len(comparison.targets) > 1 else "Errors"
    table = case_table(comparison, scored, uncertainty, thumbnails, errors)
    return section("cases", "Cases", note, f"{gallery}<h3>All {len(comparison.cases)} cases</h3>{table}")


def _told_uncertainty(rows: Sequence[Mapping[str, Any]], targets: Sequence[Mapping[str, np.ndarray]]) -> float:
    """Nats a pixel of the mask, mean over the structures that have one; NaN where none has.

    Args:
        rows: of the case's refined masks.
        targets: its arrays, one a structure.
    """
    if not all("uncertainty" in row for row in rows):
        return float(np.mean([_case_uncertainty(arrays) for arrays in targets]))
    told = [float(row["uncertainty"]) for row in rows if row["tp"] + row["fp"] > 0]
    return float(np.mean(told)) if told else math.nan


def _case_uncertainty(arrays: Mapping[str, np.ndarray]) -> float:
    """As the inferer's `case_uncertainty`, of images whose rows do not tell it: in early evaluations."""
    inside = arrays["region"] > 0
    _, refined = figures.masks(arrays)
    return float(arrays["entropy"][inside].sum() / max(refined[inside].sum(), 1))


def featured(gain: np.ndarray) -> list[tuple[str, int]]:
    """The cases shown large, by name and index: best, median and worst gain; fewer where they coincide."""
    order = np.argsort(-gain, kind="stable")
    best, median, worst = int(order[0]), int(order[len(order) // 2]), int(order[-1])
    named = {
        median: "Median",
        worst: "Largest loss" if gain[worst] < 0 else "Smallest gain",
        best: "Largest gain" if gain[best] > 0 else "Best case",
    }
    return [(named[i], i) for i in dict.fromkeys((best, median, worst))]


def _trajectory(evaluation_dir: Path, comparison: Comparison) -> str:
    recorded = {path.stem: path for path in sorted(evaluation_dir.glob("trajectory/*.npz"))}
    if not recorded:
        return ""
    wanted = [name for _, i in featured(comparison.gain) for name in comparison.array_names(comparison.cases[i])]
    case = next(case for case in [*wanted, *recorded] if case in recorded)
    picture = figures.trajectory(read_arrays(recorded[case], TRAJECTORY_KEYS))
    note = (
        f"Case {escape(case)}, in the framed part. At the largest t the refiner starts from a mask of zeros and ones "
        "made from the prior; it reads an estimate of the true mask from each state, and moves towards it."
    )
    return section("trajectory", "From noise to mask", note, lightbox(picture, f"Reverse trajectory of case {case}"))


def _training(history: Path) -> str:
    rows = read_history(history)
    light, dark = (figures.training_curves(rows, theme) for theme in ("light", "dark"))
    note = "On the left what training minimised, on the right what it was for; phases are named above the curves."
    return section("training", "Training", note, chart(light, dark, "Losses and validation Dice by epoch"))


def _photograph(path: Path) -> str:
    arrays = read_arrays(path, (*PHOTOGRAPH_KEYS, "caption"))
    picture = lightbox(figures.photograph(arrays), "Image without label: prior, refined, uncertainty")
    caption = escape(str(arrays["caption"]))
    note = f"{caption} There is no label, so no score: below, enlarged, the framed part with the most uncertainty."
    return section("photograph", "An image without a label", note, picture)


def _nav(sections: Sequence[str], has_manifest: bool) -> str:
    """Links to the sections that exist."""
    names = {"scores": "Scores", "paired": "Image by image", "cases": "Cases", "trust": "Can it be trusted?"}
    names |= {"trajectory": "From noise to mask", "training": "Training", "photograph": "Image without a label"}
    present = {name: text for name, text in names.items() if any(f"id='{name}'" in section for section in sections)}
    present |= {"guide": "How to read this"} | ({"manifest": "Manifest"} if has_manifest else {})
    return "".join(f"<a href='#{name}'>{text}</a>" for name, text in present.items())


def _case_arrays(evaluation_dir: Path, comparison: Comparison, case: str) -> list[dict[str, np.ndarray]]:
    """The arrays of a case, one dict a target."""
    return [read_arrays(evaluation_dir / "arrays" / f"{name}.npz", CASE_KEYS) for name in comparison.array_names(case)]


def _threshold(evaluation_dir: Path, comparison: Comparison) -> str:
    return f"{_case_arrays(evaluation_dir, comparison, comparison.cases[0])[0]['threshold'].flat[0]:.2f}"
