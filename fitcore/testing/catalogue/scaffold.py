"""A module of tests to begin with: one for each statement of a catalogue, which fails until it is written."""

import re
import textwrap

from fitcore.testing.catalogue.statements import Document, Statement

_HEAD = '''"""{title}."""

import pytest

from fitcore.testing import claim, override
'''
_STUB = '''

@claim("{id}", controls=[override("under what it must fail", broken=True)])
def test_{name}(trials, evidence, broken=False):
{docstring}
    """
    pytest.fail("pending: no claim measures this statement yet", pytrace=False)
'''


def scaffold(document: Document) -> str:
    """Return the source of a test module with one stub a statement; untestable ones need none."""
    stubs = [_stub(statement) for statement in document.statements if not statement.untestable]
    return _HEAD.format(title=_escaped(document.title)) + "".join(stubs)


def _stub(statement: Statement) -> str:
    name = re.sub(r"\W", "_", statement.id.partition("/")[2])
    section = f"Section {statement.section}: " if statement.section else ""
    text = _escaped(section + statement.statement)
    lines = textwrap.wrap(f'"""{text}', 116, break_long_words=False, break_on_hyphens=False)
    return _STUB.format(id=statement.id, name=name, docstring=textwrap.indent("\n".join(lines), "    "))


def _escaped(text: str) -> str:
    """Text for a docstring in which nothing ends it."""
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
