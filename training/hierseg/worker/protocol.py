r"""What the prediction worker and its clients say to each other: messages, and messages as bytes.

A message is a type, a job number, JSON fields and named arrays.  As bytes it is a frame::

    offset  size  what
    0       4     b"HSW\\x01"
    4       4     length of the header, unsigned, little-endian
    8       8     length of the payload, unsigned, little-endian
    16      ...   the header: a JSON object in UTF-8 with "type", "id", "arrays" and the message's own fields
    ...     ...   the payload: the arrays' bytes in C order and little-endian, one after the other

Each entry of "arrays" is ``{"name": ..., "dtype": "<f4", "shape": [...], "bytes": n}``.  Everything is sent this
way, files too (as one-dimensional ``uint8`` arrays), so a pair of pipes is all that is needed: over ssh there is
no shared disk.  Nothing is pickled, nothing received is executed.

:class:`FrameDecoder` takes bytes as they come, in pieces of any size, so that it serves a blocking loop, a reader
thread and Qt's ``QProcess`` alike.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.errors import WorkerError

__all__ = [
    "PROTOCOL_VERSION",
    "FrameDecoder",
    "Message",
    "array_hash",
    "check_version",
    "encode",
    "encode_parts",
    "file_hash",
]

PROTOCOL_VERSION = 2
MAGIC = b"HSW\x01"
MAX_HEADER = 4 << 20
MAX_PAYLOAD = 16 << 30
MAX_DIMENSIONS = 8
SHOWN = 80
# A closed list: no objects, no strings, no dates can come out of a stream.
DTYPES = frozenset({"|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"})

_PREFIX = struct.Struct("<4sIQ")
_RESERVED = frozenset({"type", "id", "arrays"})


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        type: ``hello``, ``put``, ``have``, ``get``, ``load``, ``loaded``, ``predict``, ``cancel``, ``progress``,
            ``result``, ``error``, ``ping``, ``pong`` or ``close``.
        id: the job's number, chosen by the client; an answer carries its question's.
        fields: what goes into the header, JSON only.
        arrays: arrays by name, of the dtypes in :data:`DTYPES`.
    """

    type: str
    id: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """A field, or ``default``."""
        return self.fields.get(name, default)


