"""Images, folders and tars: what cannot be read is named, what can be read in another form gives the same numbers."""

import csv
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from PIL import Image

from robustness.cases import ANY, DONE, NOTED, REFUSED, Case, World, damage
from robustness.files import EVALUATE, NEEDS

MEASURED = ("scorer", "n_id", "n_ood", "fpr95", "auroc", "aupr_in", "aupr_out", "id_accuracy")


def measured(path: Path) -> list[dict[str, str]]:
    """The numbers of a file of rows, without what they are of."""
    return [{name: row[name] for name in MEASURED} for row in csv.DictReader(path.open(newline=""))]


def same_numbers(world: World) -> Callable[[Path], str]:
    """A check that the numbers are those of the undamaged folders."""
    rows = world.reference(EVALUATE, "new.csv", *NEEDS)
    expected = [{name: row[name] for name in MEASURED} for row in rows]
    return lambda folder: (
        "" if measured(folder / "new.csv") == expected else "other numbers than of the same pixels as PNG"
    )


def image(draw: Random, world: World, folder: Path) -> Case:
    """One file of the OOD set replaced, or one put beside the others."""
    world.take(folder, *NEEDS)
    path = draw.choice(sorted((folder / "ood").rglob("*.png")))
    names, words = (path.name, f"{path.parent.name}/{path.name}"), EVALUATE
    if draw.random() < 0.15:
        words = ("common.data", "verify", "folder:ood", "--data", ".")
    codes = (0, 1, 2) if words is not EVALUATE else (0, 2)
    way = draw.choice((_other_form, _no_image, _no_image, _beside, _bytes))
    right, note = way(draw, path)
    check = same_numbers(world) if right in (DONE, NOTED) and words is EVALUATE else lambda folder: ""
    if words is not EVALUATE:
        right = ANY
    return Case(words, right, names, f"{words[0]}, an image: {note}", check, codes)


def _bytes(draw: Random, path: Path) -> tuple[str, str]:
    """A PNG's checksums are not all compared by those who decode it: what comes out is not judged."""
    note = damage(draw, path)
    return (REFUSED if "empty" in note or "halves" in note else ANY), note


def _other_form(draw: Random, path: Path) -> tuple[str, str]:
    """The same pixels, in another form."""
    with Image.open(path) as opened:
        pixels = opened.convert("RGB")
    way = draw.choice(
        (
            "RGBA",
            "BMP",
            "TIFF",
            "WEBP",
            "GIF of two",
            "capitals",
            "EXIF upright",
            "palette",
            "PPM",
            "interlaced by name",
        )
    )
    path.unlink()
    match way:
        case "RGBA":
            pixels.convert("RGBA").save(path)
        case "BMP" | "TIFF" | "PPM":
            pixels.save(path.with_suffix({"BMP": ".bmp", "TIFF": ".tif", "PPM": ".ppm"}[way]))
        case "WEBP":
            pixels.save(path.with_suffix(".webp"), lossless=True)
        case "GIF of two":
            pixels.save(path.with_suffix(".tiff"), save_all=True, append_images=[pixels.rotate(90)])
        case "capitals":
            pixels.save(path.with_suffix(".PNG"))
        case "EXIF upright":
            exif = Image.Exif()
            exif[0x0112] = 1
            pixels.save(path, exif=exif)
        case "palette":
            grey = pixels.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
            (grey if grey.convert("RGB").tobytes() == pixels.tobytes() else pixels).save(path)
        case _:
            pixels.save(path, "BMP")  # a BMP called .png
    return DONE, f"{path.name} as {way}"


