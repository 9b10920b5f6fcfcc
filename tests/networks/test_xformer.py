"""The cross transformer: attention as PyTorch computes it, any H and W, signs where they are announced."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hidiff_monai.networks.time_modules import TimeBinarization
from hidiff_monai.networks.xformer import CrossTransformer, CrossTransformerBlock, TokenBlock


def block(binarized: bool) -> CrossTransformerBlock:
    return CrossTransformerBlock(8, 2, 6, binarized).eval()


def test_real_block_equals_scaled_dot_product_attention() -> None:
    module, tokens, context, embedding = block(False), torch.randn(2, 5, 8), torch.randn(2, 7, 8), torch.randn(2, 6)
    scale = (1 + module.query.norm.eps) ** -0.5  # an untrained BatchNorm in evaluation mode

    def heads(x: torch.Tensor, part: TokenBlock) -> torch.Tensor:
        return (F.linear(x, part.linear.weight) * scale).reshape(2, -1, 2, 4).transpose(1, 2)

    attended = F.scaled_dot_product_attention(
        heads(tokens, module.query), heads(context, module.key), heads(context, module.value)
    )
    x = tokens + F.linear(attended.transpose(1, 2).reshape(2, 5, 8), module.project.linear.weight) * scale
    hidden = F.leaky_relu(F.linear(x, module.expand.linear.weight) * scale, 0.25)
    x = x + F.linear(hidden, module.reduce.linear.weight) * scale
    torch.testing.assert_close(module(tokens, context, embedding), x)


@pytest.mark.parametrize("binarized", [True, False])
def test_order_of_the_context_does_not_matter(binarized: bool) -> None:
    module, tokens, context, embedding = block(binarized), torch.randn(1, 5, 8), torch.randn(1, 7, 8), torch.randn(1, 6)
    shuffled = context[:, torch.randperm(7)]
    torch.testing.assert_close(module(tokens, shuffled, embedding), module(tokens, context, embedding))


@pytest.mark.parametrize("binarized", [True, False])
def test_first_the_prior_asks_then_the_diffusion_feature(binarized: bool) -> None:
    module = CrossTransformer(8, 2, 6, binarized).eval()
    diffusion, prior, embedding = torch.randn(2, 8, 3, 5), torch.randn(2, 8, 3, 5), torch.randn(2, 6)
    rows, prior_rows = (x.permute(0, 2, 3, 1).reshape(2, 15, 8) for x in (diffusion, prior))
    prior_rows = module.into_prior(prior_rows, rows, embedding)
    rows = module.into_diffusion(rows, prior_rows, embedding)
    result = module(diffusion, prior, embedding)
    assert result.shape == (2, 8, 3, 5)  # H != W
    for i in range(3):
        for j in range(5):
            torch.testing.assert_close(result[:, :, i, j], rows[:, i * 5 + j])


def test_queries_keys_and_values_are_signs() -> None:
    module, seen = block(True), {}
    for name, part in module.named_modules():
        if isinstance(part, TimeBinarization):
            part.register_forward_hook(lambda m, i, out, name=name: seen.update({name: out.unique().tolist()}))
    module(torch.randn(1, 5, 8), torch.randn(1, 7, 8), torch.randn(1, 6))
    assert {"binarize_query", "binarize_key", "binarize_value"} < set(seen)
    assert all(set(values) <= {-1.0, 1.0} for values in seen.values())


def test_real_block_has_no_binarization() -> None:
    assert not any(isinstance(part, TimeBinarization) for part in block(False).modules())
    assert all(type(part.linear) is nn.Linear for part in block(False).modules() if isinstance(part, TokenBlock))
