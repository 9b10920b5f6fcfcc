"""The zoo's rules for networks and weights, and that what is exported computes the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from monai.bundle import ckpt_export, verify_net_in_out

from hidiff_monai.prediction.pack import load_network
from hidiff_monai.sharing.files import find_config, read_large_files

NET_ID = "network_def"
SIDE = 64  # pixels of the image on which the exported network is compared


class MissingWeightsError(ValueError):
    """A rule that could not be tried: the bundle has not been trained, or its weights lie elsewhere."""


def network_fits_the_metadata(bundle: Path) -> str:
    """MONAI's ``verify_net_in_out``, in two image sizes."""
    for n in (1, 2):
        verify_net_in_out(NET_ID, *_files(bundle), device="cpu", n=n, bundle_root=str(bundle))
    return f"{NET_ID} takes and gives the channels and types of the metadata"


def weights_load(bundle: Path) -> str:
    """``models/model.pt`` is a flat state dict of exactly this network."""
    file = find_weights(bundle)
    network = load_network(bundle, file)
    return f"models/model.pt, {len(network.state_dict())} tensors, {file.stat().st_size / 1e6:.2f} MB, strictly"


def export_computes_the_same(bundle: Path) -> str:
    """MONAI's ``ckpt_export``; the file is loaded again and gives the masks of the network it comes from."""
    file = find_weights(bundle)
    network = load_network(bundle, file)
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "model.ts"
        ckpt_export(NET_ID, str(exported), str(file), *_files(bundle), bundle_root=str(bundle))
        script = torch.jit.load(str(exported))
        size = exported.stat().st_size
    image = torch.rand(1, network.refiner.image_channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = float((script(image) - network(image)).abs().max())
    if difference > 1e-4:
        raise ValueError(f"probabilities differ by {difference:.2g}; expected those of the network: report it as a bug")
    return f"TorchScript of {size / 1e6:.2f} MB, probabilities differ by at most {difference:.1g}"


def find_weights(bundle: Path) -> Path:
    """``models/model.pt``.

    Raises:
        MissingWeightsError: if it is not there.
    """
    file = bundle / "models" / "model.pt"
    if file.is_file():
        return file
    if "models/model.pt" in read_large_files(bundle):
        mend = f"python -m monai.bundle download_large_files --bundle_path {bundle}"
        raise MissingWeightsError(f"models/model.pt not downloaded; expected it beside large_files.yml: {mend}")
    raise MissingWeightsError(
        f"no models/model.pt; expected the weights of a training: copy {bundle}/output/models/model.pt there"
    )


def _files(bundle: Path) -> tuple[str, str]:
    """Metadata and configuration, in the order of MONAI's arguments."""
    return str(bundle / "configs" / "metadata.json"), str(find_config(bundle, "inference"))
