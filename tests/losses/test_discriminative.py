"""Oracle tests of the discriminative objective (Eq. 1): torch's own cross-entropies, and Dice at its extremes."""

import pytest
import torch
from torch.nn import functional as F

from hidiff_monai.losses import DiscriminativeLoss


def one_hot(classes, num_classes):
    return F.one_hot(classes, num_classes).movedim(-1, 1).double()


@pytest.fixture
def batch():
    """logits, overlapping labels and one-hot labels, (2, 3, 8, 9), float64."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 9, generator=generator, dtype=torch.float64) * 3
    labels = torch.rand(2, 3, 8, 9, generator=generator, dtype=torch.float64).round()
    return logits, labels, one_hot(torch.randint(3, (2, 8, 9), generator=generator), 3)


def dice_part(logits, labels, exclusive=False):
    with_dice, without = (DiscriminativeLoss(weight, exclusive)(logits, labels) for weight in (1.0, 0.0))
    return (with_dice - without).item()


def square(num_channels=1):
    labels = torch.zeros(1, num_channels, 32, 32, dtype=torch.float64)
    labels[:, :, 4:28, 4:28] = 1
    return labels


@pytest.mark.parametrize("num_channels", [1, 3])
def test_binary_part_is_torchs(batch, num_channels):
    logits, labels = (x[:, :num_channels] for x in batch[:2])
    found = DiscriminativeLoss(lambda_dice=0.0)(logits, labels)
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(logits, labels), rtol=1e-12, atol=1e-12)
    assert found.shape == ()


def test_exclusive_part_is_torchs(batch):
    logits, _, labels = batch
    found = DiscriminativeLoss(lambda_dice=0.0, exclusive=True)(logits, labels)
    torch.testing.assert_close(found, F.cross_entropy(logits, labels.argmax(1)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("exclusive", [False, True])
def test_dice_weight_is_linear_and_1_by_default(batch, exclusive):
    logits, labels = batch[0], batch[2] if exclusive else batch[1]
    loss = {weight: DiscriminativeLoss(weight, exclusive)(logits, labels) for weight in (0.0, 1.0, 2.5)}
    torch.testing.assert_close(loss[2.5] - loss[0.0], 2.5 * (loss[1.0] - loss[0.0]))
    torch.testing.assert_close(DiscriminativeLoss(exclusive=exclusive)(logits, labels), loss[1.0])


def test_dice_extremes_binary():
    labels = square()
    assert dice_part(60 * labels - 30, labels) == pytest.approx(0, abs=1e-4)
    assert dice_part(30 - 60 * labels, labels) == pytest.approx(1, abs=1e-2)
    scores = [dice_part((2 * labels - 1) * size, labels) for size in (-2, -1, 0, 1, 2)]
    assert all(1 > worse > better > 0 for worse, better in zip(scores, scores[1:], strict=False))


def test_dice_extremes_exclusive():
    labels = one_hot(square()[:, 0].long(), 2)
    assert dice_part(60 * labels - 30, labels, exclusive=True) == pytest.approx(0, abs=1e-4)
    assert dice_part(30 - 60 * labels, labels, exclusive=True) == pytest.approx(1, abs=1e-2)


def test_half_a_square_has_the_dice_of_the_formula():
    labels, predicted = square(), square()
    predicted[..., 16:] = 0  # 2 * 288 / (288 + 576) = 2/3
    assert dice_part(60 * predicted - 30, labels) == pytest.approx(1 / 3, abs=1e-2)


def test_dice_is_taken_per_channel():
    labels = square(2)
    labels[:, 1] = 0
    labels[:, 1, :6, :6] = 1
    logits = 60 * labels - 30
    logits[:, 1] = -30  # the large structure found, the small one missed
    assert dice_part(logits, labels) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("size", [-100.0, 100.0])
def test_gradient_is_finite_at_saturation(batch, dtype, exclusive, size):
    for labels in (batch[2], torch.zeros_like(batch[2]), torch.ones_like(batch[2])):
        if exclusive and labels is not batch[2]:
            continue
        logits = (size * (2 * labels - 1)).to(dtype).requires_grad_()
        loss = DiscriminativeLoss(exclusive=exclusive)(logits, labels.to(dtype))
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_gradient_equals_finite_differences(batch):
    logits, labels = (x[..., :2, :2].contiguous() for x in batch[:2])
    loss = DiscriminativeLoss()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits.requires_grad_())


def test_softmax_over_one_channel_is_refused():
    with pytest.raises(ValueError, match="(?i)expected"):
        DiscriminativeLoss(exclusive=True)(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (1, 2, 4, 5), (1, 2, 1, 4), (1, 4, 4)])
def test_different_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="(?i)expected"):
        DiscriminativeLoss()(torch.zeros(1, 2, 4, 4), torch.zeros(shape))
