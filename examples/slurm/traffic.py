"""What the processes of a training tell each other, and what that costs: from the networks of every bundle.

python examples/slurm/traffic.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monai.bundle import ConfigParser
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
FLOAT_BYTES = 4
DICE_SUMS = 2  # forward and backward

# Assumed, not measured. Seconds a mini-batch of one process; of a link, bytes a second and seconds an exchange.
STEP_S = {"segmentor alone": 1 / 44, "alternating": 1 / 7}
LINKS = {8: (200e9, 25e-6), 64: (20e9, 60e-6)}  # NVLink within a machine; 8 machines, a 200 Gb/s card a GPU


@dataclass(frozen=True)
class Traffic:
    """One update of a network.

    Attributes:
        parameters: their number.
        gradient_bytes: what is averaged after the backward pass, in one exchange.
        norm_bytes: sums of BatchNorm, forward and backward.
        exchanges: of all kinds, each of which waits for the slowest process.
    """

    parameters: int
    gradient_bytes: int
    norm_bytes: int
    exchanges: int

    def seconds(self, processes: int) -> float:
        """In a ring every byte passes twice; nothing is hidden behind the computation."""
        bytes_a_second, latency_s = LINKS[processes]
        passed = 2 * (processes - 1) / processes * (self.gradient_bytes + self.norm_bytes)
        return passed / bytes_a_second + self.exchanges * latency_s

    def format(self) -> str:
        """Cells of a table."""
        megabytes, kilobytes = self.gradient_bytes / 1e6, self.norm_bytes / 1e3
        return f"{self.parameters / 1e6:6.2f}{megabytes:7.2f}{kilobytes:7.1f}{self.exchanges:7d}"


def count(network: nn.Module) -> Traffic:
    """The traffic of an update of a network."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    sums = sum(2 * norm.num_features + 1 for norm in norms) + sum(2 * norm.num_features for norm in norms)
    return Traffic(parameters, FLOAT_BYTES * parameters, FLOAT_BYTES * sums, 1 + DICE_SUMS + 2 * len(norms))


def main() -> None:
    """Prints a line a bundle: parameters, bytes and exchanges of an update, efficiency of either phase."""
    print(f"{'':<14}{'segmentor':^27}  {'refiner':^27}  {'efficiency, % (alone / alternating)':^36}")
    columns = f"{'M':>6}{'MB':>7}{'kB BN':>7}{'number':>7}"
    print(f"{'bundle':<14}{columns}  {columns}  {'8 processes':>17}{'64 processes':>19}")
    for folder in sorted(path for path in BUNDLES.iterdir() if (path / "configs" / "train.json").is_file()):
        parser = ConfigParser()
        parser.read_config(folder / "configs" / "train.json")
        segmentor, refiner = (count(parser.get_parsed_content(name)) for name in ("segmentor", "refiner"))
        every = {name: parser["alternation"].get(f"{name}_every", 1) for name in ("segmentor", "refiner")}
        cells = []
        for processes in LINKS:
            times = {
                "segmentor alone": segmentor.seconds(processes),
                "alternating": segmentor.seconds(processes) / every["segmentor"]
                + refiner.seconds(processes) / every["refiner"],
            }
            cells.append(" / ".join(f"{100 * STEP_S[key] / (STEP_S[key] + time):5.1f}" for key, time in times.items()))
        numbers = "  ".join(part.format() for part in (segmentor, refiner))
        print(f"{folder.name:<14}{numbers}  {cells[0]:>17}{cells[1]:>19}")


if __name__ == "__main__":
    main()
