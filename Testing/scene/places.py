"""Awkward places for volumes, and label maps that use every value of a tree."""

from __future__ import annotations

import numpy as np

from hierseg.labeltree import LabelTree

#: 4 × 4 matrices (voxel to RAS): plain, anisotropic with an offset, oblique, left-handed, oblique and left-handed
AFFINES: dict[str, np.ndarray] = {}


def _rotation(axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    angle = np.deg2rad(degrees)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _affine(matrix: np.ndarray, offset: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = offset
    return affine


_OBLIQUE = _rotation((1.0, 2.0, -0.5), 33.0)
AFFINES["plain"] = np.eye(4)
AFFINES["anisotropic"] = _affine(np.diag([0.7, 1.1, 3.3]), (-40.0, 12.5, 7.25))
AFFINES["oblique"] = _affine(_OBLIQUE @ np.diag([0.8, 1.3, 2.5]), (31.0, -64.5, 12.0))
AFFINES["left-handed"] = _affine(np.diag([-0.9, 1.2, 2.0]), (55.0, -30.0, 3.0))
AFFINES["oblique, left-handed"] = _affine(_OBLIQUE @ np.diag([-1.0, 0.9, 1.7]), (5.0, 6.0, -77.0))


def random_labels(tree: LabelTree, shape: tuple[int, int, int] = (9, 8, 7), seed: int = 0) -> np.ndarray:
    """Every value of the tree, and unlabelled, at random voxels."""
    rng = np.random.default_rng(seed)
    return rng.choice([*tree.values, tree.unlabelled], shape).astype(tree.dtype)
