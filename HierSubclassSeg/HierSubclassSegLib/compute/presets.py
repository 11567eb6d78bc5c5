"""The three lengths of a fine-tuning, and how long they take here.

What a preset does is in its configuration file, ``finetune-<name>.yaml``; from it only the amount of work is read here.
How long that takes is not guessed: it is what an iteration took on this machine in an earlier run of a like network on
the same device, or unknown.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierseg import resources
from hierseg.atomic import write_json
from hierseg.bundle import Bundle
from HierSubclassSegLib.compute.runs import runs_folder

NAMES = ("quick", "standard", "thorough")
PACE = "pace.json"
"""In the runs folder: seconds a patch takes, by machine, device and network."""


@dataclass(frozen=True)
class Preset:
    """How much is trained.

    Attributes:
        name: quick, standard or thorough.
        config: its file.
        iterations: optimizer steps.
        batch_size: patches a step.
    """

    name: str
    config: Path
    iterations: int
    batch_size: int


def preset(name: str) -> Preset:
    """The preset of that name, read from its configuration.

    Raises:
        ResourceError: the configuration is not there.
    """
    path = resources.path("configs", f"finetune-{name}")
    # This half has no YAML reader; both numbers stand on lines of their own.
    text = path.read_text(encoding="utf-8")
    numbers = {
        key: int(found.group(1)) if (found := re.search(rf"^{key}:\s*(\d+)", text, re.MULTILINE)) else default
        for key, default in (("iterations", 2000), ("batch_size", 4))
    }
    return Preset(name, path, numbers["iterations"], numbers["batch_size"])


def estimate(chosen: Preset, bundle: Bundle, device: str) -> float | None:
    """Seconds that a preset takes here; None if no run on this machine has shown it yet."""
    pace = _read().get(_key(bundle.config, device))
    return chosen.iterations * chosen.batch_size * pace if isinstance(pace, int | float) else None


def remember(config: Mapping[str, Any], device: str, seconds_per_patch: float) -> None:
    """Keep what a patch took; a folder that cannot be written is no reason to complain.

    Args:
        config: ``hierseg.json`` of the bundle that training started from.
        device: as it was asked for.
        seconds_per_patch: including validation and saving.
    """
    with contextlib.suppress(OSError):
        runs_folder().mkdir(parents=True, exist_ok=True)
        write_json(runs_folder() / PACE, {**_read(), _key(config, device): round(seconds_per_patch, 5)})


def _read() -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        content = json.loads((runs_folder() / PACE).read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _key(config: Mapping[str, Any], device: str) -> str:
    """What the time of a patch depends on."""
    arguments = config.get("network", {}).get("arguments", {})
    size = "x".join(str(edge) for edge in config.get("patch_size", ()))
    return f"{socket.gethostname()} {device} {arguments.get('trunk')} {arguments.get('width')} {size}"
