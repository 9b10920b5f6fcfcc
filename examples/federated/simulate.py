"""A federation on one machine, with NVIDIA FLARE's simulator: FedAvg over the sites that are named.

    python examples/federated/simulate.py --bundle bundles/drive --sites site_1.json site_2.json --rounds 5

A site's file holds its dataset_dir, datalist_file and output_dir. Writes <workspace>/<bundle>.pt, the last average of
all sites, for `hidiff predict --checkpoint` and the evaluation.
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
PLACES = ("dataset_dir", "datalist_file", "output_dir")  # FLARE starts its clients in a folder of its own


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
        workspace: receives what FLARE writes; without spaces, at which FLARE splits.

    Raises:
        ValueError: if the workspace has a space or a result already, or a site did not finish all rounds.
    """
    workspace = workspace.expanduser().absolute()
    result = workspace / f"{bundle.name}.pt"
    if any(letter.isspace() for letter in str(workspace)):
        raise ValueError(f"--workspace '{workspace}' has a space, at which FLARE splits; expected a path without")
    if result.exists():
        raise ValueError(f"{result} is there already; expected another --workspace, or none of that name: move it away")
    shared = {} if common is None else json.loads(common.read_text(encoding="utf-8"))
    names = [f"site-{number}" for number in range(1, len(sites) + 1)]
    tasks = {}
    for name, site in zip(names, sites, strict=True):
        settings = shared | json.loads(site.read_text(encoding="utf-8"))
        settings |= {key: str(Path(settings[key]).expanduser().absolute()) for key in PLACES if key in settings}
        task = {"bundle": str(bundle.absolute()), "settings": settings, "rounds": rounds, "local_epochs": local_epochs}
        tasks[name] = workspace / f"{bundle.name}_tasks" / f"{name}.json"
        tasks[name].parent.mkdir(parents=True, exist_ok=True)
        tasks[name].write_text(json.dumps(task, indent=1), encoding="utf-8")
        tasks[name].with_suffix(".rounds").unlink(missing_ok=True)
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
        per_site_config={name: {"train_args": str(task)} for name, task in tasks.items()},
        params_transfer_type=TransferType.FULL,  # client.py has taken the difference already
        key_metric="val_dice_refined",
    )
    recipe.execute(SimEnv(clients=names, num_threads=len(names), workspace_root=str(workspace)))
    for name, task in tasks.items():
        file = task.with_suffix(".rounds")  # FLARE tells of no process that failed or was stopped
        done = int(file.read_text()) if file.exists() else "not all"
        if done != rounds:
            raise ValueError(f"{name} took part in {done} of {rounds} rounds; expected all: its log above says why")
    written = torch.load(next((workspace / bundle.name).rglob("FL_global_model.pt")), weights_only=True)
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
