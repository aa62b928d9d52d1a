"""Mutation operators: what else could stand in place of a node of the syntax tree.

They are the operators found sufficient by Offutt et al. (arithmetic, relational, logical, unary), and with them
constants, dropped statements, swapped arguments, and functions of tensors that are easily mistaken for each other.

Source: A. J. Offutt et al., "An experimental determination of sufficient mutant operators", ACM TOSEM 5(2), 1996.
"""

import ast
import copy
from collections.abc import Iterator

ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
RELATIONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_PAIRS = "min max, argmin argmax, amin amax, mean sum, zeros ones, zeros_like ones_like, any all, sin cos, floor ceil"
_BOTH_WAYS = [pair.split() for pair in _PAIRS.split(", ")]
NAMES = dict(_BOTH_WAYS) | {b: a for a, b in _BOTH_WAYS}
COMMUTATIVE = {"min", "max", "minimum", "maximum", "add", "mul", "dot", "vecdot", "transpose", "isclose", "equal"}
DROPPED = (ast.Expr, ast.Assign, ast.AugAssign, ast.Raise, ast.Continue, ast.Break)


def alternatives(node: ast.AST) -> Iterator[ast.AST]:
    """What could stand in place of ``node``, each with one change."""
    yield from _of_statement(node) if isinstance(node, ast.stmt) else _of_expression(node)


def _of_statement(node: ast.stmt) -> Iterator[ast.AST]:
    match node:
        case ast.AugAssign(op=operation) if type(operation) in ARITHMETIC:
            yield _changed(node, op=ARITHMETIC[type(operation)]())
        case ast.If(test=test) | ast.While(test=test) if _is_bare(test):
            yield _changed(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.With(items=items, body=body) if all(item.optional_vars is None for item in items):
            yield ast.If(ast.Constant(True), body, [])
    if isinstance(node, DROPPED) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        # Under a condition, so that the function's variables stay the same ones.
        yield ast.If(ast.Constant(False), [node], [])


def _of_expression(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.BinOp(op=operation) if type(operation) in ARITHMETIC:
            yield _changed(node, op=ARITHMETIC[type(operation)]())
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert(), operand=operand):
            yield operand
        case ast.Compare(ops=relations):
            for i, relation in enumerate(relations):
                for other in RELATIONS[type(relation)]:
                    yield _changed(node, ops=[*relations[:i], other(), *relations[i + 1 :]])
        case ast.BoolOp(op=connective):
            yield _changed(node, op=ast.Or() if isinstance(connective, ast.And) else ast.And())
        case ast.IfExp(test=test) if _is_bare(test):
            yield _changed(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Constant(value=value):
            yield from _of_constant(value)
        case ast.Name(id=name) if name in NAMES:
            yield _changed(node, id=NAMES[name])
        case ast.Attribute(attr=name) if name in NAMES:
            yield _changed(node, attr=NAMES[name])
        case ast.Call(func=func, args=[first, second, *rest]) if not _commute(func, first, second):
            yield _changed(node, args=[second, first, *rest])
        case ast.Call(func=ast.Attribute(value=target), args=[], keywords=[]):
            yield target


def _of_constant(value: object) -> Iterator[ast.AST]:
    match value:
        case bool():
            yield ast.Constant(not value)
        case int() | float():
            yield from (ast.Constant(value + 1), _number(value - 1))
        case str() if value in NAMES:
            yield ast.Constant(NAMES[value])


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Parent, field and index of every node below that operators apply to: no annotation, no text of an error."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or isinstance(node, ast.Raise | ast.JoinedStr):
            continue
        if isinstance(node, ast.keyword) and node.arg == "strict":  # of a zip: what it guards against does not occur
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield node, name, index
                yield from places(child)


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Outermost functions and methods below ``node``, by their qualified names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}{child.name}.")


def blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every list of statements in ``node``, itself included."""
    for part in ast.walk(node):
        found = (getattr(part, name, None) for name in ("body", "orelse", "finalbody"))
        yield from (block for block in found if isinstance(block, list) and block)


def is_drop(replacement: ast.AST) -> bool:
    """Whether it is what stands in place of a dropped statement."""
    return isinstance(replacement, ast.If) and ast.unparse(replacement.test) == "False"


def headline(statement: ast.AST) -> str:
    """The source of a statement in one line, of a compound one the line that it begins with."""
    return ast.unparse(statement).splitlines()[0]


def _commute(function: ast.expr, first: ast.expr, second: ast.expr) -> bool:
    """Whether the order of two arguments makes no difference."""
    return ast.unparse(function).rpartition(".")[2] in COMMUTATIVE or ast.dump(first) == ast.dump(second)


def _is_bare(test: ast.AST) -> bool:
    return not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant)


def _number(value: complex) -> ast.expr:
    return ast.parse(repr(value), mode="eval").body


def _changed(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    vars(changed).update(fields)
    return changed
