"""A federation on one machine, with NVIDIA FLARE's simulator: FedAvg over the sites that are named.

    python examples/federated/simulate.py --bundle bundles/drive --sites site_1.json site_2.json --rounds 5

A site's file holds its dataset_dir, datalist_file and output_dir. Writes <workspace>/<bundle>/model.pt, the last
average of all sites, for `hidiff predict --checkpoint` and the evaluation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.client.config import TransferType
from nvflare.recipe import SimEnv

from hidiff_monai.io import save_checkpoint

CLIENT = Path(__file__).with_name("client.py")


def simulate(
    bundle: Path, sites: list[Path], common: Path | None, rounds: int, local_epochs: int, workspace: Path
) -> Path:
    """Runs all rounds; returns the file of the average.

    Args:
        bundle: the bundle's folder.
        sites: a JSON file each, with the keys of train.json that are the site's own.
        common: a JSON file of keys that all sites and the server share, such as sizes of the networks.
        rounds: averages taken.
        local_epochs: epochs of each site in between.
        workspace: receives what FLARE writes.
    """
    shared = {} if common is None else json.loads(common.read_text(encoding="utf-8"))
    names = [f"site-{number}" for number in range(1, len(sites) + 1)]
    arguments = f"--bundle {bundle.absolute()} --rounds {rounds} --local_epochs {local_epochs} --settings "
    before = [] if common is None else [common]
    files = [",".join(str(file.absolute()) for file in [*before, site]) for site in sites]
    network = {
        "class_path": "hidiff_monai.recipes.build_federated_network",
        "args": {"bundle_root": str(bundle.absolute()), "settings": shared},
    }
    recipe = FedAvgRecipe(
        name=bundle.name,
        model=network,
        min_clients=len(sites),
        num_rounds=rounds,
        train_script=str(CLIENT),
        per_site_config={name: {"train_args": arguments + file} for name, file in zip(names, files, strict=True)},
        params_transfer_type=TransferType.FULL,  # client.py has taken the difference already
        key_metric="val_dice_refined",
    )
    recipe.execute(SimEnv(clients=names, num_threads=len(names), workspace_root=str(workspace)))
    written = torch.load(next((workspace / bundle.name).rglob("FL_global_model.pt")), weights_only=True)
    result = workspace / bundle.name / "model.pt"
    save_checkpoint(written["model"], result)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--sites", type=Path, nargs="+", required=True)
    parser.add_argument("--common", type=Path, help="JSON file of keys of train.json that all share")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--local_epochs", type=int, default=1)
    parser.add_argument("--workspace", type=Path, default=Path("federation"))
    given = parser.parse_args()
    print("model:", simulate(**vars(given)))
