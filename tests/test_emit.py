"""Rules to C++: the header is up to date, and a rule becomes what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sphere_fused import emit
from sphere_fused.check import RuleError, parse
from sphere_fused.rule import Gram, Hyper, Land, Rule, Scalar, Step, Update, where

# ruff: noqa: B002
HEADER = Path(__file__).parent.parent / "csrc" / "rules.gen.h"


def test_the_header_is_what_the_rules_say() -> None:
    assert HEADER.read_text() == emit.header(), "run `make gen` and commit csrc/rules.gen.h"


def emitted(step: Step, land: Land | None = None) -> list[str]:
    return emit.Emitter(parse(Rule("mine", step, land))[-1], ()).function().splitlines()


def names_and_comments(gram: Gram, s: Scalar, h: Hyper) -> Update:
    """Not emitted."""
    # why this is so
    length = gram.ww - (gram.xx - s) * 2  # a note
    small = (length < 1e-3) & (s > 0)
    s = -s / (length / h.lr)
    return Update(s=s, a_w=where(small, -(-s), 1.0), a_x=-(h.lr + length * s))


def test_one_line_becomes_one_line() -> None:
    assert emitted(names_and_comments)[1:] == [
        "SPHERE_INLINE Update<T> names_and_comments(",
        "    [[maybe_unused]] const Gram<T>& gram,",
        "    [[maybe_unused]] T s,",
        "    [[maybe_unused]] const Hyper<T>& h) {",
        "  // why this is so",
        "  const auto length = gram.ww - (gram.xx - s) * T(2);  // a note",
        "  const auto small = length < T(0.001) && s > T(0);",
        "  s = -s / (length / h.lr);",
        "  return {.s = s, .a_w = where(small, -(-s), T(1.0)), .a_x = -(h.lr + length * s)};",
        "}",
    ]


def names_of_its_own(products, v, numbers):
    a = products.ww
    a = -a
    return Update(a_x=-numbers.lr, s=v, a_w=a)


def landing_without_annotations(g, there, old, numbers):
    return Update(s=old.s, a_w=old.a_w, a_x=there.yy)


def test_arguments_go_by_position() -> None:
    assert emitted(names_of_its_own)[1:] == [
        "SPHERE_INLINE Update<T> names_of_its_own(",
        "    [[maybe_unused]] const Gram<T>& products,",
        "    [[maybe_unused]] T v,",
        "    [[maybe_unused]] const Hyper<T>& numbers) {",
        "  auto a = products.ww;",
        "  a = -a;",
        "  return {.s = v, .a_w = a, .a_x = -numbers.lr};",
        "}",
    ]
    assert emitted(names_of_its_own, landing_without_annotations)[2:6] == [
        "    [[maybe_unused]] const Gram<T>& g,",
        "    [[maybe_unused]] const Landing<T>& there,",
        "    [[maybe_unused]] const Update<T>& old,",
        "    [[maybe_unused]] const Hyper<T>& numbers) {",
    ]


def peak(gram, h):
    share = gram.wg / gram.ww
    return where(share > h.own.floor, share, h.own.other)


def verdict(whole, most, h):
    return most / whole.gg


def test_a_survey_returns_numbers() -> None:
    own = ("other", "floor")
    rule = Rule("mine", names_of_its_own, peak=peak, verdict=verdict, own=own)
    functions = [emit.Emitter(parsed, own).function() for parsed in parse(rule)]
    assert functions[1].splitlines()[1:] == [
        "SPHERE_INLINE T peak(",
        "    [[maybe_unused]] const Gram<T>& gram,",
        "    [[maybe_unused]] const Hyper<T>& h) {",
        "  const auto share = gram.wg / gram.ww;",
        "  return where(share > h.own[1], share, h.own[0]);",
        "}",
    ]
    assert functions[2].splitlines()[2:4] == [
        "    [[maybe_unused]] const Gram<T>& whole,",
        "    [[maybe_unused]] T most,",
    ]


def test_a_function_reads_its_own_hyperparameters_by_place() -> None:
    rules = [
        Rule("mine", names_of_its_own, peak=peak, verdict=verdict, own=own)
        for own in (("other", "floor"), ("floor", "other"))
    ]
    with pytest.raises(RuleError, match="rules whose `own` differ share peak, which reads it"):
        emit.header(tuple(rules))


def power(gram, s, h):
    return Update(s=s**2, a_w=1.0, a_x=0.0)


def test_rules_are_checked_first() -> None:
    with pytest.raises(RuleError, match="rule mine, function power"):
        emit.header((Rule("mine", power),))


def test_names_of_functions_are_unique() -> None:
    def power(gram, s, h):
        return Update(s=s, a_w=1.0, a_x=0.0)

    def again():
        def power(gram, s, h):
            return Update(s=s, a_w=1.0, a_x=0.0)

        return power

    with pytest.raises(RuleError, match="two rules define a function called power"):
        emit.header((Rule("mine", power), Rule("other", again())))
