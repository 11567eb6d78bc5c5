"""Make label maps of heads by warping samseg's deformable atlas at random.

Run by path in samseg's own environment (Python ≤ 3.11, ``numpy<2``), which is why it imports nothing of hierseg
beyond the class table beside it::

    python brain_atlas_maps.py --count 160 --seed 1 --out maps.npz

Each map is an independent draw: a random affine and smooth displacement of the mesh's nodes, the mesh rasterized
to class probabilities at 2 mm, and the class of largest log-probability after smooth random fields were added.
Those fields fold the borders that the atlas leaves open: with the plain maximum the cortex would be as smooth as
the average of its 20 subjects.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

sys.path.insert(0, str(Path(__file__).parent))
from brain_classes import CLASS_OF_FREESURFER, CLASSES

SPACING_MM = 2.0
SHAPE = (91, 109, 91)
FOLDED = (
    "external cerebrospinal fluid",
    "cerebral cortex",
    "cerebral white matter",
    "cerebellar cortex",
    "cerebellar white matter",
)


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """A Gaussian random field of unit variance, correlated over ``sigma`` voxels."""
    field = gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma, mode="wrap")
    result: np.ndarray = field / field.std()
    return result


def warp_nodes(nodes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move mesh nodes ``(n, 3)`` (voxels of 2 mm) by a random affine and a smooth displacement."""
    center = np.array(SHAPE, dtype=np.float64) / 2
    affine = np.diag(rng.uniform(0.88, 1.12, 3)) + rng.uniform(-0.06, 0.06, (3, 3)) * (1 - np.eye(3))
    moved = (nodes - center) @ affine.T + center + rng.uniform(-2, 2, 3)
    coarse = tuple(size // 4 + 2 for size in SHAPE)
    amplitude = rng.uniform(0.5, 2.0)
    sigma = rng.uniform(2.0, 4.0)
    for axis in range(3):
        displacement = smooth_field(rng, coarse, sigma) * amplitude
        moved[:, axis] += map_coordinates(displacement, nodes.T / 4, order=1, mode="nearest")
    return moved


def draw_map(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The class map ``(x, y, z)`` of one draw from class probabilities ``(x, y, z, classes)``."""
    folded = {CLASSES[name][0] for name in FOLDED}
    fine = rng.uniform(0.9, 1.4)
    best = np.full(SHAPE, -np.inf, dtype=np.float32)
    result = np.zeros(SHAPE, dtype=np.uint8)
    for index in range(probabilities.shape[-1]):
        score = np.log(probabilities[..., index] + 1e-4)
        score += smooth_field(rng, SHAPE, fine if index in folded else 2.5) * (1.1 if index in folded else 0.4)
        higher = score > best
        best[higher] = score[higher]
        result[higher] = index
    result[probabilities.sum(axis=-1) < 0.01] = 0  # outside the warped mesh there is air
    return result


def main() -> None:
    """Parse the command line and write ``--out``: ``maps`` uint8 (count, x, y, z), RAS axis order, 2 mm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=160)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()

    import samseg
    from samseg import gems

    folder = Path(samseg.__file__).parent / "atlas" / "20Subjects_smoothing2_down2_smoothingForAffine2"
    rows = [
        line.split()
        for line in (folder / "compressionLookupTable.txt").read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    class_of_row = {int(row[1]): CLASS_OF_FREESURFER[int(row[0])] for row in rows}
    collection = gems.KvlMeshCollection()
    collection.read(str(folder / "atlas_level2.txt.gz"))
    mesh = collection.reference_mesh
    nodes = np.array(mesh.points) / SPACING_MM
    maps = []
    for number in range(arguments.count):
        rng = np.random.default_rng([arguments.seed, number])
        mesh.points = warp_nodes(nodes, rng)
        raw = mesh.rasterize(list(SHAPE), -1)
        probabilities = np.zeros((*SHAPE, len(CLASSES)), dtype=np.float32)
        for row, target in class_of_row.items():
            probabilities[..., target] += raw[..., row] / 65535.0
        maps.append(draw_map(probabilities, rng)[::-1])  # the atlas runs right to left: turn it to RAS
        sys.stderr.write(f"{number + 1}/{arguments.count}\n")
    np.savez_compressed(arguments.out, maps=np.stack(maps))


if __name__ == "__main__":
    main()
