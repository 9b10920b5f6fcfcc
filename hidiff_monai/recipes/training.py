"""What every bundle's training checks, shows, records and restores."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Events
from ignite.handlers import ProgressBar
from monai.engines import SupervisedEvaluator
from monai.handlers import (
    LrScheduleHandler,
    StatsHandler,
    TensorBoardImageHandler,
    TensorBoardStatsHandler,
    from_engine,
)
from torch.optim.lr_scheduler import LambdaLR

from hidiff_monai.engines import AlternateCollaborativeTrainer, PolynomialDecay
from hidiff_monai.engines.distributed import average_statistics, is_first, require_same_epoch
from hidiff_monai.handlers import (
    AlternateCollaborativeHandler,
    BestModelSaver,
    EpochSeed,
    ExperimentTracking,
    HealthCheck,
    HistoryWriter,
    LossProgressBar,
    ResumableEMA,
    ResumableTraining,
)
from hidiff_monai.handlers.output import output_losses
from hidiff_monai.io import hash_file, require_writable


def attach_handlers(
    trainer: AlternateCollaborativeTrainer,
    evaluator: SupervisedEvaluator,
    alternation: AlternateCollaborativeHandler,
    ema: ResumableEMA,
    output_dir: str | Path,
    model_dir: str | Path,
    val_interval: int,
    seed: int,
    resume_from: str | Path | None = None,
    max_epochs: int | None = None,
    is_federated: bool = False,
    experiment: ExperimentTracking | None = None,
    train_sections: Sequence[str] = ("training",),
    datalist_file: str | Path | None = None,
    settings: dict[str, Any] | None = None,
) -> None:
    """Attaches the handlers of a training, in the order in which they depend on each other.

    The seed of each epoch, alternation, polynomial decay of both learning rates, running average, health check,
    progress bars, TensorBoard, validation (also after the last epoch), best model, ``history.csv`` and resume states.
    Of several processes the first one shows and writes.

    Args:
        trainer: the trainer; its loader's dataset keeps the random transforms.
        evaluator: validates the running average; its metrics are *val_dice_refined* and *val_dice_prior*.
        alternation: which network trains when; its end of pre-training starts the refiner's decay, the segmentor's last
            epoch ends its own.
        ema: the running average of both networks.
        output_dir: receives ``history.csv``, ``resume/`` and ``tensorboard/``.
        model_dir: receives ``model.pt``, the running average with the best *val_dice_refined* of the alternation; until
            that is validated, of the pre-training. Where the validation cases train, that of the newest validation.
        val_interval: epochs between validations.
        seed: the run's seed.
        resume_from: a state to take up; None means the newest, or a fresh start; see `ResumableTraining`.
        max_epochs: epochs in all, over which the learning rates decay; the trainer's where it is left out. In a
            federation the trainer knows those of one round only.
        is_federated: rounds over several sites: each begins with weights from outside, which the running average takes
            up at once, and no state of this site may replace them.
        experiment: logs every epoch to MLflow, where ``--tracking mlflow`` asks for it.
        train_sections: the datalist's sections that train: "training", and "validation" too for a last training whose
            settings have been chosen.
        datalist_file: the split, whose content must be the same when a run is taken up.
        settings: what else must be the same when a run is taken up, by name; the seed is added.

    Raises:
        ValueError: when ``output_dir`` cannot be written, other sections are to train, or ``val_interval`` is below 1.
    """
    keeps_newest = _trains_validation(train_sections)
    if val_interval < 1:
        raise ValueError(f"val_interval is {val_interval}; expected a number of epochs from 1")
    output_dir = require_writable(output_dir)
    max_epochs = max_epochs or trainer.state.max_epochs
    schedules = _decay(trainer, alternation, max_epochs)
    health = HealthCheck(exclusive=trainer.network.exclusive)
    best_model = BestModelSaver(Path(model_dir) / "model.pt", ema.ema_model, "val_dice_refined", keeps_newest)

    EpochSeed(seed, trainer.data_loader.dataset).attach(trainer)  # type: ignore[union-attr, arg-type]
    alternation.attach(trainer, max_epochs)
    for schedule in schedules.values():
        LrScheduleHandler(schedule, print_lr=False).attach(trainer)  # type: ignore[arg-type]
    if is_federated:
        trainer.add_event_handler(Events.STARTED, ema.follow)
    ema.attach(
        trainer,
        name="ema_momentum",
        event=Events.ITERATION_COMPLETED,
        pretrain_epochs=alternation.pretrain_epochs,
    )
    health.attach(trainer)
    best_model.attach(evaluator)
    # the refiner of a pre-training epoch is untrained, however good its prior: any alternating epoch is preferred
    trainer.add_event_handler(Events.EPOCH_STARTED(once=alternation.pretrain_epochs + 1), best_model.forget)
    if is_first():
        _show(trainer, evaluator, str(output_dir / "tensorboard"))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: average_statistics(trainer.network, ema.ema_model))
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(event_filter=lambda _, epoch: epoch % val_interval == 0 or epoch == max_epochs),
        lambda: evaluator.run(trainer.state.epoch),
    )

    history = HistoryWriter(output_dir / "history.csv", alternation, evaluator)
    history.attach(trainer)
    if experiment is not None:
        experiment.attach(trainer, history)
    if not is_federated:
        ResumableTraining(
            output_dir / "resume",
            objects={
                "network": trainer.network,
                "ema": ema.ema_model,
                "segmentor_optimizer": trainer.segmentor_optimizer,
                "refiner_optimizer": trainer.optimizer,
                **schedules,
                "health": health,
                "best_model": best_model,
            },
            resume_from=resume_from,
            settings={
                "seed": seed,
                "pretrain_epochs": alternation.pretrain_epochs,
                "segmentor_epochs": alternation.segmentor_epochs,
                "train_sections": [*train_sections],
                **({} if datalist_file is None else {"datalist_sha256": hash_file(Path(datalist_file))}),
                **(settings or {}),
            },
        ).attach(trainer)
    trainer.add_event_handler(Events.STARTED, require_same_epoch)


def _trains_validation(train_sections: Sequence[str]) -> bool:
    """Whether the validation cases train, so that none are left to choose by; then it is said."""
    if isinstance(train_sections, str) or not {"training"} <= {*train_sections} <= {"training", "validation"}:
        raise ValueError(
            f"train_sections is {train_sections!r}; expected ['training'], or ['training', 'validation'] for a last "
            "training whose settings have been chosen: test cases never train"
        )
    if "validation" not in train_sections:
        return False
    logging.getLogger(__name__).warning(
        "the validation cases train too: val_dice_prior and val_dice_refined say nothing about new images, and "
        "model.pt is that of the last epoch"
    )
    return True


def _show(trainer: AlternateCollaborativeTrainer, evaluator: SupervisedEvaluator, tensorboard: str) -> None:
    LossProgressBar().attach(trainer)
    TensorBoardStatsHandler(log_dir=tensorboard, output_transform=output_losses).attach(trainer)
    ProgressBar(desc="validation").attach(evaluator)
    StatsHandler(iteration_log=False).attach(evaluator)
    TensorBoardStatsHandler(
        log_dir=tensorboard, iteration_log=False, global_epoch_transform=lambda _: trainer.state.epoch
    ).attach(evaluator)
    TensorBoardImageHandler(
        log_dir=tensorboard,
        batch_transform=from_engine(["image", "label"]),
        output_transform=from_engine(["refined"]),
        global_iter_transform=lambda _: trainer.state.epoch,
    ).attach(evaluator)


def _decay(
    trainer: AlternateCollaborativeTrainer, alternation: AlternateCollaborativeHandler, last: int
) -> dict[str, LambdaLR]:
    """Each network's learning rate falls over the epochs in which it takes steps."""
    # the refiner's schedule counts the epochs in which its optimizer rests
    warnings.filterwarnings("ignore", "Detected call of .lr_scheduler.step", UserWarning)
    refiner_first = min(alternation.pretrain_epochs, last)
    segmentor_last = last if alternation.segmentor_epochs is None else min(alternation.segmentor_epochs, last)
    return {
        "segmentor_schedule": LambdaLR(trainer.segmentor_optimizer, PolynomialDecay([0, segmentor_last])),
        "refiner_schedule": LambdaLR(trainer.optimizer, PolynomialDecay([refiner_first, last])),
    }
