"""Rules to C++: one Python line becomes one C++ line, with its names and comments.

`python -m sphere_fused.emit csrc/rules.gen.h [--check]`
"""

from __future__ import annotations

import ast
import inspect
import io
import sys
import tokenize
from pathlib import Path
from typing import Any

from sphere_fused.check import Parsed, RuleError, check, parse
from sphere_fused.optim import RULES
from sphere_fused.rule import Gram, Hyper, Landing, Rule, Tangent, Update

STRUCTS = {s.__name__: s for s in (Gram, Tangent, Landing, Hyper, Update)}
# C++ binds these as Python does, except that & and | bind less tightly than comparisons in C++;
# those get parentheses always.
OPERATORS: dict[type, tuple[str, int]] = {
    ast.Add: ("+", 2),
    ast.Sub: ("-", 2),
    ast.Mult: ("*", 3),
    ast.Div: ("/", 3),
    ast.BitAnd: ("&&", 0),
    ast.BitOr: ("||", 0),
    ast.Lt: ("<", 1),
    ast.LtE: ("<=", 1),
    ast.Gt: (">", 1),
    ast.GtE: (">=", 1),
    ast.Eq: ("==", 1),
    ast.NotEq: ("!=", 1),
}


def comments(source: str) -> dict[int, str]:
    """The comment on each line of `source`."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string[1:].strip() for t in tokens if t.type == tokenize.COMMENT}


def last_line(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


class Emitter:
    """Emits one function of a rule that has been checked."""

    def __init__(self, parsed: Parsed, own: tuple[str, ...]) -> None:
        self.parsed = parsed
        self.own = own
        self.comments = comments(parsed.source)
        names = [
            node.id
            for node in ast.walk(parsed.tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        ]
        self.reassigned = {name for name in names if names.count(name) > 1}
        self.known = set(parsed.arguments)

    def expression(self, node: ast.expr, outer: int = 0) -> str:
        match node:
            case ast.Constant(value=value):
                return f"T({value!r})"
            case ast.Name(id=name):
                return name
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id=name), attr="own"), attr=own):
                return f"{name}.own[{self.own.index(own)}]"
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                return f"{name}.{attribute}"
            case ast.UnaryOp(operand=ast.UnaryOp() as operand):
                return f"-({self.expression(operand)})"
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"-{self.expression(operand, 4)}"
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(left, op, right, outer)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self.binary(left, op, right, outer)
            case ast.Call(func=ast.Name(id=name), args=args):
                return f"{name}({', '.join(self.expression(a) for a in args)})"
        raise NotImplementedError(f"{ast.unparse(node)} in C++")

    def binary(self, left: ast.expr, op: Any, right: ast.expr, outer: int) -> str:
        symbol, level = OPERATORS[type(op)]
        text = f"{self.expression(left, level)} {symbol} {self.expression(right, level + 1)}"
        return f"({text})" if level < outer or (level == 0 and outer) else text

    def statement(self, node: ast.stmt) -> str:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                text = self.expression(value)
                if name in self.known:
                    return f"{name} = {text};"
                self.known.add(name)
                kind = "auto" if name in self.reassigned else "const auto"
                return f"{kind} {name} = {text};"
            case ast.Return(value=ast.Call(func=ast.Name(id="Update"), keywords=keywords)):
                given = {k.arg: self.expression(k.value) for k in keywords}
                fields = [f".{f} = {given[f]}" for f in Update._fields if f in given]
                return f"return {{{', '.join(fields)}}};"
            case ast.Return(value=ast.expr() as value):
                return f"return {self.expression(value)};"
        raise NotImplementedError(f"{ast.unparse(node)} in C++")

    def function(self) -> str:
        tree = self.parsed.tree
        arguments = [
            "[[maybe_unused]] " + (f"const {kind}<T>& " if kind in STRUCTS else "T ") + name
            for name, kind in self.parsed.arguments.items()
        ]
        lines = []
        for i, node in enumerate(tree.body):
            if i == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # the docstring
            first = last_line(tree.body[i - 1]) + 1 if i else tree.lineno + 1
            lines += [f"  // {c}" for n, c in self.comments.items() if first <= n < node.lineno]
            lines.append(f"  {self.statement(node)}")
            if trailing := self.comments.get(last_line(node)):
                lines[-1] += f"  // {trailing}"
        returned = "Update<T>" if "Update" in ast.unparse(tree.body[-1]) else "T"
        head = f"template <class T>\nSPHERE_INLINE {returned} {tree.name}("
        return "\n".join([head, "    " + ",\n    ".join(arguments) + ") {", *lines, "}"])


def struct(kind: Any) -> str:
    notes = comments(inspect.getsource(kind))
    lines = inspect.getsource(kind).splitlines()
    rows = []
    for n, line in enumerate(lines, 1):
        name = line.split(":")[0].strip()
        if name in kind._fields:
            default = f" = T({kind._field_defaults[name]})" if name in kind._field_defaults else ""
            note = f"  // {notes[n]}" if n in notes else ""
            rows.append(
                "  T own[kMostOwn];  // the hyperparameters that a rule has of its own"
                if name == "own"
                else f"  T {name}{default};{note}"
            )
    about = "\n".join(f"// {line}".rstrip() for line in inspect.cleandoc(kind.__doc__).splitlines())
    return "\n".join([about, "template <class T>", f"struct {kind.__name__} {{", *rows, "};"])


def enumerator(rule: Rule) -> str:
    return f"k{rule.direction.capitalize()}"


def switch(rules: tuple[Rule, ...], which: str, call: str, otherwise: str) -> list[str]:
    """The lines of a function's body that calls that function of a rule."""
    functions = [(i, getattr(r, which)) for i, r in enumerate(rules)]
    cases = [f"    case {i}: return {f.__name__}({call});" for i, f in functions if f]
    return ["  switch (rule) {", *cases, "  }", f"  return {otherwise};", "}"]


