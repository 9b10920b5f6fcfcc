"""The page of a prediction: which cases to look at first, and what the model did to each; one file, nothing loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from hidiff_monai.io import require_writable, write_atomically
from hidiff_monai.metrics import rank_correlation
from hidiff_monai.report.doubt_chart import doubt_chart
from hidiff_monai.report.page import chart, manifest_section, read_part, render, section
from hidiff_monai.report.prediction_cases import (
    Case,
    by_doubt,
    case_card,
    case_dice,
    failed_list,
    looks_hard,
    result_table,
)

ALL_OPEN_UP_TO, OPEN_AT_FIRST = 6, 3  # cards; more pictures than that wait until they are asked for
FEWEST_FOR_CHART = 5  # labelled cases


def write_prediction_report(output: Path, manifest: Mapping[str, Any], pictures: Mapping[str, bytes | Path]) -> Path:
    """Write a prediction as one self-contained page, `<output>/index.html`.

    Args:
        output: the run's folder, where the files that the manifest names lie.
        manifest: the run's facts, and under `cases` a record a case, as `hidiff predict` writes them.
        pictures: by case id, a PNG as from `case_picture`, or the file with it; a case may lack one.

    Returns:
        The file written.

    Raises:
        ValueError: the output cannot be written.
    """
    target = require_writable(Path(output)) / "index.html"
    cases = by_doubt(manifest["cases"])
    failed = [case for case in manifest["cases"] if case["status"] != "done"]
    sections = [_failures(failed), _table(cases), _meaning(cases), _cards(cases, pictures)]
    task = str(manifest.get("task") or manifest.get("bundle") or "Prediction")
    page = render(
        "prediction.html",
        own_style=read_part("prediction.css"),
        own_script=read_part("prediction.js"),
        title=escape(task),
        kicker=escape(
            f"HiDiff prediction, bundle {manifest.get('bundle', 'unnamed')}, {str(manifest.get('created', ''))[:10]}"
        ),
        headline=escape(headline(manifest)),
        verdict=escape(verdict(cases)),
        warning=_warning(manifest),
        figures=_key_figures(manifest, cases),
        nav=_nav(sections),
        sections="\n".join(part for part in sections if part),
        hard_rule=escape(_hard_rule(manifest)),
        manifest=manifest_section({key: value for key, value in manifest.items() if key != "cases"}),
    )
    with write_atomically(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def headline(manifest: Mapping[str, Any]) -> str:
    """How many cases were predicted, how many failed, how many want a second look."""
    cases = manifest["cases"]
    done = by_doubt(cases)
    failed, hard = len(cases) - len(done), sum(map(looks_hard, done))
    if not done:
        one_or_all = "The one case" if failed == 1 else f"None of the {failed} cases"
        return f"{one_or_all} could {'not ' if failed == 1 else ''}be predicted." if cases else "There was no case."
    text = f"{_count(len(done))} {'was' if len(done) == 1 else 'were'} predicted"
    text += f", {failed} failed; " if failed else "; "
    if len(done) == 1:
        text += "it looks hard." if hard else "it does not look hard."
    else:
        text += "none looks hard." if not hard else f"{hard} {'looks' if hard == 1 else 'look'} hard."
    missing = manifest.get("planned", len(cases)) - len(cases)
    return text + (f" The run stopped with {_count(missing)} to go." if missing > 0 else "")


def verdict(cases: Sequence[Case]) -> str:
    """What follows from the headline, and what does not.

    Args:
        cases: those done.
    """
    if not cases:
        return "There are no masks to look at. The errors below say what was wrong."
    dice = [score for score in map(case_dice, cases) if not math.isnan(score)]
    caution = "“Looks hard” says where to look first; a mask that does not look hard can still be wrong."
    if not dice:
        return f"{caution} There are no labels, so nothing here measures how right a mask is."
    where = "the case with a label" if len(dice) == 1 else f"the {len(dice)} cases with a label"
    return f"On {where} the refined mask's mean Dice is {100 * np.mean(dice):.1f} %. {caution}"


def _warning(manifest: Mapping[str, Any]) -> str:
    """That the cases as a whole are unlike those of the reference."""
    text = (manifest.get("likeness") or {}).get("warning")
    return f"<p class='unlike' role='alert'>{escape(text)}</p>" if text else ""


def _count(number: int) -> str:
    return "1 case" if number == 1 else f"{number} cases"


def _hard_rule(manifest: Mapping[str, Any]) -> str:
    """What the limit on the uncertainty is, where the run had one."""
    if "hard_uncertainty" not in manifest:
        return ""
    limit = manifest["hard_uncertainty"]
    if limit is None:
        return (
            "What uncertainty is usual for this model with these settings is not known (--reference tells it), so only "
            "what the refiner did counts."
        )
    return f"Nine in ten of the reference cases have at most {limit:.3g} nats a mask pixel: more looks hard."


def _key_figures(manifest: Mapping[str, Any], cases: Sequence[Case]) -> str:
    failed, hard = len(manifest["cases"]) - len(cases), sum(map(looks_hard, cases))
    empty = sum(case["uncertainty"] is None for case in cases)
    dice = [score for score in map(case_dice, cases) if not math.isnan(score)]
    entries = [
        ("Done", f"{len(cases)}", f"of {_count(len(manifest['cases']))}"),
        ("Failed", f"{failed}", "named below" if failed else "none"),
        ("Look hard", f"{hard}", "look at these first" if hard else "none meets the rule"),
        ("Empty masks", f"{empty}", "nothing was found" if empty else "none"),
    ]
    if "budget" in manifest:
        budget = manifest["budget"]
        entries.append(("Budget", f"{budget['budget_ms']:g} ms", f"a case: {escape(budget['described'])}"))
    if dice:
        spread = f", sd {100 * np.std(dice, ddof=1):.1f}" if len(dice) > 1 else ""
        entries.append(("Mean Dice", f"{100 * np.mean(dice):.1f} %", f"over {_count(len(dice))}{spread}"))
    elif "seconds" in manifest:
        entries.append(("Time", f"{manifest['seconds']:.0f} s", f"on {escape(str(manifest.get('device', '')))}"))
    return "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in entries)


def _failures(failed: Sequence[Case]) -> str:
    if not failed:
        return ""
    note = "These have no mask. Once the cause is mended, the same command takes up only them."
    return section("failed", f"{_count(len(failed))} failed", note, failed_list(failed))


def _table(cases: Sequence[Case]) -> str:
    if not cases:
        return ""
    hard, empty = sum(map(looks_hard, cases)), sum(case["uncertainty"] is None for case in cases)
    last = f" {_count(empty).capitalize()} with an empty mask, so without a value, at the end." if empty else ""
    note = f"Most uncertain first.{last} Click on a line for its picture, on a column's name to sort by it."
    disabled = "" if 0 < hard < len(cases) else " disabled"
    filter_box = (
        f"<p class='controls'><label><input type='checkbox' id='only-hard'{disabled}> Only cases that look hard "
        f"({hard})</label><output id='shown' aria-live='polite'></output></p>"
    )
    return section("cases", "Cases", note, filter_box + result_table(cases))


def _meaning(cases: Sequence[Case]) -> str:
    """Uncertainty against Dice, for enough labelled cases."""
    known = [case for case in cases if case["uncertainty"] is not None and not math.isnan(case_dice(case))]
    if len(known) < FEWEST_FOR_CHART:
        return ""
    names = [str(case["id"]) for case in known]
    uncertainty, dice = np.array([case["uncertainty"] for case in known]), np.array(list(map(case_dice, known)))
    rank = rank_correlation(uncertainty, dice)
    says = "is undefined" if math.isnan(rank) else f"is {rank:+.2f}".replace("-", "−")
    note = (
        f"Spearman's rank correlation of uncertainty and Dice over these {len(known)} cases {says}. Near −1 the "
        "doubtful cases are the bad ones, and the order of the table means something; near 0 it does not. With few "
        "cases chance alone moves it a lot."
    )
    pictures = [doubt_chart(names, uncertainty, dice, theme) for theme in ("light", "dark")]
    title = "Does the uncertainty mean something here?"
    return section("meaning", title, note, chart(pictures[0], pictures[1], "Dice against uncertainty, a dot a case"))


def _cards(cases: Sequence[Case], pictures: Mapping[str, bytes | Path]) -> str:
    if not cases:
        return ""
    count = len(cases) if len(cases) <= ALL_OPEN_UP_TO else OPEN_AT_FIRST
    cards = [
        case_card(number, case, _read(pictures.get(case["id"])), is_open=number <= count)
        for number, case in enumerate(cases, start=1)
    ]
    notes = ["Most uncertain first."] if len(cases) > 1 else []
    notes += (
        ["Of a volume one slice is shown; the files hold all of them."] if cases[0].get("slice") is not None else []
    )
    buttons = "<p class='controls'><button type='button' data-open='true'>Open all</button>"
    buttons += "<button type='button' data-open=''>Close all</button></p>"
    return section(
        "pictures",
        "Pictures" if len(cases) > 1 else "Picture",
        " ".join(notes),
        (buttons if len(cases) > 1 else "") + "".join(cards),
    )


def _read(picture: bytes | Path | None) -> bytes | None:
    return picture.read_bytes() if isinstance(picture, Path) else picture


def _nav(sections: Sequence[str]) -> str:
    """Links to the sections that exist."""
    names = {"failed": "Failed", "cases": "Cases", "meaning": "Uncertainty and Dice", "pictures": "Pictures"}
    present = {name: text for name, text in names.items() if any(f"<section id='{name}'" in part for part in sections)}
    present |= {"guide": "How to read this", "manifest": "Manifest"}
    return "".join(f"<a href='#{name}'>{text}</a>" for name, text in present.items())
