"""Rules to C++: the header is up to date, and what cannot be emitted is explained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sphere_fused import emit
from sphere_fused.rule import Gram, Hyper, Rule, Scalar, Update

HEADER = Path(__file__).parent.parent / "csrc" / "rules.gen.h"


def test_the_header_is_what_the_rules_say() -> None:
    assert HEADER.read_text() == emit.header(), "run `make gen` and commit csrc/rules.gen.h"


def names_and_comments(gram: Gram, s: Scalar, h: Hyper) -> Update:
    """Not emitted."""
    # why this is so
    length = gram.ww - (gram.xx - s) * 2  # a note
    small = (length < 1e-3) & (s > 0)
    s = -s / (length / h.lr)
    return Update(s=s, a_w=1.0, a_x=-(h.lr + length * small))


def test_one_line_becomes_one_line() -> None:
    assert emit.Emitter(names_and_comments, False).function().splitlines()[1:] == [
        "SPHERE_INLINE Update<T> names_and_comments(",
        "    [[maybe_unused]] const Gram<T>& gram,",
        "    [[maybe_unused]] T s,",
        "    [[maybe_unused]] const Hyper<T>& h) {",
        "  // why this is so",
        "  const auto length = gram.ww - (gram.xx - s) * T(2);  // a note",
        "  const auto small = length < T(0.001) && s > T(0);",
        "  s = -s / (length / h.lr);",
        "  return {.s = s, .a_w = T(1.0), .a_x = -(h.lr + length * small)};",
        "}",
    ]


def power(gram: Gram, s: Scalar, h: Hyper) -> Update:
    return Update(s=s, a_w=gram.ww**2, a_x=0.0)


def unknown_name(gram: Gram, s: Scalar, h: Hyper) -> Update:
    return Update(s=s, a_w=radius, a_x=0.0)  # noqa: F821


def unknown_field(gram: Gram, s: Scalar, h: Hyper) -> Update:
    return Update(s=s, a_w=1.0, a_x=0.0, a_y=1.0)


def branch(gram: Gram, s: Scalar, h: Hyper) -> Update:
    if s > 0:
        s = -s
    return Update(s=s, a_w=1.0, a_x=0.0)


def unmeasured(gram: Gram, s: Scalar, h: Hyper) -> Update:
    return Update(s=gram.wg, a_w=1.0, a_x=0.0)


def nothing(gram: Gram, s: Scalar, h: Hyper) -> Update:
    return s


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (power, r"rule power: BinOp is not in the vocabulary of rules in `return Update"),
        (unknown_name, "rule unknown_name: 'radius' is neither an argument nor assigned"),
        (unknown_field, "rule unknown_field: Update has no field a_y"),
        (branch, "rule branch: If is not in the vocabulary"),
        (unmeasured, 'rule unmeasured: wg is measured only where direction="previous"'),
        (nothing, r"rule nothing: a rule must return Update\(name=value"),
    ],
)
def test_what_cannot_be_emitted_is_explained(function: Callable[..., Update], message: str) -> None:
    with pytest.raises(emit.RuleError, match=message):
        emit.header((Rule("mine", function),))


def test_a_rule_without_source_is_explained() -> None:
    scope: dict[str, Callable[..., Update]] = {}
    exec("def rule(gram, s, h): return Update(s=s, a_w=1.0, a_x=0.0)", scope)
    with pytest.raises(emit.RuleError, match="define it in a file and not in a prompt"):
        emit.header((Rule("mine", scope["rule"]),))
