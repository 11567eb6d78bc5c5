"""Messages as bytes: whatever the pieces they come in, and whatever else comes."""

from __future__ import annotations

import json
import struct
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.errors import WorkerError
from hierseg.worker.protocol import (
    DTYPES,
    MAGIC,
    PROTOCOL_VERSION,
    FrameDecoder,
    Message,
    array_hash,
    check_version,
    encode,
    encode_parts,
)

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | names
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)
fields = st.dictionaries(names.filter(lambda name: name not in ("type", "id", "arrays")), values, max_size=4)
arrays = st.dictionaries(
    names,
    hnp.arrays(
        st.sampled_from(sorted(DTYPES)).map(np.dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    ),
    max_size=3,
)
messages = st.builds(Message, type=names, id=st.integers(0, 2**40), fields=fields, arrays=arrays)


def assert_equal(a: Message, b: Message) -> None:
    assert (a.type, a.id, dict(a.fields)) == (b.type, b.id, dict(b.fields))
    assert list(a.arrays) == list(b.arrays)
    for name, array in a.arrays.items():
        assert b.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(b.arrays[name], array)


def one_line(error: WorkerError) -> None:
    assert "\n" not in error.sentence
    assert error.sentence.endswith(".")


@given(st.lists(messages, max_size=4), st.lists(st.integers(1, 40), min_size=1, max_size=10))
def test_messages_arrive_whatever_the_pieces(sent: list[Message], sizes: list[int]) -> None:
    stream = b"".join(encode(message) for message in sent)
    decoder, received, position, turn = FrameDecoder(), [], 0, 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        received += decoder.feed(stream[position : position + size])
        position, turn = position + size, turn + 1
    decoder.finish()
    assert len(received) == len(sent)
    for a, b in zip(sent, received, strict=True):
        assert_equal(a, b)


@given(messages, st.data())
def test_a_cut_stream_is_told(message: Message, data: st.DataObject) -> None:
    stream = encode(message)
    decoder = FrameDecoder()
    assert decoder.feed(stream[: data.draw(st.integers(1, len(stream) - 1))]) == []
    with pytest.raises(WorkerError, match="ended in the middle of a message"):
        decoder.finish()


@given(st.binary(min_size=1, max_size=200), st.lists(messages, max_size=2))
def test_garbage_never_becomes_a_message(garbage: bytes, before: list[Message]) -> None:
    decoder = FrameDecoder()
    received = []
    try:
        received = decoder.feed(b"".join(encode(message) for message in before) + garbage)
        decoder.finish()
    except WorkerError as error:
        one_line(error)
    # Random bytes that are a valid frame do not occur; what came before them does arrive.
    assert len(received) in (0, len(before))
    if not garbage.startswith(MAGIC[: len(garbage)]):
        assert decoder.error is not None
        with pytest.raises(WorkerError):
            decoder.feed(encode(Message("ping")))


@given(messages, st.data())
def test_one_changed_byte_is_an_error_or_changes_content_only(message: Message, data: st.DataObject) -> None:
    stream = bytearray(encode(message))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoder = FrameDecoder(max_payload=1 << 20)
        for received in decoder.feed(stream):
            assert isinstance(received.type, str)
            assert all(array.dtype.str in DTYPES for array in received.arrays.values())
    except WorkerError as error:
        one_line(error)


def frame(header: Any, payload: bytes = b"", announced: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<4sIQ", MAGIC, len(text), len(payload) if announced is None else announced) + text + payload


def one(**changes: Any) -> dict[str, Any]:
    return {"type": "put", "id": 1, "arrays": [{"name": "a", "dtype": "<f4", "shape": [2], "bytes": 8, **changes}]}


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (frame(b"{"), "not JSON"),
        (frame(b"\xff\xfe"), "not JSON"),
        (frame(b"[" * 100_000), "not JSON"),
        (frame([]), "no type"),
        (frame({"id": 1}), "no type"),
        (frame({"type": 3}), "no type"),
        (frame({"type": "x", "id": -1}), "id is -1"),
        (frame({"type": "x", "id": True}), "id is True"),
        (frame({"type": "x", "arrays": {}}), "not listed"),
        (frame({"type": "x", "arrays": [3]}), "without a name"),
        (frame(one(dtype="|O"), bytes(8)), "not one of numbers"),
        (frame(one(dtype="<M8[s]"), bytes(8)), "not one of numbers"),
        (frame(one(dtype=["<f4"]), bytes(8)), "not one of numbers"),
        (frame(one(shape=[-2]), bytes(8)), "which is none"),
        (frame(one(shape=[1] * 9), bytes(8)), "which is none"),
        (frame(one(shape=[True, 2]), bytes(8)), "which is none"),
        (frame(one(shape=[3]), bytes(8)), "its shape needs 12"),
        (frame(one(shape=[1 << 40, 1 << 40]), bytes(8)), "its shape needs"),
        (frame(one(), bytes(12)), "take 8 bytes, but 12"),
        (frame({"type": "x", "arrays": one()["arrays"] * 2}, bytes(16)), "two arrays alike"),
        (b"Welcome to host\n", r"begins with 'Welcome to host\\n'.*login scripts"),
        (b"H", None),
        (b"HX", "begins with 'HX'"),
    ],
)
def test_each_fault_has_its_sentence(stream: bytes, said: str | None) -> None:
    decoder = FrameDecoder()
    if said is None:
        assert decoder.feed(stream) == []
        return
    with pytest.raises(WorkerError, match=said):
        decoder.feed(stream)


