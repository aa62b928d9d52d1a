"""Tests of ``fitcore.testing.catalogue``: what a catalogue says, and what is said about a mistake in one."""

from pathlib import Path

import pytest

from fitcore.testing import ClaimError
from fitcore.testing.catalogue import Catalogue, load_catalogue
from fitcore.tests.project import HEAD, Project, entry

SETUPS = '[setups]\nraw = "Unscaled."\nslow = "Learning rate 1e-4."\n'

# What is wrong -> the catalogue, the line that the error names, and the error.
MISTAKES = {
    "bad TOML": (HEAD + "x =\n", 4, "bad TOML: Invalid value (at line 4, column 4)"),
    "an unknown table": (HEAD + "[statements]\n", 4, "'statements' is none of the tables"),
    "entries that are no tables": ("statement = [1]\n" + HEAD, 1, "'statement' is none of the tables [document]"),
    "no document": (entry("a"), 1, "[document] lacks 'key'"),
    "a document without a title": ('[document]\nkey = "doc"\n', 1, "[document] lacks 'title'"),
    "an unknown key of the document": (HEAD + "compleat = true\n", 4, "[document] has an unknown key 'compleat'"),
    "an ill-typed key of the document": (HEAD + "complete = 1\n", 4, "complete must be a bool, got 1"),
    "an ill-formed document key": ('[document]\nkey = "A b"\ntitle = ""\n', 2, "key 'A b' is not kebab-case"),
    "an ill-formed id": (HEAD + entry("A_b"), 6, "id 'A_b' is not kebab-case"),
    "an id used twice": (HEAD + entry("a") + entry("a"), 13, "doc.toml:6 used again: doc/a"),
    "an unknown key": (HEAD + entry("a", sctn="1"), 11, "[[statement]] has an unknown key 'sctn'"),
    "an ill-typed key": (HEAD + entry("a", section=1), 7, "section must be a str, got 1"),
    "a missing key": (HEAD + "\n[[statement]]\nid = 'a'\n", 5, "[[statement]] lacks 'section'"),
    "an unknown kind": (HEAD + entry("a", kind="fact"), 8, "kind must be one of semantics, identity, shape, figure"),
    "an unknown origin": (HEAD + entry("a", origin="mine"), 9, "must be one of stated, implied, derived, got 'mine'"),
    "an undefined setup": (HEAD + entry("a", setups=["raw"]), 11, "setup 'raw' is no text in [setups]"),
    "an unused setup": (HEAD + SETUPS + entry("a", setups=["raw"]), 6, "setup 'slow' is used by no statement"),
    "a comment on an entry": (HEAD + "[[statement]] # 1\n" + "id = 'A'\n", 4, "[[statement]] lacks 'section'"),
}


def loaded(folder: Path, **texts: str) -> Catalogue:
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return load_catalogue([folder])


@pytest.mark.parametrize(("text", "line", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_file_and_line(text, line, message, tmp_path):
    with pytest.raises(ClaimError) as error:
        loaded(tmp_path, doc=text)
    assert str(error.value).startswith(f"{tmp_path / 'doc.toml'}:{line}: ")
    assert message in str(error.value)


def test_two_documents_cannot_share_a_key(tmp_path):
    with pytest.raises(ClaimError, match=r"b\.toml:2: key 'doc' is that of .*a\.toml:2"):
        loaded(tmp_path, a=HEAD, b=HEAD)


def test_a_catalogue_that_is_not_there_is_told_by_its_path(tmp_path):
    with pytest.raises(ClaimError, match=r"gone\.toml: can't read the catalogue: No such file"):
        load_catalogue([tmp_path / "gone.toml"])


def test_a_catalogue_that_is_not_utf8_is_told_by_its_path(tmp_path):
    (tmp_path / "doc.toml").write_bytes(b"\xff")
    with pytest.raises(ClaimError, match=r"doc\.toml: can't read the catalogue: 'utf-8' codec"):
        load_catalogue([tmp_path])


def test_a_mistake_in_the_catalogue_ends_the_run_before_it_begins(project: Project):
    path = project.catalogue(HEAD + entry("a", kind="fact"))
    assert project.run().ret == pytest.ExitCode.USAGE_ERROR
    assert project.says(f"ERROR: {path}:8: kind must be one of semantics")


def test_statements_come_in_the_order_of_files_and_entries(tmp_path):
    one, two = HEAD.replace('"doc"', '"one"'), HEAD.replace('"doc"', '"two"')
    catalogue = loaded(tmp_path, b=two + entry("x"), a=one + entry("z") + entry("y"))
    assert list(catalogue.statements) == ["one/z", "one/y", "two/x"]


def test_shared_setups_come_before_the_statements_own(tmp_path):
    text = HEAD + SETUPS + entry("a", setups=["slow", "raw"], setup="No bias.")
    statement = loaded(tmp_path, doc=text).statements["doc/a"]
    assert statement.setup == "Learning rate 1e-4. Unscaled. No bias."


def test_a_statement_knows_its_document_and_its_place(tmp_path):
    statement = loaded(tmp_path, doc=HEAD + entry("a")).statements["doc/a"]
    assert (statement.document, statement.location) == ("doc", f"{tmp_path / 'doc.toml'}:6")
