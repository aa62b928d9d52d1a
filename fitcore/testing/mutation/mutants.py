"""Mutants of a module: where each is, what it changes, and how it gets into functions that are already in use."""

import ast
import gc
import importlib
import os
import pkgutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from fitcore.testing.errors import ClaimError
from fitcore.testing.mutation.operators import alternatives, blocks, functions, headline, is_drop, places

_REACHED = "__reached_statements__"
Key = tuple[str, str, int]
"""File, qualified name and first line of a function."""


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        module: name of the module.
        function: name of the outermost function that is changed, qualified within its module.
        line: of the statement that is changed.
        before: its source, of a compound statement the line that it begins with.
        after: the same, changed.
        statement: what tests have to reach.

    """

    module: str
    function: str
    line: int
    before: str
    after: str
    statement: tuple[str, int]
    source: "Source" = field(repr=False, compare=False)
    place: tuple[ast.AST, str, int | None] = field(repr=False, compare=False)
    replacement: ast.AST = field(repr=False, compare=False)

    @property
    def where(self) -> str:
        """File, line and function."""
        return f"{os.path.relpath(self.source.path)}:{self.line}: {self.function}"

    def apply(self) -> None:
        """Change the function wherever it is held, for the rest of this process."""
        _put(self.place, self.replacement)
        self.source.install()
        self.source.install_defaults(self.function)


class Source:
    """A module's syntax tree, and its living functions.

    Args:
        name: of the module, which is imported.
        only: names of the outermost functions to change; all by default.

    Raises:
        ClaimError: there is no such module or function.
    """

    def __init__(self, name: str, only: Collection[str] = ()) -> None:
        self.name = name
        try:
            self.path = str(importlib.import_module(name).__file__)
            self.tree = ast.parse(Path(self.path).read_bytes())
        except (ImportError, OSError) as error:
            raise ClaimError(f"can't read the module {name!r}: {error}") from None
        of_module = dict(functions(self.tree))
        if missing := set(only) - of_module.keys():
            raise ClaimError(f"{name} has no function {', '.join(sorted(missing))}")
        self.functions = {function: node for function, node in of_module.items() if not only or function in only}
        parts = [part for node in self.functions.values() for part in ast.walk(node)]
        self.statements = [part for part in parts if isinstance(part, ast.stmt)]
        self.living: dict[Key, list[FunctionType]] = {}

    def mutants(self) -> Iterator[Mutant]:
        """Every mutant of its functions, in the order of the file."""
        numbers = {id(statement): number for number, statement in enumerate(self.statements)}
        for function, node in self.functions.items():
            shown, owners = _innermost(node, ast.stmt | ast.match_case), _innermost(node, ast.stmt)
            # A default counts as reached where the function is called.
            owners |= {id(part): node.body[0] for part in ast.walk(node.args)}
            named = {id(part): argument for argument, default in _defaults(node) for part in ast.walk(default)}
            for place in places(node):
                original = _get(place)
                for replacement in alternatives(original):
                    owner = shown[id(original)]
                    name = named.get(id(original))
                    before = f"{name}={ast.unparse(original)}" if name else headline(owner)
                    _put(place, replacement)
                    after = f"{name}={ast.unparse(replacement)}" if name else headline(owner)
                    _put(place, original)
                    if original is owner:
                        after = "(dropped)" if is_drop(replacement) else headline(replacement)
                    line = original.lineno if isinstance(owner, ast.match_case) else owner.lineno
                    statement = self.name, numbers[id(owners[id(original)])]
                    yield Mutant(self.name, function, line, before, after, statement, self, place, replacement)

    def watch(self, reached: object) -> None:
        """Let every statement of its functions ``add`` itself to what was reached, for the rest of this process."""
        numbers = {id(statement): number for number, statement in enumerate(self.statements)}
        for block in [block for node in self.functions.values() for block in blocks(node)]:
            marks = [ast.parse(f"{_REACHED}.add(({self.name!r}, {numbers[id(part)]}))").body[0] for part in block]
            block[:] = [statement for pair in zip(marks, block, strict=True) for statement in pair]
        for function in (function for same in self.living.values() for function in same):
            function.__globals__[_REACHED] = reached
        self.install()

    def install(self) -> None:
        """Compile the tree as it is now, and give every living function its new code."""
        compiled = compile(ast.fix_missing_locations(self.tree), self.path, "exec", dont_inherit=True)
        for code in _codes(compiled):
            for function in self.living.get(_key(code), []):
                with suppress(ValueError):  # another lambda of the same line, with other free variables
                    function.__code__ = code

    def install_defaults(self, name: str) -> None:
        """Compute the defaults of an outermost function anew."""
        node = self.functions[name]
        for function in (f for key, same in self.living.items() if key[1] == name for f in same):
            values = {name: _value(default, function) for name, default in _defaults(node)}
            if function.__defaults__:
                function.__defaults__ = tuple(values[a] for a in _positional(node)[-len(function.__defaults__) :])
            if function.__kwdefaults__:
                function.__kwdefaults__ = {a: values[a] for a in function.__kwdefaults__}


def sources(targets: Iterable[str]) -> list[Source]:
    """The modules of targets, each a ``package``, a ``module``, or a ``module:function``.

    Raises:
        ClaimError: there is no such thing.
    """
    wanted: dict[str, set[str]] = defaultdict(set)
    for target in targets:
        name, _, function = target.partition(":")
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise ClaimError(f"can't import {name!r}: {error}") from None
        wanted[name] |= {function} if function else set()
        below = pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}.")
        wanted |= {info.name: set() for info in below}
    return [Source(name, only) for name, only in wanted.items()]


def find_living(found: Sequence[Source]) -> None:
    """Look up all functions that this process has of the modules, also those that decorators and closures hold."""
    paths = {source.path for source in found}
    living = defaultdict(list)
    for held in gc.get_objects():
        if type(held) is FunctionType and held.__code__.co_filename in paths:
            living[_key(held.__code__)].append(held)
    for source in found:
        source.living = {key: same for key, same in living.items() if key[0] == source.path}


def _innermost(node: ast.AST, kind: Any) -> dict[int, Any]:
    """By the id of every node below, the innermost node of a kind that it is in; of itself, it is that."""
    # Breadth first, so that of several the innermost comes last.
    return {id(part): outer for outer in ast.walk(node) if isinstance(outer, kind) for part in ast.walk(outer)}


def _defaults(node: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    yield from zip(_positional(node)[::-1], node.args.defaults[::-1], strict=False)
    keyword = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    yield from ((a.arg, default) for a, default in keyword if default)


def _positional(node: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]


def _key(code: CodeType) -> Key:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _value(default: ast.expr, function: FunctionType) -> Any:
    return eval(compile(ast.fix_missing_locations(ast.Expression(default)), "<default>", "eval"), function.__globals__)


def _get(place: tuple[ast.AST, str, int | None]) -> Any:
    parent, name, index = place
    return getattr(parent, name) if index is None else getattr(parent, name)[index]


def _put(place: tuple[ast.AST, str, int | None], node: ast.AST) -> None:
    parent, name, index = place
    if index is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[index] = node
