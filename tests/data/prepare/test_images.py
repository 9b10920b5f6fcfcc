"""Look-alikes in two sections are counted, and only the first are named."""

import json
import shutil

import pytest

from hidiff_monai.data.prepare.images import write_image_datalist

HEAD = {"name": "pictures", "channels": 3, "label_values": {"0": 0, "255": 1}, "label_names": ["square"]}


@pytest.fixture
def write(tmp_path, draw_picture, draw_mask):
    """Writes pictures, of which the first of the test section are look-alikes of the training's; gives the note."""

    def write_note(num_alike, **head):
        sections = {"training": [], "validation": [], "test": []}
        for number in range(7):
            draw_picture(tmp_path / f"{number}.png")
            draw_mask(tmp_path / f"{number}_mask.png")
            sections["training"].append({"id": f"{number}", "image": f"{number}.png", "label": f"{number}_mask.png"})
        for number in range(num_alike):
            shutil.copyfile(tmp_path / f"{number}.png", tmp_path / f"b{number}.png")
            with open(tmp_path / f"b{number}.png", "ab") as file:
                file.write(b"another file, the same pixels")
            case = {"id": f"b{number}", "image": f"b{number}.png", "label": f"{number}_mask.png"}
            sections["test"].append(case)
        path = write_image_datalist({**HEAD, **head}, sections, tmp_path, tmp_path)
        return json.loads(path.read_text())["note"]

    return write_note


def test_none_follows_the_note_of_the_data_set(write):
    assert write(0, note="Noise.") == "Noise. No image has a look-alike in another section."


def test_one_pair_is_named(write):
    assert write(1) == "Images that show the same sight are in two sections, 1 pair: 0 = b0."


def test_of_many_pairs_five_are_named(write):
    note = write(7)
    assert note == (
        "Images that show the same sight are in two sections, 7 pairs: "
        "0 = b0, 1 = b1, 2 = b2, 3 = b3, 4 = b4 and so on."
    )


def test_the_datalist_of_another_data_set_is_not_overwritten(write, tmp_path):
    write(0)
    before = (tmp_path / "datalist.json").read_bytes()
    with pytest.raises(
        ValueError, match="datalist.json is of pictures; expected drawings or no datalist: name another"
    ):
        write(0, name="drawings")
    assert (tmp_path / "datalist.json").read_bytes() == before