def _no_image(draw: Random, path: Path) -> tuple[str, str]:
    way = draw.choice(
        (
            "empty",
            "text",
            "cut",
            "a page",
            "float",
            "a bomb",
            "a fifo",
            "a dangling link",
            "a folder",
            "no width",
            "an archive",
            "random",
        )
    )
    content = path.read_bytes()
    path.unlink()
    match way:
        case "float":
            Image.new("F", (16, 16)).save(path, "TIFF")
        case "a fifo":
            os.mkfifo(path)
        case "a dangling link":
            path.symlink_to("nowhere.png")
        case "a folder":
            path.mkdir()
            (path / "1.png").write_bytes(content)
            return ANY, f"{path.name} is a folder with an image"
        case _:
            size = struct.pack(">II", 200_000, 200_000) if way == "a bomb" else struct.pack(">II", 0, 16)
            new = {
                "empty": b"", "text": b"no image\n", "cut": content[: len(content) // 2], "a page": b"<html>404</html>", "an archive": b"PK\5\6" + bytes(18),
                "random": draw.randbytes(300),
            }  # fmt: skip
            path.write_bytes(new.get(way, content[:16] + size + content[24:]))
    return REFUSED, f"{path.name} is {way}"


def _beside(draw: Random, path: Path) -> tuple[str, str]:
    """What does not belong to the set changes nothing."""
    way = draw.choice(("hidden", "notes", "a hidden folder", "a link to its parents", "an empty folder"))
    match way:
        case "hidden":
            (path.parent / ".x.png").write_bytes(b"")
        case "notes":
            (path.parent / "notes.txt").write_text("x")
        case "a hidden folder":
            (path.parent / ".thumbs").mkdir()
            (path.parent / ".thumbs/a.png").write_bytes(b"")
        case "a link to its parents":
            (path.parent / "up").symlink_to("..")
        case _:
            (path.parent / "nothing").mkdir()
    return DONE, f"beside the images: {way}"


def classes(draw: Random, world: World, folder: Path) -> Case:
    """The ID set's own folders, changed."""
    world.take(folder, *NEEDS)
    test = folder / "photos/test"
    way = draw.choice(
        ("renamed", "one less", "one more", "capitals", "one empty", "all gone", "flat", "the OOD set is it")
    )
    words, names = EVALUATE, ("photos",)
    match way:
        case "renamed":
            (test / "left").rename(test / "links")
        case "capitals":
            (test / "left").rename(test / "LEFT")
        case "one less":
            (test / "left").rename(folder / "away")
        case "one more":
            (test / "another").mkdir()
            (test / "left/0.png").rename(test / "another/0.png")
        case "one empty":
            for path in (test / "left").iterdir():
                path.unlink()
            return Case(words, ANY, names, "classes: one without images")
        case "all gone":
            for path in test.rglob("*.png"):
                path.unlink()
        case "flat":
            for number, path in enumerate(sorted(test.rglob("*.png"))):
                path.rename(test / f"{number}.png")
            for name in ("left", "right", "whole"):
                (test / name).rmdir()
            check = world.same(words, "new.csv", *NEEDS, columns=("scorer", "ood_set", "n_id", "fpr95", "auroc"))
            return Case(words, NOTED, ("has no labels",), "classes: flat", check)
        case _:
            words = ("common.evaluate", NEEDS[0], "--ood", "folder:photos", *EVALUATE[4:])
    return Case(words, REFUSED, names, f"classes: {way}")


def tar(draw: Random, world: World, folder: Path) -> Case:
    """An archive put where fetch looks for its download."""
    world.take(folder, "ood")
    path = folder / "data/.downloads/iSUN.tar.gz"
    path.parent.mkdir(parents=True)
    way = draw.choice(
        (
            "whole",
            "cut",
            "a header",
            "twice",
            "empty",
            "text",
            "something behind",
            "a link",
            "climbing",
            "no image",
            "a zip, cut",
            "damage",
        )
    )
    with tarfile.open(path, draw.choice(("w:gz", "w"))) as archive:
        for file in sorted((folder / "ood").rglob("*.png")) if way != "no image" else [Path(__file__)]:
            archive.add(file, f"iSUN/{'../../' * (way == 'climbing')}{file.parent.name}{file.name}")
        if way == "a link":
            member = tarfile.TarInfo("iSUN/x.png")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(member)
    content = path.read_bytes()
    if way == "a header" and content[:2] != b"\x1f\x8b":
        spot = draw.randrange(250)
        content = content[:spot] + bytes([content[spot] ^ 1]) + content[spot + 1 :]
    cut = draw.randrange(10, len(content) - 10)
    new = {
        "cut": content[:cut],
        "empty": b"",
        "text": b"no tar\n",
        "something behind": content + b"x" * 512,
        "a zip, cut": b"PK\3\4" + content,
    }
    path.write_bytes(new.get(way, content))
    note = damage(draw, path) if way == "damage" else way
    # A tar that is read whole has too few images for iSUN: the set is there then, and its count is complained of.
    right = ANY if way in ("whole", "twice", "damage", "cut", "a header", "something behind") else REFUSED
    return Case(("common.data", "fetch", "isun", "--data", "data"), right, ("iSUN", "isun"), f"archive: {note}")
