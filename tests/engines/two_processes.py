"""What one of two processes does, and what comes of it: torchrun starts this script, test_distributed.py reads that."""

from __future__ import annotations

import os
import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from torch import nn

from hidiff_monai.engines import AlternateCollaborativeTrainer, UpdatePlan, distributed
from hidiff_monai.engines.alternate_collaborative import _NoisyMasks
from hidiff_monai.handlers import EpochSeed, HealthCheck
from hidiff_monai.losses import BernoulliDiffusionLoss, DiscriminativeLoss
from hidiff_monai.networks import DiffusionRefiner, HiDiff
from hidiff_monai.networks.time_modules import TimeBinarization
from hidiff_monai.schedulers import BernoulliScheduler
from hidiff_monai.segmentors import UNetSegmentor

JOINT_SIZE = 4
PRETRAINING = UpdatePlan(updates_refiner=False, lambda_diff=0.0)


def make_network(seed: int, binarized: bool = True) -> HiDiff:
    torch.manual_seed(seed)
    segmentor = UNetSegmentor(1, 1, [4, 4, 8])
    refiner = DiffusionRefiner(
        1,
        1,
        segmentor.feature_channels,
        segmentor.feature_strides,
        channels=[4, 4, 8],
        binarized=binarized,
        embedding_dim=8,
        num_heads=2,
    )
    return HiDiff(segmentor, refiner, BernoulliScheduler())


def make_batches(seed: int, number: int) -> list[dict[str, torch.Tensor]]:
    images = torch.rand(number, 2, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
    return [{"image": image, "label": (image > 0.7).float()} for image in images]


class JointDraws(AlternateCollaborativeTrainer):
    """Draws t and y_t of the joint mini-batch by its number, and takes the share of this process."""

    share = slice(None)

    def _draw(self, labels: torch.Tensor, prior: torch.Tensor) -> Any:
        generator = torch.Generator().manual_seed(self.state.iteration)
        timesteps = torch.randint(0, 10, (JOINT_SIZE,), generator=generator)[self.share]
        uniform = torch.rand(JOINT_SIZE, *labels.shape[1:], generator=generator)[self.share]
        mean = self.network.scheduler.marginal(labels, prior, timesteps)
        return _NoisyMasks(timesteps, (uniform < mean).to(labels.dtype))


def network_without_ties(binarized: bool) -> HiDiff:
    """A binary convolution counts: its values lie on a threshold of 0 often, and there rounding chooses the sign."""
    network = make_network(4, binarized)
    for module in network.modules():
        if isinstance(module, TimeBinarization):
            nn.init.normal_(module.threshold.bias, std=0.1)
    return network.double() if binarized else network


def curve(network: HiDiff, share: slice) -> tuple[dict[str, list[float]], dict[str, torch.Tensor]]:
    """Losses of joint mini-batches, all or a share of each, first of f alone, then of both networks; and the weights.

    Steps of SGD, for AdamW makes of a difference of 1e-9 in a gradient that is all but 0 one of a whole step.
    """
    dtype = next(network.parameters()).dtype
    images = torch.rand(6, JOINT_SIZE, 1, 16, 16, generator=torch.Generator().manual_seed(9))[:, share].to(dtype)
    batches = [{"image": image, "label": (image > 0.6).to(dtype)} for image in images]
    trainer = make_trainer(network, batches, JointDraws, joint=True)
    trainer.share = share  # type: ignore[attr-defined]
    losses: dict[str, list[float]] = defaultdict(list)

    def note(engine: Engine) -> None:
        trainer.plan = PRETRAINING if engine.state.iteration < 3 else UpdatePlan()
        own = {key: float(value) for key, value in engine.state.output.items() if key.startswith("loss_")}
        for key, value in distributed.average(own).items():
            losses[key].append(value)

    trainer.plan = PRETRAINING
    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    return dict(losses), network.state_dict()


def train(network: HiDiff, batches: list[dict[str, torch.Tensor]], plan: UpdatePlan, **kwargs: Any) -> dict[str, Any]:
    trainer = make_trainer(network, batches, **kwargs)
    trainer.plan = plan
    trainer.run()
    return network.state_dict()


def make_trainer(
    network: HiDiff,
    batches: list[dict[str, torch.Tensor]],
    kind: type[AlternateCollaborativeTrainer] = AlternateCollaborativeTrainer,
    joint: bool = False,
    **kwargs: Any,
) -> AlternateCollaborativeTrainer:
    return kind(
        "cpu",
        1,
        batches,
        network,
        segmentor_optimizer=torch.optim.SGD(network.segmentor.parameters(), 0.1),
        refiner_optimizer=torch.optim.SGD(network.refiner.parameters(), 0.1),
        discriminative_loss=DiscriminativeLoss(joint=joint),
        diffusion_loss=BernoulliDiffusionLoss(network.scheduler, lambda_dice=float(joint), joint=joint),
        max_grad_norm=1.0,
        decollate=False,
        **kwargs,
    )


def rows_of(cases: list[str]) -> list[dict[str, str]]:
    """Of a process that validated these cases; gathered, of all of them."""
    rows = [{"case": case, "method": method} for case in cases for method in ("prior", "refined")]
    return distributed.gather_cases(rows, lambda row: row["case"])


def convolution() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3))


