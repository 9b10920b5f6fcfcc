import hashlib
import json

import pytest
import torch

import hidiff_monai
from hidiff_monai.report import collect_versions, write_manifest


def test_manifest_holds_facts_and_versions(tmp_path):
    checkpoint = tmp_path / "model.pt"
    checkpoint.write_bytes(b"weights")
    path = tmp_path / "new" / "manifest.json"
    written = write_manifest(path, seed=3, command="run", runtime_s=1.5, checkpoint=checkpoint)
    read = json.loads(path.read_text())
    assert read == written
    assert (read["seed"], read["command"], read["runtime_s"]) == (3, "run", 1.5)
    assert read["checkpoint"] == "model.pt"
    assert read["checkpoint_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert read["torch"] == str(torch.__version__)
    assert read["hidiff_monai"] == hidiff_monai.__version__


def test_versions_are_json_and_complete():
    facts = json.loads(json.dumps(collect_versions()))
    assert {"python", "torch", "monai", "platform", "cpu_count", "device"} <= facts.keys()


def test_given_facts_win(tmp_path):
    assert write_manifest(tmp_path / "m.json", device="a scanner")["device"] == "a scanner"


def test_missing_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"model\.pt is missing"):
        write_manifest(tmp_path / "m.json", checkpoint=tmp_path / "model.pt")
    assert not (tmp_path / "m.json").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot be written"):
        write_manifest(tmp_path / "file" / "m.json")
