"""ACDC as published: cardiac short-axis MR of 150 patients, two labelled frames each.

::

    training/patient001/  Info.cfg  patient001_4d.nii.gz  patient001_frame01.nii.gz  patient001_frame01_gt.nii.gz  ...
    testing/patient101/   the same; in the first release without *_gt

``Info.cfg`` names the end-diastolic and end-systolic frames; of the rest of it (disease, height, weight) nothing is
read.  Labels: right ventricle 1, myocardium 2, left ventricle 3 (Bernard et al., IEEE Transactions on Medical Imaging
2018).  The split that the paper (Dai et al., MICCAI 2023) and much of the literature use is that of SSL4MIS: 70, 10
and 20 of the 100 patients in ``training``.  There the few labelled cases are the first ones of its list; its "3" are
68 slices, which are both frames of three patients (099, 038, 050), six scans.
"""

from __future__ import annotations

import re
from pathlib import Path

from hierseg.errors import ConfigError, DatasetError
from hierseg.importers.source import LabelFile, Picture, Refused, Source, SourceCase
from hierseg.labeltree import LabelTree

SPLITS = ("ssl4mis", "official")
# Patients in the order of the lists in github.com/HiLab-git/SSL4MIS, data/ACDC.
_TRAINING = (
    99, 38, 50, 100, 58, 21, 49, 20, 72, 40, 60, 89, 4, 56, 98, 96, 31, 18, 94, 47, 48, 55, 97, 74, 43, 41, 63, 37, 95,
    54, 26, 88, 32, 69, 6, 71, 12, 73, 61, 17, 25, 10, 57, 29, 51, 5, 36, 46, 62, 34, 76, 92, 70, 77, 67, 3, 91, 16, 14,
    44, 42, 90, 53, 27, 35, 86, 23, 9, 79, 15,
)  # fmt: skip
_VALIDATION = (28, 85, 82, 87, 19, 30, 78, 45, 2, 39)
_TEST = (11, 13, 84, 33, 93, 22, 68, 24, 83, 81, 80, 1, 7, 66, 8, 65, 75, 64, 59, 52)
_LISTED = {
    number: (split, place)
    for place, (split, number) in enumerate(
        (split, number)
        for split, numbers in (("training", _TRAINING), ("validation", _VALIDATION), ("test", _TEST))
        for number in numbers
    )
}
_PATIENT = re.compile(r"patient(\d{3})")
_FRAMES = ("ED", "ES")
_DEEPEST = 3  # folders between the one that was given and the patients


def acdc_source(folder: str | Path, tree: LabelTree, split: str = "ssl4mis") -> Source:
    """Look through ACDC's folders.

    Args:
        folder: one that holds the patients' folders, at most three levels above them.
        tree: with ACDC's label values, usually the shipped tree ``acdc``.
        split: ``ssl4mis``, or ``official``: patients in a folder ``testing`` are the test, all others training.

    Raises:
        DatasetError: there are no patients' folders.
        ConfigError: there is no such split.
    """
    folder = Path(folder)
    if split not in SPLITS:
        raise ConfigError(f"--split is {split!r}; choose {' or '.join(SPLITS)}.")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder; give the folder that holds ACDC's patients.")
    patients = _patients(folder)
    if not patients:
        raise DatasetError(
            f"{folder}: this is not ACDC, no folder like patient001 with an Info.cfg is in it; give the folder that was unpacked."
        )
    if split == "ssl4mis":
        patients.sort(key=lambda patient: (_listed(patient) or ("", len(_LISTED)))[1])
    cases: list[SourceCase] = []
    refused: list[Refused] = []
    seen: set[str] = set()
    left_out = 0
    for patient in patients:
        place = _listed(patient)
        if patient.name in seen:
            refused.append(Refused(patient.relative_to(folder).as_posix(), "The patient is there twice; remove one."))
        elif split == "ssl4mis" and place is None:
            left_out += 1
        else:
            part = (
                place[0]
                if place and split == "ssl4mis"
                else "test"
                if "testing" in patient.parts[-2:-1]
                else "training"
            )
            found, problems = _of_patient(patient, part)
            cases += found
            refused += problems
        seen.add(patient.name)
    notes = (
        [
            f"Not in the split 'ssl4mis' and left out: patients' folders, {left_out} of them; '--split official' takes all."
        ]
        if left_out
        else []
    )
    return Source("acdc", "ACDC", folder, ("MRI",), tree, tuple(cases), tuple(refused), tuple(notes))


def _patients(folder: Path) -> list[Path]:
    found: list[Path] = []
    layer = [folder]
    for _ in range(_DEEPEST + 1):
        found += [path for path in layer if _PATIENT.fullmatch(path.name)]
        layer = [
            path
            for parent in layer
            if not _PATIENT.fullmatch(parent.name)
            for path in sorted(parent.iterdir())
            if path.is_dir()
        ]
    # A folder that only has the name of a patient makes no ACDC of what was given.
    return sorted(found, key=lambda path: path.name) if any((path / "Info.cfg").is_file() for path in found) else []


def _listed(patient: Path) -> tuple[str, int] | None:
    found = _PATIENT.fullmatch(patient.name)
    return _LISTED.get(int(found.group(1))) if found else None


def _of_patient(patient: Path, split: str) -> tuple[list[SourceCase], list[Refused]]:
    cases, refused = [], []
    try:
        frames = read_info(patient / "Info.cfg")
    except DatasetError as error:
        return [], [Refused(patient.name, error.sentence)]
    for phase, number in frames.items():
        stem = f"{patient.name}_frame{number:02d}"
        name = f"{patient.name}_{phase}"
        image, label = patient / f"{stem}.nii.gz", patient / f"{stem}_gt.nii.gz"
        picture = Picture(image)
        if not image.is_file():
            series = patient / f"{patient.name}_4d.nii.gz"
            if not series.is_file():
                refused.append(Refused(name, f"{image}: the frame that Info.cfg names is not there; restore it."))
                continue
            picture = Picture(series, frame=number - 1)
        if not label.is_file() and split != "test":
            refused.append(Refused(name, f"{label}: the truth of this frame is not there; restore it."))
            continue
        cases.append(
            SourceCase(name, (picture,), LabelFile(label) if label.is_file() else None, split, group=patient.name)
        )
    return cases, refused


def read_info(path: Path) -> dict[str, int]:
    """The numbers of the end-diastolic (``ED``) and end-systolic (``ES``) frames, from 1 on; nothing else is read.

    Raises:
        DatasetError: the file is missing or does not say.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error}); it names the two frames.") from error
    rows = dict(line.partition(":")[::2] for line in lines)
    frames = {}
    for phase in _FRAMES:
        number = rows.get(phase, "").strip()
        if not number.isdigit() or int(number) < 1:
            raise DatasetError(f"{path}: '{phase}' is {number!r}; it must be the number of a frame, from 1 on.")
        frames[phase] = int(number)
    return frames
