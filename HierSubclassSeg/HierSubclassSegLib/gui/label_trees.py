"""The label trees that a user can choose from: the shipped ones and those of the models."""

from __future__ import annotations

from functools import lru_cache

from hierseg import resources
from hierseg.errors import HiersegError
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.compute.models import find_models


def known_trees() -> dict[str, LabelTree]:
    """Label trees by name; of two with one name the second has its model's name behind it."""
    found = {tree.name: tree for tree in _shipped()}
    fingerprints = {tree.fingerprint for tree in found.values()}
    for bundle in find_models().bundles.values():
        try:
            tree = bundle.tree
        except HiersegError:
            # A damaged bundle is told of where models are chosen.
            continue
        if tree.fingerprint not in fingerprints:
            fingerprints.add(tree.fingerprint)
            found[tree.name if tree.name not in found else f"{tree.name} ({bundle.id})"] = tree
    return found


@lru_cache(maxsize=1)
def _shipped() -> tuple[LabelTree, ...]:
    return tuple(LabelTree.load(resources.path("label_trees", name)) for name in resources.names("label_trees"))
