"""The training loop and what surrounds it: configuration, checkpoints, the run folder, validation, the final bundle.

``train`` is the one entry: ``hierseg train`` calls it, and so may a script.  ``config.py`` says what can be set,
``runfolder.py`` what a run writes, ``checkpoints.py`` what is saved to resume, ``publish.py`` what a model card says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hierseg.engine.trainer import RunResult, train

__all__ = ["RunResult", "train"]


def __getattr__(name: str) -> object:
    # The data modules name the configuration's types; importing the whole loop with them would go in circles.
    if name in __all__:
        from hierseg.engine import trainer

        return getattr(trainer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
