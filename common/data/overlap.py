"""Images that the ID test set and an OOD set share, found by content: no score can tell them apart."""

from collections.abc import Sequence

from common.cli.errors import UserError
from common.data.folders import FolderImages
from common.data.images import Images, pixel_keys
from common.data.notes import note


def check_overlap(id_images: Images | FolderImages, ood: Images | FolderImages) -> None:
    """Raise UserError where every OOD image is one of the ID test images; some are counted and said.

    Compared are pixels at the network's size. Those of streamed images are known when they have passed: before that, and of sets of which not
    all pass through this process, files are compared by their bytes. Larger sets than folders.HASH_LIMIT are not compared.
    """
    inside, outside = pixels_of(id_images), pixels_of(ood)
    if not inside or not outside:
        inside, outside = files_of(id_images), files_of(ood)
    inside = set(inside)
    shared = sum(key in inside for key in outside)
    if shared and shared == len(ood):
        raise UserError(
            f"{ood.name}: every image is in the test set of {id_images.name} too: nothing in it is out of distribution"
        )
    if shared:
        said = f"{shared:,} of the {len(ood):,} images of {ood.name} are in the test set of {id_images.name} too"
        note(f"{said}; they count as OOD")


def pixels_of(images: Images | FolderImages) -> Sequence[bytes]:
    """A key an image; none where they have not all been read."""
    if isinstance(images, Images):
        return pixel_keys(images.pixels)
    return list(images.seen.values()) if len(images.seen) == len(images) else []


def files_of(images: Images | FolderImages) -> Sequence[bytes]:
    return images.keys if isinstance(images, FolderImages) else []
