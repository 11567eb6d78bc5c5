"""An endless source of synthetic head patches for the start bundle: image, and the leaf of every voxel.

A patch is a random place in a randomly warped class map (affine, smooth displacement, left-right flip: the start
tree has no sides), with random structure intensities.  Five of six images have
the order of gray, white and fluid of a T1 scan with jitter, a tenth that order inverted, and the rest any contrast: a
network this small that is trained for an hour learns no more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import binary_closing, binary_dilation, center_of_mass, map_coordinates

from hierseg.phantoms.contrast import smooth_field, synthesize
from hierseg.recipes.brain_classes import CLASS_OF_REGION, CLASSES, LEAF_OF_CLASS

SPACING_MM = 2.0
LEAF = np.full(256, 255, dtype=np.int64)
for _class, _leaf in LEAF_OF_CLASS.items():
    LEAF[_class] = _leaf

# Mean intensity of a T1-weighted scan, as fractions of white matter; what is not named is drawn at random.
T1_LIKE = {
    "air": 0.02,
    "skull": 0.2,
    "external cerebrospinal fluid": 0.2,
    "lateral ventricle": 0.17,
    "third ventricle": 0.2,
    "fourth ventricle": 0.2,
    "eye fluid": 0.2,
    "choroid plexus": 0.4,
    "vessel": 0.4,
    "cerebral cortex": 0.62,
    "cerebellar cortex": 0.6,
    "hippocampus": 0.62,
    "amygdala": 0.64,
    "accumbens": 0.66,
    "caudate": 0.66,
    "putamen": 0.7,
    "thalamus": 0.78,
    "pallidum": 0.86,
    "ventral diencephalon": 0.82,
    "brainstem": 0.86,
    "cerebellar white matter": 0.95,
    "cerebral white matter": 1.0,
    "optic chiasm": 0.85,
}


def class_of_region(name: str) -> int:
    """The class of a region's name such as ``subc-lh-putamen`` or ``ctx-rh-insula``."""
    prefix, rest = name.split("-", 1)
    tail = rest.split("-", 1)[1] if "-" in rest else rest
    found = CLASS_OF_REGION.get(tail, CLASS_OF_REGION.get(prefix, "air"))
    return CLASSES[found][0]


def living_subject_map(label_path: Path, table_path: Path) -> np.ndarray:
    """Class map of clabtoolkit's living subject at 2 mm in RAS order, with a head built around the brain.

    The published map has neither fluid nor skull: fluid fills a closing of the brain, skull and scalp are shells
    around that; the unlabelled heart of the cerebellum is its white matter.
    """
    import nibabel
    from nibabel.processing import resample_to_output

    source = nibabel.load(label_path)
    table = np.zeros(6000, dtype=np.uint8)
    for line in table_path.read_text(encoding="utf-8").splitlines():
        parts = line.split()
        if len(parts) > 1 and parts[0].isdigit() and "-" in parts[1]:
            table[int(parts[0])] = class_of_region(parts[1])
    classes = nibabel.Nifti1Image(table[np.asarray(source.dataobj).astype(int)], source.affine)
    resampled = resample_to_output(classes, (SPACING_MM,) * 3, order=0)
    data = np.asarray(resampled.dataobj).astype(np.uint8)
    filled = np.argwhere(data > 0)
    low, high = filled.min(0) - 10, filled.max(0) + 11
    data = np.pad(data, 12)[tuple(slice(a + 12, b + 12) for a, b in zip(low, high, strict=True))]
    brain = data > 0
    cerebellum = data == CLASSES["cerebellar cortex"][0]
    heart = binary_closing(cerebellum, iterations=4) & ~brain
    data[heart] = CLASSES["cerebellar white matter"][0]
    inside = binary_dilation(binary_closing(brain, iterations=5), iterations=1)
    data[inside & (data == 0)] = CLASSES["external cerebrospinal fluid"][0]
    skull = binary_dilation(inside, iterations=3)
    scalp = binary_dilation(skull, iterations=3)
    data[skull & ~inside] = CLASSES["skull"][0]
    data[scalp & ~skull] = CLASSES["soft tissue"][0]
    return data


