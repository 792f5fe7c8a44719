import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from common.data import verify as module
from common.data.images import Images
from common.data.specs import SPECS, spec_of
from common.data.transforms import CIFAR
from common.data.verify import id_test, verify


@pytest.fixture
def isun(noise, small, tmp_path):
    """A complete, recorded small set."""
    small("isun", test=6)
    paths = [noise(f"isun/iSUN/{k}.jpeg", seed=k) for k in range(6)]
    report = verify(SPECS["isun"], tmp_path)
    assert report.problems == [] and "recorded (first verification)" in report.facts
    return paths


def problems(root, name="isun", **more):
    return verify(SPECS[name], root, **more).problems


def test_an_untouched_set_passes_and_says_what_was_looked_at(isun, tmp_path):
    report = verify(SPECS["isun"], tmp_path)
    assert report.line.split()[:2] == ["isun", "ok"]
    for said in (
        "test: 6 images",
        "size 32x32",
        "encoded as JPEG q90",
        "no published checksum",
        "all files as recorded (first verification)",
    ):
        assert said in report.facts


def test_a_missing_image_is_caught(isun, tmp_path):
    isun[2].unlink()
    assert problems(tmp_path) == ["test: 5 images, expected 6", "1 files gone since the record, first iSUN/2.jpeg"]


