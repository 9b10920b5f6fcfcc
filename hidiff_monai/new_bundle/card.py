"""The model card of a new bundle: what was found, what was chosen and why, what comes next."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from hidiff_monai.data.inspection import Findings

from .configure import REFERENCE, channel_names, describe_values, num_channels, num_targets
from .plan import Choice

CARD = """# HiDiff for {name}

**Task.** Segmentation of {classes} in {data}{how}. A U-Net proposes a mask (the *prior*); a binarized Bernoulli
diffusion model refines it and gives an uncertainty. Both are one network with one checkpoint. Written by
`hidiff new-bundle`.

For research only. Not a medical device. No data and no weights come with this bundle.

## What was found in the data

Pixels, classes and intensities are those of {examined} training cases; nobody looked into the test cases.

| | |
|---|---|
{found}

## What was chosen, and why

| setting | value | reason |
|---|---|---|
{chosen}

Every choice is a line of `configs/train.json` and can be changed there, or on the command line for one run; where
`configs/inference.json` has the key too, change it in both.

## Network

| | input | output |
|---|---|---|
| channels | {num_channels}: {channels} | {num_targets}: {targets} |
| size | any; padded inside to multiples of 32 and cropped back | that of the input |
| values | {values} | 0 to 1 |

## Check, train, evaluate, predict

```
{commands}
```

`hidiff benchmark-loader` says how long a mini-batch takes on your machine before you start. A training that was
stopped goes on when the same line is run again; a new one needs a new `--output_dir`. {inference}Paths in `configs/`
are those of this machine: elsewhere give `--bundle_root` and `--dataset_dir` to every line{listed}.

## Results

None yet: `hidiff compare` prints refined against prior.

## Limits

{several}- Settings were chosen by rules from the table above, not by trials: try others on the validation section,
  score the test section once.
- The uncertainty has not been validated against clinical error.
- Binary layers are ordinary convolutions in training; prediction runs them on packed bits.

## Licence and citation

Code and configuration: Apache-2.0 ([LICENSE](../LICENSE)). Data: [data_license.txt](data_license.txt). Please cite the
method:

- {reference}
"""

SLICES = "- Slices are segmented one by one: nothing makes neighbouring slices agree.\n"

LICENCE = """Data: {name}

No data comes with this bundle.

Licence: {licence}.

Reference to cite: {reference}
"""


def format_commands(target: Path, datalist: Path, dataset_dir: Path, findings: Findings) -> str:
    """The lines from the check to a prediction."""
    bundle = shlex.quote(str(target))
    files = shlex.quote(json.dumps([f"{target}/configs/{name}.json" for name in ("train", "evaluate")]))
    section = "test" if findings.cases["test"] else "validation"
    option = "" if section == "test" else " --section validation"
    new = "<volumes>" if findings.is_volume else "<pictures>"
    run = "python -m monai.bundle run"
    return "\n".join(
        [
            f"hidiff check {shlex.quote(str(datalist))} {shlex.quote(str(dataset_dir))}",
            f"hidiff benchmark-loader {bundle}/configs/train.json",
            f"{run} training --config_file {bundle}/configs/train.json",
            f"{run} --config_file {files}{option}",
            f"hidiff compare {bundle}/output/evaluation_{section}",
            f"hidiff predict --bundle {bundle} --input {new} --output <masks>",
        ]
    )


def write_card(
    name: str,
    findings: Findings,
    choices: list[Choice],
    commands: str,
    datalist: dict[str, Any],
    listed_beside_data: bool,
) -> dict[str, str]:
    """Texts of docs/README.md and docs/data_license.txt, by path.

    Args:
        name: of the bundle.
        findings: what was found in the data.
        choices: what was chosen.
        commands: of `format_commands`.
        datalist: its licence and reference are handed on.
        listed_beside_data: whether the datalist lies in dataset_dir, and moves with it.
    """
    window = next((choice.value for choice in choices if choice.key == "intensity_window"), None)
    classes = [found.name for found in findings.classes]
    background = ["the background"] if findings.is_volume else []
    card = CARD.format(
        name=name,
        classes=", ".join(classes),
        data=findings.name,
        how=", slice by slice" if findings.is_volume else "",
        examined=findings.num_examined,
        found=_table(findings.rows()),
        chosen=_table([(f"`{choice.key}`", choice.value, choice.reason) for choice in choices]),
        num_channels=num_channels(findings),
        channels=", ".join(channel_names(findings)),
        num_targets=num_targets(findings),
        targets=", ".join([*background, *classes]),
        values=describe_values(findings, window),
        commands=commands,
        inference=_describe_inference(findings),
        listed="" if listed_beside_data else ", and `--datalist_file`",
        several=SLICES if findings.is_volume else "",
        reference=REFERENCE,
    )
    unstated = "not stated"
    terms = {key: str(datalist.get(key) or unstated).rstrip(".") for key in ("licence", "reference")}
    return {"docs/README.md": card, "docs/data_license.txt": LICENCE.format(name=findings.name, **terms)}


def _describe_inference(findings: Findings) -> str:
    if findings.is_volume and findings.channels > 1:
        names = ", ".join(f"`<name>_{channel}.nii.gz`" for channel in channel_names(findings))
        return f"`<volumes>`: the files of a patient are {names}. "
    return ""


def _table(rows: list[Any]) -> str:
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)
