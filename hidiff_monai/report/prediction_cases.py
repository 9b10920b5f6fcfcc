"""The cases of a prediction on its page: those that failed, the sortable table, and a card with the picture of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from hidiff_monai.report.page import lightbox
from hidiff_monai.report.tables import number_cell, signed, sort_head

Case = Mapping[str, Any]
SPACE = "\u202f"  # narrow, does not break
FORMATS = {"nifti": "NIfTI", "dicom": "DICOM", "image": "image"}
MOST_CLASS_COLUMNS = 4
NO_PICTURE = "<p class='soft'>There is no picture of this case.</p>"


def by_doubt(cases: Sequence[Case]) -> list[Case]:
    """Those done, most uncertain first; at the end those with an empty mask, which have no uncertainty."""
    done = [case for case in cases if case["status"] == "done"]
    return sorted(
        done, key=lambda case: -math.inf if case["uncertainty"] is None else case["uncertainty"], reverse=True
    )


def looks_hard(case: Case) -> bool:
    """Whether the verdict asks for a second look."""
    return bool(case["verdict"]["looks_hard"])


def case_dice(case: Case) -> float:
    """Mean Dice over the classes that have one, in [0, 1]; NaN without a label."""
    scores = [entry["dice"] for entry in case["classes"] if entry.get("dice") is not None]
    return sum(scores) / len(scores) if scores else math.nan


def failed_list(cases: Sequence[Case]) -> str:
    """Each case that failed with the text of its error."""
    items = [
        f"<li><strong>{escape(str(case['id']))}</strong> <span class='soft'>{_input(case)}</span>"
        f"<pre>{escape(str(case['error']))}</pre></li>"
        for case in cases
        if case["status"] != "done"
    ]
    return f"<ul class='failures' tabindex='0' aria-label='Cases that failed'>{''.join(items)}</ul>"


def result_table(cases: Sequence[Case]) -> str:
    """A line a case in the order given, each linked to its card; a click on a column's name sorts by it.

    Args:
        cases: those done, from `by_doubt`.
    """
    has_dice = any(not math.isnan(case_dice(case)) for case in cases)
    names = _class_columns(cases)
    unit = _common_unit(cases)
    heads = ["Looks hard", "Agreement %", "Changed %", *(["Dice %"] if has_dice else [])]
    shown_unit = unit if unit != "pixels" else pixel_word(cases[0])
    heads += [f"{escape(name)}, {shown_unit}" for name in names]
    head = sort_head("Case") + sort_head("Uncertainty", "descending") + "".join(map(sort_head, heads))
    most = max((case["uncertainty"] or 0 for case in cases), default=0)
    lines = [_line(number, case, most, has_dice, names, unit) for number, case in enumerate(cases, start=1)]
    return (
        "<div class='cases' tabindex='0' role='region' aria-label='Table of cases'><table class='sortable'>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _line(number: int, case: Case, most: float, has_dice: bool, names: Sequence[str], unit: str) -> str:
    name, verdict, is_hard = escape(str(case["id"])), case["verdict"], looks_hard(case)
    part = 100 * (case["uncertainty"] or 0) / most if most else 0
    uncertainty = number_cell(_or_nan(case["uncertainty"]), digits=3)
    cells = [
        f"<td class='text' data-value='{name}'><a href='#case-{number}'>{name}</a></td>",
        uncertainty.replace("<td", f"<td class='bar' style='--part:{part:.0f}%'", 1),
        f"<td data-value='{int(is_hard)}'>{_flag(case)}</td>",
        number_cell(100 * _or_nan(verdict["agreement"]), digits=1),
        number_cell(100 * _or_nan(verdict["changed_share"]), digits=1),
    ]
    cells += [number_cell(100 * case_dice(case), digits=1)] if has_dice else []
    sizes = {entry["name"]: _size(entry, unit) for entry in case["classes"]}
    cells += [number_cell(sizes.get(name, math.nan), digits=2 if unit == "ml" else 0) for name in names]
    return f"<tr data-hard='{int(is_hard)}'>{''.join(cells)}</tr>"


def case_card(number: int, case: Case, png: bytes | None, is_open: bool) -> str:
    """The picture of a case, its sizes and its facts, under a line that opens and closes them.

    Args:
        number: its place in the table at first, from 1; the links go by it.
        case: of the manifest.
        png: from `case_picture`; None where there is none.
        is_open: whether it stands open at first.
    """
    name = escape(str(case["id"]))
    picture = lightbox(png, f"Case {case['id']}: {_contents(case)}", loading="lazy") if png else NO_PICTURE
    reasons = "".join(f"<li>{escape(str(reason))}</li>" for reason in case["verdict"]["reasons"])
    listed = f"<ul class='reasons' aria-label='Why it looks hard'>{reasons}</ul>" if reasons else ""
    return (
        f"<details class='case' data-hard='{int(looks_hard(case))}'{' open' if is_open else ''}>"
        f"<summary id='case-{number}'><span class='name'>{name}</span>{_flag(case)}"
        f"<span class='soft'>{_digest(case)}</span></summary>"
        f"{listed}{picture}<div class='beside'>{_class_table(case)}{_facts(case)}</div></details>"
    )


def _contents(case: Case) -> str:
    errors = "" if math.isnan(case_dice(case)) else ", errors against the label"
    return f"image, prior, refined, what the refiner changed{errors}, uncertainty"


def _flag(case: Case) -> str:
    return "<span class='flag'>looks hard</span>" if looks_hard(case) else ""


def _digest(case: Case) -> str:
    share, dice = case["verdict"]["changed_share"], case_dice(case)
    parts = ["empty mask" if case["uncertainty"] is None else f"{case['uncertainty']:.3f} nats a mask pixel"]
    parts += [] if share is None else [f"{100 * share:.1f} % changed"]
    parts += [] if math.isnan(dice) else [f"Dice {100 * dice:.1f} %"]
    return ", ".join(parts)


def _class_table(case: Case) -> str:
    unit, pixel = _common_unit([case]), pixel_word(case)
    has_dice = not math.isnan(case_dice(case))
    heads = ["Structure", *([f"Size, {unit}"] if unit != "pixels" else [])]
    heads += [f"Refined, {pixel}", f"Prior, {pixel}", "Change %", *(["Dice %"] if has_dice else [])]
    head = "".join(f"<th scope='col'>{text}</th>" for text in heads)
    lines = ""
    for entry in case["classes"]:
        pixels, before = entry["pixels"], entry["prior_pixels"]
        cells = [_grouped(_size(entry, unit), 2 if unit == "ml" else 0)] if unit != "pixels" else []
        cells += [_grouped(pixels), _grouped(before), signed(100 * (pixels / before - 1)) if before else "–"]
        cells += [_grouped(100 * _or_nan(entry.get("dice")), 1)] if has_dice else []
        lines += f"<tr><th scope='row'>{escape(entry['name'])}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"


def _facts(case: Case) -> str:
    verdict, pixel = case["verdict"], pixel_word(case)
    agreement = (
        "" if verdict["agreement"] is None else f"; Dice of refined and prior {100 * verdict['agreement']:.1f} %"
    )
    grid = " × ".join(map(str, case["shape"]))
    spacing = f", {' × '.join(f'{edge:g}' for edge in case['spacing_mm'])} mm" if case.get("spacing_mm") else ""
    edited = [str(name) for name in case.get("edited", [])]
    warning = f"; changed since, the figures are of what was written: {escape(', '.join(edited))}" if edited else ""
    facts = {
        "Files": ", ".join(_link(kind, name) for kind, name in case["outputs"].items()) + warning,
        "Changed": f"{_grouped(verdict['changed_pixels'])} {pixel}, {escape(verdict['where'])}{agreement}",
        "Picture": "" if case.get("slice") is None else f"slice {case['slice']}, counted from 0",
        "Input": f"{_input(case)}; {grid} {pixel}{spacing}",
        "Inference": _inference(case),
    }
    lines = "".join(f"<div><dt>{term}</dt><dd>{text}</dd></div>" for term, text in facts.items() if text)
    return f"<dl class='facts'>{lines}</dl>"


def _inference(case: Case) -> str:
    """Milliseconds of a case; under a budget also how they were spent, and what was expected."""
    if "inference_ms" not in case:
        return ""
    text = f"{_grouped(case['inference_ms'])} ms"
    if "described" not in case:
        return text
    return f"{text}, estimated {_grouped(case['estimated_ms'])} ms ({escape(case['described'])})"


def _link(kind: str, name: str) -> str:
    """A link to a file beside the page; a quoted name can lead nowhere else."""
    return f"<a href='./{escape(quote(str(name)))}' title='{escape(str(name))}'>{escape(str(kind))}</a>"


def _input(case: Case) -> str:
    files = [str(name) for name in case["input"]["files"]]
    kind = FORMATS.get(case["input"]["format"], str(case["input"]["format"]))
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return escape(f"{files[0] if files else 'no file'}{more} ({kind})")


def pixel_word(case: Case) -> str:
    """What the case's points are called."""
    return "voxels" if len(case.get("shape") or ()) == 3 else "pixels"


def _class_columns(cases: Sequence[Case]) -> list[str]:
    names = list(dict.fromkeys(entry["name"] for case in cases for entry in case["classes"]))
    return names if len(names) <= MOST_CLASS_COLUMNS else []


def _common_unit(cases: Sequence[Case]) -> str:
    """The unit that every class of every case has its size in: ml before pixels."""
    entries = [entry for case in cases for entry in case["classes"]]
    return "ml" if entries and all(entry["ml"] is not None for entry in entries) else "pixels"


def _size(entry: Mapping[str, Any], unit: str) -> float:
    return float(entry[unit])


def _grouped(value: float, digits: int = 0) -> str:
    return "–" if math.isnan(value) else f"{value:,.{digits}f}".replace(",", SPACE)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
