"""The benchmark beside other programs: what it compares is the same, what it reports is what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.inference_bench import cases, child, curves, floor, measure, nnunet, report, rows, series

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results" / "inference.md"
RECORD = ROOT / "docs" / "results" / "inference.json"


@pytest.fixture(scope="module")
def setup() -> rows.Setup:
    """The tiny case, ready for any row."""
    case = cases.TINY
    volumes = [cases.image(case, 0)]
    network = cases.network(case, 0)
    cases.calibrate(network, cases.calibration_tile(case, volumes))
    return rows.Setup(case, network, volumes, "cpu")


def settings(folder: Path, *, rounds: int = 2) -> series.Settings:
    return series.Settings(folder, rounds, 0, "cpu", 1, None, again=False)


# A process of its own.


@pytest.mark.skipif(sys.platform != "linux", reason="the system says how much memory a process takes on Linux only")
def test_a_row_that_takes_too_much_memory_is_ended_alone() -> None:
    code = "import time; held = b'1' * 400_000_000; time.sleep(60)"
    found = measure.run([sys.executable, "-c", code], limit=150_000_000)
    assert found["ended"] == "memory"
    assert found["limit_mb"] == 150
    assert found["peak_mb"] >= 150
    assert found["after_s"] < 50


def test_a_lack_of_memory_that_a_row_reports_itself_is_that_result_too() -> None:
    found = measure.run([sys.executable, "-c", "raise MemoryError('too much')"], limit=None)
    assert found["ended"] == "memory"


def test_another_failure_is_not_taken_for_a_lack_of_memory() -> None:
    found = measure.run([sys.executable, "-c", "raise ValueError('a mistake')"], limit=None)
    assert found["ended"] == "error"
    assert "a mistake" in found["message"]


def test_what_a_row_prints_last_is_its_result() -> None:
    code = "print('noise of a package'); print('{\"seconds\": 2}')"
    assert measure.run([sys.executable, "-c", code], limit=None) == {"seconds": 2}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_row_ends_with_the_benchmark_that_started_it(tmp_path: Path) -> None:
    """A parent that is killed cannot end its child itself."""
    folder, mark = Path(measure.__file__).parents[1], tmp_path / "pid"
    inner = (
        "import os, sys, time; sys.path.insert(0, sys.argv[1]); from inference_bench import measure; "
        "measure.end_with_parent(); open(sys.argv[2], 'w').write(str(os.getpid())); time.sleep(60)"
    )
    outer = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[3], *sys.argv[1:3]])"
    parent = subprocess.Popen([sys.executable, "-c", outer, str(folder), str(mark), inner])
    while not (mark.exists() and mark.read_text(encoding="utf-8")):
        time.sleep(0.05)
    child_id = int(mark.read_text(encoding="utf-8"))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while alive(child_id) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(child_id)


def alive(process: int) -> bool:
    """Whether it runs: one that has ended and that nobody has asked about does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


# What is compared.


