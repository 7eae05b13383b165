"""Reads the functions of a rule, and says in the rule's own terms what no backend could compile.

A backend that compiles rules calls `check` and then `parse`; of what passed, it only has to spell
each node in its language.
"""

from __future__ import annotations

import ast
import inspect
import keyword
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from sphere_fused import rule as vocabulary
from sphere_fused.rule import DIRECTIONS, Gram, Hyper, Landing, Rule, Update

FUNCTIONS = ("sqrt", "sin", "cos", "where", "maximum", "minimum")
ARITIES = {n: len(inspect.signature(getattr(vocabulary, n)).parameters) for n in FUNCTIONS}
ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div)
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)

# What an expression is: a number, a condition, or one of the tuples by the name of its type.
SCALAR, CONDITION, OWN, UNKEPT = "number", "condition", "own", "number that is not kept"
KINDS = {
    "step": ("Gram", SCALAR, "Hyper"),
    "land": ("Gram", "Landing", "Update", "Hyper"),
    "peak": ("Gram", "Hyper"),
    "verdict": ("Gram", SCALAR, "Hyper"),
}
LIKE = {
    "step": "step(gram, s, h)",
    "land": "land(gram, y, u, h)",
    "peak": "peak(gram, h)",
    "verdict": "verdict(whole, peak, h)",
}
FIELDS: dict[str, tuple[str, ...]] = {
    "Gram": Gram._fields,
    "Landing": Landing._fields,
    "Hyper": Hyper._fields,
    "Update": tuple(f for f in Update._fields if f != "radial"),
}
ABOUT = {
    "Gram": "all the inner products",
    "Landing": "all the products of the new point",
    "Hyper": "all the hyperparameters",
    "Update": "all the coefficients",
    OWN: "all the hyperparameters of the rule's own",
}
# What there is for some directions only.
SOME_PRODUCTS = {product for products in DIRECTIONS.values() for product in products}
MAKES_MOMENT = ("moment", "previous")
UPDATES = {
    **{d: ("a_1",) for d in DIRECTIONS if d not in MAKES_MOMENT},
    "moment": ("b_w", "b_x"),
    "previous": ("b_w", "b_x", "a_h", "b_h"),
}
SURVEYED = ("ww", "wg", "gg")  # before x is known
REQUIRED = tuple(f for f in Update._fields if f not in Update._field_defaults)
RESERVED = (*FUNCTIONS, "Update")
RENAME = "choose another name"
# Arguments of optimizers, and what torch and its schedulers keep in a group.
GROUP_KEYS = (
    *("self", "params", "betas", "momentum", "dampening", "channel_dims", "maximize"),
    *("decoupled_weight_decay", "capturable", "foreach", "fused", "backend", "differentiable"),
    *("param_names", "initial_lr", "min_lr", "max_lr", "base_momentum", "max_momentum"),
)

INSTEAD: dict[type, str] = {
    ast.Pow: "multiply, or take sqrt",
    ast.And: "join conditions with &, as in (a > 0) & (b > 0)",
    ast.Or: "join conditions with |, as in (a > 0) | (b > 0)",
    ast.Not: "turn the comparison around",
    ast.Invert: "turn the comparison around",
    ast.UAdd: "leave the + out",
    ast.If: "choose a value, name = where(condition, a, b)",
    ast.IfExp: "write where(condition, a, b)",
    ast.For: "write its lines out",
    ast.While: "write its lines out",
    ast.Assign: "assign one name a line, name = value",
    ast.Compare: "compare two at a time, as in (a < b) & (b < c), with the parentheses",
}
INSTEAD_OF_CALL = {
    "abs": "maximum(a, -a)",
    "fabs": "maximum(a, -a)",
    "max": "maximum(a, b)",
    "min": "minimum(a, b)",
    "pow": "a product, or sqrt",
}
VOCABULARY = f"a rule has + - * /, comparisons, &, | and {', '.join(FUNCTIONS)}"


class RuleError(ValueError):
    """A rule uses something that not every backend can compute."""


@dataclass(frozen=True)
class Parsed:
    """One function of a rule: line numbers of `tree` count in `source`, kinds go by position."""

    rule: str
    role: str  # which function of a Rule it is
    function: FunctionType
    source: str
    tree: ast.FunctionDef
    arguments: dict[str, str]

    def error(self, node: ast.AST, what: str) -> RuleError:
        code = self.function.__code__
        line = getattr(node, "lineno", 1)
        return RuleError(
            f"rule {self.rule}, function {self.tree.name}: {what}\n"
            f"  {Path(code.co_filename).name}:{code.co_firstlineno + line - 1}: "
            f"{self.source.splitlines()[line - 1].strip()}"
        )


