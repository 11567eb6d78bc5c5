"""Label trees out of other programs' lists of labels.

========== ==================================================================================================
``json``    our own ``label_tree.json``
``nnunet``  ``dataset.json`` of nnU-Net: ``"labels"`` with single values and regions (lists of values), or the
            other way round as in version 1 and in the Decathlon (``"1": "liver"``)
``mapping`` a JSON object of names and values, either way round, as TotalSegmentator's class map
``table``   a CSV with a header (value, name, and optionally parent, red, green, blue), or a color table of FreeSurfer
            or Slicer with the columns value, name, red, green, blue, alpha
``paths``   one path a line, names separated by commas, from the top down, as in SALT; ``= 7`` at the end gives a value
========== ==================================================================================================

Only the standard library is imported.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hierseg.errors import LabelTreeError
from hierseg.labeltree import FORMAT_VERSION, MAX_VALUE, LabelTree

FORMATS = ("json", "nnunet", "mapping", "table", "paths")
_COLUMNS = {
    "value": ("value", "labelvalue", "label_value", "index", "id", "label"),
    "name": ("name", "labelname", "label_name", "structure"),
    "parent": ("parent", "superclass"),
    "red": ("red", "r", "color_r"),
    "green": ("green", "g", "color_g"),
    "blue": ("blue", "b", "color_b"),
}


def read_label_tree(path: str | Path, kind: str | None = None, name: str | None = None) -> LabelTree:
    """Read a label tree from any known format.

    Args:
        path: the file.
        kind: one of :data:`FORMATS`; found out from the content if None.
        name: the tree's name; the file's name if None.

    Raises:
        LabelTreeError: the file cannot be read, or does not make a tree; names the file, what was found, what to do.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LabelTreeError(f"{path}: there is no such file; give a label tree or a list of labels.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LabelTreeError(f"{path}: cannot be read as text ({error}); give a UTF-8 text file.") from error
    kind = kind or guess_format(path, text)
    if kind == "json":
        tree = LabelTree.load(path)
        return tree if name is None else LabelTree.from_dict({**tree.to_dict(), "name": name})
    readers = {"nnunet": _from_nnunet, "mapping": _from_mapping, "table": _from_table, "paths": _from_paths}
    if kind not in readers:
        raise LabelTreeError(f"{path}: the format {kind!r} is not known; formats are {', '.join(FORMATS)}.")
    try:
        return tree_of(readers[kind](text), name or path.name.split(".")[0])
    except json.JSONDecodeError as error:
        raise LabelTreeError(
            f"{path}: not valid JSON (line {error.lineno}: {error.msg}); correct that line."
        ) from error
    except LabelTreeError as error:
        raise LabelTreeError(f"{path}: {error.sentence}", hint=error.hint) from error


def guess_format(path: Path, text: str) -> str:
    """The most likely of :data:`FORMATS`, from the file's ending and content."""
    if path.suffix.lower() == ".json" or text.lstrip().startswith("{"):
        try:
            content = json.loads(text)
        except (json.JSONDecodeError, RecursionError):
            return "json"
        if not isinstance(content, dict) or "nodes" in content:
            return "json"
        return "nnunet" if isinstance(content.get("labels"), dict) else "mapping"
    lines = _content_lines(text)
    if not lines:
        return "paths"
    header = {_plain(cell) for cell in lines[0].split(",")}
    if header & set(_COLUMNS["value"]) and header & set(_COLUMNS["name"]):
        return "table"
    first = lines[0].replace(",", " ").split()
    return "table" if first and first[0].lstrip("-").isdigit() else "paths"


def tree_of(rows: Sequence[Mapping[str, Any]], name: str) -> LabelTree:
    """A tree from rows with ``name``, and optionally ``parent``, ``value``, ``color``, ``aliases``.

    Leaves without a value take the lowest unused ones from 1 on, then inner nodes do.

    Raises:
        LabelTreeError: the rows do not make a tree.
    """
    parents = {row.get("parent") for row in rows}
    taken = {row["value"] for row in rows if row.get("value") is not None}
    # 255 is skipped so that a tree with many nodes does not have to move its unlabelled value for one of them.
    free = (value for value in range(1, MAX_VALUE) if value not in taken and value != 255)
    complete = [dict(row) for row in rows]
    for wanted in (False, True):
        for row in complete:
            if row.get("value") is None and (row["name"] in parents) == wanted:
                row["value"] = next(free)
    values = [row["value"] for row in complete]
    if not values or not all(isinstance(value, int) for value in values):
        raise LabelTreeError(
            "no labels with whole-number values were found; check the format, or give it with '--from'."
        )
    order = ("name", "parent", "value", "color", "aliases")
    nodes = [{key: row[key] for key in order if row.get(key) is not None} for row in complete]
    unlabelled = 255 if max(values) < 255 else 65535
    return LabelTree.from_dict(
        {"format_version": FORMAT_VERSION, "name": name, "unlabelled": unlabelled, "nodes": nodes}
    )


def _from_nnunet(text: str) -> list[dict[str, Any]]:
    content = json.loads(text)
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict):
        raise LabelTreeError("nnU-Net's dataset.json has 'labels', an object of names and values; it is not there.")
    return rows_of_labels(labels)