def test_a_flipped_byte_is_caught_by_the_record(isun, tmp_path):
    content = bytearray(isun[3].read_bytes())
    content[len(content) // 2] ^= 1
    isun[3].write_bytes(content)
    assert "1 files changed since the record, first iSUN/3.jpeg" in problems(tmp_path)


def test_a_truncated_image_is_caught_without_a_record_too(isun, tmp_path):
    isun[1].write_bytes(isun[1].read_bytes()[:-100])
    shutil.rmtree(tmp_path / ".verified")
    (problem,) = problems(tmp_path)
    assert problem.startswith("1 images do not decode, first iSUN/1.jpeg (OSError: image file is truncated")
    assert not (tmp_path / ".verified").exists()


def test_a_wrong_count_is_caught(isun, noise, tmp_path):
    noise("isun/iSUN/extra.jpeg", seed=9)
    assert problems(tmp_path) == ["test: 7 images, expected 6", "1 files new since the record, first iSUN/extra.jpeg"]


def test_a_renamed_text_file_is_caught(isun, tmp_path):
    isun[5].unlink()
    (tmp_path / "isun" / "iSUN" / "5.jpeg").write_text("a list of images\n" * 9)
    shutil.rmtree(tmp_path / ".verified")
    assert problems(tmp_path) == ["1 images do not decode, first iSUN/5.jpeg (a text file)"]


def test_lsun_crop_in_lsun_resizes_place_is_caught_and_the_reverse(noise, small, tmp_path):
    for name, smooth in [("lsun_resize", False), ("lsun_crop", True)]:
        small(name, test=5)
        for k in range(5):
            noise(f"{name}/{k}.png", seed=k, smooth=smooth)
        assert problems(tmp_path, name) == []
    shutil.rmtree(tmp_path / ".verified")
    (tmp_path / "lsun_resize").rename(tmp_path / "kept")
    (tmp_path / "lsun_crop").rename(tmp_path / "lsun_resize")
    (tmp_path / "kept").rename(tmp_path / "lsun_crop")
    (in_resize,), (in_crop,) = problems(tmp_path, "lsun_resize"), problems(tmp_path, "lsun_crop")
    assert in_resize.startswith("these look like crops") and in_resize.endswith(
        "is it lsun_crop in lsun_resize's place?"
    )
    assert in_crop.startswith("these look like shrunk scenes") and in_crop.endswith(
        "is it lsun_resize in lsun_crop's place?"
    )


def test_another_size_is_caught(isun, noise, tmp_path):
    noise("isun/iSUN/4.jpeg", size=(36, 32), seed=4)
    assert "1 images are not 32x32, first iSUN/4.jpeg (36x32)" in problems(tmp_path)


def test_mixed_encodings_are_reported(isun, tmp_path):
    Image.new("RGB", (32, 32)).save(isun[0], "PNG")
    assert "encoded as JPEG q90 (5), PNG (1)" in verify(SPECS["isun"], tmp_path).facts


def test_a_record_is_renewed_on_demand_only_and_never_over_a_fault(isun, noise, tmp_path):
    noise("isun/iSUN/0.jpeg", seed=99)
    assert problems(tmp_path) != [] and problems(tmp_path) != []
    assert problems(tmp_path, record=True) == [] and problems(tmp_path) == []
    kept = (tmp_path / ".verified" / "isun.json").read_text()
    isun[0].unlink()
    assert problems(tmp_path, record=True) == ["test: 5 images, expected 6"]
    assert (tmp_path / ".verified" / "isun.json").read_text() == kept


def test_images_of_the_id_test_set_are_found_whatever_their_file(isun, tmp_path, monkeypatch):
    stranger = np.random.default_rng(7).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    shared = np.asarray(Image.open(isun[2]))[None]
    pixels = torch.from_numpy(np.concatenate([stranger, shared])).permute(0, 3, 1, 2)
    monkeypatch.setattr(
        module, "load", lambda name, split, root: Images(name, pixels, facts={"transform": CIFAR.facts()})
    )
    against = id_test("cifar10", tmp_path)
    assert (
        "1 of them are in cifar10's test set, pixel for pixel" in verify(SPECS["isun"], tmp_path, against=against).facts
    )
    Image.fromarray(shared[0]).save(tmp_path / "isun" / "iSUN" / "0.png")  # another file, the same pixels
    isun[0].unlink()
    assert (
        "2 of them are in cifar10's test set, pixel for pixel" in verify(SPECS["isun"], tmp_path, against=against).facts
    )


def test_any_folder_is_verified_split_by_split(noise, tmp_path):
    for k in range(4):
        noise(f"mine/{'train' if k else 'test'}/{k}.png", size=(40, 30), seed=k)
    spec = spec_of(f"folder:{tmp_path / 'mine'}")
    assert {"train: 3 images", "test: 1 images", "size 40x30", "encoded as PNG"} <= set(
        verify(spec, tmp_path / "root").facts
    )
    (tmp_path / "mine" / "train" / "2.png").unlink()
    assert verify(spec, tmp_path / "root").problems == ["1 files gone since the record, first train/2.png"]


def test_a_list_is_verified_and_its_files_are_recorded(noise, tmp_path):
    for k in range(3):
        noise(f"mine/{k}.png", seed=k)
    (tmp_path / "mine/list.txt").write_text("0.png -1\n2.png -1\n")
    spec = spec_of(f"list:{tmp_path / 'mine/list.txt'}")
    report = verify(spec, tmp_path / "root")
    assert report.problems == [] and "test: 2 images" in report.facts
    noise("mine/2.png", seed=9)
    assert verify(spec, tmp_path / "root").problems == ["1 files changed since the record, first ../2.png"]


def test_a_missing_set_is_no_fault_of_the_files(tmp_path):
    report = verify(SPECS["textures"], tmp_path)
    assert report.is_missing and report.problems == []
    assert report.line == f"{'textures':<20} missing  to get it: python -m common.data fetch textures --data {tmp_path}"


def test_a_flipped_byte_in_cifar10_differs_from_the_published_md5(real_cifar10_test, tmp_path):
    place = shutil.copytree(real_cifar10_test, tmp_path / "root") / "cifar-10-batches-py"
    wrong = "test_batch differs from its published MD5 (torchvision's source)"
    assert wrong not in problems(tmp_path / "root", "cifar10")
    with (place / "test_batch").open("r+b") as file:
        file.seek(5_000_000)
        byte = file.read(1)
        file.seek(5_000_000)
        file.write(bytes([byte[0] ^ 1]))
    assert wrong in problems(tmp_path / "root", "cifar10")


def test_missing_cifar_batches_are_named(real_cifar10_test):
    assert problems(real_cifar10_test, "cifar10") == [
        "missing: data_batch_1, data_batch_2, data_batch_3, data_batch_4, data_batch_5"
    ]


def test_the_real_isun_is_rough_and_whole(real_folders, tmp_path):
    report = verify(SPECS["isun"], real_folders)
    assert report.problems == []
    for said in ("test: 8,925 images", "size 32x32", "encoded as JPEG q75", "roughness 28.8", "no published checksum"):
        assert said in report.facts
