"""How much of a case is fine, coarse and unlabelled, counted in its label map in small steps, and remembered.

Background is counted apart: it fills most of an image and would hide everything else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hierseg.atomic import write_json
from hierseg.dataset import Case, Dataset
from hierseg.errors import ImageError
from hierseg.labeltree import LabelTree
from hierseg.resources import home
from HierSubclassSegLib.scene import nifti
from HierSubclassSegLib.ticks import Steps

# Enough of a NIfTI-1 file for its header.
_HEADER_BYTES = 352


@dataclass(frozen=True)
class Share:
    """Voxels of a case.

    Attributes:
        fine: carry a leaf that is not background.
        coarse: carry an inner node: superclass known, subclass not.
        unlabelled: carry nothing.
        background: carry the background.
        voxel_ml: volume of one.
    """

    fine: int
    coarse: int
    unlabelled: int
    background: int
    voxel_ml: float

    @property
    def counted(self) -> int:
        """All but the background."""
        return self.fine + self.coarse + self.unlabelled


def share_of(tree: LabelTree, counts: np.ndarray, voxel_ml: float) -> Share:
    """The share from the number of voxels of each value."""
    background = tree.background
    fine = sum(int(counts[node.value]) for node in tree.leaves if node is not background)
    coarse = sum(int(counts[node.value]) for node in tree.nodes if not tree.is_leaf(node))
    known = int(counts[background.value]) if background is not None else 0
    return Share(fine, coarse, int(counts.sum()) - fine - coarse - known, known, voxel_ml)


def count_steps(path: Path, tree: LabelTree) -> Steps[Share]:
    """Count the voxels of a label map file.  It is open in the first step only.

    Raises:
        ImageError: it cannot be read, or is no label map.
    """
    counts = np.zeros(65536, dtype=np.int64)
    content = bytearray()
    header = None
    missing = 0
    try:
        packed = path.read_bytes()
        for piece in nifti.unpacked(packed):
            content += piece
            if header is None:
                if len(content) < _HEADER_BYTES:
                    continue
                header = nifti.header_of(path, content)
                shape, dtype, start, affine = header
                if dtype.kind not in "ui" or dtype.itemsize > 2:
                    raise ImageError(
                        f"{path}: holds numbers of type {dtype}; a label map holds whole numbers to 65535."
                    )
                missing = int(np.prod(shape))
                del content[: max(start, _HEADER_BYTES)]
            whole = min(missing, len(content) // dtype.itemsize)
            values = np.frombuffer(bytes(content[: whole * dtype.itemsize]), dtype)
            counts += np.bincount(values.view(f"{dtype.byteorder}u{dtype.itemsize}"), minlength=65536)
            del content[: whole * dtype.itemsize]
            missing -= whole
            yield 0.5
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(
            f"{path}: this file cannot be read ({error}); put the file back or save the case again."
        ) from error
    if header is None or missing:
        raise ImageError(f"{path}: the file ends early; it is damaged, save the case again.")
    return share_of(tree, counts, float(abs(np.linalg.det(affine[:3, :3]))) / 1000.0)


class ShareCache:
    """Counts of a dataset's label maps, kept in the user's own folder, so that a large dataset is counted once.

    Args:
        dataset: the dataset; nothing is written into its folder.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._path = (
            home() / "shares" / (hashlib.sha256(str(dataset.folder.resolve()).encode()).hexdigest()[:16] + ".json")
        )
        self._known: dict[str, list[object]] = {}
        self._changed = False
        # It is only a memory: what cannot be read is counted again.
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(self._path.read_text(encoding="utf-8"))
            self._known = content if isinstance(content, dict) else {}

    def key(self, dataset: Dataset, case: Case) -> str:
        """What the count depends on; empty for a case whose label map is not there."""
        if case.label is None:
            return ""
        try:
            state = (dataset.folder / case.label).stat()
        except OSError:
            return ""
        return f"{case.label} {state.st_size} {state.st_mtime_ns} {dataset.tree.fingerprint}"

    def get(self, key: str) -> Share | None:
        """The count, or None."""
        try:
            return Share(**dict(self._known[key][0]))  # type: ignore[call-overload]
        except (KeyError, TypeError, IndexError, ValueError):
            return None

    def put(self, key: str, share: Share) -> None:
        """Remember a count."""
        self._known[key] = [asdict(share)]
        self._changed = True

    def save(self, wanted: set[str]) -> None:
        """Write what is known of the wanted keys; a full disk only costs the memory."""
        if self._changed:
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self._path, {key: value for key, value in self._known.items() if key in wanted})
                self._changed = False