def rows_of_labels(labels: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows for :func:`tree_of` from the "labels" of a ``dataset.json``, of nnU-Net or of the Decathlon.

    Raises:
        LabelTreeError: a value is none, or regions overlap.
    """
    if labels and all(isinstance(value, str) for value in labels.values()):
        return _rows_of_mapping(labels)
    sets: dict[str, frozenset[int]] = {}
    for label, value in labels.items():
        if label == "ignore":  # nnU-Net's word for what we call unlabelled
            continue
        members = value if isinstance(value, list) else [value]
        if not members or not all(type(member) is int for member in members):
            raise LabelTreeError(
                f"label '{label}' has the value {value!r}; give an integer, or a list of them for a region."
            )
        sets[_clean(label)] = frozenset(members)
    return _nest(sets)


def _nest(sets: Mapping[str, frozenset[int]]) -> list[dict[str, Any]]:
    """Rows of a tree from regions that lie inside each other; a value that no label names alone becomes a rest leaf."""
    names = sorted(sets, key=lambda name: -len(sets[name]))
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            common = sets[first] & sets[second]
            if sets[first] == sets[second]:
                raise LabelTreeError(f"'{first}' and '{second}' are the same values; keep one of them.")
            if common and common != sets[second]:
                raise LabelTreeError(
                    f"the regions '{first}' and '{second}' overlap, but none lies inside the other; a tree cannot say that, change one."
                )
    parent = {
        name: min(
            (other for other in names if sets[name] < sets[other]), key=lambda other: len(sets[other]), default=None
        )
        for name in names
    }
    rows: list[dict[str, Any]] = []

    def add(name: str) -> None:
        children = [other for other in sets if parent[other] == name]
        single = len(sets[name]) == 1
        rows.append({"name": name, "parent": parent[name], "value": next(iter(sets[name])) if single else None})
        for child in children:
            add(child)
        rest = sets[name] - frozenset().union(*(sets[child] for child in children))
        if not single:
            rows.extend({"name": f"{name} (value {value})", "parent": name, "value": value} for value in sorted(rest))

    for name in sets:
        if parent[name] is None:
            add(name)
    return rows


def _from_mapping(text: str) -> list[dict[str, Any]]:
    content = json.loads(text)
    return _rows_of_mapping(content if isinstance(content, dict) else {})


def _rows_of_mapping(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for key, value in content.items():
        number, label = (key, value) if isinstance(value, str) else (value, key)
        try:
            rows.append({"name": _clean(str(label)), "value": int(number)})
        except (TypeError, ValueError):
            raise LabelTreeError(f"{key!r}: {value!r} is not a name and a whole number; correct it.") from None
    return rows


def _from_table(text: str) -> list[dict[str, Any]]:
    lines = _content_lines(text)
    header = [_plain(cell) for cell in lines[0].split(",")] if lines else []
    column = {
        key: next((header.index(word) for word in words if word in header), None) for key, words in _COLUMNS.items()
    }
    if column["value"] is not None and column["name"] is not None:
        cells = list(csv.reader(io.StringIO("\n".join(lines[1:])), skipinitialspace=True))
    elif any("," in line for line in lines):
        cells = list(csv.reader(io.StringIO("\n".join(lines)), skipinitialspace=True))
        column = {"value": 0, "name": 1, "parent": None, "red": 2, "green": 3, "blue": 4}
    else:
        # A color table: names may hold blanks, the numbers around them tell where they end.
        cells = [_color_table_line(line) for line in lines]
        column = {"value": 0, "name": 1, "parent": None, "red": 2, "green": 3, "blue": 4}
    return [_table_row(row, column) for row in cells if row]


def _table_row(cells: Sequence[str], column: Mapping[str, int | None]) -> dict[str, Any]:
    def cell(key: str) -> str:
        index = column[key]
        return cells[index].strip() if index is not None and index < len(cells) else ""

    try:
        value = int(cell("value"))
    except ValueError:
        raise LabelTreeError(
            f"the line {','.join(cells)!r} has no whole-number value; give value and name on each line."
        ) from None
    if not cell("name"):
        raise LabelTreeError(f"the line {','.join(cells)!r} has no name; give value and name on each line.")
    row: dict[str, Any] = {"name": _clean(cell("name")), "value": value}
    if cell("parent"):
        row["parent"] = _clean(cell("parent"))
    colors = [cell(key) for key in ("red", "green", "blue")]
    if all(color.isdigit() for color in colors):
        row["color"] = [int(color) for color in colors]
    return row


def _color_table_line(line: str) -> list[str]:
    words = line.split()
    end = len(words)
    while end > 2 and end > len(words) - 4 and words[end - 1].isdigit():
        end -= 1
    return [words[0], " ".join(words[1:end]), *words[end : end + 3]]


def _from_paths(text: str) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for line in _content_lines(text):
        path, _, number = line.partition("=")
        if number.strip() and not number.strip().isdigit():
            raise LabelTreeError(
                f"the line {line!r} has {number.strip()!r} after '='; give a whole number, or nothing."
            )
        above: str | None = None
        for part in path.split(","):
            label = _clean(part)
            if label in rows and rows[label].get("parent") != above:
                raise LabelTreeError(
                    f"the line {line!r} puts '{label}' below {above or 'the top'}, another line below {rows[label].get('parent') or 'the top'}; names are unique, rename one."
                )
            rows.setdefault(label, {"name": label, **({"parent": above} if above else {})})
            above = label
        if number.strip() and above is not None:
            rows[above]["value"] = int(number)
    return list(rows.values())


def _content_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _plain(cell: str) -> str:
    return cell.strip().strip('"').lower()


def _clean(label: str) -> str:
    """A name without the characters that separate paths and tags."""
    return label.strip().strip('"').replace("/", " or ").replace("|", " ")
