from __future__ import annotations

import gzip

import pytest

from dpf.errors import DataError
from dpf.tables.text import encodings
from dpf.tables.text.encodings import leading_comments, parse_text, sniff_delimiter, split_line


def text_of(path):
    return parse_text(path, lambda stream: stream.read())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_with_and_without_its_mark(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes("β-Estradiol,µM\r\n1,2".encode(encoding))
    assert text_of(path)[0] == "β-Estradiol,µM\n1,2"


def test_latin_1_is_noted_even_where_the_odd_byte_comes_late(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 100_000 + "µM,é\n".encode("latin-1"))
    text, notes = text_of(path)
    assert text.endswith("µM,é\n")
    assert text.startswith("a,b\n1,2\n")
    assert "Latin-1" in notes[0].text
    assert notes[0].severity == "warning"


def test_gzip_is_told_by_its_first_bytes_not_by_its_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(gzip.compress(b"x,y\n"))
    (tmp_path / "b.csv.gz").write_bytes(b"x,y\n")
    for name, said in (("a.csv", "gzip in spite of its name"), ("b.csv.gz", "plain text in spite of its name")):
        text, notes = text_of(tmp_path / name)
        assert text == "x,y\n"
        assert said in notes[0].text


def test_old_mac_line_ends(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,b\r1,2\r")
    assert text_of(tmp_path / "a.csv")[0] == "a,b\n1,2\n"


def test_a_cut_gzip_and_a_binary_file_are_refused(tmp_path):
    whole = gzip.compress(bytes(range(256)) * 100)
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "binary.csv").write_bytes(b"\x01\x00\x02\x00")
    with pytest.raises(DataError, match="ends early"):
        text_of(tmp_path / "cut.csv.gz")
    with pytest.raises(DataError, match="not a table of text"):
        text_of(tmp_path / "binary.csv")


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (["a,b,c", "1,2,3"], ","),
        (["a\tb", "1,2-diol\t3"], "\t"),
        (["id;g1;g2", "a;1,5;2,5", "b;1;2,25"], ";"),
        (["g1,g2", "a,1,2"], ","),
        (['"x"', '"2,6-Diamino"', '"b"'], ","),
    ],
)
def test_delimiters(lines, delimiter):
    assert sniff_delimiter(lines) == delimiter


def test_comments_above_the_headings_are_skipped_and_headings_with_a_hash_are_not():
    assert leading_comments(["# featureCounts, v2", "Geneid\tA\tB", "x\t1\t2"]) == 1
    assert leading_comments(["#gene,A,B", "x,1,2"]) == 0
    assert leading_comments(["gene,A", "x,1"]) == 0


def test_a_line_longer_than_the_csv_limit_is_split():
    assert len(split_line("1.5," * 100_000, ",")) == 100_001
    assert sniff_delimiter(["a," * 90_000, "1," * 90_000]) == ","


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("at", [3, 5_000, 200_000])
def test_a_zero_byte_anywhere_is_no_text(tmp_path, packed, at):
    content = bytearray(b"a,b\n" + b"1,2\n" * 100_000)
    content[at] = 0
    (path := tmp_path / "a.csv").write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match="not a table of text") as caught:
        text_of(path)
    assert caught.value.where == str(path)


def test_half_a_character_of_utf_16(tmp_path):
    (path := tmp_path / "a.csv").write_bytes("a,b\n1,2".encode("utf-16")[:-1])
    with pytest.raises(DataError, match="not a table of text"):
        text_of(path)


def test_a_packed_text_that_unpacks_to_far_more_is_refused_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(encodings, "UNPACKED_AT_LEAST", 1 << 20)
    (path := tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x" * 2_000_000))
    with pytest.raises(DataError, match="more than 200 times as large") as caught:
        text_of(path)
    assert caught.value.where == str(path)
    path.write_bytes(gzip.compress(b"x" * 1_000_000))
    assert len(text_of(path)[0]) == 1_000_000  # small enough, whatever the ratio
    rows = b"".join(b"well %d,DMSO,plate 1,%d\n" % (at, at * 7919 % 1000) for at in range(100_000))
    path.write_bytes(gzip.compress(rows))
    assert len(text_of(path)[0]) == len(rows) > 2_000_000  # a table, packed as tables are
    path.with_suffix("").write_bytes(b"x" * 2_000_000)
    assert len(text_of(path.with_suffix(""))[0]) == 2_000_000  # not packed
