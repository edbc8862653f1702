"""Polyvore-U's items: the image lists, the photos, and the sentence vectors (`sentence_vector/semantic.pkl`)."""

import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panfit.data.findings import Findings
from panfit.data.photo_check import photo_faults
from panfit.data.unpickle import read_vectors_pickle
from panfit.errors import DataError, Problem
from panfit.outfits import ABSENT, Catalogue, IntArray

LeaveOut = Callable[[int, str, str, str], None]
"""row, found, wanted, remedy"""

log = logging.getLogger("panfit")

CATEGORIES = ("top", "bottom", "shoe")
SEMANTIC = Path("sentence_vector") / "semantic.pkl"
PHOTOS = Path("images") / "291x291"


@dataclass(frozen=True, eq=False)
class PolyvoreItems:
    """What the released indices point to.

    Attributes:
        catalogue: the items that can be used, tops first, then bottoms, then shoes, in the lists' order.
        row_of: for each category, (n,) catalogue row of each index of its list; ABSENT for an item that was left out.
        text: (N, T) float32 sentence vectors, or None where the source has none.
    """

    catalogue: Catalogue
    row_of: tuple[IntArray, ...]
    text: NDArray[np.float32] | None


def read_items(folder: Path, root: Path, images: Path | None, findings: Findings) -> PolyvoreItems | None:
    """Read ``folder``'s image lists, and the photos and vectors they name.

    Args:
        folder: tuples_<subset>.
        root: the folder that holds ``images`` and ``sentence_vector``.
        images: the folder of photos; by default root/images/291x291 where it exists, else items have no photos.
        findings: bad items are told in ``bad`` and left out; a missing list is ``fatal``, and None comes back.
    """
    lists = [_read_list(folder / f"image_list_{category}", findings) for category in CATEGORIES]
    if any(names is None for names in lists):
        return None
    names = [name for listed in lists for name in listed or []]
    categories = [category for category, listed in zip(CATEGORIES, lists, strict=True) for _ in listed or []]
    lines = [line for listed in lists for line in range(1, len(listed or []) + 1)]
    place_of = {category: str(folder / f"image_list_{category}") for category in CATEGORIES}
    good = np.array([bool(name) for name in names], dtype=np.bool_)  # (n,) blank lines are told by _read_list

    def leave_out(row: int, found: str, wanted: str, remedy: str) -> None:
        good[row] = False
        findings.bad.append(Problem(place_of[categories[row]], found, wanted, remedy, lines[row]))

    image_root = _find_photos(root, images, findings)
    if image_root is not None:
        present = np.flatnonzero(good)
        for index, fault in photo_faults(image_root, [names[row] for row in present], thorough=False):
            leave_out(int(present[index]), *fault)
    text = None
    if (root / SEMANTIC).exists():
        text = _read_text(root / SEMANTIC, names, good, leave_out)
    else:
        log.info("%s is not there: the data set has no text vectors", root / SEMANTIC)
    kept = np.flatnonzero(good)
    ids = _item_ids(names, categories, lines)
    catalogue = Catalogue(
        item_ids=tuple(ids[row] for row in kept),
        item_categories=tuple(categories[row] for row in kept),
        images=tuple(names[row] if image_root is not None else None for row in kept),
        titles=(None,) * len(kept),
        categories=CATEGORIES,
        image_root=root if image_root is None else image_root,
    )
    row_of = np.full(len(names), ABSENT, dtype=np.int64)
    row_of[kept] = np.arange(len(kept))
    ends = np.cumsum([len(listed or []) for listed in lists])[:-1]
    return PolyvoreItems(catalogue, tuple(np.split(row_of, ends)), text)


def _read_list(path: Path, findings: Findings) -> list[str] | None:
    """A photo's name for each index; "" for a blank line."""
    try:
        names = [name.strip() for name in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        found = "no such file" if not path.exists() else f"a file that cannot be read ({error})"
        findings.fatal.append(Problem(str(path), found, "the released list", "Check the path, or download it anew"))
        return None
    while names and not names[-1]:
        names.pop()
    for line, name in enumerate(names, start=1):
        if not name:
            remedy = "Download the file anew; the line counts, since items are named by their line"
            findings.bad.append(Problem(str(path), "an empty line", "a photo's file name", remedy, line))
    return names


def _find_photos(root: Path, images: Path | None, findings: Findings) -> Path | None:
    if images is None and (root / PHOTOS).is_dir():
        return root / PHOTOS
    if images is None:
        log.warning("%s is not there and --images is not given: the data set has no photos", root / PHOTOS)
    elif not images.is_dir():
        found = "a file" if images.exists() else "no such folder"
        findings.fatal.append(Problem(str(images), found, "the folder of photos", "Give another --images"))
        return None
    return images


def _item_ids(names: list[str], categories: list[str], lines: list[int]) -> list[str]:
    """File-name stems; with the category before them where a stem occurs twice, and then the line behind it."""
    ids = [os.path.splitext(name)[0] for name in names]  # noqa: PTH122 - pathlib takes seconds here
    for longer in (categories, lines):
        counts = Counter(ids)
        if max(counts.values(), default=0) == 1:
            break
        if longer is categories:
            ids = [f"{category}-{item_id}" for category, item_id in zip(categories, ids, strict=True)]
        else:
            ids = [
                f"{item_id}-{line}" if counts[item_id] > 1 else item_id
                for item_id, line in zip(ids, lines, strict=True)
            ]
    return ids


def _read_text(path: Path, names: list[str], good: NDArray[np.bool_], leave_out: LeaveOut) -> NDArray[np.float32]:
    """(N, T) float32, a row for each of the N items that stay good; those without a usable vector are left out."""
    vectors = read_vectors_pickle(path)
    lengths = Counter(len(vectors[name]) for name in names if name in vectors)
    if not lengths:
        remedy = "Is it another data set's file? Remove it to go on without text"
        raise DataError(f"{path} names none of the items", [Problem(str(path), "other names", "the photos'", remedy)])
    length = lengths.most_common(1)[0][0]
    remedy = f"Mend {path}, remove it to go on without text, or leave such items out with --skip-bad"
    last_use = {name: row for row, name in enumerate(names)}
    text = np.empty((int(good.sum()), length), dtype=np.float32)
    num_kept = 0
    for row in np.flatnonzero(good).tolist():
        name = names[row]
        # Gigabytes of vectors: each is let go as soon as it is copied.
        vector = vectors.pop(name, None) if last_use[name] == row else vectors.get(name)
        if vector is None:
            leave_out(row, f"{name!r}, which has no vector in {path.name}", "a vector for every item", remedy)
        elif len(vector) != length:
            leave_out(row, f"{name!r} with a vector of {len(vector)} numbers", f"{length}, as most have", remedy)
        else:
            with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is told
                text[num_kept] = vector
            if np.isfinite(text[num_kept]).all():
                num_kept += 1
            else:
                leave_out(row, f"{name!r}, whose vector is not finite", "finite numbers", remedy)
    return text[:num_kept]