def test_images_come_from_the_seed_alone() -> None:
    one, same, other = (cases.image(cases.TINY, seed).array for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert (one == 0).any()
    assert (one > 0).any()


@pytest.mark.parametrize("case", cases.CASES.values(), ids=lambda case: case.name)
def test_every_program_has_as_many_tiles(case: cases.Case) -> None:
    """MONAI's and nnU-Net's own counting against what the tables say."""
    from monai.data.utils import dense_patch_slices

    grid = case.network_grid()
    interval = [int(edge * (1 - cases.OVERLAP)) for edge in case.patch]
    places = len(dense_patch_slices(grid[: case.dims], case.patch, interval))
    assert places * (grid[2] if case.dims == 2 else 1) == case.tiles()


def test_a_calibrated_network_is_sure_and_its_heads_agree(setup: rows.Setup) -> None:
    tile = cases.calibration_tile(setup.case, setup.volumes)
    body = cases.structures(tile)
    assert 0.2 < body.float().mean() < 0.8
    with torch.no_grad():
        output = setup.network(tile)
    superclass = output.superclass_logits[0][1:, body]
    assert superclass.std(dim=1).numpy() == pytest.approx(12.0, rel=1e-3)
    top = torch.tensor([0] + [1 + leaf % 4 for leaf in range(1, setup.case.leaves)])
    agree = top[output.leaf_logits[0][:, body].argmax(dim=0)] == output.superclass_logits[0][:, body].argmax(dim=0)
    assert agree.float().mean() > 0.7


def test_monai_and_this_engine_find_the_same(setup: rows.Setup, tmp_path: Path) -> None:
    for name, labels in (
        ("monai-best", rows.monai_best(setup).labels),
        (series.REFERENCE_BY_LEAF, rows.by_leaf(setup)),
    ):
        child._keep(tmp_path, setup.case, name, labels)
    found = series.agreement(setup.case, "monai-best", settings(tmp_path))
    assert found["equal_voxels"] > 0.99
    assert found["dice"] > 0.99


@pytest.mark.may_skip(reason="nnU-Net is an extra that nothing else needs")
def test_nnunet_and_this_engine_find_nearly_the_same(setup: rows.Setup, tmp_path: Path) -> None:
    """It averages logits in half precision: near borders of tiles it decides differently."""
    pytest.importorskip("nnunetv2")
    for name, labels in (("nnunet", rows.nnunet(setup).labels), (series.REFERENCE_BY_LEAF, rows.by_leaf(setup))):
        child._keep(tmp_path, setup.case, name, labels)
    assert series.agreement(setup.case, "nnunet", settings(tmp_path))["equal_voxels"] > 0.9


def test_without_nnunet_its_row_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nnunet, "version", lambda: None)
    task = {"row": "nnunet", "seed": 0, "device": "cpu", "keep": False}
    assert child._row(cases.TINY, task, tmp_path) == {"ended": "not installed"}


