"""BraTS 2021 as published: gliomas in four MRI channels of 1 mm.

::

    BraTS2021_00000/  BraTS2021_00000_flair.nii.gz  ..._t1.nii.gz  ..._t1ce.nii.gz  ..._t2.nii.gz  ..._seg.nii.gz

Labels: necrotic core 1, edema 2, enhancing tumor 4 (Baid et al., arXiv 2107.02314).  The paper (Dai et al., MICCAI
2023) splits the 1251 labelled cases at random into 876, 125 and 250; its list is not published, so it is drawn here.
"""

from __future__ import annotations

from pathlib import Path

from hierseg.errors import ConfigError, DatasetError
from hierseg.importers.source import LabelFile, Picture, Refused, Source, SourceCase, case_id, drawn_split
from hierseg.labeltree import LabelTree

SPLITS = ("paper", "none")
CHANNELS = {"FLAIR": "flair", "T1": "t1", "T1ce": "t1ce", "T2": "t2"}
PAPER_SHARES = (876 / 1251, 125 / 1251)
_ENDINGS = (".nii.gz", ".nii")


def brats_source(folder: str | Path, tree: LabelTree, split: str = "paper", seed: int = 0) -> Source:
    """Look through the cases' folders.

    Args:
        folder: holds them, or one more folder in between.
        tree: with BraTS 2021's label values, usually the shipped tree ``brats2021``.
        split: ``paper`` (70, 10 and 20 of 100, drawn) or ``none`` (all for training).
        seed: of the draw.

    Raises:
        DatasetError: there are no such folders.
        ConfigError: there is no such split.
    """
    folder = Path(folder)
    if split not in SPLITS:
        raise ConfigError(f"--split is {split!r}; choose {' or '.join(SPLITS)}.")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder; give the folder that holds the cases' folders.")
    places = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    found = [path for path in places if _is_case(path)]
    found += [path for above in places if above not in found for path in sorted(above.iterdir()) if _is_case(path)]
    if not found:
        raise DatasetError(
            f"{folder}: this is not BraTS 2021, no folder like BraTS2021_00000 with BraTS2021_00000_flair.nii.gz is in it; give the folder that was unpacked."
        )
    cases: list[SourceCase] = []
    refused: list[Refused] = []
    for path in found:
        files = {name: _file(path, part) for name, part in CHANNELS.items()}
        missing = [CHANNELS[name] for name, file in files.items() if file is None]
        label = _file(path, "seg")
        name = case_id(path.name)
        if missing:
            refused.append(Refused(path.name, f"{path}: {path.name}_{missing[0]}.nii.gz is not there; restore it."))
        elif label is None:
            refused.append(
                Refused(path.name, f"{path}: {path.name}_seg.nii.gz is not there; unlabelled cases are not taken.")
            )
        elif any(case.id.lower() == name.lower() for case in cases):
            refused.append(Refused(path.name, f"{path}: there is another case of this name; remove one."))
        else:
            pictures = tuple(Picture(file) for file in files.values() if file is not None)
            cases.append(SourceCase(name, pictures, LabelFile(label)))
    if split == "paper":
        parts = drawn_split([case.id for case in cases], PAPER_SHARES, seed)
        cases = [SourceCase(case.id, case.images, case.label, parts[case.id]) for case in cases]
    return Source("brats2021", "BraTS 2021", folder, tuple(CHANNELS), tree, tuple(cases), tuple(refused))


def _is_case(path: Path) -> bool:
    return path.is_dir() and any(_file(path, part) is not None for part in CHANNELS.values())


def _file(folder: Path, part: str) -> Path | None:
    names = (folder / f"{folder.name}_{part}{ending}" for ending in _ENDINGS)
    return next((path for path in names if path.is_file()), None)
