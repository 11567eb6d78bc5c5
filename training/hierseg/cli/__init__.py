"""The command ``hierseg``: one module a subcommand, imported only when it is asked for.

A subcommand ``name`` lives in ``hierseg/cli/name.py`` (``name_.py`` where the name is a Python keyword) and defines
``add_parser(subparsers)``, which adds its parser and calls ``parser.set_defaults(run=function)``;
``function(arguments)`` returns the exit code.  ``hierseg --help`` imports none of them.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import json
import keyword
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from hierseg import __version__
from hierseg.allocation import reuse_memory
from hierseg.errors import HiersegError

SUBCOMMANDS = {
    "predict": "segment images with a model bundle",
    "train": "train or fine-tune a model on a dataset folder",
    "evaluate": "score predictions against reference label maps, node by node",
    "compare": "compare two models on annotated cases, node by node",
    "study": "run a series of trainings from one description",
    "import": "turn other formats into a dataset folder",
    "export": "turn a dataset folder into another format",
    "phantom": "make a synthetic data set with known truth",
    "recipe": "make the models that the repository ships, from downloads to weights",
    "tree": "check, show and convert label trees",
    "bundle": "check, list, import and export model bundles",
    "bench": "time the prediction stage by stage, a training, or the losses",
    "doctor": "say what works on this machine and what to do about the rest",
    "worker": "the prediction worker that the Slicer module talks to",
}
"""Every subcommand and its one-line help; only those whose module exists are offered."""

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

_EXTRA_FOR_PACKAGE = ("torch", "monai", "safetensors", "nibabel", "SimpleITK", "yaml", "tensorboard", "scipy", "tqdm")


def available() -> list[str]:
    """The subcommands whose module file exists, in the order of :data:`SUBCOMMANDS`."""
    folder = Path(__file__).parent
    return [name for name in SUBCOMMANDS if (folder / f"{_module(name)}.py").is_file()]


def build_parser(requested: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command; only the requested subcommand is imported and complete."""
    parser = argparse.ArgumentParser(
        prog="hierseg",
        description="Learn to segment with a label tree, from superclass labels and few subclass labels.",
        epilog="'hierseg COMMAND --help' explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"hierseg {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in available():
        if name == requested:
            importlib.import_module(f"hierseg.cli.{_module(name)}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=SUBCOMMANDS[name], add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for a mistake of the user, 130 after Ctrl-C.

    With ``HIERSEG_DEBUG=1`` in the environment the traceback of a user error is printed as well.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None:  # a process of its own
        reuse_memory()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter gets a '?' instead of a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    requested = next((word for word in arguments if not word.startswith("-")), None)
    try:
        options = build_parser(requested).parse_args(arguments)
        if not hasattr(options, "run"):
            build_parser().print_help()
            return 0
        return int(options.run(options) or 0)
    except HiersegError as error:
        if "--json" in arguments:
            said = {"kind": error.kind, "code": error.code, "sentence": error.sentence, "hint": error.hint}
            print(json.dumps({"error": said}))
        return _complain(error.sentence, error.hint)
    except KeyboardInterrupt:
        print("hierseg: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) went away: not an error, but Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _EXTRA_FOR_PACKAGE:
            raise
        return _complain(f"the package '{error.name}' is missing; 'hierseg doctor' says how to install it.")
    except MemoryError:
        return _complain("not enough memory; close other programs, or use smaller patches or images.")
    except OSError as error:
        return _complain(_explain(error))


def _module(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def _complain(sentence: str, hint: str = "") -> int:
    print(f"hierseg: {sentence}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)
    if os.environ.get("HIERSEG_DEBUG"):
        traceback.print_exc()
    return EXIT_USER_ERROR


def _explain(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"{where}the disk is full; free some space and run the command again (nothing half-written was kept)."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}no permission; choose another folder or change its permissions."
    return f"{where}{error.strerror or error}; check the path and try again."
