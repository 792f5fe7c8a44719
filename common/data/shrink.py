"""A smaller copy of a set of photographs, made once: most of what training on ImageNet costs a machine is decoding pixels that are thrown away.

The copy is another set of files: its digest differs, and `shrunk.json` in its folder goes into the provenance of every result.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from common.cli.errors import UserError
from common.cli.files import read_json, write_atomically, write_json
from common.data.decoding import decode
from common.data.folders import worker_count
from common.data.imagenet import LISTS, class_list
from common.data.listing import SHRUNK, File, all_files
from common.data.specs import Spec


def shrink(
    spec: Spec, root: Path, to: Path, short_side: int, quality: int = 95, progress: bool = True
) -> dict[str, int]:
    """Write `to`/NAME: every image below root/NAME with its shorter side at most `short_side` pixels, under the same name.

    Larger images are resampled (PIL, bilinear, antialiased) and written as JPEG of `quality` with full colour resolution, or losslessly where the
    original is no JPEG; others are copied byte by byte. Images inside .tar files come out as folders. Run again to go on. Raises UserError
    where the set is missing, an image does not decode, or `to` holds a copy made otherwise.
    """
    if short_side < 1 or not 1 <= quality <= 100:
        raise UserError(f"short-side must be >= 1 and quality in 1..100, got {short_side} and {quality}")
    source = spec.found(root)
    if source is None or not source.is_dir():
        raise UserError(f"{spec.name}: no folder of images to shrink below {root}")
    target = to / (source.relative_to(root) if source.is_relative_to(root) else source.name)
    if target.resolve() == source.resolve():
        raise UserError(f"the copy needs a folder of its own, got {to} for both")
    note = {"short_side": short_side, "jpeg_quality": quality, "filter": "bilinear, antialiased"}
    path = target / SHRUNK
    if path.exists() and (noted := read_json(path)) != note:
        said = f"a copy made with {noted}" if noted else f"a damaged {SHRUNK}"
        raise UserError(f"{target} holds {said}; take another folder, or delete it")
    target.mkdir(parents=True, exist_ok=True)
    write_json(path, note)  # first: a part of a copy must not pass for the original
    wanted = set(class_list(spec.name)) if spec.name in LISTS else None  # of all of ImageNet only the list's classes
    files = [(name, file) for name, file in all_files(source) if wanted is None or wanted & set(name.split("/"))]
    counts = {"shrunk": 0, "copied": 0, "there already": 0}
    with (
        ThreadPoolExecutor(worker_count()) as pool,
        tqdm(total=len(files), desc=spec.name, unit="image", disable=not progress, file=sys.stderr) as bar,
    ):
        for done in pool.map(lambda pair: shrink_file(pair[1], target / pair[0], short_side, quality), files):
            counts[done] += 1
            bar.update()
    return counts


def shrink_file(file: File, target: Path, short_side: int, quality: int) -> str:
    """What was done with one image: "shrunk", "copied" or "there already". Written under a temporary name and renamed."""
    if target.exists():
        return "there already"
    image = decode(file)
    scale = short_side / min(image.size)
    if scale >= 1:
        content = file.read_bytes()
    else:
        small = image.resize(
            tuple(max(short_side, round(side * scale)) for side in image.size), Image.Resampling.BILINEAR
        )
        buffer, jpeg = BytesIO(), target.suffix.lower() in (".jpg", ".jpeg")
        small.save(buffer, "JPEG" if jpeg else "PNG", **({"quality": quality, "subsampling": 0} if jpeg else {}))
        content = buffer.getvalue()
    write_atomically(target, lambda part: part.write_bytes(content), flush=False)
    return "copied" if scale >= 1 else "shrunk"
