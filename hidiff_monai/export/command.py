"""``hidiff export``: a bundle becomes one file, which is then run where the package is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hidiff_monai import __version__
from hidiff_monai.export.agreement import measure_agreement
from hidiff_monai.export.formats import CONFIG, METADATA, WRITERS, require_onnx
from hidiff_monai.export.inputs import Trial, fit, made_up_trial, real_trial, stride_of
from hidiff_monai.io.files import write_atomically
from hidiff_monai.networks import HiDiff
from hidiff_monai.prediction.model import load_model, read_config
from hidiff_monai.prediction.pack import load_network


def export_bundle(
    bundle: str | Path,
    output: str | Path,
    format: str,
    checkpoint: str | Path | None = None,
    image: str | Path | None = None,
    packed: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> str:
    """Writes a bundle's network, sampling loop included, and runs the file in a process without this package.

    Args:
        bundle: the bundle's folder.
        output: the file; its ending must be the format.
        format: "ts", "onnx" or "pt2".
        checkpoint: the weights; None for those that `load_model` takes.
        image: a photograph or scan to try the file on; None for made-up input.
        packed: TorchScript of the packed refiner, which needs the compiled operators where it is run.
        overrides: keys of ``configs/inference.json``.

    Returns:
        What was written, and how far it agrees with the network as trained.

    Raises:
        ValueError: if the bundle cannot be loaded, the format does not fit, a package is missing, or the file does not
            run.
    """
    file = Path(output).expanduser()
    _check(file, format, packed)
    folder, keys = Path(bundle).expanduser().absolute(), dict(overrides or {})
    network, trial = _load(folder, checkpoint, image, keys)
    if network.sampler != "hard":
        raise ValueError(
            f"the sampler is {network.sampler}; expected hard: what draws cannot be compared. A "
            "loaded TorchScript module takes another"
        )
    config = read_config(folder, CONFIG)
    threshold = float(keys.get("threshold", config.get("threshold", 0.5)))
    extras = {METADATA: describe(folder, network, threshold, format), CONFIG: {**config, **keys}}
    library = _library() if packed else None
    with write_atomically(file) as temporary:
        WRITERS[format](network.compile_inference() if packed else network, temporary, extras)
    trial = trial if format == "ts" else fit(trial, stride_of(network))
    seen, other = measure_agreement(file, network, trial, threshold, library)
    lines = (
        f"{file}: {file.stat().st_size / 1e6:.3f} MB, {_sizes(network, format)}",
        f"run without hidiff_monai, against the trained network: {trial.source}",
        f"  {seen.format()}",
        f"  {other.format()}",
    )
    return "\n".join(lines)


def describe(folder: Path, network: HiDiff, threshold: float, format: str) -> dict[str, Any]:
    """The bundle's metadata, and under "export" what a program needs to call the artefact."""
    metadata = read_config(folder, METADATA)
    data = metadata["network_data_format"]
    return {
        **metadata,
        "export": {
            "bundle": folder.name,
            "hidiff_monai_version": __version__,
            "input_normalisation": metadata["image_classes"],
            "input_channels": data["inputs"]["image"]["channel_def"],
            "output_channels": data["outputs"]["pred"]["channel_def"],
            "output": "probability",
            "classes_exclude_each_other": network.exclusive,
            "threshold": None if network.exclusive else threshold,
            "num_inference_steps": network.num_inference_steps,
            "sampler": network.sampler,
            "sizes": _sizes(network, format),
        },
    }


def _sizes(network: HiDiff, format: str) -> str:
    divisor = stride_of(network)
    size = "any height and width" if format == "ts" else f"height and width multiples of {divisor} from {2 * divisor}"
    return f"any batch, {size}"


def _check(file: Path, format: str, packed: bool) -> None:
    if format not in WRITERS:
        raise ValueError(f"--format {format}; expected one of {[*WRITERS]}")
    if file.suffix != f".{format}":
        raise ValueError(f"--output {file}; expected a name that ends in .{format}, as --format says")
    if packed and format != "ts":
        raise ValueError(f"--packed with --format {format}; expected ts: only TorchScript knows the packed operators")
    if format == "onnx":
        require_onnx()


def _load(
    folder: Path, checkpoint: str | Path | None, image: str | Path | None, overrides: dict[str, Any]
) -> tuple[HiDiff, Trial]:
    """The network as it was trained, on the CPU, and what it is tried on."""
    if image is None:
        network = load_network(folder, checkpoint, overrides)
        return network, made_up_trial(network)
    model = load_model(folder, image, checkpoint, device="cpu", overrides=overrides, eager=True)
    return model.network, real_trial(model)


def _library() -> Path:
    """The compiled operators that a packed artefact needs."""
    from hidiff_monai import ops

    status = ops.status()
    if status.library is None or status.instruction_set == "torch":
        raise ValueError(
            f"--packed: the compiled operators do not run here ({status.reason}); expected them: build them with "
            "python hidiff_monai/ops/build.py, or leave --packed out"
        )
    return status.library
