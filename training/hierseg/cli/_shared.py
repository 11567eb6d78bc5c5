"""What several commands do in the same way."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

AddFormat = Callable[[str, str, str], argparse.ArgumentParser]


def add_formats(subparsers: Any, command: str, what: str, description: str, epilog: str) -> AddFormat:
    """Add a command that knows several formats, ``hierseg COMMAND FORMAT``.

    Args:
        subparsers: of the program.
        command: its name.
        what: a line for the list of commands.
        description: of the command's help.
        epilog: of its help and of every format's.

    Returns:
        A function that adds a format: its name, what it is, and the verb that its description begins with.
    """
    parser = subparsers.add_parser(command, help=what, description=description, epilog=epilog)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="FORMAT")

    def add(name: str, explained: str, verb: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = kinds.add_parser(
            name, help=explained, description=f"{verb} {explained}.", epilog=epilog
        )
        return added

    return add


@contextlib.contextmanager
def counting(total: int, unit: str, what: str = "", *, hidden: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; yields what is called with the number done, and the number in all.

    Args:
        total: how many there are.
        unit: what is counted.
        what: is done, before the bar.
        hidden: show none.
    """
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, desc=what, disable=hidden) as bar:

        def show(done: int, _total: int) -> None:
            bar.update(done - bar.n)

        yield show
