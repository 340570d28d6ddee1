"""Archives: members are read and inflated within what they declare, and where they stand."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from formats.crafted import archives
from formats.crafted.keras_configs import keras_file, sequential
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats.archive import Archive, SpanStream, escape
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.formats.pickled_members import pickled

VALUES = bytes(range(256)) * 500


@pytest.fixture(params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    members = {"assets/x": VALUES, "assets/empty": b""}
    return keras_file(tmp_path, sequential(), members, compression=request.param)


def test_members_are_read_whole_and_in_part(path: Path) -> None:
    with Archive(path, DEFAULT_LIMITS) as archive:
        assert archive.names[-2:] == ("assets/x", "assets/empty")
        assert archive.read("assets/x", len(VALUES)) == VALUES
        assert archive.read("assets/empty", 0) == b""
        assert archive.head("assets/x", 1000) == VALUES[:1000]
        assert archive.head("assets/x", 10**9) == VALUES
        assert archive.size("assets/x") == len(VALUES)
        with pytest.raises(UnsafeModel, match="GEB905"):
            archive.read("assets/x", len(VALUES) - 1)


def test_a_stored_member_is_read_in_place(path: Path) -> None:
    with Archive(path, DEFAULT_LIMITS) as archive:
        span = archive.span("assets/x")
        if span is None:
            return
        assert path.read_bytes()[span.offset : span.offset + span.size] == VALUES
        with SpanStream(path, span) as stream:
            assert stream.seek(-10, 2) == len(VALUES) - 10
            assert stream.read(100) == VALUES[-10:]


def test_bytes_that_are_not_those_written_are_told(path: Path) -> None:
    with Archive(path, DEFAULT_LIMITS) as archive:
        span = archive._spans["assets/x"]
    data = bytearray(path.read_bytes())
    data[span.offset + span.size // 2] ^= 0xFF
    path.write_bytes(data)
    with (
        Archive(path, DEFAULT_LIMITS) as archive,
        pytest.raises(UnreadableModel, match="assets/x' is truncated or damaged"),
    ):
        archive.read("assets/x", len(VALUES))


def test_limits_are_obeyed(path: Path) -> None:
    with pytest.raises(UnsafeModel, match="4 members.*GEB905"):
        Archive(path, replace(DEFAULT_LIMITS, members=3))
    with (
        Archive(path, replace(DEFAULT_LIMITS, inflated_bytes=10)) as archive,
        pytest.raises(UnreadableModel, match="inflates to"),
    ):
        archive.check_inflated("assets/x")


def test_methods_that_inflate_without_a_bound_are_not_read(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = keras_file(tmp_path, sequential(), compression=method)
        with pytest.raises(UnreadableModel, match="a method that Keras does not use"):
            Archive(path, DEFAULT_LIMITS)


@given(
    cut=st.integers(0, 600), flips=st.lists(st.tuples(st.integers(0, 10**4), st.integers(1, 255)))
)
def test_damage_is_told(
    cut: int, flips: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is done to an archive: it is read, or refused in one line."""
    folder = tmp_path_factory.mktemp("damage")
    data = bytearray(archives.whole(folder))
    for place, change in flips:
        data[place % len(data)] ^= change
    path = folder / "model.keras"
    path.write_bytes(data[: len(data) - cut] if cut else data)
    try:
        with Archive(path, DEFAULT_LIMITS) as archive:
            for name in archive.names:
                archive.head(name, 10**6)
    except UnreadableModel as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", archives.NAMES.values())
def test_names_that_lead_out(name: str) -> None:
    assert escape(name)


@pytest.mark.parametrize(
    "name", ["a", "a/b", "a..b", "...", "a/...", "block1/conv..1/a:b", "~", ""]
)
def test_names_that_do_not(name: str) -> None:
    assert escape(name) == ""


@pytest.mark.parametrize(
    "head",
    [b"", b"\x80", b"\x80\x02", b"\x80\x02\xff\xff\xff", b"cat sat\non the mat\n", b"(c", b"a,b\nc",
     b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'shape': (3,)}", b"{\"O\": 1}", b"PK\x03\x04"],
)  # fmt: skip
def test_what_is_no_pickle(head: bytes) -> None:
    assert pickled(head) == ""
