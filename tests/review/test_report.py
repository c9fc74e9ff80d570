"""`report.json` as a stranger may write it: refused in one line, or text that can do nothing."""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from mlops.core.errors import UserError
from mlops.core.letters import unseen
from mlops.core.report import MOST_BYTES, Report, read, shortened

HEAD = "0123456789abcdef0123456789abcdef01234567"
LEAST: dict[str, Any] = {
    "head": HEAD,
    "base": None,
    "dirty": False,
    "touched": True,
    "verdict": "pass",
    "blocks": False,
}
ESTIMATE = {"value": 0.5, "low": 0.4, "high": 0.6}
COMPARISON = {
    "metric": "recall",
    "greater_is_better": True,
    "baseline": 0.5,
    "candidate": 0.5,
    "difference": ESTIMATE,
    "worse": 0.5,
    "detectable": None,
}
RESULT = {
    "rule": "floor",
    "subject": "recall",
    "found": ESTIMATE,
    "limit": 0.9,
    "verdict": "fail",
    "blocks": True,
    "why": "",
    "waiver": {"reason": "known", "until": "2026-12-31"},
}


def written(folder: Path, content: Any) -> Path:
    path = folder / "report.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def refusal(folder: Path, content: Any) -> str:
    """The one line that refuses a report."""
    with pytest.raises(UserError) as refused:
        read(written(folder, content))
    message = str(refused.value)
    assert message.isprintable()
    assert len(message) < 1500
    return message


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    policy = {"verdict": "fail", "blocks": True, "results": [RESULT]}
    report = read(written(tmp_path, {**LEAST, "policy": policy, "metrics": [COMPARISON]}))
    assert report.policy is not None
    assert report.policy.results[0].waiver is not None
    assert read(written(tmp_path, report.model_dump_json().encode())) == report


def test_100_mb_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(UserError, match=r"report\.json has 100,000,000 bytes; at most 1,000,000 are read"):
        read(path)


@pytest.mark.parametrize(
    "deep",
    [
        b"[" * 900_000,
        b"[" * 400_000 + b"]" * 400_000,
        b'{"a":' * 150_000 + b"1" + b"}" * 150_000,
        b'{"metrics":' + b"[" * 300 + b"]" * 300 + b"}",
    ],
)
def test_deep_nesting_is_refused(tmp_path: Path, deep: bytes) -> None:
    assert len(deep) <= MOST_BYTES
    assert "report.json is no report" in refusal(tmp_path, deep)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400, "9" * 5000])
@pytest.mark.parametrize("key", ["value", "low", "high"])
def test_numbers_that_are_none_are_refused(tmp_path: Path, number: str, key: str) -> None:
    text = json.dumps({**LEAST, "metrics": [{**COMPARISON, "difference": {**ESTIMATE, key: "NUMBER"}}]})
    assert "report.json is no report" in refusal(tmp_path, text.replace('"NUMBER"', number).encode())


