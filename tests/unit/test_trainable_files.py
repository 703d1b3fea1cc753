"""Data files are read, checked, downloaded once, and when missing the error says how to get them."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.unit.tinydata import CIFAR, IDX, build, forget_loaded_files, idx, write_files
from torch import nn

from deeprelax.errors import DataError
from deeprelax_trainables import cifar10
from deeprelax_trainables.datafiles import Download, PublicData
from deeprelax_trainables.idx import read_idx
from deeprelax_trainables.images import crop_and_flip


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    forget_loaded_files()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write_files(path)
    return path


def test_augmented_image_is_a_shifted_and_perhaps_mirrored_copy() -> None:
    image = torch.arange(1.0, 17).view(1, 1, 4, 4)
    padded = nn.functional.pad(image, (1, 1, 1, 1))
    mirrored = nn.functional.pad(image.flip(-1), (1, 1, 1, 1))
    windows = {
        tuple(whole[0, 0, y : y + 4, x : x + 4].flatten().tolist())
        for whole in (padded, mirrored)
        for y in range(3)
        for x in range(3)
    }
    augmented = crop_and_flip(image.expand(400, 1, 4, 4), torch.Generator().manual_seed(0), padding=1)
    assert {tuple(row) for row in augmented.flatten(1).tolist()} == windows


def test_augmentation_repeats_with_its_generator() -> None:
    images = torch.rand(8, 3, 6, 6)
    first, second = (crop_and_flip(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("packed", [True, False])
def test_idx_file_is_read_plain_and_packed(tmp_path: Path, packed: bool) -> None:
    array = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    path = tmp_path / ("array.gz" if packed else "array")
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    assert torch.equal(read_idx(path), array)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty", b""),
        ("other", b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00"),
        ("header", bytes([0, 0, 8, 3, 0, 0])),
        ("short", idx(torch.zeros(9, dtype=torch.uint8))[:-1]),
        ("long", idx(torch.zeros(9, dtype=torch.uint8)) + b"1"),
        ("plain.gz", idx(torch.zeros(9, dtype=torch.uint8))),
        ("cut.gz", gzip.compress(idx(torch.zeros(99, dtype=torch.uint8)), mtime=0)[:-9]),
    ],
)
def test_damaged_idx_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        read_idx(tmp_path / name)


def test_fashion_mnist_subset_is_fixed_and_nested(folder: Path) -> None:
    small, large = (build("fashion_mnist", folder, samples=samples).train_data for samples in (8, 16))
    assert (len(small), len(large)) == (8, 16)
    assert torch.equal(small.batch(torch.arange(8))[0], large.batch(torch.arange(8))[0])


def test_fashion_mnist_validation_holds_out_the_last_training_samples(folder: Path) -> None:
    every, split = (build("fashion_mnist", folder, validation=held_out) for held_out in (0, 24))
    images, targets = every.train_data.batch(torch.arange(64))
    for data, expected in ((split.train_data, slice(0, 40)), (split.test_data, slice(40, 64))):
        inputs, answers = data.batch(torch.arange(len(data)))
        assert torch.equal(inputs, images[expected])
        assert torch.equal(answers, targets[expected])


def test_fashion_mnist_validation_must_leave_training_samples(folder: Path) -> None:
    with pytest.raises(DataError, match=r"validation=64. Must be less than the 64 training samples"):
        build("fashion_mnist", folder, validation=64)


def test_fashion_mnist_images_and_labels_must_match(folder: Path, tmp_path: Path) -> None:
    for name in IDX:
        (tmp_path / name).write_bytes(gzip.decompress((folder / f"{name}.gz").read_bytes()))
    (tmp_path / IDX[1]).write_bytes(idx(torch.zeros(63, dtype=torch.uint8)))
    with pytest.raises(DataError, match=r"\(64, 28, 28\) and 63 labels"):
        build("fashion_mnist", tmp_path)


def test_cifar_is_read_from_the_archive_as_from_its_files(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name in CIFAR:
            archive.add(folder / name, f"cifar-10-batches-bin/{name}")
    packed, plain = (build("cifar10", place).train_data for place in (tmp_path, folder))
    everything = torch.arange(80)
    for left, right in zip(packed.batch(everything), plain.batch(everything), strict=True):
        assert torch.equal(left, right)


def test_cifar_images_keep_their_colours() -> None:
    content = bytes([7]) + bytes([10]) * 1024 + bytes([20]) * 1024 + bytes([30]) * 1024
    images, targets = cifar10._parse(content)
    assert targets.tolist() == [7]
    assert images.float().mean((2, 3)).tolist() == [[10, 20, 30]]


@pytest.mark.parametrize("content", [b"", b"x" * 3072])
def test_damaged_cifar_file_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    for name in CIFAR:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / CIFAR[2]).write_bytes(content)
    with pytest.raises(DataError, match="multiple of 3073"):
        build("cifar10", tmp_path)


def test_damaged_cifar_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match="Fetch the archive again"):
        build("cifar10", tmp_path)


@pytest.mark.parametrize(("name", "file"), [("fashion_mnist", IDX[0]), ("cifar10", "cifar-10-binary.tar.gz")])
def test_folder_without_the_files_names_the_fixes(name: str, file: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        build(name, tmp_path)
    for part in (str(tmp_path), file, "data=FOLDER", "DEEPRELAX_DATA", "https://"):
        assert part in str(error.value)


# Downloads, from a file:// address


def public(tmp_path: Path, content: bytes, sha256: str) -> PublicData:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "set.bin").write_bytes(content)
    url = (tmp_path / "mirror" / "set.bin").as_uri()
    return PublicData(name="tiny", layouts=(("set.bin",),), downloads=(Download(url=url, sha256=sha256),))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DEEPRELAX_DATA", str(tmp_path / "data"))
    return tmp_path / "cache" / "deeprelax" / "tiny"


def test_download_goes_to_the_cache_once(tmp_path: Path, cache: Path) -> None:
    data = public(tmp_path, b"content", hashlib.sha256(b"content").hexdigest())
    assert data.locate() == [cache / "set.bin"]
    (tmp_path / "mirror" / "set.bin").unlink()
    assert data.locate()[0].read_bytes() == b"content"


def test_download_with_a_wrong_checksum_is_discarded(tmp_path: Path, cache: Path) -> None:
    data = public(tmp_path, b"other", hashlib.sha256(b"content").hexdigest())
    with pytest.raises(DataError, match=r"Wrong checksum.*DEEPRELAX_DATA"):
        data.locate()
    assert list(cache.iterdir()) == []


def test_failed_download_names_the_places_and_the_fixes(tmp_path: Path, cache: Path) -> None:
    data = public(tmp_path, b"content", "")
    (tmp_path / "mirror" / "set.bin").unlink()
    with pytest.raises(DataError) as error:
        data.locate()
    for part in (str(tmp_path / "data" / "tiny"), str(cache), "Cannot download", "data=FOLDER"):
        assert part in str(error.value)


@pytest.mark.usefixtures("cache")
def test_data_folder_comes_before_the_cache(tmp_path: Path) -> None:
    data = public(tmp_path, b"content", hashlib.sha256(b"content").hexdigest())
    data.locate()
    (tmp_path / "data" / "tiny").mkdir(parents=True)
    (tmp_path / "data" / "tiny" / "set.bin").write_bytes(b"mine")
    assert data.locate()[0].read_bytes() == b"mine"
