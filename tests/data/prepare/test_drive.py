"""The download's two folders give the split that is committed."""

import shutil
from pathlib import Path

from hidiff_monai.data import write_phantoms
from hidiff_monai.data.prepare import DATASETS

COMMITTED = Path(__file__).parents[3] / "data_lists" / "drive.json"


def test_phantoms_in_the_layout_of_the_download_give_the_committed_split(tmp_path):
    source = write_phantoms(tmp_path / "DRIVE", 20, 0, 20, size=(64, 64), progress=False).parent
    second = source / "test" / "2nd_manual"
    second.mkdir()
    for file in (source / "test" / "1st_manual").iterdir():
        shutil.copyfile(file, second / file.name.replace("manual1", "manual2"))
    assert DATASETS["drive"](source, tmp_path).read_text() == COMMITTED.read_text()
