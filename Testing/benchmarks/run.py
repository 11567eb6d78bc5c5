"""All benchmarks, each in a process of its own; prints one JSON object, and writes each into build/bench/.

A short table goes to stderr.

    make bench                           all of them
    make bench ARGS="predict main_job"   some of them
    make bench ARGS="--quick"            small volumes, one run: whether they work at all
    make bench ARGS="inference --full"   one of them, with an option of its own

Nothing here is a test: timings are reported and never asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# Name → command behind the Python program, and what makes it quick.
BENCHMARKS: dict[str, tuple[list[str], list[str]]] = {
    "predict": (["-m", "hierseg", "bench", "predict"], ["--size", "48", "--runs", "1"]),
    "inference": (
        [str(HERE / "bench_inference.py")],
        ["--quick"],
    ),
    "skipping": ([str(HERE / "bench_skipping.py")], ["--size", "48", "--runs", "1"]),
    "worker": ([str(HERE / "bench_worker.py")], ["--size", "48", "--runs", "1"]),
    "main_job": ([str(HERE / "bench_main_job.py")], ["--size", "48", "--runs", "1"]),
    "heartbeat": ([str(HERE / "bench_heartbeat.py")], ["--size", "48", "--runs", "1"]),
    "separate_normalization": ([str(HERE / "bench_separate_normalization.py")], []),
}
LEFT_OUT_WHEN_QUICK = ("separate_normalization",)


def main() -> int:
    """Run what was asked for.

    Returns:
        0, or 1 if a benchmark failed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small volumes, one run")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "bench", help="folder of the JSON files")
    arguments, options = parser.parse_known_args()
    if options and len(arguments.names) != 1:
        parser.error(f"the option {options[0]} belongs to one benchmark; name that one and no other")
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; choose of {', '.join(BENCHMARKS)}")
    failed: list[str] = []
    results: dict[str, Any] = {}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or BENCHMARKS:
        if arguments.quick and name in LEFT_OUT_WHEN_QUICK and name not in arguments.names:
            continue
        command, quick = BENCHMARKS[name]
        result = _run([*command, *(quick if arguments.quick else []), *options])
        if result is None:
            failed.append(name)
            continue
        target = arguments.out / f"{name}.json"
        target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        results[name] = result
        _show(name, result, target)
    print(json.dumps(results, indent=1))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(command: list[str]) -> Any:
    """The JSON that a benchmark prints, or None if it failed; its stderr is shown as it comes."""
    folders = [str(REPOSITORY / name) for name in ("training", "HierSubclassSeg", "Testing")]
    paths = [*folders, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    done = subprocess.run(
        [sys.executable, *command], stdout=subprocess.PIPE, encoding="utf-8", env=environment, check=False
    )
    if done.returncode:
        return None
    return json.loads(done.stdout)


def _show(name: str, result: Any, target: Path) -> None:
    lines = [f"\n{name}: {target}"]
    seconds = result.get("seconds") if isinstance(result, dict) else None
    for stage, values in (seconds or {}).items():
        lines.append(f"   {stage:<20} {values['median']:8.3f} s   ({values['min']:.3f} to {values['max']:.3f})")
    print("\n".join(lines), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
