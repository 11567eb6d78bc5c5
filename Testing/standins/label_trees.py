"""Label trees for tests: from nested dictionaries, and random ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from hierseg.labeltree import LabelTree


def tree_of(
    spec: Mapping[str, Any], *, weights: Mapping[str, float] | None = None, opposites: Mapping[str, str] | None = None
) -> LabelTree:
    """A tree from ``{"background": {}, "tumor": {"core": {}, "edema": {}}}``; values count up in file order."""
    rows: list[dict[str, Any]] = []

    def add(content: Mapping[str, Any], parent: str | None) -> None:
        for name, below in content.items():
            row: dict[str, Any] = {"name": name, "value": len(rows)}
            if parent is not None:
                row["parent"] = parent
            if weights and name in weights:
                row["edge_weight"] = weights[name]
            rows.append(row)
            add(below, name)

    add(spec, None)
    both = {**(opposites or {}), **{b: a for a, b in (opposites or {}).items()}}
    for row in rows:
        if row["name"] in both:
            row["opposite"] = both[row["name"]]
    return LabelTree.from_dict({"format_version": 1, "name": "test", "unlabelled": 255, "nodes": rows})


@st.composite
def trees(draw: st.DrawFn, max_nodes: int = 12, max_depth: int = 4) -> LabelTree:
    """A random tree: any shape, shuffled file order, scattered values (some beyond 8 bits), edge weights of 0 too."""
    count = draw(st.integers(1, max_nodes))
    depth = [1]
    parents: list[int | None] = [None]
    for index in range(1, count):
        allowed = [None, *(other for other in range(index) if depth[other] < max_depth)]
        parent = draw(st.sampled_from(allowed))
        parents.append(parent)
        depth.append(1 if parent is None else depth[parent] + 1)
    highest = draw(st.sampled_from([254, 65534]))
    values = draw(st.lists(st.integers(0, highest), min_size=count, max_size=count, unique=True))
    rows = []
    for index, parent in enumerate(parents):
        row: dict[str, Any] = {"name": f"n{index}", "value": values[index]}
        if parent is not None:
            row["parent"] = f"n{parent}"
        row["edge_weight"] = draw(st.sampled_from([0.0, 0.5, 1.0, 3.0]))
        rows.append(row)
    rows = draw(st.permutations(rows))
    unlabelled = 255 if max(values) < 255 else 65535
    return LabelTree.from_dict({"format_version": 1, "name": "random", "unlabelled": unlabelled, "nodes": rows})


def random_map(tree: LabelTree, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Node values, and some unlabelled voxels, at random; int64."""
    return rng.choice(np.append(tree.values, tree.unlabelled), size=shape)
