"""Which image a reader is shown next."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from hidiff_monai.label.served import ServedBundle


class MostUncertain(Strategy):
    """The unlabelled image of which the network was least sure; those it has not seen yet come last.

    Of a case of several files, one a channel, one label is enough.

    Args:
        key: of the uncertainty in an image's information.
        served: tells the cases.
    """

    def __init__(self, key: str, served: ServedBundle) -> None:
        super().__init__("Where the network was least sure; run it on all images first")
        self.key = key
        self.served = served

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The image's id, or None where every image is labelled."""
        images = sorted(datastore.get_unlabeled_images())
        if self.served.is_grouped:
            labelled = {self._case(datastore, image) for image in datastore.get_labeled_images()}
            images = [image for image in images if self._case(datastore, image) not in labelled]
        if not images:
            return None
        return {"id": max(images, key=lambda image: self._score(datastore.get_image_info(image)))}

    def _case(self, datastore: Datastore, image: str) -> str:
        return self.served.case_id(Path(datastore.get_image_uri(image)))

    def _score(self, info: dict[str, Any]) -> float:
        """An empty mask has no uncertainty, and is what to look at first."""
        if self.key not in info:
            return -math.inf
        return math.inf if info[self.key] is None else float(info[self.key])
