"""`dial.json`: what was measured with what, kept setting by setting so that a stopped measurement goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hidiff_monai.dial.grid import PRIOR, ROW_ORDER
from hidiff_monai.io import write_atomically
from hidiff_monai.prediction.dial_file import BEFORE
from hidiff_monai.prediction.sampler import SamplerSetting

Content = dict[str, Any]


class DialResults:
    """The rows of a measurement in their file.

    Args:
        file: written after each row; goes on with what is there.
        facts: what all rows depend on, as JSON values: data, weights, configuration, machine.

    Raises:
        ValueError: if the file has rows that depend on something else, or is no such file.
    """

    def __init__(self, file: Path, facts: Mapping[str, Any]) -> None:
        self.file = file
        self.facts: Content = json.loads(json.dumps(facts))
        self.rows = self._read() if file.is_file() else {}

    @property
    def ordered(self) -> list[Content]:
        """The rows as the file holds them."""
        return [self.rows[key] for key in sorted(self.rows, key=_order)]

    def add(self, row: Mapping[str, Any]) -> None:
        """Keeps what `measure_setting` gave."""
        self.rows[SamplerSetting.from_dict(dict(row))] = dict(row)
        date = datetime.now(timezone.utc).date().isoformat()
        content = {**self.facts, "date": date, "settings": self.ordered}
        with write_atomically(self.file) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _read(self) -> dict[SamplerSetting, Content]:
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            rows = {SamplerSetting.from_dict(row): row for row in content["settings"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.file}: is not from `hidiff dial` ({type(error).__name__}); expected its results, or no such "
                "file: move it, or give another --output"
            ) from error
        content = {**BEFORE, **content}
        for key, value in self.facts.items():
            if content.get(key) != value:
                raise ValueError(
                    f"{self.file}: was measured with {key} {content.get(key)!r}, now it is {value!r}; expected all "
                    "settings measured alike: remove the file to measure anew, or give another --output"
                )
        return rows


def _order(setting: SamplerSetting) -> tuple[int, int, int]:
    return (PRIOR.sampler, *ROW_ORDER).index(setting.sampler), setting.steps, setting.samples
