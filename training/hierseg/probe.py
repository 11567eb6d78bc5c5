"""``python -m hierseg.probe``: what a Python can run, told as one line of JSON.

A broken torch can raise anything, and can end the process that imports it; so whoever wants to know starts this in a
child process and reads what comes out (the Slicer half: ``HierSubclassSegLib.compute.setup``).  The first line says
which Python this is and is out before torch is touched; the last one tells all.  It imports the standard library alone
and keeps to what Python 3.8 understands, so that a Python which is too old can still say so.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
from typing import Any

MARK = "HIERSEG-PROBE "
"""Begins our lines: packages print what they like while they are imported."""
IMPORTED = ("numpy", "SimpleITK", "pydicom", "monai", "nibabel", "scipy", "safetensors", "yaml", "tensorboard", "tqdm")
"""Looked for as modules: Slicer's own builds of some have no metadata that pip would see."""


def main() -> int:
    """Print the two lines."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": sys.platform,
        "machine": platform.machine(),
        "pointer_bits": 64 if sys.maxsize > 2**32 else 32,
    }
    _say(found)
    found["graphics"] = graphics_cards()
    found["versions"] = versions()
    found["modules"] = [name for name in IMPORTED if _is_there(name)]
    # The slow and dangerous part last.
    found["torch"] = torch_facts()
    _say(found)
    return 0


def versions() -> dict[str, str]:
    """Versions of all installed distributions by their normalized name."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        # A half-removed package has a folder without metadata.
        name = distribution.metadata["Name"] if distribution.metadata else None
        if name:
            found.setdefault(str(name).lower().replace("_", "-").replace(".", "-"), str(distribution.version))
    return found


def graphics_cards() -> list[dict[str, Any]]:
    """The NVIDIA cards that the driver's own tool lists, whether torch can use them or not."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            query,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=15,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    cards = []
    for line in done.stdout.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3:
            mebibytes = int(parts[1]) if parts[1].isdigit() else 0
            cards.append({"name": parts[0], "memory": mebibytes << 20, "driver": parts[2]})
    return cards


def torch_facts() -> dict[str, Any]:
    """Import torch and use it once on each device; ``problem`` says what went wrong, empty if nothing did."""
    facts: dict[str, Any] = {"installed": _is_there("torch"), "version": "", "cuda": "", "devices": [], "problem": ""}
    if not facts["installed"]:
        return facts
    try:
        torch = importlib.import_module("torch")
        # What an interrupted installation leaves can be imported as an empty namespace.
        facts["version"] = str(torch.__version__)
        facts["cuda"] = str(torch.version.cuda or "")
        importlib.import_module("torch.nn.functional")
        if float(torch.ones(3).sum()) != 3.0:
            facts["problem"] = "it computes wrong sums"
            return facts
        facts["devices"] = list(_devices(torch))
    except BaseException as error:  # noqa: BLE001 - a broken torch raises anything, and is what is looked for
        facts["problem"] = f"{type(error).__name__}: {error}"[:600]
    return facts


def _devices(torch: Any) -> Any:
    """Each device that torch can use, or why it cannot use it."""
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            name, problem, memory = f"cuda:{index}", "", 0
            title = name
            try:
                properties = torch.cuda.get_device_properties(index)
                title, memory = properties.name, int(properties.total_memory)
                # A card that this build has no code for is listed, and fails at its first use.
                torch.ones(3, device=name).sum().item()
            except Exception as error:  # noqa: BLE001 - drivers and builds fail in many ways
                problem = f"{type(error).__name__}: {error}"[:300]
            yield {"name": name, "title": title, "memory": memory, "problem": problem}
    mps = getattr(torch.backends, "mps", None)
    if mps is not None and mps.is_available():
        yield {"name": "mps", "title": "Apple graphics", "memory": 0, "problem": ""}


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _say(found: dict[str, Any]) -> None:
    sys.stdout.write("\n" + MARK + json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
