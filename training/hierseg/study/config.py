"""The description of a study: data, rows, seeds; read from YAML, with every key checked."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from hierseg import resources
from hierseg.engine.config import TrainConfig, nested
from hierseg.engine.settings import HOLD_OUT_KINDS, METHODS
from hierseg.errors import ConfigError, ResourceError

T = TypeVar("T")

ALL = "all"
"""Every training subject keeps its subclass labels."""
SPLITS = ("validation", "test")
LABELS = ("dense", "strokes")
METRICS = (
    "dice", "hausdorff95", "tree_distance", "error_distance", "sensitivity", "balanced_accuracy", "auroc", "fpr95",
    "known_accepted", "unknown_accepted",
)  # fmt: skip
"""What a table may show; the last four are of trees without a background alone."""

_KEYS = {
    "": (
        "name", "title", "data", "base", "seeds", "rows", "upper", "lower", "default", "metrics", "tuning", "hold_out_each",
    ),
    "data": (
        "kind", "folder", "cases", "validation", "test", "size", "difficulty", "seed", "validation_seed", "test_seed", "sha256",
    ),
    "rows": ("name", "method", "fine", "settings", "only_fine", "labels"),
    "tuning": ("grid", "seed", "chosen"),
    "hold_out_each": ("kind", "rows", "seeds"),
}  # fmt: skip


@dataclass(frozen=True)
class DataSpec:
    """Where a study's data come from: three draws of a phantom, or the splits of a dataset folder.

    Attributes:
        kind: of phantom; None with ``folder``.
        folder: a dataset folder whose cases carry subclass labels throughout; None with ``kind``.
        cases, validation, test: subjects of the three draws.
        size, difficulty: of the phantom.
        seed, validation_seed, test_seed: of the three draws, all different.
        sha256: what the made data must hash to, by part (``training``, ``validation``, ``test``; ``folder``); empty
            before they are frozen.
    """

    kind: str | None
    folder: str | None
    cases: int
    validation: int
    test: int
    size: int | None
    difficulty: float
    seed: int
    validation_seed: int
    test_seed: int
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class RowSpec:
    """A row of the table: one way to train.

    Attributes:
        name: in the table.
        fine: for which numbers of subjects with subclass labels it is trained; :data:`ALL` or counts.
        settings: of the training, with the study's base and the row's method, but without a seed.
        given: the row's own settings as they were written.
        only_fine: the subjects without subclass labels are left out.
        labels: ``dense``, or ``strokes``: what a few strokes a structure would have said.
    """

    name: str
    fine: tuple[int | str, ...]
    settings: Mapping[str, Any]
    given: Mapping[str, Any]
    only_fine: bool = False
    labels: str = "dense"

    @property
    def method(self) -> str:
        """The training method."""
        return str(self.settings["method"])


@dataclass(frozen=True)
class Tuning:
    """The settings that are chosen for each row by itself, among the same candidates for all (``hierseg study --tune``).

    Attributes:
        grid: candidates by setting, written with a dot where it is in a group.
        seed: of the trainings that are chosen by; none of the study's.
        chosen: by row's name, the chosen candidate of each setting; empty before.
    """

    grid: Mapping[str, tuple[Any, ...]]
    seed: int
    chosen: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class HoldOutEach:
    """Rows that are also trained with each class hidden in turn.

    Attributes:
        kind: ``leaf`` or ``top``: each leaf, or each top-level node with all that is below it.
        rows: their names.
        seeds: of these trainings.
    """

    kind: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Study:
    """What a study file says.

    Attributes:
        lower, upper: the rows between which the gap lies; None: no gap is computed.
        default: the rows that the others are tested against, the first one with the same kind of labels; empty: no tests.
        metrics: columns of the table, of :data:`METRICS`.
        tuning: what was tuned; None: nothing.
        hold_out_each: which rows are trained with hidden classes as well; None: none.
        path, sha256: of the file.
    """

    name: str
    title: str
    data: DataSpec
    seeds: tuple[int, ...]
    rows: tuple[RowSpec, ...]
    lower: str | None
    upper: str | None
    default: tuple[str, ...]
    metrics: tuple[str, ...]
    tuning: Tuning | None
    hold_out_each: HoldOutEach | None
    path: Path
    sha256: str

    def row(self, name: str) -> RowSpec:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)


def read_study(name: str | Path) -> Study:
    """Read a study file.

    Args:
        name: a path, or the name of a shipped study.

    Raises:
        ConfigError: the file cannot be read; a key is unknown or missing, or a value does not fit (where and what is said).
    """
    path = Path(name)
    if not path.exists():
        try:
            path = resources.path("studies", str(name))
        except ResourceError as error:
            raise ConfigError(
                f"{name}: there is no such study file; give a path, or one of {', '.join(resources.names('studies'))}."
            ) from error
    try:
        text = path.read_bytes()
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: the study cannot be read as YAML ({_short(error)}); correct it.") from error
    try:
        return _study(content, path, hashlib.sha256(text).hexdigest())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.sentence}") from error


def slug(name: str) -> str:
    """A row's name as part of a folder's: ``U-Net(n)`` is ``U-Net-n``."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")


