"""The catalogue: what the documents state, one TOML file a document.

```toml
[document]
key = "linear-model"
title = "Learning on a linear model"
file = "where the document is to be found"    # optional
complete = true                               # optional: from now on a pending statement is an error

[setups]                                      # settings that several statements share
raw-readings = "Eleven readings in degrees Fahrenheit, unscaled."

[[statement]]
id = "raw-loss-stagnates"                     # referred to as "linear-model/raw-loss-stagnates"
section = "1.3"
kind = "trend"
origin = "stated"
statement = "The loss finally stagnates."
setups = ["raw-readings"]                     # optional
setup = "Learning rate 1e-4."                 # optional
untestable = "why no fair experiment exists"  # optional
highlight = true                              # optional: the report opens with it, if it turns out not to hold
```
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from fitcore.testing.errors import ClaimError

KINDS = ("semantics", "identity", "shape", "figure", "example", "trend", "cost", "advice")
ORIGINS = ("stated", "implied", "derived")

_NAME = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
_ENTRY = re.compile(r"\s*\[\[\s*statement\s*\]\]")
_TABLES = {"document": dict, "setups": dict, "statement": list}
_DOCUMENT_KEYS = {"key": str, "title": str, "file": str, "complete": bool}
_STATEMENT_KEYS = {
    **dict.fromkeys(("id", "section", "kind", "origin", "statement", "setup", "untestable"), str),
    "setups": list,
    "highlight": bool,
}


@dataclass(frozen=True)
class Statement:
    """One falsifiable sentence of a document, in our own words.

    Attributes:
        id: ``"document/statement"``.
        setup: all that the document fixes, the shared settings first.
        untestable: why no fair experiment exists, or ``None``.
        highlight: whether a report opens with it.
        location: ``"file:line"`` of its entry.

    """

    id: str
    section: str
    kind: str
    origin: str
    statement: str
    setup: str
    untestable: str | None
    highlight: bool
    location: str

    @property
    def document(self) -> str:
        """Key of the document that makes the statement."""
        return self.id.partition("/")[0]


@dataclass(frozen=True)
class Document:
    """A source, and whether all its statements are claimed by now."""

    key: str
    title: str
    complete: bool
    statements: tuple[Statement, ...]
    location: str


@dataclass(frozen=True)
class Catalogue:
    """The documents in file-name order, each with its statements in document order."""

    documents: tuple[Document, ...]

    @cached_property
    def statements(self) -> Mapping[str, Statement]:
        """Every statement by its full id, in catalogue order."""
        return {statement.id: statement for document in self.documents for statement in document.statements}

    def problem_with(self, statement_id: str) -> str | None:
        """Say why a claim can't serve ``statement_id``, or ``None`` where it can."""
        statement = self.statements.get(statement_id)
        if statement is None:
            close = get_close_matches(statement_id, self.statements, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            return f"names {statement_id!r}, which no catalogue has{hint}"
        if statement.untestable:
            return f"names {statement_id!r}, which {statement.location} calls untestable"
        return None


def load_catalogue(paths: Iterable[Path]) -> Catalogue:
    """Read and check catalogues.

    Args:
        paths: TOML files, or folders of them.

    Raises:
        ClaimError: with file and line, for bad TOML, a missing, unknown or ill-typed key, an id that is ill-formed or
            used twice, or a setup that isn't defined or isn't used.

    """
    files = [file for path in paths for file in (sorted(path.glob("*.toml")) if path.is_dir() else [path])]
    documents = tuple(map(load_document, files))
    first: dict[str, Document] = {}
    for document in documents:
        if document.key in first:
            raise ClaimError(f"{document.location}: key {document.key!r} is that of {first[document.key].location}")
        first[document.key] = document
    return Catalogue(documents)


def load_document(path: Path) -> Document:
    """Read and check one catalogue file; see ``load_catalogue`` for what is an error."""
    try:
        text = path.read_text(encoding="utf-8")
        source = _Source(path, text, tomllib.loads(text))
    except OSError as error:
        raise ClaimError(f"{path}: can't read the catalogue: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ClaimError(f"{path}: can't read the catalogue: {error}") from error
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise ClaimError(f"{path}:{line[1] if line else 1}: bad TOML: {error}") from error
    return source.document()


@dataclass(frozen=True)
class _Source:
    """A parsed file with its text, which knows the lines that tomllib doesn't tell."""

    path: Path
    text: str
    tables: dict[str, Any]

    def document(self) -> Document:
        for table, value in self.tables.items():
            entries = value if isinstance(value, list) else []
            if not isinstance(value, _TABLES.get(table, ())) or not all(isinstance(e, dict) for e in entries):
                known = "[document], [setups] and [[statement]]"
                raise ClaimError(f"{self._line(table)}: {table!r} is none of the tables {known}")
        head = self.tables.get("document", {})
        self._check_keys(head, _DOCUMENT_KEYS, required=("key", "title"), what="[document]", at=self._line)
        if not _NAME.fullmatch(head["key"]):
            raise ClaimError(f"{self._line('key')}: key {head['key']!r} is not kebab-case")
        statements = tuple(self._statement(head["key"], index) for index in range(len(self._entries)))
        self._check_ids(statements)
        self._check_setups_used()
        return Document(head["key"], head["title"], head.get("complete", False), statements, self._line("key"))

    @cached_property
    def _entries(self) -> list[dict[str, Any]]:
        return list(self.tables.get("statement", []))

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def _entry_lines(self) -> list[int]:
        return [n for n, line in enumerate(self._lines, 1) if _ENTRY.match(line)]

    def _line(self, key: str, after: int = 1) -> str:
        """Return ``file:line`` of the first line from ``after`` on that starts with ``key``."""
        numbered = enumerate(islice(self._lines, after - 1, None), after)
        found = (n for n, line in numbered if key and line.lstrip(" [\"'").startswith(key))
        return f"{self.path}:{next(found, after)}"

    def _statement(self, document: str, index: int) -> Statement:
        entry = self._entries[index]
        start = self._entry_lines[index] if index < len(self._entry_lines) else 1

        def at(key: str) -> str:
            return self._line(key, after=start)

        required = ("id", "section", "kind", "origin", "statement")
        self._check_keys(entry, _STATEMENT_KEYS, required=required, what="[[statement]]", at=at)
        if not _NAME.fullmatch(entry["id"]):
            raise ClaimError(f"{at('id')}: id {entry['id']!r} is not kebab-case")
        for key, allowed in (("kind", KINDS), ("origin", ORIGINS)):
            if entry[key] not in allowed:
                raise ClaimError(f"{at(key)}: {key} must be one of {', '.join(allowed)}, got {entry[key]!r}")
        return Statement(
            id=f"{document}/{entry['id']}",
            section=entry["section"],
            kind=entry["kind"],
            origin=entry["origin"],
            statement=entry["statement"],
            setup=" ".join(filter(None, [*self._named_setups(entry, at), entry.get("setup")])),
            untestable=entry.get("untestable"),
            highlight=entry.get("highlight", False),
            location=at("id"),
        )

    def _named_setups(self, entry: dict[str, Any], at: Callable[[str], str]) -> list[str]:
        setups = self.tables.get("setups", {})
        for name in entry.get("setups", []):
            if not isinstance(setups.get(name), str):
                raise ClaimError(f"{at('setups')}: setup {name!r} is no text in [setups]")
        return [setups[name] for name in entry.get("setups", [])]

    def _check_keys(
        self, table: dict[str, Any], types: Mapping[str, type], *, required: Any, what: str, at: Any
    ) -> None:
        for key, value in table.items():
            if key not in types:
                raise ClaimError(f"{at(key)}: {what} has an unknown key {key!r}")
            if not isinstance(value, types[key]):
                raise ClaimError(f"{at(key)}: {key} must be a {types[key].__name__}, got {value!r}")
        for key in required:
            if key not in table:
                raise ClaimError(f"{at('')}: {what} lacks {key!r}")

    def _check_ids(self, statements: tuple[Statement, ...]) -> None:
        first: dict[str, Statement] = {}
        for statement in statements:
            if statement.id in first:
                raise ClaimError(
                    f"{statement.location}: id of {first[statement.id].location} used again: {statement.id}"
                )
            first[statement.id] = statement

    def _check_setups_used(self) -> None:
        used = {name for entry in self._entries for name in entry.get("setups", [])}
        for name in self.tables.get("setups", {}):
            if name not in used:
                raise ClaimError(f"{self._line(name)}: setup {name!r} is used by no statement")
