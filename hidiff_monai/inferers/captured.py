"""HiDiff whose reverse chains are CUDA graphs: all T steps of all samples, recorded once per shape, one launch a call.

A chain is thousands of small kernels; a GPU waits for Python between them. A graph is launched as a whole.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch

from hidiff_monai.networks import HiDiff

Chain = Callable[[], torch.Tensor]
Recorder = Callable[[Chain, torch.Generator], Chain]
Condition = list[torch.Tensor | None]

logger = logging.getLogger(__name__)


def record_cuda_graph(chain: Chain, generator: torch.Generator) -> Chain:
    """Records what ``chain`` launches; the result launches it again and returns the same memory, filled anew.

    Args:
        chain: reads and writes tensors that stay where they are, draws from ``generator`` only, and never waits for
            the device.
        generator: on the CUDA device; its state at each replay decides the draws, as in a plain call.

    Raises:
        RuntimeError: if the device is no CUDA device, or the chain cannot be recorded.
    """
    device = generator.device
    if device.type != "cuda":
        raise RuntimeError(f"the chain runs on {device}; expected a CUDA device")
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):  # outside of graph(), so that a failure gives the stream back too
        chain()  # handles, workspaces and compiled kernels are made here, not in the recording
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            output = chain()
    torch.cuda.current_stream(device).wait_stream(stream)

    def replay() -> torch.Tensor:
        graph.replay()
        return output

    return replay


class RecordedChain:
    """One recorded chain with the tensors that it reads.

    Args:
        sample: ``HiDiff.sample`` with sampler, steps and samples filled in: (prior, condition, generator) -> samples.
        record: see `record_cuda_graph`.
        prior: of the first call; (B, K, H, W).
        condition: of the first call.
    """

    def __init__(
        self, sample: Callable[..., torch.Tensor], record: Recorder, prior: torch.Tensor, condition: Condition
    ) -> None:
        self.prior = prior.clone()
        self.condition: Condition = [None if entry is None else entry.clone() for entry in condition]
        self.generator = torch.Generator(prior.device)
        self.replay = record(lambda: sample(self.prior, self.condition, self.generator), self.generator)

    def run(self, prior: torch.Tensor, condition: Condition, generator: torch.Generator | None) -> torch.Tensor:
        """The chain for another image of the same shape; ``generator`` is left as a plain call leaves it."""
        source = default_generator(prior.device) if generator is None else generator
        self.prior.copy_(prior)
        for static, entry in zip(self.condition, condition, strict=True):
            if static is not None and entry is not None:
                static.copy_(entry)
        self.generator.set_state(source.get_state())
        result = self.replay().clone()
        source.set_state(self.generator.get_state())
        return result


class CapturedHiDiff(HiDiff):
    """A ``HiDiff`` that runs the chains of a kind it has met before as a recorded graph, and all others plainly.

    A kind is sampler, steps, samples and the shapes of prior and condition. Its first call is plain: images that each
    have another size are never recorded. Where recording fails (no CUDA, not enough memory, a refiner that waits for
    the device), the reason is logged once and every chain runs plainly. Segmentor and refiner are shared with the
    network given; the graphs hold the places of their weights, so they are dropped when the network is moved. For
    inference only: with gradients or autocast, chains run plainly, and it cannot be scripted.

    Args:
        network: in evaluation mode.
        capacity: kinds that are kept, each with the memory of its chains; the one unused for longest goes first.
        record: see `record_cuda_graph`.

    Raises:
        ValueError: if capacity is below 1.
    """

    def __init__(self, network: HiDiff, capacity: int = 4, record: Recorder = record_cuda_graph) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; expected 1 or more")
        super().__init__(network.segmentor, network.refiner, network.scheduler, network.exclusive)
        self.num_inference_steps = network.num_inference_steps
        self.num_samples = network.num_samples
        self.sampler = network.sampler
        self.train(network.training)
        self.capacity = capacity
        self.record = record
        self.failure: str | None = None
        self.kinds: OrderedDict[Hashable, RecordedChain | None] = OrderedDict()  # None: met once

    def sample(
        self,
        prior: torch.Tensor,
        condition: Condition,
        sampler: str,
        num_inference_steps: int,
        num_samples: int,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """As `HiDiff.sample`."""

        def plain(prior: torch.Tensor, condition: Condition, generator: torch.Generator | None) -> torch.Tensor:
            return super(CapturedHiDiff, self).sample(
                prior, condition, sampler, num_inference_steps, num_samples, generator
            )

        if self.failure is not None or torch.is_grad_enabled() or torch.is_autocast_enabled(prior.device.type):
            return plain(prior, condition, generator)
        settings = (sampler, num_inference_steps, num_samples, torch.is_inference_mode_enabled())
        kind = (*settings, *(_describe(entry) for entry in (prior, *condition)))
        recorded = self._find(kind, plain, prior, condition)
        return plain(prior, condition, generator) if recorded is None else recorded.run(prior, condition, generator)

    def _find(
        self, kind: Hashable, plain: Callable[..., torch.Tensor], prior: torch.Tensor, condition: Condition
    ) -> RecordedChain | None:
        """The recorded chain, made at the second call of its kind; None where the call is to be plain."""
        is_new = kind not in self.kinds
        recorded = self.kinds.pop(kind, None)
        while len(self.kinds) >= self.capacity:
            self.kinds.popitem(last=False)
        if not is_new and recorded is None:
            try:
                recorded = RecordedChain(plain, self.record, prior, condition)
            except RuntimeError as error:
                self._give_up(error)
                return None
        self.kinds[kind] = recorded
        return recorded

    def _give_up(self, error: RuntimeError) -> None:
        self.failure = str(error).splitlines()[0] if str(error) else type(error).__name__
        self.kinds.clear()
        logger.warning("chains are not recorded (%s): they run step by step", self.failure)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> CapturedHiDiff:
        """Moves or recasts the network; what was recorded for its former weights is dropped."""
        self.kinds.clear()
        return super()._apply(fn, recurse)


def default_generator(device: torch.device) -> torch.Generator:
    """The generator that draws where none is given."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    return torch.default_generator


def _describe(entry: torch.Tensor | None) -> Any:
    return None if entry is None else (entry.shape, entry.dtype, entry.device)
