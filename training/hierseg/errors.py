"""User errors: one plain sentence that names the thing, what was found and what to do.

Every error that a user can cause is a subclass of :class:`HiersegError`.  The command line prints its
sentence and exits with 2, the worker sends it as a message; neither shows a traceback for it.
This module imports the standard library alone, so that the Slicer half can use it.
"""

from __future__ import annotations


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


class LabelTreeError(HiersegError):
    """A label tree is not a tree, or a label does not belong to it."""


class DatasetError(HiersegError):
    """A dataset folder is incomplete, inconsistent or points outside itself."""


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