def parse(rule: Rule) -> list[Parsed]:
    """The functions that the rule has. Raises RuleError if they are no such thing."""
    return [
        parse_function(rule.name, role, function)
        for role in KINDS
        if (function := getattr(rule, role)) is not None or role == "step"
    ]


def parse_function(rule: str, role: str, function: Any) -> Parsed:
    kinds, like = KINDS[role], LIKE[role]
    name = named(function)
    unread = RuleError(
        f"rule {rule}: the source of {name} cannot be read: rules are compiled from their source, "
        f"so define it in a file and not in a prompt"
    )
    no_def = RuleError(f"rule {rule}: {name} is no plain function: write def {like}: ...")
    if not inspect.isfunction(function) or function.__code__.co_name == "<lambda>":
        raise no_def
    try:
        source = inspect.getsource(function)
        # Not dedent: a comment in column 0 would leave the function indented.
        tree: Any = ast.parse(f"if 1:\n{source}" if source[0].isspace() else source).body[0]
    except (OSError, SyntaxError) as error:
        raise unread from error
    if source[0].isspace():
        tree = ast.increment_lineno(tree.body[0], -1)
    if not isinstance(tree, ast.FunctionDef):
        raise no_def
    a = tree.args
    arguments = [argument.arg for argument in a.posonlyargs + a.args]
    parsed = Parsed(rule, role, function, source, tree, dict(zip(arguments, kinds, strict=False)))
    if tree.decorator_list:
        raise parsed.error(tree.decorator_list[0], "decorators are not compiled: define it without")
    # What a wrapper wraps, or a file that has changed since.
    if tree.name != function.__code__.co_name:
        raise unread
    if a.vararg or a.kwarg or a.kwonlyargs or a.defaults:
        raise parsed.error(tree, f"arguments go by position and have no defaults: def {like}")
    if len(arguments) != len(kinds):
        raise parsed.error(
            tree, f"it must have {len(kinds)} arguments, as {like}, not {len(arguments)}"
        )
    return parsed


def check(rule: Rule) -> None:
    """Raises RuleError if a backend could not compile the rule, and says what to do about it."""
    if problem := problem_of(rule):
        raise RuleError(f"rule {rule.name}: {problem}")
    for parsed in parse(rule):
        Checker(rule, parsed).check()


def problem_of(rule: Rule) -> str | None:
    """What is wrong with a rule apart from its functions."""
    if not isinstance(rule.name, str) or not rule.name:
        return f"its name must be a str that is not empty, not {rule.name!r}"
    if rule.direction not in DIRECTIONS:
        return f"direction must be one of {', '.join(DIRECTIONS)}, not {rule.direction!r}"
    if rule.second_moment not in ("segment", "element", None):
        return f'second_moment must be "segment", "element" or None, not {rule.second_moment!r}'
    if (rule.second_moment == "element") != (rule.direction == "adam"):
        return 'second_moment="element" and direction="adam" go together: give both or neither'
    if rule.land is not None and rule.direction == "previous":
        return 'a rule whose direction is "previous" has no land: leave it out'
    if rule.second_moment == "segment" and rule.segment_state is not None:
        return 's is the second moment where second_moment="segment": leave segment_state out'
    if rule.verdict is not None and rule.direction == "previous":
        return 'a rule whose direction is "previous" has no verdict: leave it out'
    if (rule.peak is None) != (rule.verdict is None):
        return "peak and verdict go together: give both or neither"
    if rule.verdict is not None and rule.land is not None:
        return "land and verdict do not go together: leave one out"
    if not isinstance(rule.own, tuple):
        return f'own must be a tuple of names, as in own=("radius",), not {rule.own!r}'
    for i, name in enumerate(rule.own):
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            return f"own has {name!r}, which is not a name"
        if name in rule.own[:i]:
            return f"own has {name!r} twice"
        if name.startswith("_") or name in (*Hyper._fields, *GROUP_KEYS):
            return f"own has {name!r}, which is taken: choose another name"
    return None


def directions(which: Iterable[str]) -> str:
    return "direction is " + " or ".join(f'"{d}"' for d in which)


def named(thing: Any) -> str:
    """Where a function or class comes from, as in math.sqrt; else the value itself."""
    if name := getattr(thing, "__name__", None):
        return f"{module}.{name}" if (module := getattr(thing, "__module__", None)) else str(name)
    return repr(thing)