def encode_parts(message: Message) -> Iterator[memoryview]:
    """The frame of a message in pieces: prefix with header, then each array, not copied where avoidable.

    Raises:
        WorkerError: a field is not JSON (NaN is not), a field's name is taken, or an array has another dtype.
    """
    taken = _RESERVED.intersection(message.fields)
    if taken:
        raise WorkerError(f"a message's fields cannot be called {', '.join(sorted(taken))}.")
    described, pieces = [], []
    for name, array in message.arrays.items():
        little = _wire_array(name, array)
        described.append({"name": name, "dtype": little.dtype.str, "shape": list(array.shape), "bytes": little.nbytes})
        pieces.append(little)
    header = {"type": message.type, "id": message.id, **message.fields, "arrays": described}
    try:
        text = json.dumps(header, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise WorkerError(f"the fields of a {message.type!r} message are not JSON ({error}).") from error
    if len(text) > MAX_HEADER:
        raise WorkerError(f"the fields of a {message.type!r} message are too long ({len(text)} bytes).")
    payload = sum(piece.nbytes for piece in pieces)
    yield memoryview(_PREFIX.pack(MAGIC, len(text), payload) + text)
    for piece in pieces:
        if piece.nbytes:
            # reshape(-1): memoryview.cast wants one dimension; no copy, the array is contiguous here.
            yield piece.reshape(-1).view(np.uint8).data


def encode(message: Message) -> bytes:
    """The frame of a message as one ``bytes``."""
    return b"".join(encode_parts(message))


def _wire_array(name: str, array: np.ndarray) -> np.ndarray:
    """The array, C-contiguous and little-endian."""
    array = np.asarray(array)
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    if little.dtype.str not in DTYPES:
        raise WorkerError(f"the array {name!r} holds {array.dtype}, which cannot be sent; convert it to numbers.")
    if array.ndim > MAX_DIMENSIONS:
        raise WorkerError(f"the array {name!r} has {array.ndim} dimensions; {MAX_DIMENSIONS} can be sent.")
    return np.ascontiguousarray(little)


class FrameDecoder:
    """Turns bytes, in pieces of any size, into messages.

    After the first bad byte nothing that follows can be trusted: the decoder keeps its :attr:`error` and raises it
    from every later call.

    Args:
        max_header: longest header accepted, in bytes.
        max_payload: longest payload accepted, in bytes; refused when announced, before any of it is kept.
    """

    def __init__(self, *, max_header: int = MAX_HEADER, max_payload: int = MAX_PAYLOAD) -> None:
        self.error: WorkerError | None = None
        self._max_header = max_header
        self._max_payload = max_payload
        self._started = False
        self._begin()

    def _begin(self) -> None:
        self._stage = "prefix"
        self._buffer = bytearray()
        self._wanted = _PREFIX.size
        self._payload = 0
        self._header: dict[str, Any] = {}

    def feed(self, data: bytes | bytearray | memoryview) -> list[Message]:
        """Take bytes; return the messages that they complete.

        Messages that came before a bad byte in the same piece are still returned; :attr:`error` is set then, and
        raised by the next call.

        Raises:
            WorkerError: the bytes are no frame, or one that is over the limits.
        """
        if self.error is not None:
            raise self.error
        messages: list[Message] = []
        view = memoryview(data).cast("B")
        position = 0
        try:
            while position < len(view):
                taken = min(self._wanted - len(self._buffer), len(view) - position)
                self._buffer += view[position : position + taken]
                position += taken
                self._check_magic(view[position:])
                while len(self._buffer) == self._wanted:
                    message = self._advance()
                    if message is not None:
                        messages.append(message)
                        break
        except WorkerError as error:
            self.error = error
            self._buffer = bytearray()
            if not messages:
                raise
        return messages

    def finish(self) -> None:
        """Say that no more bytes come.

        Raises:
            WorkerError: the stream ended inside a message.
        """
        if self.error is not None:
            raise self.error
        if self._stage != "prefix" or self._buffer:
            self.error = WorkerError(
                f"the stream ended in the middle of a message ({len(self._buffer)} of {self._wanted} bytes of its "
                f"{self._stage} had come)."
            )
            raise self.error

    def _check_magic(self, following: memoryview) -> None:
        # Checked byte by byte: text on the stream is told at once, not after 16 bytes that may never come.
        if self._stage != "prefix":
            return
        seen = bytes(self._buffer[: len(MAGIC)])
        if seen != MAGIC[: len(seen)]:
            shown = (bytes(self._buffer) + bytes(following[:SHOWN]))[:SHOWN].decode("ascii", "replace")
            cause = (
                ""
                if self._started
                else " If the worker is started through a shell or ssh, its login scripts must not print."
            )
            raise WorkerError(f"the stream holds something that is no message (it begins with {shown!r}).{cause}")

    def _advance(self) -> Message | None:
        if self._stage == "prefix":
            _, header_length, self._payload = _PREFIX.unpack(self._buffer)
            self._started = True
            if header_length > self._max_header:
                raise WorkerError(
                    f"a message announces a header of {header_length} bytes; the limit is {self._max_header}."
                )
            if self._payload > self._max_payload:
                raise WorkerError(
                    f"a message announces {self._payload} bytes of arrays; the limit is {self._max_payload}."
                )
            self._next("header", header_length)
            return None
        if self._stage == "header":
            self._header = _parse_header(bytes(self._buffer), self._payload)
            self._next("payload", self._payload)
            return None
        message = _build(self._header, self._buffer)
        self._begin()
        return message

    def _next(self, stage: str, wanted: int) -> None:
        self._stage = stage
        self._wanted = wanted
        # A new object: a payload's buffer lives on as the memory of the message's arrays.
        self._buffer = bytearray()


def _parse_header(text: bytes, payload: int) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise WorkerError(f"a message's header is not JSON ({type(error).__name__}).") from error
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        raise WorkerError("a message's header has no type.")
    number = header.setdefault("id", 0)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise WorkerError(f"a message's id is {number!r}; it must be a whole number from 0.")
    arrays = header.setdefault("arrays", [])
    if not isinstance(arrays, list):
        raise WorkerError("a message's arrays are not listed.")
    names = [_check_array(entry) for entry in arrays]
    if len(set(names)) != len(names):
        raise WorkerError("a message names two arrays alike.")
    announced = sum(entry["bytes"] for entry in arrays)
    if announced != payload:
        raise WorkerError(f"a message's arrays take {announced} bytes, but {payload} are announced.")
    return header


def _check_array(entry: Any) -> str:
    """Check one array's description and return its name."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise WorkerError("a message describes an array without a name.")
    name, dtype, shape, size = entry["name"], entry.get("dtype"), entry.get("shape"), entry.get("bytes")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WorkerError(f"the array {name!r} of a message has the type {dtype!r}, which is not one of numbers.")
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_DIMENSIONS
        or not all(type(count) is int and count >= 0 for count in shape)
    ):
        raise WorkerError(f"the array {name!r} of a message has the shape {shape!r}, which is none.")
    expected = np.dtype(dtype).itemsize
    for count in shape:
        expected *= count
    if type(size) is not int or size != expected:
        raise WorkerError(f"the array {name!r} of a message has {size!r} bytes; its shape needs {expected}.")
    return name


def _build(header: dict[str, Any], payload: bytearray) -> Message:
    arrays: dict[str, np.ndarray] = {}
    offset = 0
    for entry in header["arrays"]:
        dtype = np.dtype(entry["dtype"])
        count = entry["bytes"] // dtype.itemsize
        flat = np.frombuffer(payload, dtype=dtype, count=count, offset=offset) if count else np.empty(0, dtype)
        arrays[entry["name"]] = np.require(flat.reshape(entry["shape"]), requirements="A")
        offset += entry["bytes"]
    fields = {name: value for name, value in header.items() if name not in _RESERVED}
    return Message(type=header["type"], id=header["id"], fields=fields, arrays=arrays)


def check_version(message: Message, who: str) -> None:
    """Refuse another protocol version.

    Args:
        message: the other side's ``hello``.
        who: the other side in words, "worker" or "client".

    Raises:
        WorkerError: the versions differ; the sentence names both.
    """
    version = message.get("protocol")
    if version != PROTOCOL_VERSION:
        raise WorkerError(
            f"the {who} speaks version {version!r} of the protocol and this program version {PROTOCOL_VERSION}; "
            "install the same release of hierseg on both sides."
        )


def array_hash(array: np.ndarray) -> str:
    """SHA-256 of an array's dtype, shape and values, as 64 hexadecimal digits; the same for any memory layout."""
    little = _wire_array("array", array)
    digest = hashlib.sha256(f"{little.dtype.str} {list(np.shape(array))}\n".encode("ascii"))
    if little.nbytes:
        digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
