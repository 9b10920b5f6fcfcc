"""A moment later, another compression and another size are the same sight; another image is not."""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from hidiff_monai.data.prepare import similar
from hidiff_monai.data.prepare.similar import find_similar


def _scene(seed):
    noise = np.random.default_rng(seed).normal(size=(90, 120, 3))
    smooth = gaussian_filter(noise, (4, 4, 0))
    return Image.fromarray(np.clip(128 + 600 * smooth, 0, 255).astype(np.uint8))


def test_compressed_resized_and_shifted_copies_are_found(tmp_path):
    scene = _scene(0)
    scene.save(tmp_path / "0.png")
    scene.save(tmp_path / "1.jpg", quality=60)
    scene.resize((200, 150), Image.Resampling.BICUBIC).save(tmp_path / "2.png")
    Image.fromarray(np.clip(np.asarray(scene).astype(int) + 9, 0, 255).astype(np.uint8)).save(tmp_path / "3.png")
    for seed in range(4, 9):
        _scene(seed).save(tmp_path / f"{seed}.png")
    files = sorted(tmp_path.iterdir())
    assert find_similar(files) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def test_pairs_of_two_blocks_are_found_once(tmp_path, monkeypatch):
    for number, seed in enumerate((0, 1, 2, 0, 3, 1)):
        _scene(seed).save(tmp_path / f"{number}.png")
    files = sorted(tmp_path.iterdir())
    for size in (1, 2, 4, 6, 7):
        monkeypatch.setattr(similar, "BLOCK", size)
        assert sorted(find_similar(files)) == [(0, 3), (1, 5)]


def test_what_cannot_be_read_is_like_nothing(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(b"")
    assert find_similar([tmp_path / "a.png", tmp_path / "b.png"]) == []


def test_real_look_alikes_of_kvasir(data_root):
    folder = data_root / "kvasir_seg"
    names = ["test/images/16", "train/images/222", "train/images/459", "train/images/620", "train/images/0"]
    assert find_similar([folder / f"{name}.jpg" for name in names]) == [(0, 1), (2, 3)]


def test_deep_pictures_are_told_apart(tmp_path):
    generator = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files[:2]:
        Image.fromarray(generator.integers(300, 4096, (64, 64)).astype(np.uint16)).save(file)
    files[2].write_bytes(files[0].read_bytes())
    assert find_similar(files) == [(0, 2)]
