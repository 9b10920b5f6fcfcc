"""The verb ``hidiff dial``; it imports what it needs when it is called."""

from __future__ import annotations

from typing import Any


def dial(
    bundle: str,
    dataset_dir: str,
    datalist_file: str | None = None,
    section: str = "validation",
    checkpoint: str | None = None,
    output: str | None = None,
    steps: tuple[int, ...] | None = None,
    samples: tuple[int, ...] | None = None,
    samplers: tuple[str, ...] | None = None,
    device: str | None = None,
    **overrides: Any,
) -> None:
    """Measures Dice and seconds of each setting of the sampler on labelled cases, for `hidiff predict --budget-ms`.

    Run again, it goes on where it was stopped.

    Args:
        bundle: the bundle's folder, or the name of one in bundles/, for example drive.
        dataset_dir: the folder that the datalist's paths are relative to.
        datalist_file: the bundle's own where it is left out.
        section: validation, test or training; what is chosen by the test cases is not tested by them any more, and
            `hidiff predict` refuses what the training cases say.
        checkpoint: the weights; the bundle's models/model.pt, or what its training wrote, where it is left out.
        output: the folder for dial.json and dial.png; docs/ of the bundle where it is left out.
        steps: the only numbers of steps to measure, for example 1,2,5; 1, 2, 3, 5 and 10 where it is left out.
        samples: the only numbers of drawn chains, for example 1,4; 1, 4 and 16 where it is left out.
        samplers: the only samplers, for example hard,ddim,ddpm; hard and ddim where it is left out.
        device: cuda, mps or cpu; the best there is where it is left out.
        overrides: any other key of the bundle's train.json or evaluate.json, for example --crop_size [128,128].
    """
    from hidiff_monai.bundle_runs import name_bundle
    from hidiff_monai.dial.run import run_dial
    from hidiff_monai.io.command_line import as_list

    text = run_dial(
        name_bundle(bundle),
        dataset_dir,
        datalist_file,
        section,
        checkpoint,
        output,
        None if steps is None else as_list(steps),
        None if samples is None else as_list(samples),
        None if samplers is None else as_list(samplers),
        device,
        overrides,
    )
    print(text)
