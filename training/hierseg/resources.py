"""Where configurations, label trees, models, terminologies and schemas lie: the one place that knows.

The files of this project are found in four situations, asked in this order:

1. ``HIERSEG_RESOURCES`` names a folder (``LabelTrees/``, ``Models/``, ``Terminologies/``, ``configs/``, ``schemas/``);
2. an installed wheel carries them in ``hierseg/_resources``;
3. a checkout has ``Resources/``, ``training/configs`` and ``docs/schemas`` above ``training/hierseg``;
4. an installed Slicer extension has ``Resources/`` beside the folder that holds ``hierseg``.

Models that a user imports or trains live in :func:`models_folder`, outside of all of these.
Only the standard library is imported: the Slicer half uses this module as it is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath

from hierseg.errors import ResourceError

# Kind: the folder's name in a resource folder, its places relative to an ancestor, the ending that may be left out.
_KINDS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "configs": ("configs", ("configs", "Resources/configs"), ".yaml"),
    "studies": ("configs/studies", ("configs/studies", "Resources/configs/studies"), ".yaml"),
    "label_trees": ("LabelTrees", ("Resources/LabelTrees",), ".json"),
    "models": ("Models", ("Resources/Models",), ""),
    "terminologies": ("Terminologies", ("Resources/Terminologies",), ".json"),
    "schemas": ("schemas", ("docs/schemas", "Resources/schemas"), ".schema.json"),
}
# hierseg's own folder is training/hierseg in a checkout and in an extension: two steps up is the farthest needed.
_ANCESTORS = 2


def folders(kind: str) -> list[Path]:
    """The existing folders of a kind, the first one asked first.

    Args:
        kind: ``configs``, ``studies``, ``label_trees``, ``models``, ``terminologies`` or ``schemas``.

    Raises:
        ResourceError: there is no such kind.
    """
    if kind not in _KINDS:
        raise ResourceError(f"there is no kind of resource {kind!r}; kinds are {', '.join(_KINDS)}.")
    name, places, _ = _KINDS[kind]
    package = Path(__file__).resolve().parent
    candidates = [package / "_resources" / name]
    override = os.environ.get("HIERSEG_RESOURCES")
    if override:
        candidates.insert(0, Path(override) / name)
    for ancestor in list(package.parents)[:_ANCESTORS]:
        candidates += [ancestor / place for place in places]
    return [folder for folder in candidates if folder.is_dir()]


def path(kind: str, name: str) -> Path:
    """The path of a shipped file or folder; the usual ending (``.yaml``, ``.json``) may be left out.

    >>> path("label_trees", "acdc").name
    'acdc.json'

    Raises:
        ResourceError: it is not there; the sentence lists what is.
    """
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or not relative.parts:
        raise ResourceError(
            f"{name!r} is not the name of a resource; give a name such as those of 'names(\"{kind}\")'."
        )
    for folder in folders(kind):
        for candidate in (folder / relative, folder / f"{relative}{_KINDS[kind][2]}"):
            if candidate.exists():
                return candidate
    known = ", ".join(names(kind)) or "none (is the installation complete?)"
    raise ResourceError(f"there is no {kind} resource named '{name}'; there are: {known}.")


def names(kind: str) -> list[str]:
    """The names of all resources of a kind, without the usual ending, sorted."""
    ending = _KINDS[kind][2] if kind in _KINDS else ""
    found = {
        entry.name.removesuffix(ending)
        for folder in folders(kind)
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and entry.name.endswith(ending)
    }
    return sorted(found)


def home() -> Path:
    """The user's own folder: ``HIERSEG_HOME``, or the platform's place for the data of a program."""
    chosen = os.environ.get("HIERSEG_HOME")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "hierseg"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "hierseg"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "hierseg"


def models_folder() -> Path:
    """Where the user's model bundles live, shared by module, command line and worker; it need not exist yet."""
    return home() / "models"


def all_model_folders() -> list[Path]:
    """The user's models folder, then the folders of shipped bundles."""
    return [models_folder(), *folders("models")]
