"""Data sets in the layouts in which they are published, with real files and tiny volumes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

#: both in-plane axes run against RAS, as in ACDC and BraTS
AFFINE = np.array([[-1.5, 0, 0, 30], [0, -1.5, 0, 40], [0, 0, 10, -20], [0, 0, 0, 1.0]])
SHAPE = (6, 7, 4)
NAME_IN_HEADER = "DOE^JOHN"


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """A NIfTI file as scanners' converters leave it, with a name in a free text field."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.header["descrip"] = NAME_IN_HEADER
    image.header["db_name"] = NAME_IN_HEADER
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"patient {NAME_IN_HEADER}".encode()))
    nib.save(image, path)
    return path


def picture(seed: int, shape: Sequence[int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)


def labels(values: Sequence[int], seed: int = 0, shape: Sequence[int] = SHAPE) -> np.ndarray:
    found = np.random.default_rng(seed).choice(values, shape).astype(np.uint8)
    found.flat[: len(values)] = values  # each at least once
    return found


def acdc_patient(folder: Path, number: int, *, frames: tuple[int, int] = (1, 12), truth: bool = True) -> Path:
    """One patient of ACDC: Info.cfg, the 4D series and two frames, with their truths or without."""
    patient = folder / f"patient{number:03d}"
    series = picture(number, (*SHAPE, 14))
    write_nifti(patient / f"{patient.name}_4d.nii.gz", series)
    for frame in frames:
        write_nifti(patient / f"{patient.name}_frame{frame:02d}.nii.gz", series[..., frame - 1])
        if truth:
            write_nifti(patient / f"{patient.name}_frame{frame:02d}_gt.nii.gz", labels((0, 1, 2, 3), number + frame))
    (patient / "Info.cfg").write_text(
        f"ED: {frames[0]}\nES: {frames[1]}\nGroup: MINF\nHeight: 184.5\nNbFrame: 14\nWeight: 95.25\n", encoding="utf-8"
    )
    return patient


def brats_case(folder: Path, number: int, values: Sequence[int] = (0, 1, 2, 4)) -> Path:
    """One case of BraTS 2021: four channels and the segmentation."""
    case = folder / f"BraTS2021_{number:05d}"
    for index, part in enumerate(("flair", "t1", "t1ce", "t2")):
        write_nifti(case / f"{case.name}_{part}.nii.gz", picture(10 * number + index))
    write_nifti(case / f"{case.name}_seg.nii.gz", labels(values, number))
    return case


def nnunet_dataset(
    folder: Path,
    names: Sequence[str],
    label_names: Mapping[str, Any],
    values: Sequence[int],
    channels: Sequence[str] = ("T1", "FLAIR"),
    **more: Any,
) -> Path:
    """A raw data set of nnU-Net, with one test image without truth."""
    for index, name in enumerate(names):
        for channel in range(len(channels)):
            write_nifti(folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz", picture(100 * index + channel))
        write_nifti(folder / "labelsTr" / f"{name}.nii.gz", labels(values, index))
    for channel in range(len(channels)):
        write_nifti(folder / "imagesTs" / f"unseen_{channel:04d}.nii.gz", picture(7000 + channel))
    content = {
        "channel_names": {str(index): name for index, name in enumerate(channels)},
        "labels": dict(label_names),
        "numTraining": len(names),
        "file_ending": ".nii.gz",
        **more,
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def decathlon_task(folder: Path, names: Sequence[str], values: Sequence[int] = (0, 1, 2)) -> Path:
    """A task of the Decathlon with two channels in 4D images."""
    for index, name in enumerate(names):
        write_nifti(folder / "imagesTr" / f"{name}.nii.gz", picture(index, (*SHAPE, 2)))
        write_nifti(folder / "labelsTr" / f"{name}.nii.gz", labels(values, index))
        # What macOS leaves in archives.
        (folder / "imagesTr" / f"._{name}.nii.gz").write_bytes(b"\0")
    write_nifti(folder / "imagesTs" / "prostate_99.nii.gz", picture(99, (*SHAPE, 2)))
    content = {
        "name": "PROSTATE",
        "description": "Prostate transitional zone and peripheral zone segmentation",
        "tensorImageSize": "4D",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "numTraining": len(names),
        "numTest": 1,
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names],
        "test": ["./imagesTs/prostate_99.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