def test_limits_hold_when_announced_not_when_reached() -> None:
    with pytest.raises(WorkerError, match="header of 4294967295 bytes"):
        FrameDecoder().feed(struct.pack("<4sIQ", MAGIC, 2**32 - 1, 0))
    with pytest.raises(WorkerError, match="announces 18446744073709551615 bytes"):
        FrameDecoder().feed(struct.pack("<4sIQ", MAGIC, 10, 2**64 - 1))


@pytest.mark.parametrize(
    "message",
    [
        Message("x", fields={"number": float("nan")}),
        Message("x", fields={"thing": object()}),
        Message("x", fields={"arrays": []}),
        Message("x", arrays={"a": np.array([object()])}),
        Message("x", arrays={"a": np.array(["text"])}),
        Message("x", arrays={"a": np.zeros(1, dtype=bool)}),
        Message("x", arrays={"a": np.zeros((1,) * 9)}),
    ],
)
def test_what_cannot_be_sent_is_refused_here(message: Message) -> None:
    with pytest.raises(WorkerError):
        encode(message)


def test_any_layout_and_byte_order_arrives_as_the_same_numbers() -> None:
    base = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for array in (base, base.T, base[:, ::-1], np.asfortranarray(base), base.astype(">i2"), base.astype(">f8")):
        (received,) = FrameDecoder().feed(encode(Message("x", arrays={"a": array})))
        np.testing.assert_array_equal(received.arrays["a"], array)
        assert received.arrays["a"].flags.writeable
        assert received.arrays["a"].flags.aligned


def test_a_large_array_is_not_copied_to_be_sent() -> None:
    array = np.zeros(1 << 20, dtype=np.uint8)
    _, piece = encode_parts(Message("x", arrays={"a": array}))
    array[0] = 7
    assert piece[0] == 7


def test_the_hash_means_values_shape_and_type_not_memory_layout() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert array_hash(array) == array_hash(np.asfortranarray(array)) == array_hash(array.astype(">f4"))
    others = [array.T, array.reshape(3, 2), array.astype(np.float64), array + 1]
    assert len({array_hash(other) for other in [array, *others]}) == 5


def test_another_version_is_refused_in_one_sentence_that_names_both() -> None:
    check_version(Message("hello", fields={"protocol": PROTOCOL_VERSION}), "worker")
    with pytest.raises(WorkerError, match="the worker speaks version 3 of the protocol and this program version 2;"):
        check_version(Message("hello", fields={"protocol": 3}), "worker")
    with pytest.raises(WorkerError, match="version None"):
        check_version(Message("hello"), "worker")
