"""The verb ``hidiff predict``; it imports what it needs when it is called."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Any


def predict(
    bundle: str,
    input: str,
    output: str,
    checkpoint: str | None = None,
    steps: int | None = None,
    samples: int | None = None,
    device: str | None = None,
    labels: str | None = None,
    reference: str | None = None,
    rtstruct: bool = False,
    report: bool = True,
    json: bool = False,
    eager: bool = False,
    wait: float = 1800,
    budget_ms: float | None = None,
    dial: str | None = None,
    **overrides: Any,
) -> None:
    """Predicts scans or photographs: masks and uncertainty on their own grid, volumes, a verdict, a report.

    Run again, it goes on where it was stopped; exits with 1 where a case failed. Processes of torchrun share the cases.

    Args:
        bundle: the bundle's folder, or the name of one in bundles/, for example acdc.
        input: a DICOM file, a folder tree with series, a NIfTI file, a picture, or a folder of these.
        output: the folder for everything that is written, outside the input.
        checkpoint: the weights; the bundle's models/model.pt, or what its training wrote, where it is left out.
        steps: steps of the refiner; the bundle's where it is left out.
        samples: chains behind the uncertainty; the bundle's where it is left out.
        device: cuda, mps or cpu; the best there is where it is left out.
        labels: a folder with a label for each case's name, for Dice and error maps.
        reference: the output of an earlier run, on validation cases for example: what is more uncertain than nine in
            ten of them looks hard, and whether all cases together are; or a file that `hidiff reference` wrote; the
            bundle's docs/reference.json where it is left out.
        rtstruct: writes an RTSTRUCT beside each DICOM-SEG.
        report: makes index.html; --noreport leaves it out.
        json: prints the manifest instead of a summary.
        eager: runs the refiner as it was trained, without the compiled form.
        wait: seconds without any case ending after which the first of several processes gives up on the others.
        budget_ms: milliseconds of inference for each case; takes the steps and sampler with the best Dice that fit, by
            what `hidiff dial` measured.
        dial: its dial.json, or the folder; docs/ of the bundle where it is left out.
        overrides: any other key of the bundle's inference configuration, for example --image_size [128,128].
    """
    from hidiff_monai.bundle_runs import name_bundle
    from hidiff_monai.io.command_line import tell_torchrun
    from hidiff_monai.prediction import Budget, format_summary, run_prediction

    if dial is not None and budget_ms is None:
        raise ValueError(f"--dial {dial} without --budget-ms; expected milliseconds a case too: add them")
    manifest = run_prediction(
        name_bundle(bundle),
        input,
        output,
        checkpoint,
        device,
        steps,
        samples,
        labels,
        reference,
        rtstruct,
        report,
        overrides,
        eager,
        wait,
        None if budget_ms is None else Budget(budget_ms, dial),
    )
    if manifest is None:  # not the first process
        return
    summary = format_summary(manifest, Path(str(output)).expanduser())
    print(json_module.dumps(manifest, indent=2, default=str) if json else summary)
    if any(case["status"] == "failed" for case in manifest["cases"]):
        tell_torchrun("cases failed: manifest.json says why")
        sys.exit(1)


def reference(bundle: str, run: str) -> None:
    """Makes a run of `hidiff predict` on validation cases the reference of a bundle: its docs/reference.json.

    Later predictions with the same weights and settings are compared with it, case by case and as a whole.

    Args:
        bundle: the bundle's folder, or the name of one in bundles/, for example kvasir_seg.
        run: the output folder of `hidiff predict` on cases that the model was not trained on.
    """
    from hidiff_monai.bundle_runs import name_bundle
    from hidiff_monai.prediction import publish_reference

    print(publish_reference(name_bundle(bundle), run))