def test_the_arithmetic_of_small_convolutions_is_counted_too(setup: rows.Setup) -> None:
    """Most of a small tile goes through an operator that torch's own counter does not know."""
    tile = torch.rand(1, 1, 16, 16, 16)
    by_hand = 0

    def count(module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal by_hand
        places = output[0, 0] if isinstance(module, torch.nn.Conv3d) else _inputs[0][0, 0]
        by_hand += 2 * module.weight.numel() * places.numel()

    kinds = (torch.nn.Conv3d, torch.nn.ConvTranspose3d)
    hooks = [part.register_forward_hook(count) for part in setup.network.modules() if isinstance(part, kinds)]
    assert floor.flops(setup.network, tile) == by_hand
    for hook in hooks:
        hook.remove()


# What is kept and gathered.


def test_what_is_measured_is_kept_and_rows_take_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def run(command: list[str], _limit: int | None, **_variables: str) -> dict[str, Any]:
        task = json.loads(command[-1])
        asked.append(task.get("row", task["do"]))
        seconds = 4.0 if task.get("row") == "monai" else 2.0
        return {"stages_s": [{"load": 9.0, "network": seconds}], "peak_mb": 100}

    monkeypatch.setattr(measure, "run", run)
    found = series.measured(cases.TINY, settings(tmp_path), ["monai", "exhaustive"])
    assert asked == ["prepare", "monai", "exhaustive", "monai", "exhaustive"]
    assert found["rows"]["monai"]["total_s"] == {"median": 4.0, "min": 4.0, "max": 4.0}, "loading is no part of it"
    assert found["rows"]["monai"]["time_ratio"]["median"] == 2.0
    assert series.measured(cases.TINY, settings(tmp_path), ["monai", "exhaustive"]) == found
    assert len(asked) == 5, "all of it was kept"


def test_a_row_that_was_ended_is_not_tried_again_and_has_no_ratio(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def run(command: list[str], _limit: int | None, **_variables: str) -> dict[str, Any]:
        task = json.loads(command[-1])
        asked.append(task.get("row", task["do"]))
        ended = {"ended": "memory", "limit_mb": 1000, "peak_mb": 1100, "after_s": 3.0}
        return ended if task.get("row") == "monai" else {"stages_s": [{"network": 2.0}], "peak_mb": 100}

    monkeypatch.setattr(measure, "run", run)
    found = series.measured(cases.TINY, settings(tmp_path, rounds=3), ["monai", "exhaustive"])
    assert asked.count("monai") == 1
    assert found["rows"]["monai"]["ended"] == "memory"
    whole = report.merged({}, {"limit_gb": 1.0, "cases": {"tiny": found}})
    assert "ended for its memory after 3.00 s" in report.cases_table(whole)


def test_agreement_counts_leaves_alike(tmp_path: Path) -> None:
    one = np.zeros((4, 4, 4), np.uint16)
    one[0], one[1, 0, 0] = 1, 2
    other = one.copy()
    other[1, 0, 0] = 0  # the smallest leaf is lost: a third of the mean
    child._keep(tmp_path, cases.TINY, "skipping", other)
    child._keep(tmp_path, cases.TINY, series.REFERENCE, one)
    found = series.agreement(cases.TINY, "skipping", settings(tmp_path))
    assert found["dice_least"] == 0.0
    assert found["dice"] == pytest.approx(2 / 3, abs=0.01)
    assert found["equal_voxels"] == pytest.approx(63 / 64, abs=1e-5)


# What is made of it.


@given(fixed=st.floats(100, 2000), per_voxel=st.floats(5, 20), c=st.floats(0.5, 5))
def test_memory_is_taken_apart_as_it_was_put_together(fixed: float, per_voxel: float, c: float) -> None:
    sizes = [(1.8e6, 2, 3.5), (1.8e6, 61, 3.5), (1.8e6, 300, 3.5), (64e6, 4, 3.5), (9e6, 16, 16.6), (17e6, 16, 25.0)]
    points = [
        {
            "voxels": voxels,
            "leaves": leaves,
            "slab_mb": slab,
            "peak_mb": {"median": fixed + per_voxel * voxels / 1e6 + c * leaves * slab},
        }
        for voxels, leaves, slab in sizes
    ]
    found = curves.memory(points)
    assert found["fixed_mb"] == pytest.approx(fixed, abs=1)
    assert found["bytes_per_voxel"] == pytest.approx(per_voxel, abs=0.01)
    assert found["c"] == pytest.approx(c, abs=0.01)


def test_a_line_is_found_and_growth_that_is_none_shows() -> None:
    def points(power: float) -> list[dict[str, Any]]:
        return [{"voxels": 1e6 * x, "total_s": {"median": 3.0 * x**power}} for x in (1, 4, 16, 64)]

    straight, square = curves.line(points(1.0), "voxels"), curves.line(points(2.0), "voxels")
    assert straight is not None
    assert square is not None
    assert straight["slope_s"] == pytest.approx(3.0)
    assert straight["most_off"] == pytest.approx(0.0, abs=1e-3)
    assert square["exponent"] == pytest.approx(2.0)
    assert square["most_off"] > 0.3


def test_only_what_lies_between_the_markers_changes() -> None:
    text = "before\n<!-- cases -->\nold\n<!-- end of cases -->\nafter\n"
    assert (
        report.between(text, "cases", "| new |")
        == "before\n<!-- cases -->\n\n| new |\n\n<!-- end of cases -->\nafter\n"
    )
    with pytest.raises(ValueError, match="no place for 'curves'"):
        report.between(text, "curves", "")


def test_cases_that_were_not_measured_again_stay() -> None:
    known = report.merged({}, {"limit_gb": 1.0, "cases": {"a": {"rows": {}}, "b": {"rows": {}}}})
    whole = report.merged(known, {"limit_gb": 2.0, "cases": {"b": {"rows": {}}}})
    assert [whole["cases"][name]["setting"]["limit_gb"] for name in ("a", "b")] == [1.0, 2.0]


def test_the_page_shows_what_the_record_holds() -> None:
    text = PAGE.read_text(encoding="utf-8")
    whole = json.loads(RECORD.read_text(encoding="utf-8"))
    for name, make in report.TABLES.items():
        assert report.between(text, name, make(whole)) == text, f"the table '{name}' is not that of inference.json"


def test_gathering_measures_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measure, "run", lambda *_rest, **_more: pytest.fail("something was measured"))
    gather = replace(settings(tmp_path), gather=True)
    assert series.measured(cases.TINY, gather)["rows"] == {}
    known = {"floor": {"network": {"gflop_a_tile": 1.0}}}
    whole = report.merged(known, {"floor": {"network": series.once("floor", cases.TINY, gather)}})
    assert whole["floor"] == known["floor"], "what was known stays"
