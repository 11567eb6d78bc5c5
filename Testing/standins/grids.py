"""Voxel grids as scanners make them, and boxes in them, for hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation


@st.composite
def grids(draw: st.DrawFn) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shapes and affines: any rotation, axis order and direction, handedness, 0.3 to 10 mm, slices of one voxel."""
    shape = draw(
        st.tuples(*[st.sampled_from([1, 7, 12, 20])] * 3).filter(lambda sizes: sum(size > 1 for size in sizes) >= 2)
    )
    spacing = np.array(draw(st.tuples(*[st.sampled_from([0.3, 0.8, 1.0, 2.5, 5.0, 10.0])] * 3)))
    angles = draw(st.tuples(*[st.sampled_from([0, 0, 90, 180, 7, 33, 44, -61])] * 3))
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()[:, draw(st.permutations([0, 1, 2]))]
    axes = axes * np.array(draw(st.tuples(*[st.sampled_from([-1, 1])] * 3)))
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return shape, affine


def marked_box(draw: Any, shape: tuple[int, ...], least: list[int]) -> tuple[slice, ...]:
    """A box of at least ``least`` voxels along each axis, as far from the border or touching it."""
    parts = []
    for size, need in zip(shape, least, strict=True):
        length = min(size, need)
        starts = [start for start in range(size - length + 1) if start == 0 or start >= need]
        starts = [start for start in starts if start + length == size or size - start - length >= need]
        start = draw(st.sampled_from(starts or [0]))
        parts.append(slice(start, start + length if starts else size))
    return tuple(parts)


def least_voxels(step: float, spacing: float | None) -> int:
    """How many voxels of ``step`` mm a network that sees ``spacing`` mm needs to see a border where it is."""
    if spacing is None or spacing == step:
        return 1
    return max(3, int(np.ceil(4 * spacing / step)))
