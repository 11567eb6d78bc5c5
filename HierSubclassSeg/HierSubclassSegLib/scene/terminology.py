"""Terminology entries: what Slicer and DICOM SEG know a segment by.

A serialized entry is ``context~category~type~modifier~region context~region~region modifier``, each code
``scheme^code^meaning`` (Slicer's ``vtkSlicerTerminologiesModuleLogic::SerializeTerminologyEntry``).
"""

from __future__ import annotations

from hierseg.labeltree import LabelTree, Node

TYPE_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
REGION_CONTEXT = "Anatomic codes - DICOM master list"
ANATOMICAL_STRUCTURE = ("SCT", "123037004", "Anatomical Structure")
TISSUE = ("SCT", "85756007", "Tissue")
EMPTY = ("", "", "")
#: DICOM's private scheme designators start with 99
PRIVATE_SCHEME = "99HIERSUB"


def terminology_entry(tree: LabelTree, node: Node) -> str:
    """The node's serialized terminology entry.

    A node without codes of its own gets those of its nearest ancestor that has some, with its own name as the
    modifier in the private scheme ``99HIERSUB``: two subclasses then never share one meaning, and DICOM SEG export,
    which needs a category and a type, works without typing.
    """
    codes = dict(node.terminology)
    if "type" not in codes:
        above = next((other for other in tree.ancestors(node) if "type" in other.terminology), None)
        codes = {**(above.terminology if above else {}), **codes}
        own = (PRIVATE_SCHEME, str(node.value), _clean(node.name))
        if above:
            codes["modifier"] = own
        else:
            codes["type"] = own
    codes.setdefault("category", ANATOMICAL_STRUCTURE)
    category, kind, modifier = (_triplet(codes.get(key, EMPTY)) for key in ("category", "type", "modifier"))
    region, region_modifier = (_triplet(codes.get(key, EMPTY)) for key in ("region", "region_modifier"))
    return f"{TYPE_CONTEXT}~{category}~{kind}~{modifier}~{REGION_CONTEXT}~{region}~{region_modifier}"


def codes_of(entry: str) -> dict[str, tuple[str, str, str]]:
    """The codes of a serialized entry, by the keys of a label tree's ``terminology``; empty codes are left out."""
    parts = entry.split("~")
    found = {}
    for key, index in (("category", 1), ("type", 2), ("modifier", 3), ("region", 5), ("region_modifier", 6)):
        code = tuple(parts[index].split("^")) if index < len(parts) else EMPTY
        if len(code) == 3 and code[1]:
            found[key] = (code[0], code[1], code[2])
    return found


def same_codes(entry: str, other: str) -> bool:
    """Whether two serialized entries mean the same: how a code of our private scheme is worded does not count."""
    return _told_apart(entry) == _told_apart(other)


def _told_apart(entry: str) -> list[tuple[str, ...]]:
    codes = (tuple(part.split("^")) for part in entry.split("~"))
    return [code[:2] if code[0] == PRIVATE_SCHEME else code for code in codes]


def _triplet(code: tuple[str, str, str]) -> str:
    return "^".join(_clean(part) for part in code)


def _clean(text: str) -> str:
    return "".join(" " if mark in "~^|" else mark for mark in text)
