"""All scores of a case, and the reports of several."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.cli import main
from hierseg.evaluation.case_scores import node_distances, score_case
from hierseg.imageio import write_volume
from hierseg.labeltree import LabelTree

TREE = LabelTree.from_dict(
    {
        "format_version": 1,
        "name": "t",
        "unlabelled": 255,
        "nodes": [
            {"name": "background", "value": 0},
            {"name": "tumor", "value": 5, "edge_weight": 2.0},
            {"name": "core", "parent": "tumor", "value": 1},
            {"name": "edema", "parent": "tumor", "value": 2},
        ],
    }
)
SPACING = (1.0, 2.0, 5.0)


def boxes(core: slice, edema: slice, rest: int = 0) -> np.ndarray:
    found = np.full((12, 8, 6), rest, np.uint8)
    found[edema, 2:6, 1:5] = 2
    found[core, 2:6, 1:5] = 1
    return found


def test_numbers_by_hand() -> None:
    reference, prediction = boxes(slice(2, 4), slice(2, 8)), boxes(slice(2, 5), slice(2, 8))
    found = score_case(prediction, reference, TREE, SPACING)
    core = found.nodes["core"]
    layer = 4 * 4  # voxels of one plane in x
    assert core.state == "scored"
    assert core.complete
    assert core.dice == pytest.approx(2 * 2 / 5)
    assert core.reference_ml == pytest.approx(2 * layer * 0.01)
    assert core.predicted_ml == pytest.approx(3 * layer * 0.01)
    assert core.volume_error == pytest.approx(0.5)
    assert core.sensitivity == 1.0
    assert core.balanced_accuracy == pytest.approx(0.5 * (1 + 1 - layer / (reference.size - 2 * layer)))
    assert core.hausdorff95 == 1.0
    assert found.nodes["tumor"].surface_distance == 0.0
    # One plane of edema was called core: two edges of weight 1, the longest path has weight 1 + 2 + 1 (a leaf to the background).
    scale = TREE.distance_scale
    assert scale == 4.0
    assert found.wrong == pytest.approx(layer / reference.size)
    assert found.error_distance == pytest.approx(2 / scale)
    assert found.tree_distance == pytest.approx(2 / scale * layer / reference.size)


def test_missed_invented_and_absent_are_neither_zero_nor_perfect() -> None:
    only_core, only_edema = boxes(slice(2, 4), slice(0, 0)), boxes(slice(0, 0), slice(2, 4))
    found = score_case(only_core, only_edema, TREE, SPACING)
    missed, invented = found.nodes["edema"], found.nodes["core"]
    assert (missed.state, missed.dice, missed.hausdorff95, missed.volume_error) == ("missed", 0.0, None, 1.0)
    assert (invented.state, invented.dice, invented.hausdorff95) == ("invented", None, None)
    assert invented.predicted_ml == pytest.approx(0.32)
    nothing = np.zeros_like(only_core)
    absent = score_case(nothing, nothing, TREE, SPACING).nodes["core"]
    assert (absent.state, absent.dice, absent.surface_dice, absent.volume_error) == ("absent", None, None, None)


def test_incomplete_references_have_no_surfaces() -> None:
    reference = boxes(slice(2, 4), slice(2, 8))
    reference[7, 2:6, 1:5] = 5  # here only the superclass is known
    found = score_case(boxes(slice(2, 5), slice(2, 8)), reference, TREE, SPACING)
    assert found.nodes["tumor"].complete
    assert found.nodes["tumor"].hausdorff95 == 0.0
    for name in ("core", "edema"):
        assert not found.nodes[name].complete
        assert found.nodes[name].hausdorff95 is None
        assert found.nodes[name].predicted_ml is None
        assert found.nodes[name].sensitivity is not None
    reference[0, 0, 0] = 255
    assert not score_case(reference, reference, TREE, SPACING).nodes["tumor"].complete
    empty = score_case(reference, np.full_like(reference, 255), TREE, SPACING)
    assert (empty.tree_distance, empty.error_distance, empty.wrong) == (None, None, None)


def test_distances_between_nodes() -> None:
    distance = node_distances(TREE) * TREE.distance_scale
    place = {node.name: index for index, node in enumerate(TREE.nodes)}
    leaves = [place[leaf.name] for leaf in TREE.leaves]
    np.testing.assert_allclose(distance[np.ix_(leaves, leaves)], TREE.distance * TREE.distance_scale)
    assert distance[place["core"], place["tumor"]] == 0  # finer than what is known: no contradiction
    assert distance[place["tumor"], place["core"]] == 1  # right, but coarser
    assert distance[place["background"], place["tumor"]] == 3
    assert distance[-1, place["core"]] == 3  # unlabelled: at the root
    assert (distance >= 0).all()


@given(st.integers(0, 1000))
def test_a_perfect_prediction_is_perfect(seed: int) -> None:
    reference = np.random.default_rng(seed).choice([0, 1, 2, 5, 255], (4, 3, 2)).astype(np.uint8)
    found = score_case(reference, reference, TREE, SPACING, surfaces=False)
    for scores in found.nodes.values():
        assert scores.dice in (None, 1.0)
        assert scores.volume_error in (None, 0.0)
    assert found.tree_distance in (None, 0.0)
    assert found.wrong in (None, 0.0)


def evaluated(tmp_path: Path, name: str, shift: int, cases: int = 6) -> Path:
    """What ``hierseg evaluate --out`` makes of predictions whose core is ``shift`` planes too thick in every case but one."""
    for case in range(cases):
        affine = np.diag([*SPACING, 1.0])
        reference = boxes(slice(2, 4), slice(2, 8 + case % 2))
        found = boxes(slice(2, 4 + (shift if case else 0)), slice(2, 8 + case % 2))
        write_volume(tmp_path / "truth" / f"c{case}.nii.gz", reference, affine)
        write_volume(tmp_path / name / f"c{case}_labels.nii.gz", found, affine)
    TREE.save(tmp_path / "tree.json")
    command = ["evaluate", str(tmp_path / name), str(tmp_path / "truth"), "--tree", str(tmp_path / "tree.json")]
    assert main([*command, "--out", str(tmp_path / f"{name}-scores")]) == 0
    return tmp_path / f"{name}-scores"


def test_reports_and_the_comparison_of_two_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, same = (evaluated(tmp_path, name, shift) for name, shift in (("good", 0), ("bad", 2), ("same", 0)))
    text = (bad / "scores.md").read_text(encoding="utf-8")
    assert "| &nbsp;&nbsp;core | 6 | 0 | 0 |" in text
    assert "Tree distance" in text
    rows = list(csv.DictReader((bad / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 6 * 4
    first = next(row for row in rows if row["case"] == "c1" and row["node"] == "core")
    assert float(first["dice"]) == pytest.approx(2 * 2 / 6)
    assert float(first["hausdorff95"]) == 2.0
    content = json.loads((bad / "scores.json").read_text(encoding="utf-8"))
    assert content["nodes"]["core"]["dice"]["number"] == 6
    assert content["nodes"]["core"]["dice"]["mean"] == pytest.approx((1 + 5 * 2 / 3) / 6)
    assert content["nodes"]["core"]["states"] == {"scored": 6}
    capsys.readouterr()
    out = tmp_path / "compared.csv"
    command = ["compare", "--scores", f"bad={bad}", f"good={good},{same / 'scores.json'}", "--out", str(out)]
    assert main([*command, "--json"]) == 0
    compared = {row["node"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert compared["core"]["test"]["difference"] == pytest.approx(5 / 6 / 3)
    # Five of six differ, all one way: 2 of the 2^5 signs are as extreme.
    assert compared["core"]["test"]["permutation"] == pytest.approx(2 / 32)
    assert compared["core"]["permutation_holm"] == pytest.approx(min(1, 5 * 2 / 32))
    assert compared["background"]["test"]["permutation"] == 1.0
    assert compared["mean of the subclasses"]["test"]["number"] == 6
    assert len(list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))) == 5
    assert main([*command[:-2], "--metric", "hausdorff95"]) == 0
    assert "lower is better" in capsys.readouterr().out
    assert main([*command, "--metric", "tree_distance", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    cases = content["cases"].values()
    assert row["node"] == "all labelled voxels"
    assert row["test"]["difference"] == pytest.approx(-sum(case["tree_distance"] for case in cases) / 6)
    page = tmp_path / "compared.html"
    assert main([*command[:-1], str(page), "--metric", "wrong"]) == 0
    assert "labelled voxels wrong %" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scores", "a={scores}"], "at least two"),
        (["--scores", "a={scores}", "b"], "NAME=FILE"),
        (["--scores", "a={scores}", "b={tree}"], "no scores"),
        (["--scores", "a={scores}", "b=nowhere.json"], "nowhere.json: there is no such file"),
        (["--scores", "a={scores}", "b={scores}", "--metric", "beauty"], "'beauty'"),
        (["--scores", "a={scores}", "b={scores}", "--out", "x.png"], ".md"),
        (["bundle", "--scores", "a={scores}"], "either"),
        ([], "--scores"),
    ],
)
def test_mistakes_in_a_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    scores = evaluated(tmp_path, "one", 0, cases=2)
    capsys.readouterr()
    filled = [word.format(scores=scores, tree=tmp_path / "tree.json") for word in arguments]
    assert main(["compare", *filled]) == 2
    assert said in capsys.readouterr().err
