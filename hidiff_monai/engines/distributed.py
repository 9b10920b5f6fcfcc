"""Training on several processes: one process a GPU (or a share of a CPU), equal weights, a share of the data each.

``DistributedDataParallel`` is not used: it wants every parameter to have a gradient in every backward pass, where here
f and g are frozen in turn, and it would put ``module.`` before every key of a checkpoint. Gradients are averaged by
hand instead, once for each network and optimizer step. With a single process every function here does nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import groupby, zip_longest
from typing import Any, cast

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.data import Dataset, DistributedSampler
from torch import nn
from torch.utils.data import Sampler, SequentialSampler

from hidiff_monai.engines.batch_norm import synchronise_batch_norm

RUNNING_STATISTICS = ("running_mean", "running_var")
TIMEOUT = timedelta(hours=2)  # the longest that a process may wait for the others, as where one validates more cases


def join_processes() -> None:
    """Makes this process one of those that ``torchrun`` started; from then on only the first one logs.

    NCCL connects them where there are GPUs, gloo elsewhere.

    Raises:
        ValueError: when ``torchrun`` did not start it, or there are fewer GPUs than processes.
    """
    if "RANK" not in os.environ:
        raise ValueError(
            "RANK is not set; expected a process that torchrun started: run `torchrun --standalone --nproc_per_node=2 "
            "-m monai.bundle run training ...`, or leave multi_gpu_train.json out to train in one process"
        )
    num_gpus, number = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", 0))
    if 0 < num_gpus <= number:
        raise ValueError(
            f"process {number + 1} on this machine has no GPU of its own, there are {num_gpus}; expected "
            f"at most one process a GPU: --nproc_per_node={num_gpus}"
        )
    if idist.backend() is None:
        idist.initialize("nccl" if num_gpus else "gloo", timeout=TIMEOUT)
    if not is_first():
        logging.disable(logging.WARNING)  # what goes wrong in another one is raised


def leave_processes() -> None:
    """Ends what ``join_processes`` began, once all have come here."""
    idist.barrier()
    idist.finalize()


def is_first() -> bool:
    """Whether this process is the one that writes; true where there is only one."""
    return idist.get_rank() == 0


def own_device() -> torch.device:
    """The GPU of this process, or the CPU."""
    return torch.device("cuda", idist.get_local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def replicate(network: nn.Module) -> nn.Module:
    """Gives all processes the first one's weights, and BatchNorm the statistics of the joint mini-batch."""
    if idist.get_world_size() == 1:
        return network
    network = synchronise_batch_norm(network)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(idist.broadcast(value, src=0))
    return network


def average_gradients(network: nn.Module) -> None:
    """Replaces the gradients of ``network`` by their means over all processes: those of the joint mini-batch.

    Call it on gradients that are still scaled (mixed precision): an infinity or NaN of one process then reaches all of
    them before they look for it, and all skip the step alike.
    """
    _average(parameter.grad for parameter in network.parameters() if parameter.grad is not None)


def average_statistics(*networks: nn.Module) -> None:
    """Replaces running statistics by their means over all processes, for norms that do not share them themselves."""
    buffers = (item for network in networks for item in network.named_buffers())
    _average(buffer for name, buffer in buffers if name.endswith(RUNNING_STATISTICS))


def training_sampler(dataset: Dataset, seed: int) -> Sampler:
    """A share of the cases for each process, dealt anew in every epoch; a few come twice where they do not go even."""
    return DistributedSampler(dataset, shuffle=True, seed=seed)


def validation_sampler(dataset: Dataset) -> Sampler:
    """A share of the cases for each process, every case once, whose scores MONAI's metrics gather.

    With fewer cases than processes each takes all of them: the means are the same, and none waits for an idle one.
    """
    if len(dataset) < idist.get_world_size():
        return SequentialSampler(dataset)
    return DistributedSampler(dataset, even_divisible=False, shuffle=False)


def average(values: dict[str, float]) -> dict[str, float]:
    """The means over all processes of figures that each of them has by the same names."""
    if idist.get_world_size() == 1 or not values:
        return values
    total = cast(torch.Tensor, idist.all_reduce(torch.tensor([*values.values()], dtype=torch.float64)))
    return dict(zip(values, (total / idist.get_world_size()).tolist(), strict=True))


def gather_cases(rows: list[Any], case_of: Callable[[Any], str]) -> list[Any]:
    """The rows of all processes, in the order of the data set that `validation_sampler` dealt, each case's once.

    Args:
        rows: of this process, those of a case one after the other.
        case_of: the case that a row belongs to.
    """
    if idist.get_world_size() == 1:
        return rows
    shares: list[Any] = [None] * idist.get_world_size()
    torch.distributed.all_gather_object(shares, rows)
    cases = [[list(group) for _, group in groupby(share, case_of)] for share in shares]
    found: dict[str, list[Any]] = {}
    for turn in zip_longest(*cases, fillvalue=[]):
        for group in filter(None, turn):
            found.setdefault(case_of(group[0]), group)
    return [row for group in found.values() for row in group]


def positions(number: int) -> range:
    """Which of the first ``number`` cases of a data set `validation_sampler` gives this process."""
    return range(idist.get_rank(), number, idist.get_world_size())


def require_same_epoch(engine: Engine) -> None:
    """Refuses a run whose processes did not take up the same state; attach it to ``STARTED``, after the resume.

    Raises:
        ValueError: names the epochs.
    """
    epochs = cast(torch.Tensor, idist.all_gather(torch.tensor([engine.state.epoch]))).tolist()
    if len(set(epochs)) > 1:
        raise ValueError(
            f"the processes stand after epochs {epochs}; expected the same state for all: give an output_dir that all "
            "machines share, or resume_from"
        )


def _average(tensors: Iterable[torch.Tensor]) -> None:
    """One exchange for all of them together; they are of one dtype."""
    if idist.get_world_size() == 1:
        return
    averaged = list(tensors)
    if not averaged:
        return
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in averaged])
    flat = cast(torch.Tensor, idist.all_reduce(flat)) / idist.get_world_size()
    for tensor, mean in zip(averaged, flat.split([tensor.numel() for tensor in averaged]), strict=True):
        tensor.copy_(mean.view_as(tensor))
