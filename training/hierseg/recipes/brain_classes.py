"""The classes from which heads are synthesized, and the leaf of the start tree that each one teaches.

More classes than leaves: an image needs skull, scalp and cerebellar white matter of their own intensity, although
the start tree calls the first two background and does not split the cerebellum.
This module imports nothing, so that it also runs in the environment of the label-map maker.
"""

from __future__ import annotations

UNLABELLED = 255

# name -> (class id, value of the leaf in brain_start.json, FreeSurfer ids of samseg's structures)
CLASSES: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "air": (0, 0, (0,)),
    "skull": (1, 0, (165,)),
    "soft tissue": (2, 0, (258,)),
    "eye fluid": (3, 0, (259,)),
    "external cerebrospinal fluid": (4, 14, (24,)),
    "cerebral cortex": (5, 1, (3, 42, 80)),
    "cerebral white matter": (6, 2, (2, 41, 77)),
    "cerebellar cortex": (7, 16, (8, 47)),
    "cerebellar white matter": (8, 16, (7, 46)),
    "thalamus": (9, 3, (10, 49)),
    "caudate": (10, 4, (11, 50)),
    "putamen": (11, 5, (12, 51)),
    "pallidum": (12, 6, (13, 52)),
    "hippocampus": (13, 7, (17, 53)),
    "amygdala": (14, 8, (18, 54)),
    "accumbens": (15, 9, (26, 58)),
    "ventral diencephalon": (16, 10, (28, 60)),
    "lateral ventricle": (17, 11, (4, 43, 5, 44, 72)),
    "third ventricle": (18, 12, (14,)),
    "fourth ventricle": (19, 13, (15,)),
    "brainstem": (20, 15, (16,)),
    "choroid plexus": (21, 11, (31, 63)),
    "vessel": (22, UNLABELLED, (30, 62)),
    "optic chiasm": (23, UNLABELLED, (85,)),
}

LEAF_OF_CLASS = {row[0]: row[1] for row in CLASSES.values()}
CLASS_OF_FREESURFER = {code: row[0] for row in CLASSES.values() for code in row[2]}

# Prefixes and names in the label table of clabtoolkit's living subject.
CLASS_OF_REGION = {
    "ctx": "cerebral cortex",
    "wm": "cerebral white matter",
    "thal": "thalamus",
    "amygd": "amygdala",
    "hipp": "hippocampus",
    "hypo": "ventral diencephalon",
    "vdc": "ventral diencephalon",
    "cer": "cerebellar cortex",
    "bstem": "brainstem",
    "caudate": "caudate",
    "putamen": "putamen",
    "pallidum": "pallidum",
    "accumbensarea": "accumbens",
    "lateral-ventricle": "lateral ventricle",
    "inferior-lateral-ventricle": "lateral ventricle",
    "fourth-ventricle": "fourth ventricle",
    "third-ventricle": "third ventricle",
    "dentate": "cerebellar white matter",
    "interposed": "cerebellar white matter",
    "fastigial": "cerebellar white matter",
}
