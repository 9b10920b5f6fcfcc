"""What every training has attached: which epoch's network becomes the model."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose

from hidiff_monai.handlers import AlternateCollaborativeHandler, ResumableEMA
from hidiff_monai.inferers import BernoulliDiffusionInferer
from hidiff_monai.recipes import attach_handlers, mask_transforms


@pytest.mark.parametrize(
    ("pretrain_epochs", "best"), [(1, 0.8), (0, 0.9), (2, 0.9)], ids=["one epoch alternates", "both do", "none does"]
)
def test_an_alternating_epoch_becomes_the_model_though_a_pretraining_one_scored_higher(
    pretrain_epochs: int,
    best: float,
    tmp_path: Path,
    make_network: Callable,
    make_trainer: Callable,
    make_batches: Callable,
) -> None:
    scores = [0.9, 0.8]
    batch = make_batches(1)[0]
    cases = [{"image": image, "label": label} for image, label in zip(batch["image"], batch["label"], strict=True)]
    loader = DataLoader(CacheDataset(cases, Compose([]), progress=False), batch_size=2)
    network = make_network()
    trainer = make_trainer(network, loader, max_epochs=len(scores))
    ema = ResumableEMA(network, 0.01)
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        loader,
        ema.ema_model,
        inferer=BernoulliDiffusionInferer(num_inference_steps=1, outputs=("refined", "prior")),
        postprocessing=mask_transforms(),
    )

    @evaluator.on(Events.EPOCH_COMPLETED)
    def score() -> None:
        value = scores[trainer.state.epoch - 1]
        evaluator.state.metrics.update(val_dice_refined=value, val_dice_prior=value)

    alternation = AlternateCollaborativeHandler(pretrain_epochs)
    attach_handlers(trainer, evaluator, alternation, ema, tmp_path, tmp_path / "models", val_interval=1, seed=0)
    trainer.run()
    state = torch.load(tmp_path / "resume" / f"resume_{len(scores)}.pt", weights_only=True)
    assert state["best_model"] == {"best": best}
    assert (tmp_path / "models" / "model.pt").exists()