def switch_of_direction(
    rules: tuple[Rule, ...], which: str, call: str, otherwise: str
) -> list[str]:
    """Likewise, but in code for one direction, which need not have what others call."""
    lines = []
    for direction in dict.fromkeys(enumerator(r) for r in rules):
        functions = [
            (i, getattr(r, which)) for i, r in enumerate(rules) if enumerator(r) == direction
        ]
        cases = [f"      case {i}: return {f.__name__}({call});" for i, f in functions if f]
        if cases:
            head = [f"  if constexpr (kServes<kDirection, {direction}>) {{", "    switch (rule) {"]
            lines += [*head, *cases, "    }", "  }"]
    return [*lines, f"  return {otherwise};", "}"]


def table(rules: tuple[Rule, ...]) -> str:
    rows = [
        f'    {{"{r.key}", {enumerator(r)}, {str(r.verdict is not None).lower()}}},' for r in rules
    ]
    landing = " || ".join(f"rule == {i}" for i, r in enumerate(rules) if r.land)
    deciding = " && ".join(f"rule != {i}" for i, r in enumerate(rules) if not r.decays)
    inline = "template <class T>\nSPHERE_INLINE"
    of_direction = "template <Direction kDirection, class T>\nSPHERE_INLINE"
    return "\n".join(
        [
            "inline constexpr RuleInfo kRules[] = {",
            *rows,
            "};",
            "",
            f"{of_direction} Update<T> step(int rule, const Gram<T>& gram, T s,",
            "                             const Hyper<T>& h) {",
            *switch_of_direction(rules, "step", "gram, s, h", "{}"),
            "",
            "// Whether weight decay is applied as the group says; else it is the rule's to read.",
            "SPHERE_INLINE bool decays([[maybe_unused]] int rule) {",
            f"  return {deciding or 'true'};",
            "}",
            "",
            "// Whether a rule has a second function, which must know where the step ended.",
            "SPHERE_INLINE bool lands(int rule) {",
            f"  return {landing or 'false'};",
            "}",
            "",
            f"{of_direction} Update<T> land(int rule, const Gram<T>& gram, const Landing<T>& y,",
            "                             const Update<T>& u, const Hyper<T>& h) {",
            *switch_of_direction(rules, "land", "gram, y, u, h", "u"),
            "",
            "// What a rule that sees the whole tensor first asks of segments, and makes of it.",
            f"{inline} T peak(int rule, const Gram<T>& gram, const Hyper<T>& h) {{",
            *switch(rules, "peak", "gram, h", "T(0)"),
            "",
            f"{inline} T verdict(int rule, const Gram<T>& whole, T most, const Hyper<T>& h) {{",
            *switch(rules, "verdict", "whole, most, h", "T(1)"),
        ]
    )


def header(rules: tuple[Rule, ...] = RULES) -> str:
    """The text of csrc/rules.gen.h."""
    functions: dict[str, Emitter] = {}
    for rule in rules:
        check(rule)
        for parsed in parse(rule):
            name = parsed.tree.name
            emitter = functions.setdefault(name, Emitter(parsed, rule.own))
            if emitter.parsed.function is not parsed.function:
                raise RuleError(f"two rules define a function called {name}: rename one")
            if emitter.own != rule.own and ".own." in parsed.source:
                raise RuleError(f"rules whose `own` differ share {name}, which reads it")
    return "\n\n".join(
        [
            "// The rules of sphere_fused/optim and the tuples of sphere_fused/rule.py in C++.\n"
            "// Written by `make gen`; do not edit.\n"
            "// clang-format off\n#pragma once",
            '#include "plan.h"\n#include "vocabulary.h"',
            "namespace sphere_fused {",
            *(struct(s) for s in STRUCTS.values()),
            "inline namespace SPHERE_ISA {",
            *(emitter.function() for emitter in functions.values()),
            table(rules),
            "}  // namespace SPHERE_ISA\n}  // namespace sphere_fused\n",
        ]
    )


def main(arguments: list[str]) -> int:
    path, text = Path(arguments[0]), header()
    if "--check" not in arguments:
        path.write_text(text)
        return 0
    if path.read_text() == text:
        return 0
    print(f"{path} is not what the rules say: run `make gen` and commit it", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
