"""The networks that are timed have signs of both kinds, outputs that differ, and one set of weights in every form."""

from __future__ import annotations

import pytest
import torch

from hidiff_monai.benchmark.forms import CLEAN, EMULATION, FORMS, PACKED, TWIN, Chain, available_forms, make_form
from hidiff_monai.benchmark.models import make_inputs, make_refiner, make_segmentor
from hidiff_monai.networks.time_modules import TimeBinarization

WIDTH, SIZE = 8, 64


def test_equal_seeds_give_equal_networks_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = make_refiner(WIDTH), make_refiner(WIDTH)
    assert all(torch.equal(one, other) for one, other in zip(first.state_dict().values(), second.state_dict().values()))  # noqa: B905
    assert torch.equal(before, torch.get_rng_state())
    assert not first.training and not any(parameter.requires_grad for parameter in first.parameters())


@torch.no_grad()
def test_signs_are_mixed_in_every_layer() -> None:
    shares = []

    def note(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        shares.append(float((output > 0).float().mean()))

    refiner = make_refiner(16)
    binarizers = [module for module in refiner.modules() if isinstance(module, TimeBinarization)]
    for module in binarizers:
        module.register_forward_hook(note)
    inputs = make_inputs(2, SIZE, 16)
    refiner(inputs.image, inputs.prior.round(), inputs.prior, inputs.features, torch.tensor([3, 3]))
    assert len(shares) == len(binarizers) and min(shares) > 0.2 and max(shares) < 0.8


def test_the_segmentor_gives_what_the_refiner_expects() -> None:
    logits, features = make_segmentor(WIDTH)(torch.randn(1, 3, SIZE, SIZE))
    inputs = make_inputs(1, SIZE, WIDTH)
    assert logits.shape == inputs.prior.shape
    assert [one.shape for one in features] == [one.shape for one in inputs.features]


@pytest.mark.parametrize(("name", "difference"), [(PACKED, 0.1), (CLEAN, 0.02)])
def test_forms_compute_what_the_trained_module_does(name: str, difference: float) -> None:
    """Roughly: a sign that hangs on the last bit flips others."""
    inputs = make_inputs(2, SIZE, WIDTH)
    expected, got = (Chain(make_form(form, WIDTH), inputs).run(1) for form in (EMULATION, name))
    assert (expected - got).abs().mean() < difference
    assert expected.std() > 0.2


def test_samples_are_in_one_batch() -> None:
    for name in (PACKED, CLEAN, EMULATION):
        assert Chain(make_form(name, WIDTH), make_inputs(2, SIZE, WIDTH), 3).run(2).shape == (6, 1, SIZE, SIZE)


def test_the_twin_is_real_valued_and_forms_are_made_once() -> None:
    assert not make_form(TWIN, WIDTH).refiner.binarized
    assert make_form(PACKED, WIDTH) is make_form(PACKED, WIDTH)
    assert set(available_forms()) <= set(FORMS) and {PACKED, CLEAN, EMULATION} <= set(available_forms())
    assert not make_form(EMULATION, WIDTH).keeps_freed and make_form(PACKED, WIDTH).keeps_freed
