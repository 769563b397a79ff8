"""A file is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpf.errors import ProjectError
from dpf.files import (
    atomic_path,
    canonical_json,
    parse_object,
    read_object,
    require_regular,
    sha256_file,
    sha256_text,
    together,
    write_bytes,
    write_text,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_a_new_file_appears_whole_with_its_folders(tmp_path):
    target = tmp_path / "deep" / "er" / "a.txt"
    with atomic_path(target) as part:
        assert part.parent == target.parent  # a rename is atomic within one file system only
        assert part.suffix == target.suffix  # some writers choose the format by it
        part.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, OSError])
def test_when_the_block_raises_the_old_file_stays_and_no_other_does(tmp_path, failure):
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def interrupted():
        with atomic_path(target) as part:
            part.write_text("new, but not al")
            raise failure("stop")

    with pytest.raises(ProjectError if failure is OSError else failure, match=r"cannot write a file|stop"):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["fsync", "replace", "write"])
def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path, monkeypatch, place):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    owner, name = {"fsync": (os, "fsync"), "replace": (Path, "replace"), "write": (Path, "write_bytes")}[place]
    monkeypatch.setattr(owner, name, full)
    with pytest.raises(ProjectError) as caught:
        write_text(target, "new")
    assert caught.value.where == str(target)
    assert caught.value.found == "OSError: No space left on device"
    assert caught.value.hint == (
        "free some space on that disk, then run the command again; what was there before is untouched"
    )
    monkeypatch.undo()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_one_may_not_write_is_said(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o555)
    with pytest.raises(ProjectError, match="give yourself write permission there"):
        write_text(folder / "a.txt", "x")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EROFS, "that file system is read-only: work in another folder"),
        (errno.EACCES, "give yourself write permission there, or work in another folder"),
        (errno.EDQUOT, "the disk quota is used up: free some space, then run the command again"),
        (errno.EIO, "see the message above"),
    ],
)
def test_each_failure_has_its_advice(tmp_path, monkeypatch, code, advice):
    def refuse(**_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(ProjectError) as caught:
        write_text(tmp_path / "a.txt", "x")
    assert caught.value.hint == advice
    assert os.strerror(code) in caught.value.found


def test_a_file_where_a_folder_should_be_is_said(tmp_path):
    write_text(tmp_path / "a", "x")
    with pytest.raises(ProjectError, match="cannot write a file"):
        write_text(tmp_path / "a" / "b.txt", "x")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_is_shared_as_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        assert os.umask(umask) == umask  # left as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_text_is_utf8_with_unix_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "µ = 1\nσ = 2\n")
    assert (tmp_path / "a.txt").read_bytes() == "µ = 1\nσ = 2\n".encode()


@given(json_values)
def test_canonical_json_is_json_and_does_not_depend_on_the_order_of_keys(value):
    def backwards(part):
        if isinstance(part, dict):
            return {key: backwards(part[key]) for key in reversed(list(part))}
        return [backwards(item) for item in part] if isinstance(part, list) else part

    assert json.loads(canonical_json(value)) == value
    assert canonical_json(backwards(value)) == canonical_json(value)


def test_canonical_json_has_no_spaces_and_refuses_nan():
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(float("nan"))


def test_digests(tmp_path):
    assert sha256_text("é") == hashlib.sha256("é".encode()).hexdigest()
    data = os.urandom(3 * (1 << 20) + 17)  # more than one block
    write_bytes(tmp_path / "a.bin", data)
    assert sha256_file(tmp_path / "a.bin") == hashlib.sha256(data).hexdigest()
    write_bytes(tmp_path / "empty", b"")
    assert sha256_file(tmp_path / "empty") == hashlib.sha256().hexdigest()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    import fcntl

    left = [tmp_path / name for name in (".a.txt.abcd_fgh.part.txt", ".b.parquet.01234567.part.parquet",
                                         ".lock.01234567.part")]  # fmt: skip
    others = [tmp_path / name for name in ("a.part.txt", ".a.txt.part.txt", ".b.txt.01234567.part.csv", ".notes.part")]
    for path in (*left, *others):
        path.write_text("half")
    alive = tmp_path / ".c.txt.76543210.part.txt"
    with alive.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with atomic_path(tmp_path / "d.txt") as outer:
            write_text(tmp_path / "a.txt", "new")
            assert outer.exists()
            outer.write_text("d")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "d.txt", alive.name, *(p.name for p in others)}


def test_files_written_together_are_put_in_place_at_the_end(tmp_path):
    one, other = tmp_path / "one.txt", tmp_path / "sub/other.txt"
    one.write_text("old")
    with together() as written:
        write_text(one, "new")
        write_text(other, "new")
        assert one.read_text() == "old"
        assert not other.exists()
        assert written[one].read_text() == "new"
    assert (one.read_text(), other.read_text()) == ("new", "new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["one.txt", "other.txt", "sub"]


def test_where_one_of_them_fails_none_is_put_in_place(tmp_path):
    one = tmp_path / "one.txt"
    one.write_text("old")

    def fail():
        write_text(one, "new")
        write_text(tmp_path / "other.txt", "new")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"), together():
        fail()
    assert one.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["one.txt"]
    write_text(one, "alone")  # and what comes after is written at once again
    assert one.read_text() == "alone"


def test_a_folder_that_may_not_be_written_to_keeps_nothing_and_says_so(tmp_path, monkeypatch):
    def mkstemp(**_words):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("dpf.files.tempfile.mkstemp", mkstemp)
    lines = []
    with together(lines.append):
        write_text(tmp_path / "one.txt", "new")
        write_text(tmp_path / "other.txt", "new")
    assert lines == [f"{tmp_path} cannot be written to: nothing of this was kept (one.txt, other.txt)"]
    assert not list(tmp_path.iterdir())
    with pytest.raises(ProjectError, match="read-only: work in another folder"), together():
        write_text(tmp_path / "one.txt", "new")


def test_a_full_disk_is_an_error_even_where_results_need_not_be_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("dpf.files._sync", lambda path: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space")))
    with pytest.raises(ProjectError, match="free some space"), together(lambda line: None):
        write_text(tmp_path / "one.txt", "new")
    assert not list(tmp_path.iterdir())


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_a_json_object_is_read_back(content):
    assert parse_object(canonical_json(content)) == content


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"a"', "3", "[" * 5000 + "]" * 5000, '{"a": ' + "9" * 5000 + "}", b"\xff\xfe{}"]
)
def test_whatever_is_no_json_object_is_one_kind_of_error(text):
    with pytest.raises(ValueError):  # noqa: PT011 (json's own words, or these)
        parse_object(text)


def test_what_is_no_file_is_not_opened(tmp_path):
    require_regular(tmp_path / "absent")  # whoever opens it says so
    for name, make in (("folder", Path.mkdir), ("pipe", os.mkfifo)):
        make(tmp_path / name)
        with pytest.raises(OSError, match="it is"):
            read_object(tmp_path / name)
    (tmp_path / "device").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="no regular file"):
        read_object(tmp_path / "device")