def joint_images() -> torch.Tensor:
    return torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(5))


def gradients_of(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    network(images).square().mean().backward()
    distributed.average_gradients(network)
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def statistics(rank: int) -> dict[str, torch.Tensor]:
    network = nn.BatchNorm2d(2)
    network.running_mean = torch.tensor([0.0, 10.0]) + rank
    distributed.average_statistics(network, nn.Identity())
    return network.state_dict()


def gradient_with_infinity(rank: int) -> torch.Tensor:
    network = nn.Linear(2, 1, bias=False)
    network.weight.grad = torch.tensor([[1.0, float("inf") if rank == 1 else 0.0]])
    distributed.average_gradients(network)
    return network.weight.grad


def error_of(engine: Engine) -> str:
    try:
        distributed.require_same_epoch(engine)
    except ValueError as error:
        return str(error)
    return ""


def draws_of_epoch(epoch: int) -> tuple[torch.Tensor, float]:
    engine = Engine(lambda *_: None)
    engine.state.epoch = epoch
    EpochSeed(7, Dataset([]))(engine)
    return torch.rand(2), random.random()


def judged(rank: int) -> bool:
    """Whether masks count as collapsed that are empty in the first process only."""
    health = HealthCheck()
    engine = Engine(lambda *_: None)
    engine.state.epoch = 1
    health._reset()
    label = torch.zeros(1, 1, 4, 4)
    label[..., :2] = 1
    engine.state.output = {"label": label, "prior": label * rank, "pred": label * rank}
    health._watch(engine)
    health._judge(engine)
    return bool(health.state_dict()["bad_epochs"])


def main(folder: Path) -> None:
    distributed.join_processes()
    distributed.join_processes()  # a workflow that is initialized again joins no second time
    rank = idist.get_rank()
    cases = Dataset(list(range(5)))
    sampler = distributed.training_sampler(cases, seed=1)
    shares = []
    for epoch in range(2):
        sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        shares.append(list(sampler))
    halves = joint_images().chunk(2)
    engine = Engine(lambda *_: None)
    engine.state.epoch = 3 + rank
    torch.manual_seed(100 + rank)  # whatever is drawn in training differs
    results = {
        "replica": distributed.replicate(make_network(rank)).state_dict(),
        "pretrained": train(make_network(2), make_batches(10 + rank, 2), PRETRAINING),
        "alternated": train(make_network(2), make_batches(10 + rank, 4), UpdatePlan(), accumulation_steps=2),
        "gradients": gradients_of(convolution(), halves[rank]),
        "infinity": gradient_with_infinity(rank),
        "statistics": statistics(rank),
        "training": shares,
        "validation": list(distributed.validation_sampler(cases)),
        "single_case": list(distributed.validation_sampler(Dataset([0]))),
        "error": error_of(engine),
        "draws": draws_of_epoch(4),
        "bad_epochs": judged(rank),
        **{
            name: curve(distributed.replicate(network_without_ties(name == "binarized")), slice(rank, None, 2))
            for name in ("binarized", "real-valued")
        },
        "rows": rows_of(["a", "c"] if rank == 0 else ["b"]),
        "rows_of_one": rows_of(["a"]),
        "positions": list(distributed.positions(3)),
        "writes": distributed.is_first(),
    }
    torch.save(results, folder / f"{rank}.pt")
    distributed.leave_processes()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(Path(sys.argv[1]))