@pytest.mark.parametrize(
    ("key", "value", "output"),
    [
        ("head", HEAD[:-1], "head: String should match"),
        ("head", HEAD.upper(), "head: String should match"),
        ("head", HEAD + "\n", "head: String should match"),
        ("head", 7, "head: Input should be a valid string"),
        ("dirty", "false", "dirty: Input should be a valid boolean"),
        ("blocks", 0, "blocks: Input should be a valid boolean"),
        ("verdict", "PASS", "verdict: Input should be"),
        ("verdict", ["pass"], "verdict: Input should be"),
        ("version", True, "version: Input should be a valid integer"),
        ("version", 2, "version: Input should be less than or equal to 1"),
        ("confidence", 1, "confidence: Input should be less than 1"),
        ("confidence", "0.95", "confidence: Input should be a valid number"),
        ("rows", {"train": 1, "test": -1}, "rows.test: Input should be greater than or equal to 0"),
        ("rows", {"train": 1.0, "test": 1}, "rows.train: Input should be a valid integer"),
        ("rows", {"train": True, "test": 1}, "rows.train: Input should be a valid integer"),
        ("rows", {"train": 10**16, "test": 1}, "rows.train: Input should be less than"),
        ("rows", {"train": 1}, "rows.test: Field required"),
        ("rows", [], "rows: Input should be an object"),
        ("problem", "x" * 301, "problem: String should have at most 300 characters"),
        ("metrics", [COMPARISON] * 51, "metrics: List should have at most 50 items"),
        ("metrics", {"0": COMPARISON}, "metrics: Input should be a valid array"),
        ("metrics", [{**COMPARISON, "worse": 1.5}], "metrics.0.worse: Input should be less than or equal to 1"),
        ("metrics", [{**COMPARISON, "url": "https://x"}], "metrics.0.url: Extra inputs are not permitted"),
        ("policy", {"verdict": "pass", "blocks": False, "results": [RESULT] * 61}, "policy.results: List should"),
        ("charts", [{"title": "", "x": "", "y": "", "at": [1], "series": []}], "charts.0.series: List should"),
        (
            "charts",
            [{"title": "", "x": "", "y": "", "at": [1], "series": [{"name": "", "values": [1, 2]}]}],
            "one value for each place",
        ),
        ("html", "<script>", "html: Extra inputs are not permitted"),
        ("__proto__", {}, "__proto__: Extra inputs are not permitted"),
    ],
)
def test_wrong_types_and_extra_keys_are_named(tmp_path: Path, key: str, value: Any, output: str) -> None:
    assert output in refusal(tmp_path, {**LEAST, key: value})


def test_a_date_has_the_digits_that_everybody_reads(tmp_path: Path) -> None:
    result = {**RESULT, "waiver": {"reason": "", "until": "٢٠٢٦-١٢-٣١"}}
    policy = {"verdict": "fail", "blocks": True, "results": [result]}
    assert "waiver.until: String should match" in refusal(tmp_path, {**LEAST, "policy": policy})


@pytest.mark.parametrize("key", LEAST)
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    assert f"{key}: Field required" in refusal(tmp_path, {name: LEAST[name] for name in LEAST if name != key})


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    text = json.dumps(LEAST)
    twice = text[:-1] + ', "verdict": "fail"}'
    assert "a key appears twice" in refusal(tmp_path, twice.encode())
    assert "a key appears twice" in refusal(
        tmp_path, text.replace("{", '{"rows": {"train": 1, "train": 2},', 1).encode()
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"7", b'"pass"', b"{", b"\xff\xfe\xfa", b"{'head': 1}", bytes(100), b"PK\x03\x04"],
)
def test_what_is_no_report_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "report.json is no report" in refusal(tmp_path, content)


@pytest.mark.parametrize("key", ["\x1b[2J", "\n::error::all is well", "##[error]x", "a\u202eb", "k" * 10_000, "\ud800"])
def test_a_key_cannot_steer_the_log_that_names_it(tmp_path: Path, key: str) -> None:
    message = refusal(tmp_path, {**LEAST, key: 1})
    assert "##[" not in message
    assert "\n" not in message


UNSEEN = {
    "right-to-left override": "\u202e",
    "right-to-left isolate": "\u2067",
    "left-to-right mark": "\u200e",
    "Arabic letter mark": "\u061c",
    "zero-width space": "\u200b",
    "zero-width joiner": "\u200d",
    "word joiner": "\u2060",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "tag": "\U000e0041",
    "private use": "\ue000",
    "line separator": "\u2028",
    "no-break space": "\u00a0",
    "newline": "\n",
    "tab": "\t",
    "escape": "\x1b",
    "NUL": "\x00",
    "C1 control": "\x9b",
    "unassigned": "\U000e0fff",
    "lone surrogate": "\ud800",
    "Hangul filler": "\u3164",
    "Hangul choseong filler": "\u115f",
    "Hangul jungseong filler": "\u1160",
    "half-width Hangul filler": "\uffa0",
    "blank Braille pattern": "\u2800",
    "combining grapheme joiner": "\u034f",
    "Khmer inherent vowel": "\u17b4",
    "Mongolian free variation selector": "\u180b",
    "Mongolian vowel separator": "\u180e",
    "variation selector 1": "\ufe00",
    "variation selector 16": "\ufe0f",
    "variation selector 17": "\U000e0100",
    "variation selector 256": "\U000e01ef",
    "null notehead": "\U0001d159",
    "flood of combining marks": "\u0301" * 5,
    "flood of enclosing marks": "\u20dd" * 5,
}


