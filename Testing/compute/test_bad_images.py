"""What cannot be segmented is told in one sentence, by the command line and by the worker alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hierseg.bundle import Bundle
from hierseg.cli import main
from hierseg.errors import HiersegError
from hierseg.imageio import write_volume
from HierSubclassSegLib.compute.client import WorkerClient
from inference.test_imageio import BAD, cube, line, write_series


def _damaged(name: str, path: Path) -> Path:
    file, make, _ = BAD[name]
    make(path / file)
    return path / file


def _series(path: Path, positions: np.ndarray) -> Path:
    write_series(path / "series", cube(6, 5, 4), positions)
    return path / "series"


def _values(path: Path, value: float) -> Path:
    array = np.zeros((5, 5, 5), np.float32)
    array[2, 2, 2] = value
    write_volume(path / "scan.nii.gz", array, np.eye(4))
    return path / "scan.nii.gz"


CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    **{name: (lambda path, name=name: _damaged(name, path), said) for name, (_, _, said) in BAD.items()},  # type: ignore[misc]
    "a slice is missing": (lambda path: _series(path, line(5)[[0, 1, 3, 4]]), r"3 to 6 mm apart"),
    "the gantry is tilted": (lambda path: _series(path, line(4, lean=1.0)), r"sheared by 18\.43°"),
    "not a number": (lambda path: _values(path, np.nan), "1 of 125 voxels are NaN"),
    "constant": (lambda path: _values(path, 0.0), "all voxels have the value 0"),
}


@pytest.mark.parametrize("name", CASES)
def test_both_ways_say_the_same_in_one_sentence(
    client: WorkerClient, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    make, said = CASES[name]
    path = make(tmp_path)
    assert main(["predict", str(tiny_bundle.folder), str(path), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    sentence = next(line for line in told.splitlines() if line.startswith("hierseg: "))
    assert "Traceback" not in told
    with pytest.raises(HiersegError, match=said) as caught:
        client.predict([path], tiny_bundle)
    assert "\n" not in caught.value.sentence
    # The worker names the file by the path on this side, though it read a copy of its own.
    assert str(path) in caught.value.sentence
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    if name != "missing":  # told by the client, which does not send it
        assert sentence == f"hierseg: {caught.value.sentence}"


def test_gaps_between_slices_are_a_note(client: WorkerClient, tiny_bundle: Bundle, tmp_path: Path) -> None:
    write_series(tmp_path / "gaps", cube(6, 5, 4), line(4), thickness=2.0)
    result = client.predict([tmp_path / "gaps"], tiny_bundle)
    assert any("2 mm thick and 3 mm apart" in note for note in result.notes)
