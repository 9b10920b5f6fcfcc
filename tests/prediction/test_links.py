"""Links in the input: names are those that the user gave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hidiff_monai.prediction import run_prediction

Arguments = Callable[[str], dict[str, Any]]


def test_a_link_is_told_by_its_own_name(
    tmp_path: Path, bundle_arguments: Arguments, write_photograph: Callable[..., None]
) -> None:
    write_photograph(tmp_path / "store" / "doe_jane.png")
    (tmp_path / "links").mkdir()
    source = tmp_path / "links" / "case01.png"
    source.symlink_to(tmp_path / "store" / "doe_jane.png")
    arguments = bundle_arguments("kvasir_seg")
    manifest = run_prediction(source=source, output=tmp_path / "out", **arguments)
    assert manifest["cases"][0]["id"] == "case01" and "jane" not in json.dumps(manifest["cases"])
    with pytest.raises(ValueError, match="lies in the folder of the input"):
        run_prediction(source=source, output=tmp_path / "store" / "out", **arguments)
