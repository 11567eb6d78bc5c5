"""The start bundle, step by step: label maps, training, bundle (``hierseg recipe brain-start``)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hierseg import __version__, resources
from hierseg.atomic import replacing
from hierseg.bundle import Bundle, write_bundle
from hierseg.errors import ResourceError
from hierseg.labeltree import LabelTree
from hierseg.networks.weights import save_weights
from hierseg.recipes.brain_generator import living_subject_map
from hierseg.recipes.brain_start_train import NETWORK
from hierseg.recipes.downloads import CLABTOOLKIT, extract

TREE = "brain_start"
ATLAS_SEEDS = (1, 2)
MAPS_PER_SEED = 60
PATCH = 64
WHOLE, COARSE_SEED, COARSE_HEADS = 112, 1009, 4
"""Voxels along an edge, seed and number of the heads that a coarse pass is measured on."""
_LIVING = "clabtoolkit/data/parcellationtools/sub-test2_ses-01_atlas-chimeraLFIIHISIFN_scale-1_desc-grow1mm_dseg"


def start_tree() -> LabelTree:
    """The start bundle's label tree."""
    return LabelTree.load(resources.path("label_trees", TREE))


def build(out: Path, samseg_python: str) -> None:
    """Make the class maps: one living subject, and random warps of samseg's atlas.

    Args:
        out: folder for ``living.npz`` and ``atlas_<seed>.npz``; what is there is kept.
        samseg_python: the Python of an environment with samseg 0.4a0 (Python ≤ 3.11, ``numpy<2``).

    Raises:
        ResourceError: a download or samseg's Python failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "living.npz").exists():
        living = living_subject_map(extract(CLABTOOLKIT, f"{_LIVING}.nii.gz"), extract(CLABTOOLKIT, f"{_LIVING}.lut"))
        with replacing(out / "living.npz") as temporary:
            np.savez_compressed(temporary, maps=living[None])
    script = Path(__file__).with_name("brain_atlas_maps.py")
    for seed in ATLAS_SEEDS:
        target = out / f"atlas_{seed}.npz"
        if target.exists():
            continue
        command = [samseg_python, str(script), "--count", str(MAPS_PER_SEED), "--seed", str(seed), "--out"]
        with replacing(target) as temporary:
            done = subprocess.run([*command, str(temporary)], stdout=sys.stderr, check=False)
            if done.returncode:
                raise ResourceError(
                    f"{samseg_python} could not make the atlas maps; install samseg==0.4a0 with numpy<2 and scipy "
                    "in that Python (3.11 or older) and try again."
                )


def pack(checkpoint: Path, out: Path, results: Mapping[str, Any] | None, maps: Path | None = None) -> Bundle:
    """Write the bundle from a checkpoint's averaged weights.

    Args:
        checkpoint: as :func:`hierseg.recipes.brain_start_train.train` writes it.
        out: the bundle's folder.
        results: what :func:`hierseg.recipes.brain_start_evaluate.evaluate` measured, for the model card.
        maps: class maps to measure with whether tiles without brain may be left out; without them none may.
    """
    if not checkpoint.is_file():
        raise ResourceError(f"{checkpoint}: there is no such checkpoint; run 'hierseg recipe brain-start train' first.")
    state = torch.load(checkpoint, weights_only=True)
    config: dict[str, Any] = {
        "network": {"name": "HierarchicalSegmenter", "arguments": NETWORK},
        "channels": [{"name": "MRI", "normalization": {"type": "center_percentile", "lower": 0.5, "upper": 99.5}}],
        "orientation": "RAS",
        "spacing": [2.0, 2.0, 2.0],
        "patch_size": [PATCH] * 3,
        "overlap": 0.5,
        "thresholds": {},
        "spatial_dims": 3,
        "modality": "MR",
    }
    if maps is not None:
        config["coarse_pass"] = _coarse_pass(state["average"], config, maps)
    metadata = {
        "name": "brain-start",
        "version": "0.2.1",
        "task": "Whole-brain segmentation into 4 regions and 16 structures along a label tree",
        "description": "A small model for brain MRI, best T1-weighted, trained on synthetic images only. A start to fine-tune from.",
        "authors": "HierSubclassSeg contributors",
        "copyright": "Copyright HierSubclassSeg contributors",
        "intended_use": "Research only, not for diagnosis. A starting point for fine-tuning on own annotations.",
        "license": "Apache-2.0",
        "data_source": "Synthetic images from warps of samseg's atlas (MIT) and one label map of clabtoolkit (Apache-2.0)",
    }
    return write_bundle(
        out,
        config=config,
        metadata=metadata,
        tree=start_tree(),
        write_weights=lambda path: save_weights(state["average"], path),
        card=card(int(state["iteration"]), results),
        license_text=_license_text(),
    )


def _coarse_pass(weights: dict[str, torch.Tensor], config: Mapping[str, Any], maps: Path) -> dict[str, Any] | None:
    """What a coarse pass may leave out, measured on whole synthetic heads that no training drew."""
    from hierseg.inference.coarse_check import allowed
    from hierseg.networks.segmenter import build_network
    from hierseg.recipes.brain_generator import HeadGenerator
    from hierseg.recipes.brain_start_train import load_maps

    model = build_network(start_tree(), config["network"])
    model.load_state_dict(weights)
    heads = HeadGenerator(*load_maps(maps), patch=WHOLE, seed=COARSE_SEED)
    return allowed(model, (heads.draw(number)[0] for number in range(COARSE_HEADS)), config, start_tree())


def card(iterations: int, results: Mapping[str, Any] | None) -> str:
    """The model card, Markdown."""
    measured = (
        "Not measured yet: run `hierseg recipe brain-start evaluate`." if not results else _results_table(results)
    )
    return f"""# Brain start

