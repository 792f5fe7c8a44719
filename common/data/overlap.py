"""Images that the ID test set and an OOD set share, found by content: no score can tell them apart."""

import hashlib

from common.cli.errors import UserError
from common.data.folders import FolderImages
from common.data.images import Images
from common.data.notes import note


def check_overlap(id_images: Images | FolderImages, ood: Images | FolderImages) -> None:
    """Raise UserError where every OOD image is one of the ID test images; some are counted and said.

    Images in memory are compared by their pixels at the network's size, streamed ones by their files' bytes. One of each is not compared,
    nor are sets of more files than are hashed (folders.HASH_LIMIT).
    """
    if isinstance(id_images, FolderImages) != isinstance(ood, FolderImages):
        return
    inside = set(keys(id_images))
    shared = sum(key in inside for key in keys(ood))
    if shared and shared == len(ood):
        raise UserError(
            f"{ood.name}: every image is in the test set of {id_images.name} too: nothing in it is out of distribution"
        )
    if shared:
        note(
            f"{shared:,} of the {len(ood):,} images of {ood.name} are in the test set of {id_images.name} too; they count as OOD"
        )


def keys(images: Images | FolderImages) -> tuple[bytes, ...]:
    """One an image: equal where the content is."""
    if isinstance(images, FolderImages):
        return images.keys
    rows = (row.cpu().numpy() for block in images.pixels.split(1024) for row in block.contiguous())
    return tuple(hashlib.sha256(row.tobytes()).digest() for row in rows)
