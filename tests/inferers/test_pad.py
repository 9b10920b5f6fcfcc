"""Small images are seen as the training saw them, and maps come back at their size."""

import torch
from monai.transforms import SpatialPad

from hidiff_monai.inferers import PadInferer


def test_the_network_sees_what_the_training_padded_and_maps_come_back() -> None:
    image = torch.rand(2, 3, 31, 57)
    seen: list[torch.Tensor] = []

    def network(padded: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(padded)
        return {"refined": padded[:, :1], "entropy": padded[:, 1:]}

    maps = PadInferer([64, 40])(image, network)
    assert isinstance(maps, dict)
    torch.testing.assert_close(seen[0][1], torch.as_tensor(SpatialPad([64, 40], mode="edge")(image[1])))
    torch.testing.assert_close(maps["refined"], image[:, :1])
    torch.testing.assert_close(maps["entropy"], image[:, 1:])


def test_what_is_large_enough_stays_as_it_is() -> None:
    image = torch.rand(1, 1, 64, 80)
    result = PadInferer([32, 80])(image, lambda padded: padded * 2)
    torch.testing.assert_close(result, image * 2)
