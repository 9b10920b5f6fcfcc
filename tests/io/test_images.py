"""Photographs of every kind read as a person sees them, and masks that lie on the file's own grid."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from hidiff_monai.data import LoadPhotographd, read_pixels
from hidiff_monai.io.images import read_photograph, write_mask

GREY = np.arange(24, dtype=np.uint8).reshape(6, 4) * 10


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_looks_like_its_photograph_to_every_reader(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(GREY).save(tmp_path / "photo.png", exif=exif)
    photograph = read_photograph(tmp_path / "photo.png")
    assert photograph.pixels.shape == ((6, 4, 3) if orientation < 5 else (4, 6, 3))
    write_mask(tmp_path / "mask.png", photograph.pixels[..., 0].astype(np.uint8), photograph.orientation)
    with Image.open(tmp_path / "mask.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), GREY)  # to those who ignore EXIF
        np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(mask)), photograph.pixels[..., 0])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_turned_tiff_shows_what_the_same_png_shows(tmp_path: Path, orientation: int, dtype: type) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for ending in ("tif", "png"):
        Image.fromarray(GREY.astype(dtype)).save(tmp_path / f"x.{ending}", exif=exif)
    tiff, png = (read_photograph(tmp_path / f"x.{ending}") for ending in ("tif", "png"))
    np.testing.assert_array_equal(tiff.pixels, png.pixels)
    assert tiff.orientation == png.orientation == orientation
    np.testing.assert_array_equal(*(read_pixels(tmp_path / f"x.{ending}").array for ending in ("tif", "png")))


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    deep = np.array([[0, 1, 257], [65535, 300, 32768]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "x.png")
    pixels = read_photograph(tmp_path / "x.png").pixels
    np.testing.assert_allclose(pixels, np.repeat(deep[..., None] / 257.0, 3, axis=-1), rtol=1e-6)


def test_colours_of_sixteen_bits_are_refused_where_eight_would_keep_little(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    colours = np.random.default_rng(0).integers(0, 65536, (6, 4, 3)).astype(np.uint16)
    for name, values in (("full", colours), ("twelve", colours // 16)):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="rgb")
    np.testing.assert_array_equal(read_photograph(tmp_path / "full.tif").pixels, colours // 256)
    tifffile.imwrite(tmp_path / "apart.tif", colours.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    with pytest.raises(ValueError, match=r"apart\.tif: has 16 bits a colour, each colour apart"):
        read_photograph(tmp_path / "apart.tif")
    Image.new("RGB", (1672, 2), (40, 49, 3)).save(tmp_path / "wide.bmp")  # dark, of 8 bits, 5016 bytes a row
    assert read_photograph(tmp_path / "wide.bmp").pixels.max() == 49
    with pytest.raises(
        ValueError, match=r"twelve\.tif: is a colour picture of 16 bits .*: 15 levels .*export it again"
    ):
        read_photograph(tmp_path / "twelve.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_negative_is_turned(tmp_path: Path, dtype: type) -> None:
    tifffile = pytest.importorskip("tifffile")
    grey = np.linspace(0, np.iinfo(dtype).max, 24).astype(dtype).reshape(6, 4)
    for photometric in ("minisblack", "miniswhite"):
        tifffile.imwrite(tmp_path / f"{photometric}.tif", grey, photometric=photometric)
    shown, turned = (read_photograph(tmp_path / f"minis{colour}.tif").pixels for colour in ("black", "white"))
    np.testing.assert_allclose(turned, 255 - shown, atol=1e-4)
    if dtype == np.uint16:  # 12 bits in a file of 16: turned about the range in use
        tifffile.imwrite(tmp_path / "x.tif", grey // 16, photometric="miniswhite")
        few = read_photograph(tmp_path / "x.tif").pixels
        assert few.min() == few[-1, -1, 0] == 0 and few.max() == few[0, 0, 0] < 17


def test_what_is_transparent_lies_on_black(tmp_path: Path) -> None:
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "x.png")
    assert read_photograph(tmp_path / "x.png").pixels.tolist() == [[[200, 100, 50], [0, 0, 0]]]


def test_palettes_show_their_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "x.png")
    assert read_photograph(tmp_path / "x.png").pixels.tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_cmyk_shows_its_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=100)
    red = read_photograph(tmp_path / "x.jpg").pixels[4, 4]
    assert red[0] > 250 and red[1:].max() < 5


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "x.tif")
    assert read_photograph(tmp_path / "x.tif").pixels[..., 0].tolist() == [[255, 0]]


def test_several_pictures_in_a_file_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(GREY), Image.fromarray(GREY)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match="x.tif: holds 2 pictures; expected one"):
        LoadPhotographd()({"image": str(tmp_path / "x.tif")})


def test_a_broken_file_is_named_with_its_mend(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"x.png: not readable .* export it again"):
        LoadPhotographd()({"image": str(tmp_path / "x.png")})


def test_an_item_becomes_a_tensor_that_knows_its_file(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "x.png")
    image = LoadPhotographd()({"image": str(tmp_path / "x.png")})["image"]
    assert image.shape == (3, 6, 4) and str(image.dtype) == "torch.float32"
    assert image.meta["filename_or_obj"].endswith("x.png") and image.meta["orientation"] == 1
    np.testing.assert_array_equal(image[1].numpy(), GREY)
