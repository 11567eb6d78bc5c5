"""``hierseg worker``: the prediction worker that the Slicer module talks to."""

from __future__ import annotations

import argparse
from typing import Any

from hierseg.errors import WorkerError


def add_parser(subparsers: Any) -> None:
    """Add the subcommand's parser."""
    parser = subparsers.add_parser(
        "worker",
        help="the prediction worker that the Slicer module talks to",
        description=(
            "Reads messages from stdin and answers on stdout (docs/worker-protocol.md), keeps models warm, and ends with "
            "its stdin. Programs start it, also on another machine: ssh HOST hierseg worker."
        ),
    )
    parser.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """Serve until stdin ends.

    Raises:
        WorkerError: stdin is a terminal: a person has started it.
    """
    import os

    if os.isatty(0):
        raise WorkerError(
            "the worker is started by programs, with pipes as stdin and stdout; to segment an image yourself, use 'hierseg predict'."
        )
    from hierseg.worker.server import serve

    return serve()
