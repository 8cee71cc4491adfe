"""Every id that a test names has a row, and docs/requirements.md is what the script makes."""

from __future__ import annotations

import re

import requirement_rows


def test_every_id_has_a_row() -> None:
    assert sorted(set(requirement_rows.named()) - set(requirement_rows.rows())) == []


def test_every_id_is_of_a_group() -> None:
    """Whatever looks like an id is one, or the name of something else."""
    known = {each.partition("-")[0] for each in requirement_rows.rows()}
    others = {"AES", "CCM", "ECMA", "PIN", "SHA", "SSH", "TYPE", "UTF"}
    for path in requirement_rows.HERE.rglob("*.py"):
        prefixes = set(re.findall(r"\b([A-Z]{2,4})-\d+\b", path.read_text("utf-8")))
        assert prefixes <= known | others, path


def test_what_is_shipped_has_sentences_instead() -> None:
    """Whoever reads an installed module has no table of ids."""
    one = re.compile(rf"\b(?:{'|'.join({each.partition('-')[0] for each in requirement_rows.rows()})})-\d+[a-z]?\b")
    for package in ("dot_proto", "backends"):
        for path in (requirement_rows.DOCS.parent / package).rglob("*.py"):
            assert not one.search(path.read_text("utf-8")), path


def test_the_page_is_what_the_script_makes() -> None:
    """``python tests/requirement_rows.py`` makes it anew."""
    assert requirement_rows.PAGE.read_text("utf-8") == requirement_rows.page()


def test_rows_are_well_formed() -> None:
    """One sentence, from an RFC's section, from us, or from the field; no id twice, no two rows in the same words."""
    seen = requirement_rows.rows()
    for each, row in seen.items():
        assert re.fullmatch(r"[A-Z]{2,3}-\d+[a-z]?", each)
        assert re.fullmatch(r"[A-Z\"a-z.][^|]*\.", row.sentence), each
        for source in row.source.split("; "):
            assert re.fullmatch(r"RFC \d{4,5}, [\w., ]+|own|field", source), each
    assert len(seen) == sum(len(group.rows) for group in requirement_rows.groups())
    assert len({row.sentence for row in seen.values()}) == len(seen)
