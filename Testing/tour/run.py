"""Runs the module's own test and the tour of the three journeys in a real Slicer, and says what came of it.

    make test-slicer SLICER=/path/to/Slicer
    make test-slicer SLICER=/path/to/Slicer ARGS="segment exits"     some of the parts

Each part is a Slicer of its own, with settings, models folder and temporary files that are thrown away.  Pictures, logs and
tables are in ``build/test-slicer``; the exit code is 1 if a step failed, if Slicer did not end with 0, if its log holds a
traceback or a warning that is not Slicer's own, or if a process was left.

The environment may say HIERSEG_PYTHON (a Python with hierseg's requirements, for the worker; by default the one that
runs this), SAMPLE (a head MRI; by default the demo's scan), DISPLAY (else Xvfb is started), HIERSEG_WHEELS (a folder of
wheels of torch and the requirements for Slicer's Python: the part setup installs them into that Slicer, so give it a copy).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "training")]

import logs  # noqa: E402
import parts  # noqa: E402
import places  # noqa: E402


def main() -> int:
    """Run the parts.

    Returns:
        0, or 1 if anything failed, or 2 if something that is needed is missing.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PART", help=f"of {', '.join(parts.PARTS)} (default: all)")
    parser.add_argument("--slicer", default=os.environ.get("SLICER", ""), help="the Slicer executable")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "test-slicer")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in parts.PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; choose of {', '.join(parts.PARTS)}")
    slicer = shutil.which(arguments.slicer) if arguments.slicer else None
    if slicer is None:
        return _missing("make test-slicer needs a Slicer 5.12 or newer: run it with SLICER=/path/to/Slicer.")
    python = os.environ.get("HIERSEG_PYTHON") or sys.executable
    try:
        places.check_python(python)
        sample = places.sample()
        display = places.Display()
    except places.MissingError as error:
        return _missing(str(error))
    # Told to end, it ends what it started as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    results = []
    with display:
        for name in arguments.names or parts.PARTS:
            results.append(_run(name, slicer, python, sample, out))
            _show(results[-1])
    whole = {"seconds": round(time.perf_counter() - begin), "parts": results}
    (out / "results.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    (out / "results.md").write_text(_table(results), encoding="utf-8")
    failed = [result["part"] for result in results if not result["ok"]]
    print(f"\n{len(results) - len(failed)} of {len(results)} parts passed in {whole['seconds']} s; see {out}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _run(name: str, slicer: str, python: str, sample: Path, out: Path) -> dict[str, Any]:
    part = parts.PARTS[name]
    stale = out / f"{name}.json"
    stale.unlink(missing_ok=True)
    begin = time.perf_counter()
    with places.Home(out) as home:
        environment = {**home.environment(python, sample, out, name), **part.environment}
        command = [slicer, *(["--testing"] if part.testing else []), "--no-splash"]
        command += ["--additional-module-paths", str(ROOT / "HierSubclassSeg")]
        command += ["--python-script", str(HERE / part.script), *part.arguments]
        with open(out / f"{name}.terminal.txt", "w+", encoding="utf-8", errors="replace") as terminal:
            code, timed_out = _wait(command, environment, terminal, part.seconds)
            terminal.seek(0)
            said = terminal.read()
        left = home.processes_left()
        log = home.log_file(out, name)
    steps = json.loads(stale.read_text(encoding="utf-8")) if stale.exists() else {"steps": []}
    problems = logs.findings(log, said, part.allowed)
    if timed_out:
        problems.append(f"not done after {part.seconds} s")
    elif code != 0 and not any(step["state"] == "failed" for step in steps["steps"]):
        problems.append(f"Slicer ended with {code}")
    problems += [f"a process was left: {one}" for one in left if not (part.outlives and part.outlives in one)]
    if part.outlives and not any(part.outlives in one for one in left):
        problems.append(f"'{part.outlives}' did not outlive Slicer")
    if not steps["steps"]:
        problems.append("nothing was run")
    ok = not problems and all(step["state"] != "failed" for step in steps["steps"])
    seconds = round(time.perf_counter() - begin, 1)
    return {"part": name, "ok": ok, "seconds": seconds, "exit_code": code, "problems": problems, **steps}


def _wait(command: list[str], environment: dict[str, str], terminal: Any, seconds: float) -> tuple[int, bool]:
    """The exit code, and whether the time was over; everything that was started then is ended."""
    group: dict[str, Any] = {} if sys.platform == "win32" else {"start_new_session": True}
    process = subprocess.Popen(command, env=environment, stdout=terminal, stderr=subprocess.STDOUT, **group)
    try:
        return process.wait(seconds), False
    except subprocess.TimeoutExpired:
        return process.poll() or -1, True
    finally:
        # Also when this program is told to end: nothing of Slicer's stays behind.
        if process.poll() is None:
            places.end_group(process)
            process.wait()


def _missing(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2


def _show(result: dict[str, Any]) -> None:
    print(f"\n{result['part']}: {'ok' if result['ok'] else 'FAILED'} in {result['seconds']} s", flush=True)
    for step in result["steps"]:
        why = f": {step['why']}" if step.get("why") else ""
        print(f"   {step['state']:<8} {step.get('seconds', 0):7.2f} s  {step['title']}{why}"[:400], flush=True)
    for problem in result["problems"]:
        print(f"   PROBLEM  {problem}", flush=True)


def _table(results: list[dict[str, Any]]) -> str:
    lines = ["| part | step | state | s | |", "|---|---|---|---|---|"]
    for result in results:
        for step in result["steps"]:
            why = str(step.get("why", "")).replace("\n", " ").replace("|", "/")
            lines.append(
                f"| {result['part']} | {step['title']} | {step['state']} | {step.get('seconds', '')} | {why} |"
            )
        lines += [f"| {result['part']} | | problem | | {problem.splitlines()[0]} |" for problem in result["problems"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
