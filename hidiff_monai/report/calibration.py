"""The section of the evaluation report that says what the probabilities and the uncertainty are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from hidiff_monai.metrics import ReliabilityBins, rank_correlation, without_background
from hidiff_monai.report.calibration_charts import errors_caught, reliability_chart, retention_chart
from hidiff_monai.report.doubt_chart import doubt_chart
from hidiff_monai.report.page import chart, section

METHODS = ("prior", "refined")
FEWEST_CASES = 5  # for a picture of uncertainty against Dice
LOOKED_AT = 0.05  # share of pixels in the sentence about errors
ABOUT_RIGHT = 0.01  # a gap below one point

Calibration = Mapping[str, Any]


def calibration_section(
    calibration: Calibration | None, rows: Sequence[Mapping[str, Any]], temperature: float = 1.0
) -> str:
    """Reliability, error retention, uncertainty against Dice, and a table; empty without a calibration.

    Args:
        calibration: what `read_calibration` gives.
        rows: of the evaluation.
        temperature: that the refined probabilities were scaled with.
    """
    if calibration is None:
        return ""
    targets, rows = without_background(calibration["targets"]), without_background(rows)
    bins = {method: pooled_bins(targets, method) for method in METHODS}
    curve = mean_curve(targets)
    parts = [
        "<h3>Does a probability mean what it says?</h3>",
        f"<p>{escape(reliability_line(bins['refined']))}</p>",
        _both(lambda theme: reliability_chart(bins, theme), "Reliability of prior and refined, and pixels a bin"),
        "<h3>Does the uncertainty find the errors?</h3>",
        f"<p>{escape(retention_line(curve))}</p>",
        _both(lambda theme: retention_chart(curve, theme), "Errors against pixels kept, and errors caught"),
        _doubt(targets, rows),
        _table(targets),
    ]
    cases, pixels = targets[0]["n"], targets[0]["pixels"]
    several = f"; {len(targets)} structures together" if len(targets) > 1 else ""
    scaled = "" if temperature == 1 else f" Refined probabilities are scaled with temperature {temperature:g}."
    note = f"{_count(cases)}, {pixels:,} pixels, scored over the region “{targets[0]['region']}”{several}.{scaled}"
    return section("trust", "Can the probabilities be trusted?", escape(note), "".join(parts))


def pooled_bins(targets: Sequence[Calibration], method: str) -> ReliabilityBins:
    """The bins of all structures together."""
    found = [target[method]["pooled"]["bins"] for target in targets]
    counts = np.sum([bins["counts"] for bins in found], axis=0)
    filled = np.where(counts > 0, counts, np.nan)

    def mean(name: str) -> np.ndarray:
        values = [np.array(bins[name], float) for bins in found]  # an empty bin's null becomes NaN
        return (
            np.nansum([np.array(bins["counts"]) * value for bins, value in zip(found, values, strict=True)], 0) / filled
        )

    return ReliabilityBins(np.linspace(0, 1, len(counts) + 1), counts, mean("mean_probability"), mean("frequency"))


def mean_curve(targets: Sequence[Calibration]) -> np.ndarray:
    """The error-retention curve, mean over cases and structures."""
    curves = np.array([target["retention"]["curve"] for target in targets])
    return np.average(curves, axis=0, weights=[target["n"] for target in targets])


def reliability_line(bins: ReliabilityBins) -> str:
    """How sure the pixels above one half are, and how many of them are structure, in a sentence."""
    is_above = (bins.counts > 0) & (bins.mean_probability > 0.5)
    if not is_above.any():
        return "No bin of pixels has a mean refined probability above one half."
    counts = bins.counts[is_above]
    said, found = (np.average(values[is_above], weights=counts) for values in (bins.mean_probability, bins.frequency))
    gap = said - found
    verdict = "the probabilities are about right"
    if abs(gap) >= ABOUT_RIGHT:
        verdict = f"they are {100 * abs(gap):.1f} points too {'sure' if gap > 0 else 'unsure'}"
    return (
        f"Of pixels with a refined probability above one half, the mean probability is {100 * said:.1f} %, and "
        f"{100 * found:.1f} % are structure in the label: {verdict}. On the dashed line both are equal; points below "
        "it promise too much."
    )


def retention_line(curve: np.ndarray) -> str:
    """What looking again at the least sure pixels would catch, in a sentence."""
    if curve[-1] == 0:
        return "The refined masks have no error, so there is none to be found."
    caught = np.interp(LOOKED_AT, np.linspace(0, 1, len(curve)), errors_caught(curve))
    share = f"{100 * LOOKED_AT:.0f} %"
    return (
        f"{100 * curve[-1]:.2f} % of all pixels are wrong. Looking again at the {share} that the model is least sure "
        f"of would catch {100 * caught:.0f} % of these errors; {share} taken at random would catch {share}."
    )


def _doubt(targets: Sequence[Calibration], rows: Sequence[Mapping[str, Any]]) -> str:
    """A dot a case and structure with a mask."""
    region = targets[0]["region"]
    known = [
        row
        for row in rows
        if (row["method"], row["region"]) == ("refined", region) and row["tp"] + row["fp"] > 0 and "uncertainty" in row
    ]
    head = "<h3>Are the doubtful cases the bad ones?</h3>"
    cases = len({str(row["case"]) for row in known})
    if cases < FEWEST_CASES:
        return f"{head}<p>{_count(cases)} with a mask: too few to say.</p>"
    uncertainty, dice = (np.array([row[key] for row in known], float) for key in ("uncertainty", "dice"))
    names = [str(row["case"]) if len(targets) == 1 else f"{row['case']} {row['target']}" for row in known]
    pictures = _both(lambda theme: doubt_chart(names, uncertainty, dice, theme), "Dice against uncertainty")
    return f"{head}<p>{escape(correlation_line(targets, rank_correlation(uncertainty, dice)))}</p>{pictures}"


def correlation_line(targets: Sequence[Calibration], together: float) -> str:
    """Spearman's correlation with its n and what it means, in a sentence or two."""
    meaning = (
        "Near −1 the doubtful cases are the bad ones; near 0 the uncertainty of a case says nothing about its Dice."
    )
    if len(targets) > 1:
        return (
            f"Over all dots Spearman's correlation of uncertainty and Dice is {_rho(together)}, which mixes structures "
            f"that differ in difficulty; the table has it for each. {meaning}"
        )
    found = targets[0]["correlation"]
    if found["spearman"] is None:
        return f"Spearman's correlation is undefined: uncertainty or Dice is the same for all {_count(found['n'])}."
    return f"Spearman's correlation of uncertainty and Dice is {_correlation(found)}. {meaning}"


