"""The main job, end to end, on two real head scans: ``make demo``.

A scan is segmented by the prediction worker; the result becomes segments in a Slicer scene; an annotator (played by
``strokes.py``) gives the cerebellum two subclasses that the model does not know and paints them in five slices; the
annotation is exported; the model is fine-tuned on it in a process of its own; the better model is used again, also on
a scan that nobody annotated.  Both halves of the project take part, through the same doors as in Slicer.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "training"), str(ROOT / "HierSubclassSeg"), str(Path(__file__).parent)]

from hierseg.errors import HiersegError  # noqa: E402

CONFIG = Path(__file__).with_name("finetune.yaml")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line of the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "demo", help="folder for everything that is written"
    )
    parser.add_argument(
        "--bundle", type=Path, default=None, help="bundle to start from; default: the shipped brain-start"
    )
    parser.add_argument("--iterations", type=int, default=None, help="of the fine-tuning; default: as in finetune.yaml")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the demo; 0 if it ran, 2 with one sentence if something is missing."""
    arguments = parse(argv)
    try:
        from main_job import MainJob

        started = time.monotonic()
        out = arguments.out.resolve()
        if out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True)
        job = MainJob(out, arguments.bundle, CONFIG, arguments.iterations)
        job.run()
        print(
            f"\nDone in {time.monotonic() - started:.0f} s after the downloads took {job.download_seconds:.0f} s of them."
        )
        return 0
    except HiersegError as error:
        print(f"demo: {error.sentence}" + (f" {error.hint}" if error.hint else ""), file=sys.stderr)
        return 2
    except ImportError as error:
        print(
            f"demo: {error.name or error} is not installed; run 'make demo', which installs what the demo needs.",
            file=sys.stderr,
        )
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