class Checker:
    """Goes through one function, with the kind of every name that is known so far."""

    def __init__(self, rule: Rule, parsed: Parsed) -> None:
        self.rule = rule
        self.parsed = parsed
        self.error = parsed.error
        self.fields = {OWN: rule.own} | {
            kind: tuple(f for f in fields if not self.lacks(kind, f))
            for kind, fields in FIELDS.items()
        }
        self.kinds = dict(parsed.arguments)
        for name, kind in parsed.arguments.items():
            self.refuse_taken(parsed.tree, name)
            if kind == SCALAR and parsed.role == "step" and rule.state_key is None:
                self.kinds[name] = UNKEPT

    def lacks(self, kind: str, field: str) -> str | None:
        """Why the rule's functions do not have that field of a tuple, or None if they do."""
        rule = self.rule
        if kind == "Gram" and self.parsed.role in ("peak", "verdict"):
            return None if field in SURVEYED else "x is known, which is later"
        if kind == "Gram" and field == "radius":
            return None if rule.keeps_radius else "keeps_radius=True"
        if kind == "Gram" and field in SOME_PRODUCTS and field not in DIRECTIONS[rule.direction]:
            return directions(d for d in DIRECTIONS if field in DIRECTIONS[d])
        some = {f for fields in UPDATES.values() for f in fields}
        if kind == "Update" and field in some and field not in UPDATES[rule.direction]:
            return directions(d for d in DIRECTIONS if field in UPDATES[d])
        if kind == "Hyper" and field == "verdict" and rule.verdict is None:
            return "the rule has a verdict"
        return None

    def check(self) -> None:
        tree = self.parsed.tree
        body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
        for node in body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.assign(node, name, value)
                case ast.Return(value=ast.expr() as value) if node is body[
                    -1
                ] and self.parsed.role in ("peak", "verdict"):
                    self.number(value)
                    return
                case ast.Return(value=value) if node is body[-1]:
                    return self.returned(node, value)
                case ast.Return():
                    raise self.error(node, "return must be the last line")
                case _:
                    raise self.outside(node)
        ends = (
            "return Update(name=value, ...)" if self.parsed.role in ("step", "land") else "return"
        )
        raise self.error(tree.body[-1], f"it must end in {ends}")

    def refuse_taken(self, node: ast.stmt, name: str) -> None:
        if name in RESERVED:
            raise self.error(node, f"{name} is a function of rules: {RENAME}")
        if name.startswith("_"):
            raise self.error(node, f"{name} begins with _, as names of the backends do: {RENAME}")

    def assign(self, node: ast.stmt, name: str, value: ast.expr) -> None:
        before = self.kinds.get(name)
        self.refuse_taken(node, name)
        if before in ABOUT:
            raise self.error(node, f"{name} is {ABOUT[before]}: {RENAME}")
        kind = self.kind(value)
        if kind != CONDITION:
            self.number(value)
        if before and (before == CONDITION) != (kind == CONDITION):
            raise self.error(node, f"{name} was a {before} and is now a {kind}: {RENAME}")
        self.kinds[name] = kind

    def returned(self, node: ast.stmt, value: ast.expr | None) -> None:
        match value:
            case ast.Call(func=ast.Name(id="Update"), args=args, keywords=keywords):
                self.imported(node, "Update")
            case _:
                raise self.error(node, "it must end in return Update(name=value, ...)")
        if args or not all(k.arg for k in keywords):
            raise self.error(node, "give each value by its name, Update(s=s, a_w=...)")
        given = {str(k.arg): k.value for k in keywords}
        for name, number in given.items():
            if name == "radial":
                raise self.error(number, "radial is filled in by the backend: leave it out")
            self.field(number, "Update", "Update", name)
            handed_on = name == "s" and self.kind(number) == UNKEPT
            unkept = self.rule.state_key is None
            if name == "s" and self.rule.second_moment == "element" and unkept and not handed_on:
                raise self.error(number, "the second moment is not the rule's: hand s on as it is")
            if not handed_on:
                self.number(number)
        if missing := [name for name in REQUIRED if name not in given]:
            raise self.error(node, f"Update lacks {', '.join(missing)}")

    def kind(self, node: ast.expr) -> str:
        """What `node` is, once its parts have been checked."""
        match node:
            case ast.Constant(value=float() | int() as value) if not isinstance(value, bool):
                if value > sys.float_info.max:
                    raise self.error(node, "a number is too large for a double")
                return SCALAR
            case ast.Name(id=name):
                if name not in self.kinds:
                    raise self.unknown(node, name)
                return self.kinds[name]
            case ast.Attribute(value=value, attr=name):
                return self.field(node, ast.unparse(value), self.kind(value), name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.number(operand)
            case ast.BinOp(left=left, op=op, right=right) if isinstance(op, ARITHMETIC):
                self.number(left)
                return self.number(right)
            case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr(), right=right):
                self.condition(left, "& and | join conditions")
                return self.condition(right, "& and | join conditions")
            case ast.Compare(left=left, ops=[op], comparators=[right]) if isinstance(
                op, COMPARISONS
            ):
                self.number(left)
                self.number(right)
                return CONDITION
            case ast.Call(func=func, args=args, keywords=keywords):
                return self.call(node, ast.unparse(func), args, keywords)
        raise self.outside(node)

    def call(
        self, node: ast.Call, name: str, args: list[ast.expr], keywords: list[ast.keyword]
    ) -> str:
        if name not in FUNCTIONS:
            known = f"the functions of rules are {', '.join(FUNCTIONS)}"
            if name == "Update":
                known = "it is for the last line, return Update(...)"
            if instead := INSTEAD_OF_CALL.get(name.split(".")[-1]):
                known += f"; write {instead}"
            raise self.error(node, f"{name}() cannot be called here: {known}")
        self.imported(node, name)
        if keywords or len(args) != ARITIES[name]:
            raise self.error(node, f"{name}() takes {ARITIES[name]} argument(s), by position")
        if name == "where":
            self.condition(args[0], "where() chooses by a condition")
        for number in args[name == "where" :]:
            self.number(number)
        return SCALAR

    def field(self, node: ast.expr, spelt: str, kind: str, name: str) -> str:
        if kind == "Hyper" and name == "own":
            return OWN
        if kind not in self.fields:
            raise self.error(node, f"`{spelt}` is a {kind} and has no fields")
        if name not in self.fields[kind]:
            if name in FIELDS.get(kind, ()) and (where := self.lacks(kind, name)):
                raise self.error(node, f"{spelt} has {name} only where {where}")
            known = f"it has {', '.join(self.fields[kind])}"
            if kind == OWN:
                known = f'declare it, Rule(..., own=("{name}",))'
            raise self.error(node, f"{spelt} has no {name}: {known}")
        kept = (kind, name) != ("Update", "s") or self.rule.state_key is not None
        return SCALAR if kept else UNKEPT

    def number(self, node: ast.expr) -> str:
        """Check `node` where only a number will do."""
        kind, spelt = self.kind(node), ast.unparse(node)
        if kind == CONDITION:
            raise self.error(node, f"`{spelt}` is a condition: use where({spelt}, a, b)")
        if kind == UNKEPT:
            raise self.error(
                node,
                f'`{spelt}` is a number only where second_moment="segment", or with a '
                f"segment_state: hand it on, s=s",
            )
        if kind in ABOUT:
            one = (*self.fields[kind], "NAME")[0]
            raise self.error(node, f"{spelt} is {ABOUT[kind]}: name one, {spelt}.{one}")
        return SCALAR

    def condition(self, node: ast.expr, why: str) -> str:
        if self.kind(node) != CONDITION:
            self.number(node)
            raise self.error(node, f"{why}, and `{ast.unparse(node)}` is a number: compare it")
        return CONDITION

    def imported(self, node: ast.AST, name: str) -> None:
        """Check that the author's `name` is the one of sphere_fused.rule, as every backend's is."""
        function = self.parsed.function
        closure = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        scope = function.__globals__
        found = closure[name].cell_contents if name in closure else scope.get(name)
        if found is not getattr(vocabulary, name):
            what = "not defined" if found is None else named(found)
            raise self.error(
                node, f"{name} in this file is {what}; import it from sphere_fused.rule"
            )

    def unknown(self, node: ast.expr, name: str) -> RuleError:
        hyper = next(n for n, kind in self.parsed.arguments.items() if kind == "Hyper")
        return self.error(
            node,
            f"{name} is neither an argument nor assigned before; a number from outside is written "
            f'out, or declared, Rule(..., own=("NAME",)), and read as {hyper}.own.NAME',
        )

    def outside(self, node: ast.expr | ast.stmt) -> RuleError:
        spelt = ast.unparse(node).splitlines()[0]
        match node:
            case ast.AugAssign(target=target, op=op, value=value):
                result = ast.unparse(ast.BinOp(target, op, value))
                instead = f"write {ast.unparse(target)} = {result}"
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                instead = f"write {ast.unparse(target)} = {ast.unparse(value)}"
            case ast.BinOp(op=op) | ast.UnaryOp(op=op) | ast.BoolOp(op=op) | ast.Compare(ops=[op]):
                instead = INSTEAD.get(type(op), VOCABULARY)
            case _:
                instead = INSTEAD.get(type(node), VOCABULARY)
        return self.error(node, f"`{spelt}` is not in the vocabulary of rules: {instead}")