def _study(content: Any, path: Path, sha256: str) -> Study:
    top = _keys(content, "", "the study")
    for key in ("name", "data", "rows"):
        _require(top, key, "the study")
    base = _group(top.get("base", {}), "'base'")
    seeds = tuple(_value(seed, int, "'seeds'") for seed in _list(top.get("seeds", [0]), "'seeds'"))
    tuning = _tuning(top["tuning"], seeds) if top.get("tuning") is not None else None
    chosen = {} if tuning is None else tuning.chosen
    rows = tuple(_row(entry, number, base, chosen) for number, entry in enumerate(_list(top["rows"], "'rows'"), 1))
    seen: dict[str, str] = {}
    for row in rows:
        if slug(row.name) in seen:
            raise ConfigError(f"the rows '{seen[slug(row.name)]}' and '{row.name}' have the same name; rename one.")
        seen[slug(row.name)] = row.name
    for known in chosen:
        if known not in seen.values():
            raise ConfigError(
                f"'tuning.chosen' has {known!r}, which is no row; name one of {', '.join(seen.values())}."
            )
    lower, upper = _optional(top, "lower", str, "'lower'"), _optional(top, "upper", str, "'upper'")
    default = top.get("default") or []
    default = _list([default] if isinstance(default, str) else default, "'default'") if default else []
    for key, names in (("lower", [lower]), ("upper", [upper]), ("default", default)):
        for name in names:
            if name is not None and name not in seen.values():
                raise ConfigError(f"'{key}' is {name!r}, which is no row; name one of {', '.join(seen.values())}.")
    if (lower is None) != (upper is None):
        raise ConfigError("'lower' and 'upper' belong together; give both, or neither.")
    metrics = tuple(_list(top.get("metrics", ["dice", "hausdorff95"]), "'metrics'"))
    for metric in metrics:
        if metric not in METRICS:
            raise ConfigError(f"'metrics' names {metric!r}; choose from {', '.join(METRICS)}.")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"'seeds' is {list(seeds)}; give each seed once.")
    hidden = _hold_out_each(top["hold_out_each"], rows, seeds) if top.get("hold_out_each") is not None else None
    study_name = _value(top["name"], str, "'name'")
    return Study(
        study_name, _optional(top, "title", str, "'title'") or study_name, _data(top["data"]), seeds, rows,
        lower, upper, tuple(default), metrics, tuning, hidden, path, sha256,
    )  # fmt: skip


def _data(content: Any) -> DataSpec:
    given = _keys(content, "data", "'data'")
    folder = _optional(given, "folder", str, "'data.folder'")
    kind = _optional(given, "kind", str, "'data.kind'")
    if (folder is None) == (kind is None):
        raise ConfigError("'data' needs either 'kind' (a phantom) or 'folder' (a dataset folder).")
    if folder is not None:
        foreign = sorted(set(given) - {"folder", "seed", "sha256"})
        if foreign:
            raise ConfigError(f"'data.{foreign[0]}' is for phantoms; with 'data.folder' leave it out.")
    numbers = {
        key: _at_least(_optional(given, key, int, f"'data.{key}'"), least, f"'data.{key}'", value)
        for key, least, value in (
            ("cases", 1, 40),
            ("validation", 1, 10),
            ("test", 0, 40),
            ("seed", 0, 1),
            ("validation_seed", 0, 2),
            ("test_seed", 0, 3),
        )
    }
    drawn = [numbers[key] for key in ("seed", "validation_seed", "test_seed")]
    if kind is not None and len(set(drawn)) < len(drawn):
        raise ConfigError(f"the seeds of the three draws are {drawn}; give three different ones.")
    hashes = _group(given.get("sha256") or {}, "'data.sha256'")
    for part, value in hashes.items():
        if part not in (("folder",) if folder is not None else ("training", *SPLITS)):
            raise ConfigError(
                f"'data.sha256' has the unknown part '{part}'; 'hierseg study --freeze' prints the parts."
            )
        if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ConfigError(
                f"'data.sha256.{part}' is {value!r}; give the 64 digits that 'hierseg study --freeze' prints."
            )
    return DataSpec(
        kind, folder, sha256=dict(hashes), size=_optional(given, "size", int, "'data.size'"),
        difficulty=float(given.get("difficulty", 0.5)), **numbers,
    )  # fmt: skip


def _tuning(content: Any, seeds: Sequence[int]) -> Tuning:
    given = _keys(content, "tuning", "'tuning'")
    _require(given, "grid", "'tuning'")
    grid = {
        str(key): tuple(_list(values, f"'tuning.grid.{key}'"))
        for key, values in _group(given["grid"], "'tuning.grid'").items()
    }
    seed = _at_least(_optional(given, "seed", int, "'tuning.seed'"), 0, "'tuning.seed'", 9)
    if seed in seeds:
        raise ConfigError(f"'tuning.seed' is {seed}, which is one of the study's seeds; give another one.")
    chosen = {
        str(name): _group(settings, f"'tuning.chosen' of row '{name}'")
        for name, settings in _group(given.get("chosen") or {}, "'tuning.chosen'").items()
    }
    for name, settings in chosen.items():
        for key, value in settings.items():
            if value not in grid.get(key, ()):
                raise ConfigError(
                    f"'tuning.chosen' of row '{name}' has {key} = {value!r}, which was no candidate; 'hierseg study --tune' prints "
                    "what was chosen."
                )
    return Tuning(grid, seed, chosen)


