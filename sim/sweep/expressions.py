"""Constraints of a sweep: arithmetic and comparisons over the keys of a scenario, parsed and walked, never executed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hardware_models.errors import FleetcastError, UnknownNameError

LONGEST = 1000  # characters
DEEPEST = 50  # parts inside parts
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: lambda base, exponent: float(base) ** float(exponent),  # whole numbers could grow without end
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
WORDS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Constraint:
    """One condition that a point keeps."""

    text: str
    _tree: ast.expr

    @property
    def keys(self) -> list[str]:
        """The scenario's keys in it, in order of reading."""
        called = {id(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        return list(dict.fromkeys(_keys(self._tree, called)))

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Is it true of a point? values: key -> value; raises FleetcastError where it makes no sense of them."""
        try:
            result = self._value(self._tree, values)
        except (TypeError, ZeroDivisionError, OverflowError) as error:
            reason = "a number is too large" if isinstance(error, OverflowError) else error
            raise FleetcastError(f"constraint '{self.text}': {reason}{self._shown(values)}") from None
        if not isinstance(result, bool):
            raise FleetcastError(f"constraint '{self.text}': gives {result!r}, neither true nor false; compare it")
        return result

    def _shown(self, values: Mapping[str, Any]) -> str:
        shown = ", ".join(f"{key} = {values[key]!r}" for key in self.keys)
        return f", with {shown}" if shown else ""

    def _value(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name | ast.Attribute):
            key = _dotted(node)
            return WORDS[key] if key in WORDS else values[key]
        if isinstance(node, ast.List | ast.Tuple):
            return [self._value(item, values) for item in node.elts]
        return self._operation(node, values)

    def _operation(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        result: Any
        match node:
            case ast.UnaryOp():
                result = self._unary(node, values)
            case ast.BinOp():
                left, right = self._number(node.left, values), self._number(node.right, values)
                result = ARITHMETIC[type(node.op)](left, right)
            case ast.BoolOp():
                wanted = isinstance(node.op, ast.Or)  # the value that settles it
                result = next((wanted for part in node.values if self._truth(part, values) is wanted), not wanted)
            case ast.Call():
                result = FUNCTIONS[_dotted(node.func)](*(self._number(part, values) for part in node.args))
            case _:
                assert isinstance(node, ast.Compare)
                result = self._compare(node, values)
        return result

    def _unary(self, node: ast.UnaryOp, values: Mapping[str, Any]) -> Any:
        if isinstance(node.op, ast.Not):
            return not self._truth(node.operand, values)
        number = self._number(node.operand, values)
        return -number if isinstance(node.op, ast.USub) else number

    def _compare(self, node: ast.Compare, values: Mapping[str, Any]) -> bool:
        left = self._value(node.left, values)
        for comparison, part in zip(node.ops, node.comparators, strict=True):
            right = self._value(part, values)
            if not COMPARISONS[type(comparison)](left, right):
                return False
            left = right
        return True

    def _number(self, node: ast.expr, values: Mapping[str, Any]) -> int | float:
        value = self._value(node, values)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{value!r} is no number")
        return value

    def _truth(self, node: ast.expr, values: Mapping[str, Any]) -> bool:
        value = self._value(node, values)
        if not isinstance(value, bool):
            raise TypeError(f"{value!r} is neither true nor false")
        return value


def parse_constraint(text: str) -> Constraint:
    """Read a condition; raises FleetcastError for anything but arithmetic, comparisons, and/or/not, min, max, abs."""
    if len(text) > LONGEST:
        raise FleetcastError(f"constraint '{text[:40]}...': has {len(text):,} characters; give at most {LONGEST:,}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        _check_depth(tree, text)
        _check(tree, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise FleetcastError(
            f"constraint '{text}': is no condition; write one as 'serving.replicas * 2 <= cluster.nodes'"
        ) from None
    return Constraint(text, tree)


def check_keys(constraint: Constraint, known: Mapping[str, Any]) -> None:
    """Raise UnknownNameError for a key that no point has."""
    for key in constraint.keys:
        if key not in known:
            raise UnknownNameError(f"constraint '{constraint.text}'", key, known)


def _check_depth(tree: ast.expr, text: str) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise FleetcastError(
        f"constraint '{text[:40]}...': is nested more than {DEEPEST} deep; write it shorter, or as several"
    )


def _check(node: ast.expr, text: str) -> None:
    """Refuse what is not on the list."""
    allowed = True
    match node:
        case ast.Constant():
            allowed = isinstance(node.value, bool | int | float | str)
        case ast.Name() | ast.Attribute():
            _dotted(node)
        case ast.List() | ast.Tuple() | ast.BoolOp():
            for part in node.values if isinstance(node, ast.BoolOp) else node.elts:
                _check(part, text)
        case ast.UnaryOp():
            allowed = isinstance(node.op, ast.Not | ast.USub | ast.UAdd)
            _check(node.operand, text)
        case ast.BinOp():
            allowed = type(node.op) in ARITHMETIC
            _check(node.left, text)
            _check(node.right, text)
        case ast.Compare():
            allowed = all(type(op) in COMPARISONS for op in node.ops)
            for part in (node.left, *node.comparators):
                _check(part, text)
        case ast.Call():
            allowed = _dotted(node.func) in FUNCTIONS and bool(node.args) and not node.keywords
            for part in node.args:
                _check(part, text)
        case _:
            allowed = False
    if not allowed:
        raise FleetcastError(
            f"constraint '{text}': '{ast.unparse(node)}' is not understood; it may hold keys, numbers, texts,"
            " + - * / // % **, comparisons, in, and, or, not, min, max and abs"
        )


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise SyntaxError


def _keys(node: ast.AST, called: set[int]) -> list[str]:
    if isinstance(node, ast.Name | ast.Attribute):
        key = _dotted(node)
        return [] if id(node) in called or key in WORDS else [key]
    return [key for child in ast.iter_child_nodes(node) for key in _keys(child, called)]
