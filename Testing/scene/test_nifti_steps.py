"""NIfTI files in small steps: the same bytes as at a stretch, and a damaged file is told."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from hierseg.errors import ImageError
from HierSubclassSegLib.scene import nifti
from HierSubclassSegLib.ticks import Ticks, finish

AFFINE = np.diag([2.0, 1.0, 1.5, 1.0])


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_there_and_back_in_steps(tmp_path: Path, name: str) -> None:
    array = np.random.default_rng(1).integers(0, 500, (90, 80, 200)).astype(np.int16)
    whole, parts = tmp_path / f"whole_{name}", tmp_path / name
    nifti.write_nifti(whole, array, AFFINE)
    writing = Ticks(nifti.write_steps(parts, array, AFFINE))
    count = 0
    while writing.step(0.0):
        count += 1
    assert count > 1
    assert whole.read_bytes() == parts.read_bytes()
    found, affine = finish(nifti.read_steps(parts))
    assert np.array_equal(found, array)
    assert np.array_equal(affine, AFFINE)


def test_several_members_and_padding_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    nifti.write_nifti(path, np.zeros((64, 64, 64), np.uint8), AFFINE)
    content = path.read_bytes()
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]) + b"\0" * 100)
    assert nifti.read_nifti(packed)[0].shape == (64, 64, 64)


def test_a_file_that_is_cut_off_or_changed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    nifti.write_nifti(path, np.random.default_rng(1).integers(0, 9, (50, 50, 50)).astype(np.uint8), AFFINE)
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], content[:-4], content[:2], b"", content[:-8] + b"\1" * 8):
        path.write_bytes(broken)
        with pytest.raises(ImageError, match=r"cannot be read|not a NIfTI"):
            nifti.read_nifti(path)
