"""Whatever JSON stands in one of our files, reading it gives the thing or one plain sentence, never a traceback."""

from __future__ import annotations

import copy
import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hierseg.bundle_format import check_config, check_metadata, complete_metadata, inference_config
from hierseg.data.preprocess import Preprocessor
from hierseg.dataset import Dataset
from hierseg.errors import HiersegError
from hierseg.imageio import Volume
from hierseg.importers.label_trees import read_label_tree
from hierseg.labeltree import LabelTree
from standins.folders import CONFIG
from standins.label_trees import tree_of

TREE = tree_of({"background": {}, "tumor": {"core": {}, "edema": {}}}, opposites={"core": "edema"}).to_dict()
TREE["nodes"][1] |= {"color": [1, 2, 3], "terminology": {"type": ["SCT", "1", "a"]}, "aliases": ["t"], "edge_weight": 2}
DATASET = {
    "format_version": 1,
    "name": "x",
    "channels": ["MRI"],
    "training": [
        {
            "id": "a",
            "image": ["images/a_MRI.nii.gz"],
            "label": "labels/a.nii.gz",
            "group": "g",
            "provenance": {"tool": "t"},
            "slices_complete": [{"axis": 0, "indices": [1], "node": "tumor"}],
        }
    ],
}
NNUNET = {"labels": {"background": 0, "tumor": [1, 2], "core": 1, "ignore": 3}}

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 70000)
    | st.floats()
    | st.sampled_from(["", "a", "tumor", "../x", "/", "é|"])
)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "name", "type"]), inner),
    max_leaves=4,
)


@st.composite
def damaged(draw: st.DrawFn, sound: Any) -> Any:
    """The sound content with one to three values replaced, removed or added, at any depth."""
    content = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 3))):
        place = content
        while True:
            keys = list(range(len(place))) if isinstance(place, list) else sorted(place)
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.booleans()):
                place[key] = draw(anything)
            else:
                del place[key]
            break
    return content


def one_sentence(error: HiersegError) -> None:
    assert error.sentence.strip()
    assert "\n" not in error.sentence


@given(damaged(TREE))
@settings(max_examples=120, deadline=None)
def test_label_tree(content: Any) -> None:
    try:
        tree = LabelTree.from_dict(content)
    except HiersegError as error:
        one_sentence(error)
    else:
        assert LabelTree.from_dict(tree.to_dict()) == tree
        assert tree.membership.any()


@given(damaged(DATASET))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_dataset(tmp_path: Path, content: Any) -> None:
    LabelTree.from_dict(TREE).save(tmp_path / "label_tree.json")
    (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    try:
        dataset = Dataset.open(tmp_path)
    except HiersegError as error:
        one_sentence(error)
    else:
        for case in dataset.cases():
            for path in (*case.image, case.label or "x"):
                assert not Path(path).is_absolute()
                assert ".." not in Path(path).parts


@given(damaged(CONFIG | {"format_version": 1, "thresholds": {}, "slice_axis": 2}))
@settings(max_examples=80, deadline=None)
def test_bundle_configuration(content: Any) -> None:
    """What is accepted can be used: images are prepared as it says."""
    try:
        check_config(content, Path("hierseg.json"))
    except HiersegError as error:
        one_sentence(error)
    else:
        values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
        scans = [Volume(values, np.eye(4), f"scan {number}") for number in range(len(content["channels"]))]
        prepared = Preprocessor(content).image(scans)
        assert np.isfinite(prepared.array).all()
        assert json.dumps(inference_config(content))


@given(damaged(complete_metadata({}, CONFIG, LabelTree.from_dict(TREE), "x")))
@settings(max_examples=80, deadline=None)
def test_bundle_metadata(content: Any) -> None:
    """What is accepted has a name and a version that can be a folder's, and a channel list on each side."""
    try:
        check_metadata(content, Path("metadata.json"))
    except HiersegError as error:
        one_sentence(error)
    else:
        folder = f"{content['name']}@{content['version']}"
        assert PurePosixPath(folder).name == PureWindowsPath(folder).name == folder
        for side in ("inputs", "outputs"):
            assert all(
                dict(entry["channel_def"]) is not None for entry in content["network_data_format"][side].values()
            )


@given(damaged(NNUNET))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nnunet_labels(tmp_path: Path, content: Any) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    try:
        tree = read_label_tree(tmp_path / "dataset.json")
    except HiersegError as error:
        one_sentence(error)
    else:
        assert LabelTree.from_dict(tree.to_dict()) == tree


@given(st.text(alphabet="ab,=01 \n#\t\"'", max_size=40))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lists_of_labels(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
    try:
        tree = read_label_tree(tmp_path / "labels.txt")
    except HiersegError as error:
        one_sentence(error)
    else:
        assert LabelTree.from_dict(tree.to_dict()) == tree


@pytest.mark.parametrize("text", ["[" * 100_000, '{"nodes":' * 50_000, "1e999", "nul", "\x00"])
def test_hostile_json(tmp_path: Path, text: str) -> None:
    for name in ("label_tree.json", "dataset.json"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(HiersegError):
        LabelTree.load(tmp_path / "label_tree.json")
    with pytest.raises(HiersegError):
        read_label_tree(tmp_path / "label_tree.json")
    with pytest.raises(HiersegError):
        Dataset.open(tmp_path)
