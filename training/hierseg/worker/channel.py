"""The worker's two streams, kept for messages alone.

Libraries print, C extensions warn, progress bars draw: one stray byte on the message stream and nothing after it can
be read.  So before anything heavy is imported the streams are moved to private descriptors at the level of the
operating system, and descriptor 1 then leads to stderr, whoever writes to it and in whatever language.
"""

from __future__ import annotations

import collections
import os
import sys
import threading
from collections.abc import Iterator

from hierseg.errors import WorkerError
from hierseg.worker.protocol import FrameDecoder, Message, encode_parts

READ_SIZE = 1 << 20
# So many small answers may wait for a client that does not read; then pings go unanswered instead of filling memory.
MAX_WAITING = 10_000


def take_over_streams() -> tuple[int, int]:
    """Move stdin and stdout to private descriptors and return those (in, out).

    Afterwards descriptor 0 reads nothing, so that no library and no child can swallow a message, and descriptor 1
    is stderr.  Call it once, before importing torch.
    """
    sys.stdout.flush()
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    if sys.platform == "win32":
        import msvcrt  # line ends would be translated within arrays

        msvcrt.setmode(incoming, os.O_BINARY)
        msvcrt.setmode(outgoing, os.O_BINARY)
    return incoming, outgoing


class Channel:
    """Messages over two descriptors; any thread may send, one thread receives.

    Sending never blocks the caller: a thread of its own writes, so that a client that is slow to read cannot keep the
    worker from reading a cancel, or the end of its stdin.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._waiting: collections.deque[Message] = collections.deque()
        self._changed = threading.Condition()
        self._writing = False
        self.broken = threading.Event()
        threading.Thread(target=self._write_all, name="hierseg-send", daemon=True).start()

    def send(self, message: Message) -> None:
        """Queue a message.  Progress and pongs are dropped when a client has not read thousands of answers."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING and message.type in ("pong", "progress"):
                return
            self._waiting.append(message)
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until everything is written; False if that takes longer than ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.broken.is_set() or not (self._waiting or self._writing), timeout)

    def receive(self) -> Iterator[Message]:
        """Yield messages until the stream ends.

        Raises:
            WorkerError: the stream holds something else, or ends inside a message.
        """
        decoder = FrameDecoder()
        while True:
            try:
                data = os.read(self._incoming, READ_SIZE)
            except OSError as error:
                raise WorkerError(f"the worker's input cannot be read ({error.strerror}).") from error
            if not data:
                decoder.finish()
                return
            yield from decoder.feed(data)
            if decoder.error is not None:
                raise decoder.error

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                message = self._waiting.popleft()
                self._writing = True
            try:
                for part in _encoded(message):
                    self._write(part)
            except OSError:
                # The reader is gone; the end of stdin, which comes with it, ends the worker.
                self.broken.set()
                with self._changed:
                    self._writing = False
                    self._changed.notify_all()
                return

    def _write(self, part: memoryview) -> None:
        while part:
            part = part[os.write(self._outgoing, part[:READ_SIZE]) :]


def _encoded(message: Message) -> list[memoryview]:
    """The frame, complete before any of it is written; of an error where the message cannot be sent."""
    try:
        return list(encode_parts(message))
    except (WorkerError, MemoryError) as error:
        fields = {
            "kind": "Unexpected",
            "sentence": f"The answer of the worker cannot be sent ({str(error) or 'memory ran out'}).",
            "hint": "This is a fault of the program: please report it.",
            "traceback": "",
        }
        return list(encode_parts(Message("error", message.id, fields)))
