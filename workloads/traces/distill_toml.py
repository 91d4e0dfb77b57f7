"""Writes a catalog entry as TOML: tables of numbers wrapped, keys in the order given."""

from __future__ import annotations

import json
import textwrap
from typing import Any

WIDTH = 118


def to_toml(entry: dict[str, Any], comment: str) -> str:
    """Format one entry; nested dicts become tables, lists of dicts arrays of tables."""
    lines = [f"# {line}" for line in textwrap.wrap(comment, WIDTH - 2)]
    _table(entry, "", lines)
    return "\n".join(lines) + "\n"


def _table(table: dict[str, Any], path: str, lines: list[str]) -> None:
    lines += [_pair(key, value) for key, value in table.items() if not _nested(value)]
    for key, value in table.items():
        where = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            lines += ["", f"[{where}]"]
            _table(value, where, lines)
        elif _nested(value):
            for one in value:
                lines += ["", f"[[{where}]]"]
                _table(one, where, lines)


def _nested(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _pair(key: str, value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], (list, str)):
        inner = ",\n".join(textwrap.indent(_scalar(one), "    ") for one in value)
        return f"{key} = [\n{inner},\n]"
    text = f"{key} = {_scalar(value)}"
    if len(text) <= WIDTH or not isinstance(value, list):
        return text
    inner = textwrap.fill(", ".join(_scalar(v) for v in value), WIDTH, initial_indent="    ", subsequent_indent="    ")
    return f"{key} = [\n{inner},\n]"


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_scalar(v) for v in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        return repr(value)
    return json.dumps(value, ensure_ascii=False)
