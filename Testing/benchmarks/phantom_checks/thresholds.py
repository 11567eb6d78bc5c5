"""How well intensities alone find the subclasses when the superclass is known: the floor that a phantom must not be above."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hierseg.dataset import Case, Dataset
from hierseg.imageio import read_volume

BINS = 64


def threshold_dice(folder: Path) -> dict[str, dict[str, float]]:
    """Two rules, chosen on the training subjects and measured on the validation subjects, inside the true superclasses.

    ``interval``: for each subclass and scan "intensity from a to b in channel c" with the a, b and c that have the highest Dice
    over all training voxels.  ``nearest``: the subclass whose mean over the training voxels, in all channels, is nearest.
    Intensities are scaled by each scan's percentiles, as the trainer scales them.

    Returns:
        Mean Dice of the subclasses in each validation scan, for each of the rules.
    """
    dataset = Dataset.open(folder)
    training = [_voxels(dataset, case) for case in dataset.cases("training")]
    held = [_voxels(dataset, case) for case in dataset.cases("validation")]
    tops = [top for top in dataset.tree.top_level if len(dataset.tree.leaves_under(top)) > 1]
    interval: list[list[float]] = [[] for _ in held]
    nearest: list[list[float]] = [[] for _ in held]
    for top in tops:
        values = [leaf.value for leaf in dataset.tree.leaves_under(top)]
        features, labels = (
            np.concatenate(part) for part in zip(*[_inside(scan, values) for scan in training], strict=True)
        )
        rules = {value: _best_interval(features, labels == value) for value in values}
        means = np.array([features[labels == value].mean(axis=0) for value in values])
        for number, scan in enumerate(held):
            seen, truth = _inside(scan, values)
            found = np.array(values)[np.argmin(((seen[:, None] - means) ** 2).sum(axis=2), axis=1)]
            for value in values:
                channel, low, high = rules[value]
                chosen = (seen[:, channel] >= low) & (seen[:, channel] < high)
                interval[number].append(_dice(chosen, truth == value))
                nearest[number].append(_dice(found == value, truth == value))
    names = [case.id for case in dataset.cases("validation")]
    return {
        rule: {name: float(np.nanmean(row)) for name, row in zip(names, rows, strict=True)}
        for rule, rows in (("interval", interval), ("nearest", nearest))
    }


def _voxels(dataset: Dataset, case: Case) -> tuple[np.ndarray, np.ndarray]:
    columns = []
    for path in dataset.image_paths(case):
        image = read_volume(path).array.astype(float)
        low, high = np.percentile(image, (0.5, 99.5))
        columns.append(np.clip((image - low) / max(high - low, 1e-6), 0, 1).ravel())
    label = dataset.label_path(case)
    assert label is not None
    return np.stack(columns, axis=1), read_volume(label).array.ravel()


def _inside(scan: tuple[np.ndarray, np.ndarray], values: list[int]) -> tuple[np.ndarray, np.ndarray]:
    features, labels = scan
    kept = np.isin(labels, values)
    return features[kept], labels[kept]


def _best_interval(features: np.ndarray, inside: np.ndarray) -> tuple[int, float, float]:
    best = (0.0, 0, -np.inf, np.inf)
    for channel in range(features.shape[1]):
        bins = np.minimum((features[:, channel] * BINS).astype(int), BINS - 1)
        hits = np.concatenate([[0], np.cumsum(np.bincount(bins[inside], minlength=BINS))])
        chosen = np.concatenate([[0], np.cumsum(np.bincount(bins, minlength=BINS))])
        dice = np.triu(2 * (hits[None] - hits[:, None]) / np.maximum(1, chosen[None] - chosen[:, None] + hits[-1]))
        low, high = np.unravel_index(int(np.argmax(dice)), dice.shape)
        if dice[low, high] > best[0]:
            best = (float(dice[low, high]), channel, low / BINS, np.inf if high == BINS else high / BINS)
    return best[1:]


def _dice(found: np.ndarray, truth: np.ndarray) -> float:
    """NaN where the truth is empty."""
    return float(2 * np.sum(found & truth) / (found.sum() + truth.sum())) if truth.any() else float("nan")
