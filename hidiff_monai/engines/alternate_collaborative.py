"""Alternate-collaborative training of segmentor and refiner (HiDiff, Algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from monai.engines import IterationEvents, SupervisedTrainer, Trainer
from monai.utils.enums import CommonKeys as Keys
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from hidiff_monai.engines.acceleration import (
    compile_forwards,
    gradient_scaler,
    lay_channels_last,
    prefers_channels_last,
)
from hidiff_monai.engines.distributed import average_gradients
from hidiff_monai.engines.freezing import frozen
from hidiff_monai.losses import BernoulliDiffusionLoss, DiscriminativeLoss
from hidiff_monai.networks import HiDiff
from hidiff_monai.ops.allocator import keep_freed_memory


@dataclass(frozen=True)
class UpdatePlan:
    """What one mini-batch trains.

    Attributes:
        updates_segmentor: whether f takes a step.
        updates_refiner: whether g takes a step, before f does.
        lambda_diff: weight of L_Diff in f's objective, Eq. 17; 0 trains f on L_Disc alone.
    """

    updates_segmentor: bool = True
    updates_refiner: bool = True
    lambda_diff: float = 1.0


@dataclass(frozen=True)
class _NoisyMasks:
    timesteps: torch.Tensor
    sample: torch.Tensor


class AlternateCollaborativeTrainer(SupervisedTrainer):
    """Per mini-batch: one step of g on L_Diff with f frozen, then one of f on L_Hybrid with g frozen.

    ``plan`` says which of the two take a step; ``AlternateCollaborativeHandler`` sets it from epoch to epoch. The
    state's output holds MONAI's keys, ``loss_segmentor`` and ``loss_refiner`` (those that were trained), *prior*, and
    as *pred* the training estimate y0_hat, or in pre-training the prior.

    MONAI's ``IterationEvents`` are fired as by a ``SupervisedTrainer``: FORWARD, LOSS and BACKWARD_COMPLETED for each
    network that is trained, MODEL_COMPLETED once, so that decollation, postprocessing and metrics work.

    Args:
        device: where to train.
        max_epochs: epochs in all, pre-training included.
        train_data_loader: batches with *image* (B, C, H, W) and *label* (B, K, H, W) in {0, 1}.
        network: the joint module.
        segmentor_optimizer: optimizer of ``network.segmentor``.
        refiner_optimizer: optimizer of ``network.refiner``.
        discriminative_loss: L_Disc.
        diffusion_loss: L_Diff.
        timestep_power: t is drawn with weight (t + 1) ** timestep_power. 0, the paper, is uniform; above 0 the draws
            gather at large t, where y_t tells little and the prior's errors must be corrected.
        hard_start_share: share of the draws at t = T - 1 whose y_t is the hard decision 1[f > 1/2], from which the
            ``"hard"`` sampler starts, instead of a draw from B(f). 0 is the paper.
        prior_network: the network whose segmentor gives g its prior and features in training: the running average, for
            that is what g corrects once it is saved, and it errs less and otherwise than f in the middle of its steps.
            None, the paper: ``network`` itself.
        max_grad_norm: clips the gradient's norm, for each network; None leaves it.
        channels_last: stores images and the weights of the networks with the channels innermost; a checkpoint has the
            same names, shapes and values. None does so where it is faster: on a GPU, and on a CPU with AVX-512.
        compile_networks: compiles both networks with ``torch.compile``: minutes at the start, faster steps afterwards.
        kwargs: further arguments of MONAI's ``SupervisedTrainer``, among them ``accumulation_steps`` and ``amp``, on a
            CPU in bfloat16; losses and prior stay in float32. While gradients accumulate, f learns through g as it was
            before the step that ends the window.

    Raises:
        ValueError: when an argument is out of range, or ``compile_networks`` finds no compiler.
    """

    network: HiDiff

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable | DataLoader,
        network: HiDiff,
        segmentor_optimizer: Optimizer,
        refiner_optimizer: Optimizer,
        discriminative_loss: DiscriminativeLoss,
        diffusion_loss: BernoulliDiffusionLoss,
        timestep_power: float = 0.0,
        hard_start_share: float = 0.0,
        prior_network: HiDiff | None = None,
        max_grad_norm: float | None = None,
        channels_last: bool | None = None,
        compile_networks: bool = False,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("compile"):
            raise ValueError(
                "compile is True; expected False: it wraps the joint module, whose parts are called here: set "
                "compile_networks"
            )
        super().__init__(
            torch.device(device),
            max_epochs,
            train_data_loader,
            network,
            optimizer=refiner_optimizer,
            loss_function=diffusion_loss,
            **kwargs,
        )
        is_exclusive = getattr(discriminative_loss, "exclusive", network.exclusive)
        if is_exclusive != network.exclusive:
            raise ValueError(
                f"exclusive is {network.exclusive} in network_def and {is_exclusive} in discriminative_loss; expected "
                "the same in both: true where a pixel has exactly one of the classes, else false"
            )
        self.segmentor_optimizer = segmentor_optimizer
        self.discriminative_loss = discriminative_loss
        self.max_grad_norm = max_grad_norm
        if timestep_power < 0:
            raise ValueError(f"timestep_power is {timestep_power}; expected 0 (the paper) or more")
        if not 0 <= hard_start_share <= 1:
            raise ValueError(f"hard_start_share is {hard_start_share}; expected a share from 0 (the paper) to 1")
        self.hard_start_share = hard_start_share
        self.prior_network = network if prior_network is None else prior_network
        num_timesteps = network.scheduler.num_train_timesteps
        self.timestep_weights = torch.linspace(1 / num_timesteps, 1, num_timesteps) ** timestep_power
        self.plan = UpdatePlan()
        self.channels_last = prefers_channels_last(self.state.device) if channels_last is None else channels_last
        if self.channels_last:
            lay_channels_last(network, self.prior_network)
        self.compile_networks = compile_networks
        if compile_networks:
            compile_forwards(self.state.device, network.segmentor, network.refiner, self.prior_network.segmentor)

    def run(self) -> None:  # type: ignore[override]
        """Trains until ``max_epochs``; on a CPU, memory that a step frees is kept for the next."""
        if self.state.device.type == "cpu":
            keep_freed_memory()
        self.scaler = gradient_scaler(self.state.device, self.amp, self.amp_kwargs)  # type: ignore[assignment]
        super(Trainer, self).run()  # not Trainer's, which makes a scaler for every device and dtype

    @property
    def accumulation_window(self) -> tuple[int, bool, bool]:
        """Index of the current accumulation window, and whether this mini-batch is its first and its last."""
        length = self.state.epoch_length or 0
        position = (self.state.iteration - 1) % length if length else self.state.iteration - 1
        is_last = (position + 1) % self.accumulation_steps == 0 or position + 1 == length
        return position // self.accumulation_steps, position % self.accumulation_steps == 0, is_last

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, torch.Tensor]) -> dict:
        batch = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        images, labels = _plain(batch)
        self._require_masks(labels)
        # A photograph comes with its channels innermost, and convolutions hand on what either operand has.
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        images = images.contiguous(memory_format=layout)
        output: dict[str, Any] = {Keys.IMAGE: images, Keys.LABEL: labels}
        engine.state.output = output
        noisy = self._update_refiner(images, labels, output) if self.plan.updates_refiner else None
        if self.plan.updates_segmentor:
            self._update_segmentor(images, labels, noisy, output)
        if self.scaler is not None and self.accumulation_window[2]:
            self.scaler.update()  # once for both networks: gradients still being accumulated keep their scale
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _update_refiner(self, images: torch.Tensor, labels: torch.Tensor, output: dict[str, Any]) -> _NoisyMasks:
        network = self.network
        network.refiner.train()
        with frozen(self.prior_network.segmentor), self._autocast():
            with torch.no_grad():
                _, prior, features = self.prior_network.predict_prior(images)
            prior = prior.contiguous()  # y_t is drawn in the order of memory: the same one in either layout
            noisy = self._draw(labels, prior)
            noise_logits = network.refiner(images, noisy.sample, prior, features, noisy.timesteps)
        output["prior"] = prior
        output[Keys.PRED] = network.scheduler.estimate_original(noisy.sample, noise_logits.detach().float().sigmoid())
        self.fire_event(IterationEvents.FORWARD_COMPLETED)
        loss = self.loss_function(noise_logits, noisy.sample, labels, prior, noisy.timesteps)
        self._descend("loss_refiner", loss, self.optimizer, network.refiner)
        return noisy

    def _update_segmentor(
        self, images: torch.Tensor, labels: torch.Tensor, noisy: _NoisyMasks | None, output: dict[str, Any]
    ) -> None:
        network = self.network
        network.segmentor.train()
        with self._autocast():
            logits, prior, features = network.predict_prior(images)
            prior = prior.contiguous()
            if self.plan.lambda_diff > 0:
                noisy = noisy or self._draw(labels, prior)
                with frozen(network.refiner):
                    noise_logits = network.refiner(images, noisy.sample, prior, features, noisy.timesteps)
        output.setdefault("prior", prior.detach())
        output.setdefault(Keys.PRED, output["prior"])
        self.fire_event(IterationEvents.FORWARD_COMPLETED)
        loss = self.discriminative_loss(logits, labels)
        if noisy is not None and self.plan.lambda_diff > 0:
            diffusion_loss = self.loss_function(noise_logits, noisy.sample, labels, prior, noisy.timesteps)
            loss = loss + self.plan.lambda_diff * diffusion_loss
        self._descend("loss_segmentor", loss, self.segmentor_optimizer, network.segmentor)

    def _require_finite(self, name: str, norm: torch.Tensor) -> None:
        """Of a loss that is finite, before the step, which would make every weight NaN."""
        if not norm.isfinite():
            place = f"epoch {self.state.epoch}, iteration {self.state.iteration}"
            mends = ["set train#trainer#compile_networks to false"] if self.compile_networks else []
            mends += [*(["turn amp off"] if self.amp else []), "lower the learning rate"]
            raise ValueError(
                f"the gradient of {name} is {norm:g} in {place}; expected a finite number: {', or '.join(mends)}, and "
                "run the same line again"
            )

    def _require_masks(self, labels: torch.Tensor) -> None:
        if not ((labels == 0) | (labels == 1)).all():
            raise ValueError(
                f"the labels of epoch {self.state.epoch}, iteration {self.state.iteration} have values from "
                f"{labels.min():g} to {labels.max():g}; expected 0 and 1, in a channel for each class: give the "
                "datalist the label_values that belong to the files (hidiff datalist --label_values), or the network "
                "as many channels as there are classes (num_targets)"
            )

    def _draw(self, labels: torch.Tensor, prior: torch.Tensor) -> _NoisyMasks:
        if not prior.isfinite().all():
            raise ValueError(
                f"the segmentor's mask is NaN in epoch {self.state.epoch}, iteration {self.state.iteration}: check the "
                "images for NaN (hidiff check), lower the learning rate, set train#trainer#max_grad_norm, or turn "
                "amp off"
            )
        timesteps = torch.multinomial(self.timestep_weights, len(labels), replacement=True).to(labels.device)
        sample = self.network.scheduler.add_noise(labels, prior, timesteps)
        if self.hard_start_share > 0:
            is_start = timesteps + 1 == len(self.timestep_weights)
            is_hard = is_start & (torch.rand(len(labels)) < self.hard_start_share).to(labels.device)
            sample[is_hard] = self.network.start(prior[is_hard], "hard").to(sample.dtype)
        return _NoisyMasks(timesteps, sample)

    def _descend(self, name: str, loss: torch.Tensor, optimizer: Optimizer, network: nn.Module) -> None:
        output = self.state.output
        output[name] = loss.detach()
        output[Keys.LOSS] = output.get(Keys.LOSS, 0) + output[name]
        self.fire_event(IterationEvents.LOSS_COMPLETED)
        _, is_first, is_last = self.accumulation_window
        if is_first:
            optimizer.zero_grad(set_to_none=True)
        loss = loss / self.accumulation_steps
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if not is_last:
            return
        average_gradients(network)
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        limit = math.inf if self.max_grad_norm is None else self.max_grad_norm
        norm = nn.utils.clip_grad_norm_(network.parameters(), limit)
        if self.scaler is None and output[name].isfinite():  # a scaler leaves such a step out
            self._require_finite(name, norm)
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.state.device.type, enabled=self.amp, **self.amp_kwargs)


def _plain(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = batch[0], batch[1]
    images = images.as_tensor() if hasattr(images, "as_tensor") else images
    labels = labels.as_tensor() if hasattr(labels, "as_tensor") else labels
    return images, labels.to(images.dtype)
