"""The module ``slicer.packaging`` without a network: it says what is there and remembers what it was asked to install.

Imitates ``Base/Python/slicer/packaging.py`` of Slicer: names, arguments, and what each returns or raises.  Left out:
pip itself, dialogs, constraints, and extras in ``pip_check``.  A test reads ``asked`` and sets ``answer``.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

#: what was asked to be installed, one dictionary a call of ``pip_ensure`` or ``pip_install``
asked: list[dict[str, Any]] = []
#: what the user does in ``pip_ensure``: "accept", or "decline"
answer = "accept"


def load_requirements(path: str | Path) -> list[Requirement]:
    lines = (line.split(" #")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def _requirements(requirements: Any) -> list[Requirement]:
    given = [requirements] if isinstance(requirements, (str, Requirement)) else requirements
    return [Requirement(item) if isinstance(item, str) else item for item in given]


def pip_check(req: Any) -> bool:
    for requirement in _requirements(req):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            return False
        if not requirement.specifier.contains(version, prereleases=True):
            return False
    return True


def isPipInstallInProgress() -> bool:
    return False


def pip_ensure(
    requirements: Any,
    constraints: str | Path | None = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> list[str] | None:
    missing = [requirement for requirement in _requirements(requirements) if not pip_check(requirement)]
    if not missing:
        return None
    asked.append(
        {"requirements": [str(item) for item in missing], "skip_packages": skip_packages or [], "requester": requester}
    )
    if prompt_install and answer != "accept":
        raise RuntimeError("User declined package installation.")
    return None


def pip_install(
    requirements: Any,
    constraints: str | Path | None = None,
    no_deps_requirements: Any = None,
    skip_packages: list[str] | None = None,
    blocking: bool = True,
    show_progress: bool = True,
    requester: str | None = None,
    logCallback: Callable[[str], None] | None = None,
    completedCallback: Callable[[int], None] | None = None,
) -> list[str] | None:
    asked.append({"requirements": requirements, "skip_packages": skip_packages or [], "requester": requester})
    if completedCallback is not None:
        completedCallback(0)
    return None