def _hold_out_each(content: Any, rows: Sequence[RowSpec], seeds: Sequence[int]) -> HoldOutEach:
    given = _keys(content, "hold_out_each", "'hold_out_each'")
    kind = given.get("kind", HOLD_OUT_KINDS[0])
    if kind not in HOLD_OUT_KINDS:
        raise ConfigError(f"'hold_out_each.kind' is {kind!r}; choose {' or '.join(HOLD_OUT_KINDS)}.")
    known = {row.name: row for row in rows}
    names = _list(given.get("rows", list(known)), "'hold_out_each.rows'")
    for name in names:
        if name not in known:
            raise ConfigError(f"'hold_out_each.rows' has {name!r}, which is no row; name one of {', '.join(known)}.")
        if known[name].settings["hold_out"]:
            raise ConfigError(f"row '{name}' hides classes already ('hold_out'); leave it out of 'hold_out_each.rows'.")
    own = _list(given.get("seeds", list(seeds[:1])), "'hold_out_each.seeds'")
    return HoldOutEach(kind, tuple(names), tuple(_value(seed, int, "'hold_out_each.seeds'") for seed in own))


def with_settings(settings: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """A training's settings with some of them, written with a dot where they are in a group, replaced.

    Raises:
        ConfigError: a setting is unknown, or a value does not fit.
    """
    return TrainConfig.from_dict(settings, *(nested(key, value) for key, value in more.items())).to_dict()


def _row(content: Any, number: int, base: Mapping[str, Any], chosen: Mapping[str, Mapping[str, Any]]) -> RowSpec:
    given = _keys(content, "rows", f"row {number}")
    for key in ("name", "method", "fine"):
        _require(given, key, f"row {number}")
    name = _value(given["name"], str, f"the name of row {number}")
    what = f"row '{name}'"
    if not slug(name):
        raise ConfigError(f"{what}: the name has no letter or digit; give one that has.")
    if given["method"] not in METHODS:
        raise ConfigError(f"{what}: 'method' is {given['method']!r}; choose one of {', '.join(METHODS)}.")
    fine = (ALL,) if given["fine"] == ALL else tuple(_list(given["fine"], f"{what}: 'fine'"))
    for count in fine:
        if count != ALL and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise ConfigError(f"{what}: 'fine' has {count!r}; give numbers of subjects, 1 or more, or {ALL}.")
    labels = given.get("labels", "dense")
    if labels not in LABELS:
        raise ConfigError(f"{what}: 'labels' is {labels!r}; choose {' or '.join(LABELS)}.")
    own = _group(given.get("settings", {}), f"{what}: 'settings'")
    for source, where in ((base, "'base'"), (own, f"{what}: 'settings'")):
        for key in ("method", "seed"):
            if key in source:
                raise ConfigError(f"{where} has '{key}'; methods are keys of the rows, seeds those of the study.")
    try:
        settings = TrainConfig.from_dict(base, own, {"method": given["method"]}).to_dict()
        settings = with_settings(settings, chosen.get(name, {}))
    except ConfigError as error:
        raise ConfigError(f"{what}: {error.sentence}") from error
    only = _value(given.get("only_fine", False), bool, f"{what}: 'only_fine'")
    return RowSpec(name, fine, settings, own, only, labels)


def _keys(content: Any, group: str, what: str) -> dict[str, Any]:
    given = _group(content, what)
    for key in given:
        if key not in _KEYS[group]:
            near = difflib.get_close_matches(str(key), _KEYS[group], n=1, cutoff=0.0)[0]
            raise ConfigError(f"{what} has the unknown key '{key}'; the nearest known key is '{near}'.")
    return given


def _require(given: Mapping[str, Any], key: str, what: str) -> None:
    if key not in given:
        raise ConfigError(f"{what} has no '{key}'; add it (docs/studies.md).")


def _group(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} is {_shown(value)}; it must be a group of 'key: value'.")
    return dict(value)


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{what} is {_shown(value)}; it must be a list with one entry or more.")
    return value


def _value(value: Any, kind: type[T], what: str) -> T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        wanted = {int: "a whole number", str: "a text", bool: "true or false"}.get(kind, kind.__name__)
        raise ConfigError(f"{what} is {_shown(value)}; it must be {wanted}.")
    return value


def _optional(given: Mapping[str, Any], key: str, kind: type[T], what: str) -> T | None:
    return None if given.get(key) is None else _value(given[key], kind, what)


def _at_least(value: int | None, least: int, what: str, otherwise: int) -> int:
    if value is not None and value < least:
        raise ConfigError(f"{what} is {value}; give {least} or more.")
    return otherwise if value is None else value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