@pytest.mark.parametrize("letter", UNSEEN.values(), ids=list(UNSEEN))
def test_text_with_something_unseen_is_refused(tmp_path: Path, letter: str) -> None:
    message = refusal(tmp_path, {**LEAST, "target": f"benign{letter}malignant"})
    assert "holds a character that cannot be seen" in message or "hex escape" in message


@pytest.mark.parametrize("text", ["Größe", "年齢", "עברית", "naïve – “quoted” · 3 × 4 ≤ 12 €", "🙂", "a" * 300, ""])
def test_text_of_any_language_is_read(tmp_path: Path, text: str) -> None:
    assert read(written(tmp_path, {**LEAST, "target": text})).target == text


def test_what_writes_a_report_makes_text_that_is_accepted_from_any_letter(tmp_path: Path) -> None:
    for start in range(0, sys.maxunicode, 250):
        text = "".join(map(chr, range(start, min(start + 250, sys.maxunicode + 1))))
        Report(**{**LEAST, "target": shortened(text)})
    assert shortened(" a\tname \n with\u202e marks ") == "a name with� marks"
    assert len(shortened("x" * 10_000)) == 300
    # seen as it is: nothing of a language goes, but for what joins or parts letters unseen
    assert all(shortened(letter) == letter for letter in map(chr, range(0xA1, 0x2000)) if not is_unseen(letter))


def is_unseen(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "CZ" or letter in BLANK_IN_A_LANGUAGE


BLANK_IN_A_LANGUAGE = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f"


def test_every_letter_that_unicode_lets_be_ignored_is_unseen() -> None:
    """Default_Ignorable_Code_Point in Unicode's DerivedCoreProperties.txt, a property that never loses a letter."""
    ranges = """00AD 034F 061C 115F-1160 17B4-17B5 180B-180F 200B-200F 202A-202E 2060-206F 3164 FE00-FE0F FEFF FFA0
        FFF0-FFF8 1BCA0-1BCA3 1D173-1D17A E0000-E0FFF"""
    for each in ranges.split():
        first, _, last = each.partition("-")
        for point in range(int(first, 16), int(last or first, 16) + 1):
            assert unseen(f"a{chr(point)}b") == [1], f"U+{point:04X}"
            assert shortened(f"a{chr(point)}b") == "a�b"


WORDS = {
    "Vietnamese, decomposed": unicodedata.normalize("NFD", "Nguyễn Trường"),
    "Hebrew with cantillation": "בְּרֵאשִׁ֖ית בָּרָ֣א",
    "Arabic with vowels": "الرَّحْمَٰنِ",
    "Thai": "น้ำ ที่ กู้",
    "Hindi": "क्ष्म्य स्त्री",
    "Tibetan": "བསྒྲུབས",
    "Burmese": "အင်္ဂလိပ် က္ကျွန်ုပ်",
    "Khmer": "ស្ត្រី ខ្មែរ",
}


@pytest.mark.parametrize("word", WORDS.values(), ids=list(WORDS))
def test_words_of_scripts_that_stack_marks_are_read(word: str) -> None:
    assert shortened(word) == word
    Report(**{**LEAST, "target": word})


def test_a_flood_of_combining_marks_is_cut_to_four() -> None:
    flood = "Z" + "\u0334\u0317\u0301" * 30
    assert shortened(flood) == flood[:5] + "�" * 86