A small whole-brain model to start from: four regions (cerebrum, deep gray matter, cerebrospinal fluid, hindbrain) and
sixteen structures in them; left and right are not told apart. **Research only, not for diagnosis.**

## Input
One MRI volume of a whole head or brain in any orientation, best T1-weighted; it is resampled to 2 mm. Intensities
are scaled by the percentiles of the central half of the head, so that bright fat in the scalp does not count.

## Training
{iterations} patches of 64³ voxels at 2 mm, all of them synthetic: class maps with random intensities, blur, bias field,
slices up to 6 mm, noise and gamma. Five in six have the order of gray, white and fluid of a T1 scan, a tenth that order
inverted, the rest any contrast. The class maps are {len(ATLAS_SEEDS) * MAPS_PER_SEED} random warps of the deformable
atlas in samseg 0.4a0 (MIT; 20 subjects) and one living subject's label map in clabtoolkit 0.6.0 (Apache-2.0), warped
anew for every patch. No real image was used. One patch an iteration, AdamW, cross-entropy and Dice on both outputs,
averaged weights; two cores of a CPU. Made with hierseg {__version__} by `hierseg recipe brain-start build`, `train`, `bundle`.

## Measured
{measured}

## Limits
The references above are another program's output, not manual truth, and three T1-weighted heads are few. Structures
below about 1 ml (accumbens, amygdala, third and fourth ventricle) are coarse at 2 mm. Lesions, tumors, children and
contrasts other than T1 were not measured.
"""


def _results_table(results: Mapping[str, Any]) -> str:
    cases = results["cases"]
    lines = [
        "Dice in percent against samseg 0.4a0 on scans that took no part in training:",
        "",
        "| node | " + " | ".join(case["name"] for case in cases) + " |",
        "|---|" + "---:|" * len(cases),
    ]
    for node in start_tree().nodes:
        values = [case["dice"].get(node.name) for case in cases]
        cells = " | ".join("–" if value is None else f"{100 * value:.1f}" for value in values)
        lines.append(f"| {'·  ' * (node.depth - 1)}{node.name} | {cells} |")
    lines.append(
        "| **mean of the leaves** | " + " | ".join(f"**{100 * case['mean_leaf']:.1f}**" for case in cases) + " |"
    )
    lines += ["", *[f"- {case['name']}: {case['what']}" for case in cases]]
    lines += [
        "",
        "How intensities are normalized was chosen after the training, with scores of A and C and a look at all three.",
    ]
    return "\n".join(lines)


def _license_text() -> str:
    for parent in Path(__file__).resolve().parents:
        candidate = parent / "LICENSE"
        if candidate.is_file():
            return candidate.read_text(encoding="utf-8")
    return "Apache License 2.0, see https://www.apache.org/licenses/LICENSE-2.0\n"