def _table(targets: Sequence[Calibration]) -> str:
    names = [
        "",
        "ECE %, pooled",
        "ECE %, mean of cases",
        "Brier",
        "NLL, nats",
        "Error area ×10<sup>−3</sup>",
        "ideal",
        "random",
        "Spearman",
    ]
    head = "".join(f"<th scope='col'>{name}</th>" for name in names)
    body = "".join(_lines(target) for target in targets)
    return (
        f"<h3>Figures</h3><div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _lines(target: Calibration) -> str:
    text = ""
    for method in METHODS:
        pooled, mean = target[method]["pooled"], target[method]["mean_over_cases"]["ece"]
        spread = "" if mean["sd"] is None else f" <span class='spread'>± {100 * mean['sd']:.2f}</span>"
        cells = [f"{100 * pooled['ece']:.2f}", f"{100 * mean['mean']:.2f}{spread}"]
        cells += [f"{pooled['brier']:.4f}", f"{pooled['nll']:.4f}"]
        areas = [f"{1000 * target['retention'][name]:.3g}" for name in ("area", "ideal_area", "random_area")]
        found = target["correlation"]
        rho = "undefined" if found["spearman"] is None else escape(_correlation(found))
        cells += [*areas, rho] if method == "refined" else ["", "", "", ""]
        name = f"{method}, {escape(str(target['target']))}"
        text += f"<tr><th scope='row'>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    return text


def _correlation(found: Calibration) -> str:
    interval = ""
    if found["interval"] is not None:
        low, high = found["interval"]
        interval = f"95 % interval {_rho(low)} to {_rho(high)}, "
    of_patients = "" if found["patients"] == found["n"] else f" of {found['patients']} patients"
    return f"{_rho(found['spearman'])} ({interval}n = {found['n']}{of_patients})"


def _rho(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:+.2f}".replace("-", "−")


def _count(number: int) -> str:
    return "1 case" if number == 1 else f"{number} cases"


def _both(draw: Any, alt: str) -> str:
    return chart(draw("light"), draw("dark"), alt)
