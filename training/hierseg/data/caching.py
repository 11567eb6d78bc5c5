"""Preprocessed cases are kept, so that reading, resampling and normalizing happen once.

Where they are kept is the configuration's ``cache``: ``memory`` (fastest), ``disk`` (memory-mapped arrays that
survive the run and are shared by runs with equal preprocessing) or ``none`` (prepared anew for every patch).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.data.cases import ChangeLabel, TrainingCase, VoxelIndex, load_case
from hierseg.data.preprocess import Preprocessor
from hierseg.dataset import Case, Dataset

_VERSION = 2


class CaseCache:
    """The preprocessed cases of a run, by position.

    Args:
        dataset: where the cases come from.
        cases: those that this run uses, in a fixed order.
        config: the bundle configuration (``hierseg.json``) that says how images are preprocessed.
        mode: ``memory``, ``disk`` or ``none``.
        folder: for ``disk``.
        need_label: refuse cases without any labelled voxel.
        change_label: by case id, what becomes of the stored label map, as hiding slices that are measured on.
    """

    def __init__(
        self,
        dataset: Dataset,
        cases: Sequence[Case],
        config: Mapping[str, Any],
        *,
        mode: str = "memory",
        folder: Path | None = None,
        need_label: bool = True,
        change_label: Mapping[str, ChangeLabel] | None = None,
    ) -> None:
        self.dataset = dataset
        self.cases = list(cases)
        self.mode = mode
        self.folder = folder
        self.need_label = need_label
        self.change_label = dict(change_label or {})
        self.preprocessor = Preprocessor(config)
        self._settings = {
            key: config.get(key) for key in ("channels", "orientation", "spacing", "spatial_dims", "slice_axis")
        }
        self._kept: dict[int, TrainingCase] = {}
        self.indices: list[VoxelIndex] = []
        self.shapes: list[tuple[int, int, int]] = []
        self.affines: list[np.ndarray] = []
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self.cases)

    def fill(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Prepare every case once, in order; voxel indices and shapes are kept whatever the mode.

        Raises:
            TrainingError: a case cannot be used.
        """
        for position in range(len(self.cases)):
            case = self._prepare(position)
            self.indices.append(case.index)
            self.shapes.append(case.shape)
            self.affines.append(case.affine)
            self.notes += case.notes
            if self.mode != "none":
                self._kept[position] = case
            if progress is not None:
                progress(position + 1, len(self.cases))

    def __getitem__(self, position: int) -> TrainingCase:
        found = self._kept.get(position)
        return self._prepare(position) if found is None else found

    def _prepare(self, position: int) -> TrainingCase:
        case = self.cases[position]
        change = self.change_label.get(case.id)
        if self.mode != "disk" or self.folder is None or change is not None:
            # A changed label map is a matter of this run alone and is not shared with others.
            return load_case(self.dataset, case, self.preprocessor, need_label=self.need_label, change_label=change)
        place = self.folder / f"{case.id}-{self._key(case)}"
        if not (place / "case.json").is_file():
            _write(place, load_case(self.dataset, case, self.preprocessor, need_label=self.need_label))
        return _read(place, case.id)

    def _key(self, case: Case) -> str:
        """Changes whenever a file of the case, the tree or the preprocessing does."""
        label = self.dataset.label_path(case)
        files = [*self.dataset.image_paths(case), *([label] if label else [])]
        stats = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        content = [
            _VERSION,
            self._settings,
            self.dataset.tree.fingerprint,
            self.dataset.label_tree.fingerprint,
            [str(file.resolve()) for file in files],
            stats,
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _write(place: Path, case: TrainingCase) -> None:
    """Put a case on disk as a whole folder, so that a reader never sees half of one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".tmp-", dir=place.parent))
    try:
        np.save(staged / "image.npy", case.image)
        np.save(staged / "label.npy", case.label)
        positions: dict[str, Any] = {str(value): found for value, found in case.index.positions.items()}
        np.savez(staged / "positions.npz", **positions)
        content = {
            "affine": case.affine.tolist(),
            "notes": list(case.notes),
            "counts": {str(k): v for k, v in case.index.counts.items()},
        }
        (staged / "case.json").write_text(json.dumps(content), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        staged.replace(place)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _read(place: Path, case_id: str) -> TrainingCase:
    content = json.loads((place / "case.json").read_text(encoding="utf-8"))
    with np.load(place / "positions.npz") as stored:
        positions = {int(value): stored[value] for value in stored.files}
    counts = {int(value): count for value, count in content["counts"].items()}
    return TrainingCase(
        id=case_id,
        image=np.load(place / "image.npy", mmap_mode="r"),
        label=np.load(place / "label.npy", mmap_mode="r"),
        affine=np.array(content["affine"]),
        index=VoxelIndex(counts, positions),
        notes=tuple(content["notes"]),
    )
