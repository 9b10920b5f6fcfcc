"""`hidiff publish-check`: the rules of the model zoo on the bundles as they are, and on what breaks each of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import load_bundle_config
from monai.utils import optional_import

from hidiff_monai.cli import main
from hidiff_monai.prediction.model import build_part, parse_config, read_config
from hidiff_monai.sharing import check, rules
from hidiff_monai.sharing.archive import zip_bundle
from hidiff_monai.sharing.check import check_bundle
from hidiff_monai.sharing.push import push_bundle

REPOSITORY = Path(__file__).parents[2]
BUNDLES = sorted(path for path in (REPOSITORY / "bundles").iterdir() if path.is_dir())
WIDTHS = [4, 4, 4, 4, 4, 4]
VERSION = json.loads((REPOSITORY / "bundles" / "drive" / "configs" / "metadata.json").read_text())["version"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle of DRIVE with narrow networks and their weights, and with what runs leave behind."""
    bundle = tmp_path_factory.mktemp("zoo") / "drive"
    shutil.copytree(REPOSITORY / "bundles" / "drive", bundle, ignore=shutil.ignore_patterns("output*", "*.pt"))
    edit(bundle / "configs" / "inference.json", **{"segmentor#channels": WIDTHS, "refiner#channels": WIDTHS})
    torch.manual_seed(0)
    network = build_part(parse_config(read_config(bundle, "inference.json"), {}, {}), "network_def", {})
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    for left_over in ("output/models/model.pt", ".cache/x", "configs/__pycache__/x.pyc"):
        (bundle / left_over).parent.mkdir(parents=True, exist_ok=True)
        (bundle / left_over).write_bytes(bytes(26_000_000))
    return bundle


@pytest.fixture
def bundle(trained: Path, tmp_path: Path) -> Path:
    """One of a test's own."""
    return Path(shutil.copytree(trained, tmp_path / "drive", ignore=shutil.ignore_patterns("output", ".cache")))


def edit(file: Path, **values: Any) -> None:
    """Changes keys of a JSON file; a # leads one level down, None removes."""
    content = json.loads(file.read_text())
    for key, value in values.items():
        place = content
        *parents, last = key.split("#")
        for parent in parents:
            place = place[parent]
        place.pop(last) if value is None else place.update({last: value})
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_every_bundle_keeps_the_rules_that_need_no_network(bundle: Path) -> None:
    for rule in (
        rules.files_are_there,
        rules.licence_is_known,
        rules.metadata_fit_the_schema,
        rules.version_is_in_the_changelog,
        rules.keys_have_their_names,
        rules.paths_are_nobodys,
        rules.files_are_small,
    ):
        assert rule(bundle)


