"""How much memory a prediction needs is known before it starts; what cannot fit is refused before a voxel is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from hierseg import memory
from hierseg.cli import main
from hierseg.errors import ResourceError, is_out_of_memory
from hierseg.imageheader import Header, read_header
from hierseg.imageio import read_volume, write_volume
from hierseg.inference import Predictor
from hierseg.inference import estimate as estimates
from inference.test_imageio import cube, line, write_series
from standins.tiny_bundle import write_tiny_bundle

AFFINE = np.array([[0, -1.5, 0, 10], [1.5, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])

PEAK = """
import json, sys
import torch
from hierseg.imageheader import Header
from hierseg.inference import Predictor
from hierseg.inference.benchmark import generated_image, random_tree
from hierseg.inference.estimate import bytes_per_voxel, estimate
from hierseg.networks import HierarchicalSegmenter
size, leaves, width, patch = map(int, sys.argv[1:])
torch.set_num_threads(1)
config = {
    "channels": [{"name": "image", "normalization": {"type": "none"}}], "orientation": "RAS", "spacing": None,
    "patch_size": [patch] * 3, "overlap": 0.0, "spatial_dims": 3,
}
predictor = Predictor(HierarchicalSegmenter(random_tree(leaves), 1, 3, width=width), config, device="cpu")
volume = generated_image(size, 0)
found = estimate(predictor, [Header.of(volume)])
def highest():
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
before = highest()
predictor.predict([volume])
print(json.dumps([found.total, highest() - before]))
"""


@pytest.mark.may_skip("only Linux tells a process's own peak of memory so")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no /proc")
@pytest.mark.parametrize("case", [(64, 4, 8, 64), (96, 24, 4, 48), (112, 8, 4, 64)])
def test_the_estimate_is_within_a_factor_of_three_of_the_peak(case: tuple[int, ...]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PEAK, *map(str, case)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=environment)
    estimate, peak = json.loads(done.stdout)
    print(f"{case}: estimate {estimate / 1e6:.0f} MB, measured {peak / 1e6:.0f} MB")
    assert peak / 3 < estimate < 3 * peak


@pytest.fixture
def bundle(tmp_path: Path) -> Any:
    return write_tiny_bundle(tmp_path / "tiny")


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "nrrd", "mha"])
@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 2), (5, 6, 7, 1), (5, 1, 1)])
def test_a_header_says_what_reading_gives(tmp_path: Path, ending: str, shape: tuple[int, ...]) -> None:
    for dtype in (np.uint8, np.int16, np.float32):
        write_volume(tmp_path / f"a.{ending}", cube(*shape, dtype=dtype), AFFINE)
        header, volume = read_header(tmp_path / f"a.{ending}"), read_volume(tmp_path / f"a.{ending}")
        assert header is not None
        assert (header.shape, header.itemsize) == (volume.array.shape, volume.array.dtype.itemsize)
        np.testing.assert_allclose(header.affine, volume.affine, atol=1e-5)


def test_a_dicom_folder_and_what_is_no_image(tmp_path: Path) -> None:
    write_series(tmp_path / "d", cube(6, 5, 4), line(4))
    header = read_header(tmp_path / "d")
    assert header is not None
    assert header.shape == (6, 5, 4)
    (tmp_path / "a.nii.gz").write_bytes(b"no image")
    assert [read_header(tmp_path / name) for name in ("a.nii.gz", "nowhere.nrrd", "a.png")] == [None] * 3


def huge(path: Path, edge: int = 3000) -> Path:
    """A file of edge³ voxels of int16, of which only the header takes room on the disk."""
    header = nib.Nifti1Header()
    header.set_data_shape((edge,) * 3)
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with open(path, "wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.truncate(352 + 2 * edge**3)
    return path


def test_what_cannot_fit_is_refused_with_its_gigabytes_before_it_is_read(
    bundle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "free_memory", lambda: 8_000_000_000)
    scan = huge(tmp_path / "huge.nii")
    assert main(["predict", str(bundle.folder), str(scan), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    # 27e9 voxels: 54 GB to read, 12 or more bytes a voxel to prepare, 6 for the results.
    assert f"{scan}: predicting this image needs " in told
    assert float(told.split("needs ")[1].split(" GB")[0]) > 54 + 12 * 27
    assert "and 8.0 GB are free" in told
    assert not (tmp_path / "out").exists()


def test_a_refusal_is_a_lack_of_memory() -> None:
    found = estimates.Estimate(10, 20, 30, 400, 40, 1000, free=99)
    assert (found.certain, found.total) == (100, 1460)
    with pytest.raises(ResourceError) as caught:
        found.refuse("scan")
    assert is_out_of_memory(caught.value)
    tight = estimates.Estimate(10, 20, 30, 400, 40, 1000, free=100)
    tight.refuse("scan")
    assert "smaller parts" in tight.notes("scan")[0]
    assert estimates.Estimate(10, 20, 30, 400, 40, 1000, free=1460).notes("scan") == []
    on_card = estimates.Estimate(10, 20, 30, 400, 40, 1000, free=60, device_free=1419)
    assert "the graphics card's memory" in on_card.notes("scan")[0]
    assert estimates.Estimate(10, 20, 30, 400, 40, 1000, free=None).notes("scan") == []


def test_a_dry_run_says_what_is_needed_and_writes_nothing(
    bundle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volume(tmp_path / "scan.nii.gz", cube(60, 50, 40), AFFINE)
    arguments = ["predict", str(bundle.folder), str(tmp_path / "scan.nii.gz"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--dry-run"]) == 0
    assert "scan: needs about 0.0 GB of memory" in capsys.readouterr().out
    assert main([*arguments, "--dry-run", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["memory_gb"]["total"] > 0
    assert not (tmp_path / "out").exists()
    assert main(arguments) == 0
    assert json.loads((tmp_path / "out" / "scan.json").read_text(encoding="utf-8"))["memory_gb"]["total"] > 0


def test_the_network_is_measured_once_and_left_as_it_was(bundle: Any) -> None:
    predictor = Predictor(bundle, device="cpu")
    header = Header((64, 64, 64), np.eye(4), 2)
    first = estimates.estimate(predictor, [header])
    predictor.model.forward = None  # type: ignore[assignment]
    assert estimates.estimate(predictor, [header]).network == first.network
    assert not predictor.model.training
    larger = estimates.estimate(predictor, [Header((128, 64, 64), np.eye(4), 2)])
    assert larger.network == first.network, "it is that of a tile"
    assert larger.results == 2 * first.results


def test_a_container_may_leave_less_than_the_computer_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "service"
    group.mkdir()
    for folder, limit in ((group, "max"), (tmp_path, "5000000")):
        (folder / "memory.max").write_text(f"{limit}\n", encoding="utf-8")
        (folder / "memory.current").write_text("4000000\n", encoding="utf-8")
        (folder / "memory.stat").write_text("anon 3000000\ninactive_file 1000000\n", encoding="utf-8")
    assert memory._left(group, "memory.max", "memory.current", "inactive_file") is None
    assert memory._left(tmp_path, "memory.max", "memory.current", "inactive_file") == 2_000_000
    free = memory.free_memory()
    assert free is None or free > 0


def test_images_in_memory_are_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python, too: not after minutes of tiles."""
    from hierseg.imageio import Volume
    from hierseg.inference import Predictor
    from standins.known_network import Threshold, brain_tree

    class Never(Threshold):
        def forward(self, x: torch.Tensor) -> Any:
            raise AssertionError("a tile was computed")

    config = {
        "channels": [{"name": "MRI", "normalization": {"type": "none"}}],
        "orientation": "RAS", "spacing": None, "patch_size": [64, 64, 64], "spatial_dims": 3,
    }  # fmt: skip
    predictor = Predictor(Never(brain_tree()), config, device="cpu")
    array = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)
    monkeypatch.setattr(estimates, "free_memory", lambda: 1_000_000)
    with pytest.raises(ResourceError, match=r"needs 0\.0 GB of memory, and 0\.0 GB are free"):
        predictor.predict([Volume(array, np.eye(4))])
