"""The artifact of a run that anybody may have made: a zip with one ordinary file, or nothing."""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import warnings
import zipfile

import pytest

from mlops.core.errors import UserError
from mlops.core.report import MOST_BYTES
from mlops.review.artifact import MOST_ZIPPED, unpack

CONTENT = b'{"verdict": "pass"}' * 20


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an entry that is there twice
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_ordinary_artifact_is_read(method: int) -> None:
    assert unpack(zipped(("report.json", CONTENT), method=method)) == CONTENT
    assert unpack(zipped((entry("report.json", stat.S_IFREG | 0o644), CONTENT), method=method)) == CONTENT


@pytest.mark.parametrize("size", [0, 1, MOST_BYTES])
def test_a_report_may_have_up_to_its_limit(size: int) -> None:
    assert unpack(zipped(("report.json", b" " * size))) == b" " * size


@pytest.mark.parametrize(
    "name",
    [
        "../report.json",
        "../../.github/workflows/report.yaml",
        "/etc/report.json",
        "./report.json",
        "a/report.json",
        "report.json/",
        "Report.json",
        "..\\report.json",
        "C:\\report.json",
        "report.json\n",
        "report.jsonx",
        "x" * 10_000,
    ],
)
def test_an_entry_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"the artifact is rejected: its entry is not named report\.json"):
        unpack(zipped((name, CONTENT)))


def test_a_name_that_a_nul_cuts_short_is_refused() -> None:
    content = zipped(("report.json/../x", CONTENT)).replace(b"report.json/../x", b"report.json\0../x")
    with pytest.raises(UserError, match=r"its entry is not named report\.json"):
        unpack(content)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_a_link_or_a_device_is_refused(kind: int) -> None:
    with pytest.raises(UserError, match=r"report\.json is not a regular file"):
        unpack(zipped((entry("report.json", kind | 0o777), b"/etc/passwd")))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds 0 entries"),
        (("report.json", "report.json"), "holds 2 entries"),
        (("report.json", "../x"), "holds 2 entries"),
        (("x/", "report.json"), "holds 2 entries"),
        (tuple(map(str, range(5000))), "holds 5,000 entries"),
    ],
)
def test_any_number_of_entries_but_one_is_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        unpack(zipped(*((name, b"{}") for name in names)))


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    bomb = zipped(("report.json", bytes(100_000_000)))
    assert len(bomb) < MOST_ZIPPED
    with pytest.raises(UserError, match="would unpack to 100,000,000 bytes; at most 1,000,000 are read"):
        unpack(bomb)


@pytest.mark.parametrize("declared", [10, MOST_BYTES])
def test_a_bomb_that_lies_about_its_size_is_not_unpacked_further_than_it_says(declared: int) -> None:
    bomb = zipped(("report.json", bytes(100_000_000)))
    lying = bomb.replace(struct.pack("<L", 100_000_000), struct.pack("<L", declared))
    assert lying != bomb
    with pytest.raises(UserError, match="the artifact is not a valid zip file: BadZipFile"):
        unpack(lying)


def test_a_report_that_is_shorter_than_the_zip_says_is_refused() -> None:
    content = zipped(("report.json", CONTENT))
    longer = content.replace(struct.pack("<L", len(CONTENT)), struct.pack("<L", len(CONTENT) + 7))
    with pytest.raises(UserError, match=r"the artifact is not a valid zip file|does not have the declared length"):
        unpack(longer)


def test_an_encrypted_entry_is_refused() -> None:
    content = bytearray(zipped(("report.json", CONTENT)))
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    with pytest.raises(UserError, match=r"report\.json is encrypted"):
        unpack(bytes(content))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(method: int) -> None:
    with pytest.raises(UserError, match="a method other than deflate"):
        unpack(zipped(("report.json", CONTENT), method=method))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"PK", b"PK\x05\x06" + bytes(18), b"\x1f\x8b\x08", b"<html>502 Bad Gateway</html>"]
)
def test_what_is_no_zip_is_refused(content: bytes) -> None:
    with pytest.raises(UserError, match=r"the artifact (is not a valid zip file|holds 0 entries)"):
        unpack(content)


def test_a_zip_cut_short_anywhere_is_refused() -> None:
    content = zipped(("report.json", CONTENT))
    for length in range(len(content)):
        with pytest.raises(UserError):
            unpack(content[:length])


def test_a_flipped_bit_anywhere_gives_the_same_report_or_an_error_in_words() -> None:
    content = zipped(("report.json", CONTENT))
    for place in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        with contextlib.suppress(UserError):
            assert unpack(bytes(damaged)) == CONTENT


def test_a_large_artifact_is_not_even_opened() -> None:
    with pytest.raises(UserError, match=r"has 1,010,001 bytes; the limit is 1,010,000"):
        unpack(bytes(MOST_ZIPPED + 1))
