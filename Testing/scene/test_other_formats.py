"""Label maps of each level as files; models need the application, whose tour tries them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from HierSubclassSegLib.scene import annotation, labelmaps, level_maps, model_folders, nifti, tags
from HierSubclassSegLib.ticks import finish

SHAPE = (12, 11, 10)


@pytest.fixture
def node(make_volume, tree):
    made = annotation.create_annotation([make_volume(SHAPE)], tree, name="case 1: T1/x")
    labels = np.full(SHAPE, tree.unlabelled, tree.dtype)
    labels[2:5, 2:5, 2:5], labels[2:4, 2:4, 2:4], labels[6:9, 6:9, 6:9] = 10, 1, 3
    labelmaps.fill(made, tree, labels, annotation.reference_grid(made).affine)
    return made


def test_a_file_a_level_on_the_scans_grid(node, tree, tmp_path):
    files = finish(level_maps.file_steps(node, tmp_path))
    stem = "case_1_T1_x"
    assert [path.name for path in files] == [
        *(f"{stem}_level{depth}.nii.gz" for depth in (1, 2, 3)),
        f"{stem}_label_tree.json",
    ]
    found = [nifti.read_nifti(path)[0][[2, 4, 7, 0], [2, 4, 7, 0], [2, 4, 7, 0]].tolist() for path in files[:3]]
    assert found == [[10, 10, 20, 0], [1, 10, 21, 0], [1, 10, 3, 0]]
    assert json.loads(files[3].read_text(encoding="utf-8"))["name"] == "test tree"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in files)


def test_nothing_to_make_models_of_is_told(make_volume, tree):
    empty = annotation.create_annotation([make_volume(SHAPE)], tree)
    with pytest.raises(tags.SceneError, match="nothing to make models of"):
        finish(model_folders.model_steps(empty))