def draw_means(rng: np.random.Generator) -> dict[int, tuple[float, float]] | None:
    """Intensities of the classes, or None for any contrast."""
    kind = rng.random()
    if kind > 0.93:
        return None
    jitter = rng.uniform(0.02, 0.07)
    means = {}
    for name, (index, _, _) in CLASSES.items():
        mean = T1_LIKE.get(name, rng.uniform(0.1, 1.2)) + jitter * rng.standard_normal() * (name != "air")
        if kind > 0.83 and name not in ("air", "skull"):
            mean = 1.15 - mean
        means[index] = (float(mean), float(rng.uniform(0.01, 0.05)))
    return means


def split_soft_tissue(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut skull and soft tissue into patches of different brightness: real heads are not uniform there."""
    result = classes.astype(np.int64)
    field = smooth_field(rng, classes.shape, 3.0)
    for number, name in enumerate(("soft tissue", "skull")):
        index = CLASSES[name][0]
        for part, threshold in enumerate((0.0, 0.8)):
            result[(classes == index) & (field > threshold)] = 30 + 2 * number + part
    return result


class HeadGenerator:
    """Draws training patches; the same seed and number give the same patch.

    Args:
        maps: class maps ``(x, y, z)`` at 2 mm, uint8.
        weights: how often each is drawn.
        patch: size of a patch in voxels of 2 mm.
        seed: of everything.
    """

    def __init__(self, maps: list[np.ndarray], weights: list[float], patch: int, seed: int) -> None:
        self.maps = maps
        self.weights = np.array(weights) / np.sum(weights)
        self.patch = patch
        self.seed = seed

    def draw(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Image float32 ``(1, p, p, p)`` in 0..1 and leaf values int64 ``(p, p, p)``, 255 where unlabelled."""
        rng = np.random.default_rng([self.seed, number])
        source = self.maps[int(rng.choice(len(self.maps), p=self.weights))]
        classes = self._warped_patch(source, rng)
        cut = split_soft_tissue(classes, rng)
        if rng.random() < 0.15:  # skull-stripped
            stripped = np.isin(classes, [CLASSES[name][0] for name in ("skull", "soft tissue", "eye fluid")])
            cut[stripped] = 0
        means = draw_means(rng)
        if means is not None:
            means.update({30 + extra: (float(rng.uniform(0.05, 1.3)), 0.06) for extra in range(4)})
        image = synthesize(cut, rng, spacing=(SPACING_MM,) * 3, means=means, strength=0.6)
        low, high = np.percentile(image, [0.5, rng.uniform(98.5, 99.9)])
        image = np.clip((image - low) / (high - low + 1e-6), 0, 1)
        return image[None].astype(np.float32), LEAF[classes]

    def _warped_patch(self, source: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shape = (self.patch,) * 3
        angles = rng.uniform(-0.2, 0.2, 3)
        rotation = np.eye(3)
        for axis, angle in enumerate(angles):
            first, second = [other for other in range(3) if other != axis]
            turn = np.eye(3)
            turn[first, first] = turn[second, second] = np.cos(angle)
            turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
            rotation = rotation @ turn
        matrix = rotation @ np.diag(rng.uniform(0.88, 1.12, 3))
        if rng.random() < 0.5:
            matrix[:, 0] *= -1
        # Three patches of four lie around the middle of the brain, where most structures are in view together.
        if rng.random() < 0.75:
            brain = source >= CLASSES["cerebral cortex"][0]
            center = np.array(center_of_mass(brain)) + rng.uniform(-14, 14, 3)
        else:
            inside = np.argwhere(source[::4, ::4, ::4] > 0) * 4
            center = inside[rng.integers(len(inside))] + rng.uniform(-6, 6, 3)
        grid = np.stack(np.meshgrid(*[np.arange(size) - (size - 1) / 2 for size in shape], indexing="ij"))
        place = np.tensordot(matrix, grid, axes=1) + center[:, None, None, None]
        amplitude = rng.uniform(0, 2.0)
        sigma = rng.uniform(6, 14)
        for axis in range(3):
            place[axis] += amplitude * smooth_field(rng, shape, sigma)
        result: np.ndarray = map_coordinates(source, place, order=0, mode="constant", cval=0)
        return result