def test_a_trained_bundle_passes_and_becomes_the_archive_of_the_zoo(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["publish-check", str(trained), "--zip", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "10 ok, 0 FAILED, 0 MISSING"
    assert [line.split()[1] for line in lines[:-2]][-3:] == ["network", "weights", "export"]
    archive = tmp_path / f"drive_v{VERSION}.zip"
    assert lines[-1] == f"archive: {archive}"
    names = set(zipfile.ZipFile(archive).namelist())
    assert {"drive/LICENSE", "drive/configs/train.json", "drive/docs/README.md", "drive/models/model.pt"} <= names
    assert not any("output" in name or "/." in name or "__pycache__" in name for name in names)
    digest = hashlib.sha1(archive.read_bytes()).hexdigest()
    shutil.copytree(trained, tmp_path / "again" / "drive")  # other times, the same bytes
    again = zip_bundle(tmp_path / "again" / "drive", tmp_path / "again")
    assert hashlib.sha1(again.read_bytes()).hexdigest() == digest
    shutil.copy(archive, tmp_path / "drive.zip")  # MONAI reads it under the name of its folder
    assert load_bundle_config(str(tmp_path / "drive.zip"), "inference.json")["network_def"]


def remove(name: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).unlink()


def metadata(**values: Any) -> Callable[[Path], None]:
    return lambda bundle: edit(bundle / "configs" / "metadata.json", **values)


def grow(bundle: Path) -> None:
    (bundle / "docs" / "film.gif").write_bytes(bytes(25_100_000))


def name_without_hash(bundle: Path) -> None:
    grow(bundle)
    (bundle / "large_files.yml").write_text(
        "large_files:\n- path: docs/film.gif\n  url: https://example.org/film.gif\n"
    )


def name_with_another_hash(bundle: Path) -> None:
    name_without_hash(bundle)
    with open(bundle / "large_files.yml", "a") as file:
        file.write("  hash_type: md5\n  hash_val: abc\n")


def widen(bundle: Path) -> None:
    edit(bundle / "configs" / "inference.json", **{"refiner#channels": [8, 4, 4, 4, 4, 4]})


@pytest.mark.parametrize(
    ("break_it", "rule", "sentence"),
    [
        (remove("docs/README.md"), "files", "['docs/README.md'] missing; expected LICENSE"),
        (lambda bundle: (bundle / "LICENSE").write_text("mine"), "licence", "LICENSE begins 'mine'; expected the text"),
        (remove("docs/data_license.txt"), "licence", "docs/data_license.txt missing; expected the terms of the data"),
        (metadata(copyright=None), "metadata", "'copyright' is a required property Failed validating"),
        (metadata(version="9.0.0"), "version", f"version 9.0.0 not in the changelog, which has ['{VERSION}'"),
        (
            lambda bundle: edit(bundle / "configs" / "train.json", **{"validate#handlers": None}),
            "keys",
            "no validate#handlers in train; expected these keys",
        ),
        (
            lambda bundle: edit(bundle / "configs" / "train.json", dataset_dir="/home/ann/drive"),
            "paths",
            "train.json: dataset_dir is '/home/ann/drive'; expected a path below bundle_root",
        ),
        (
            lambda bundle: (bundle / "configs" / "mine.yaml").write_text("dataset_dir: /home/ann/drive\n"),
            "paths",
            "mine.yaml: dataset_dir is '/home/ann/drive'; expected a path below bundle_root",
        ),
        (
            lambda bundle: edit(bundle / "configs" / "train.json", bundle_root="/gpfs2/ann/drive"),
            "paths",
            "train.json: bundle_root is '/gpfs2/ann/drive'; expected a path below bundle_root",
        ),
        (
            lambda bundle: edit(bundle / "configs" / "train.json", datalist_file="$str('D:/ann') + '/list.json'"),
            "paths",
            "train.json: datalist_file is",
        ),
        (
            lambda bundle: (bundle / "docs" / "README.md").write_text("# Card\n\nhidiff check `/scratch/list.json`\n"),
            "paths",
            "README.md: line 3 is 'hidiff check `/scratch/list.json`'; expected no folder of this machine",
        ),
        (grow, "size", "docs/film.gif has 25.1 MB; expected at most 25: upload it"),
        (name_without_hash, "size", "large file docs/film.gif: no ['hash_val', 'hash_type']; expected url"),
        (name_with_another_hash, "size", "large file docs/film.gif: its md5 is not abc"),
        (
            metadata(**{"network_data_format#outputs#pred#num_channels": 2}),
            "network",
            "output channel number `1` doesn't match: `2`",
        ),
        (widen, "weights", "belongs to another architecture"),
    ],
)
def test_what_breaks_a_rule_is_named(
    break_it: Callable[[Path], None], rule: str, sentence: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(bundle)
    monkeypatch.setattr(check, "RULES", {rule: check.RULES[rule]})
    (finding,) = check_bundle(bundle)
    assert (finding.rule, finding.verdict) == (rule, "FAILED")
    assert sentence in finding.text and "\n" not in finding.text


def test_missing_weights_are_called_so_and_nothing_is_written(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(SystemExit) as end:
        main(["publish-check", str(bundle), "--zip", str(tmp_path / "out"), "--push", "me/drive"])
    assert end.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "8 ok, 0 FAILED, 2 MISSING"
    assert lines[-2].startswith("MISSING export      no models/model.pt; expected the weights of a training: copy")
    assert not (tmp_path / "out").exists()
    (bundle / "large_files.yml").write_text(
        "large_files:\n- {path: models/model.pt, url: https://example.org/m, hash_type: md5, hash_val: '1'}\n"
    )
    assert "download_large_files --bundle_path" in check_bundle(bundle)[-1].text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such folder; expected a bundle"),
        ([str(BUNDLES[0]), "--zpi", "x"], "hidiff publish-check has no option --zpi"),
    ],
)
def test_mistakes_end_in_a_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["publish-check", *arguments])
    assert end.value.code == 1
    assert message in capsys.readouterr().err


def test_the_archive_has_a_name_of_its_own(trained: Path) -> None:
    with pytest.raises(ValueError, match=f"--zip a/my.zip; expected a folder, in which drive_v{VERSION}.zip is"):
        zip_bundle(trained, "a/my.zip")


def test_an_archive_lacks_no_large_file(bundle: Path, tmp_path: Path) -> None:
    (bundle / "large_files.yml").write_text(
        "large_files:\n- {path: models/model.ts, url: https://example.org/m, hash_type: md5, hash_val: '1'}\n"
    )
    with pytest.raises(ValueError, match=r"models/model\.ts of large_files\.yml not there; expected every file"):
        zip_bundle(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Hub:
    """Stands in for huggingface_hub: keeps what would go over the network."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.files: dict[str, bytes] = {}
        self.HfApi = lambda token: self

    def create_repo(self, **arguments: Any) -> None:
        self.calls.append(("create_repo", arguments))

    def create_tag(self, **arguments: Any) -> None:
        self.calls.append(("create_tag", arguments))

    def upload_folder(self, repo_id: str, folder_path: str) -> str:
        root = Path(folder_path)
        self.files = {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
        return f"https://huggingface.co/{repo_id}/commit/1"


def test_push_uploads_what_is_published_with_a_card(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    monkeypatch.setattr("monai.bundle.scripts.huggingface_hub", hub)
    before = sorted(trained.rglob("*"))
    assert push_bundle(trained, "me/hidiff_drive") == "https://huggingface.co/me/hidiff_drive/commit/1"
    assert sorted(trained.rglob("*")) == before
    assert hub.calls == [
        ("create_repo", {"repo_id": "me/hidiff_drive", "private": True, "exist_ok": True}),
        ("create_tag", {"repo_id": "me/hidiff_drive", "tag": VERSION, "exist_ok": True}),
    ]
    assert hub.files["models/model.pt"] == (trained / "models" / "model.pt").read_bytes()
    assert not any(name.startswith(("output", ".")) for name in hub.files)
    card = hub.files["README.md"].decode()
    assert card.startswith("---\ntags:\n- monai\n") and "license: apache-2.0" in card
    assert card.endswith(hub.files["docs/README.md"].decode())


def test_push_says_what_is_missing(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="--push drive; expected <user or organisation>/<name>"):
        push_bundle(trained, "drive")
    lazy, _ = optional_import("a_hub_that_is_not_installed")
    monkeypatch.setattr("monai.bundle.scripts.huggingface_hub", lazy)
    with pytest.raises(ValueError, match=r'huggingface_hub is not installed.*pip install "hidiff-monai\[hub\]"'):
        push_bundle(trained, "me/drive")
