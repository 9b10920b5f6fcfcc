"""A network that works at one size answers at the image's."""

import pytest
import torch
from monai.transforms import Resize

from hidiff_monai.inferers import ResizeInferer


def test_the_network_sees_what_the_training_resized_and_maps_come_back() -> None:
    image = torch.rand(1, 3, 90, 70)
    seen: list[torch.Tensor] = []

    def network(resized: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(resized)
        return {"refined": resized[:, :1], "entropy": torch.full((1, 1, 32, 40), 0.25)}

    maps = ResizeInferer([32, 40])(image, network)
    assert isinstance(maps, dict)
    trained_on = torch.as_tensor(Resize([32, 40], mode="area")(image[0]))
    torch.testing.assert_close(seen[0][0], trained_on)
    assert maps["refined"].shape == (1, 1, 90, 70)
    assert torch.all(maps["entropy"] == 0.25)


@pytest.mark.parametrize("size", [(64, 64), (31, 57)])
def test_a_half_plane_keeps_its_border(size: tuple[int, int]) -> None:
    image = torch.zeros(1, 1, *size)
    image[..., size[1] // 2 :] = 1
    back = ResizeInferer([32, 32])(image, lambda resized: resized)
    assert isinstance(back, torch.Tensor)
    assert ((back > 0.5).float() != image).float().mean() <= 1.5 / size[1]
