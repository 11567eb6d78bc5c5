"""User errors: one plain sentence that names the thing, what was found and what to do.

Every error that a user can cause is a subclass of :class:`HiersegError`.  The command line prints its
sentence and exits with 2, the worker sends it as a message; neither shows a traceback for it.
This module imports the standard library alone, so that the Slicer half can use it.
"""

from __future__ import annotations

CODES = {
    "LabelTreeError": "HS-TREE",
    "DatasetError": "HS-DATASET",
    "BundleError": "HS-BUNDLE",
    "ImageError": "HS-IMAGE",
    "ConfigError": "HS-CONFIG",
    "TrainingError": "HS-TRAINING",
    "SceneError": "HS-SCENE",
    "ResourceError": "HS-RESOURCE",
    "WorkerError": "HS-WORKER",
    "WorkerDied": "HS-WORKER-DIED",
    "Protocol": "HS-WORKER-PROTOCOL",
    "OutOfMemory": "HS-MEMORY",
    "OSError": "HS-FILE",
    "Unexpected": "HS-PROGRAM",
}
"""What a kind of error is called in docs/troubleshooting.md: stays the same when sentences and classes change."""


def code_of(kind: str) -> str:
    """The code of a kind of error as messages carry it; empty for ``Canceled``, which is no fault."""
    return "" if kind == "Canceled" else CODES.get(kind, CODES["WorkerError"])


class HiersegError(Exception):
    """A mistake in what a user gave (a file, a tree, an option), told in one sentence.

    Args:
        sentence: names the file or node, what was found, and what to do.
        hint: an optional second sentence, shown below the first.
    """

    def __init__(self, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint

    def about(self, staged: object, shown: object) -> HiersegError:
        """The same error, which names the place that the user knows instead of a temporary one."""
        return type(self)(self.sentence.replace(str(staged), str(shown)), hint=self.hint)

    @property
    def kind(self) -> str:
        """The name of the class, as the worker sends it."""
        return type(self).__name__

    @property
    def code(self) -> str:
        """Its entry in docs/troubleshooting.md; a class that is not listed there takes its base class's."""
        names = (self.kind, *(base.__name__ for base in type(self).__mro__))
        return next((CODES[name] for name in names if name in CODES), "")


class LabelTreeError(HiersegError):
    """A label tree is not a tree, or a label does not belong to it."""


class DatasetError(HiersegError):
    """A dataset folder is incomplete, inconsistent or points outside itself."""


class DatasetBusyError(DatasetError):
    """Another program is writing into the dataset folder."""


class BundleError(HiersegError):
    """A model bundle is damaged, unsafe or of another format."""


class ImageError(HiersegError):
    """An image cannot be read, or cannot be used by the model."""


class ConfigError(HiersegError):
    """A configuration or command-line option is unknown or out of range."""


class TrainingError(HiersegError):
    """Training cannot start or go on."""


class WorkerError(HiersegError):
    """The prediction worker or its client met a message that it cannot use."""


class ResourceError(HiersegError):
    """A shipped resource, an optional package or a system library is missing."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was lacking, the computer's or a graphics card's; also behind an error that tells of it."""
    if isinstance(error, HiersegError):
        return error.__cause__ is not None and is_out_of_memory(error.__cause__)
    # By name: this module does not import torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "allocate memory" in text)
