"""A whole training as bundles/drive/configs/train.json wires it, small enough for a second."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedEvaluator
from monai.handlers import LrScheduleHandler, MeanDice, ValidationHandler, from_engine
from monai.transforms import AsDiscreted, Compose, Lambda, RandFlipd, RandScaleIntensityd, RandSpatialCropd
from torch.optim.lr_scheduler import LambdaLR

from hidiff_monai.engines import AlternateCollaborativeTrainer, PolynomialDecay
from hidiff_monai.handlers import (
    AlternateCollaborativeHandler,
    BestModelSaver,
    EpochSeed,
    HistoryWriter,
    ResumableEMA,
    ResumableTraining,
)
from hidiff_monai.inferers import BernoulliDiffusionInferer

PRETRAIN_EPOCHS, ALL_EPOCHS, WARMUP_ITERATIONS = 1, 4, 8  # of 12 iterations; the break after 6 falls into the warm-up
BOTH = ["image", "label"]


@dataclass
class Training:
    """The objects of one process; whatever it may lend from an earlier one comes through the folder."""

    trainer: AlternateCollaborativeTrainer
    objects: dict[str, Any]
    folder: Path
    momenta: list[float] = field(default_factory=list)

    def states(self) -> dict[str, Any]:
        """All that must be equal after a resume: states, history and the best model's weights."""
        return {
            **{name: item.state_dict() for name, item in self.objects.items()},
            "history": (self.folder / "history.csv").read_text(),
            "model": torch.load(self.folder / "models" / "model.pt", weights_only=True),
        }


def draw_cases(number: int, seed: int) -> list[dict[str, torch.Tensor]]:
    images = torch.rand(number, 1, 20, 20, generator=torch.Generator().manual_seed(seed))
    return [{"image": image, "label": (image > 0.7).float()} for image in images]


def build_loader(num_workers: int) -> tuple[CacheDataset, DataLoader]:
    augmentation = [
        RandSpatialCropd(BOTH, 16, random_size=False),
        RandFlipd(BOTH, 0.5, 0),
        RandScaleIntensityd("image", 0.2, 0.5),
    ]
    dataset = CacheDataset(draw_cases(6, 0), Compose(augmentation), progress=False)
    return dataset, DataLoader(dataset, batch_size=2, shuffle=True, num_workers=num_workers)


def build_evaluator(network: torch.nn.Module, best_model: BestModelSaver) -> SupervisedEvaluator:
    postprocessing = [Lambda(lambda item: {**item, **item["pred"]}), AsDiscreted(["refined", "prior"], threshold=0.5)]
    metrics = {
        f"val_dice_{name}": MeanDice(output_transform=from_engine([name, "label"])) for name in ("refined", "prior")
    }
    return SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(CacheDataset(draw_cases(2, 1), progress=False), batch_size=1),
        network,
        inferer=BernoulliDiffusionInferer(num_inference_steps=2, outputs=("refined", "prior")),
        postprocessing=Compose(postprocessing),
        additional_metrics=metrics,
        key_val_metric={"val_dice_refined": metrics.pop("val_dice_refined")},
        val_handlers=[best_model],
    )


@pytest.fixture(scope="session")
def make_training(make_network: Callable, make_trainer: Callable) -> Callable[..., Training]:
    """Builds a training anew, as a new process would, in the given folder."""

    def build(
        folder: Path, max_epochs: int = ALL_EPOCHS, seed: int = 0, num_workers: int = 0, width: int = 4, **resume: Any
    ) -> Training:
        network = make_network(seed, width=width)
        ema = ResumableEMA(network, 0.01, momentum_warmup=0.2, warmup_iters=WARMUP_ITERATIONS, handle_buffers="update")
        best_model = BestModelSaver(folder / "models" / "model.pt", ema.ema_model, "val_dice_refined")
        objects: dict[str, Any] = {"network": network, "ema": ema.ema_model, "best_model": best_model}
        for name, start in (("segmentor", 0), ("refiner", PRETRAIN_EPOCHS)):
            optimizer = torch.optim.AdamW(getattr(network, name).parameters(), 1e-2)
            decay = PolynomialDecay([start, ALL_EPOCHS])
            objects |= {f"{name}_optimizer": optimizer, f"{name}_schedule": LambdaLR(optimizer, decay)}
        dataset, loader = build_loader(num_workers)
        evaluator = build_evaluator(ema.ema_model, best_model)
        alternation = AlternateCollaborativeHandler(PRETRAIN_EPOCHS, segmentor_every=2)
        handlers = [
            EpochSeed(5, dataset),
            alternation,
            LrScheduleHandler(objects["segmentor_schedule"], print_lr=False),
            LrScheduleHandler(objects["refiner_schedule"], print_lr=False),
            ValidationHandler(1, evaluator),
        ]
        optimizers = {name: objects[name] for name in ("segmentor_optimizer", "refiner_optimizer")}
        trainer = make_trainer(network, loader, max_epochs, train_handlers=handlers, max_grad_norm=5.0, **optimizers)
        training = Training(trainer, objects, folder)
        ema.attach(trainer, name="ema_momentum")
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda: training.momenta.append(trainer.state.ema_momentum)
        )
        HistoryWriter(folder / "history.csv", alternation, evaluator).attach(trainer)
        ResumableTraining(folder / "resume", objects, **resume).attach(trainer)
        return training

    return build
