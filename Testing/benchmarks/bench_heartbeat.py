"""How long the module holds the GUI thread: the scene half without Slicer, and, where SLICER is set, the panel in Slicer.

Without Slicer: the longest step of importing a prediction and of counting its voxels (``bench_scene.py``).  With it: each
entry from Slicer into our code at 256³ and at 512×512×400, and the event loop's longest gap (``Testing/tour/bars.py``).

    python Testing/benchmarks/bench_heartbeat.py
    SLICER=/path/to/Slicer python Testing/benchmarks/bench_heartbeat.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Measure, and print one JSON object.

    Returns:
        0, or what a part returned that could not run at all.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, help="one cube of this edge instead of the two sizes; no Slicer")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    command = [sys.executable, str(HERE / "bench_scene.py"), "--runs", str(arguments.runs)]
    if arguments.size:
        command += ["--size", str(arguments.size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    if done.returncode:
        return done.returncode
    result: dict[str, Any] = {"benchmark": "heartbeat", "scene": json.loads(done.stdout), "slicer": "SLICER is not set"}
    if os.environ.get("SLICER") and not arguments.size:
        result["slicer"] = _in_slicer()
    print(json.dumps(result, indent=1))
    return 0


def _in_slicer() -> dict[str, Any]:
    """What the bars' parts wrote; a bar that is missed is in there, and no failure of the benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE.parent / "tour" / "run.py"), "bars-256", "bars-512", "--out", folder]
        subprocess.run(command, stdout=sys.stderr, check=False)
        return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("bars-*.json")}


if __name__ == "__main__":
    sys.exit(main())
