"""A rule that no backend could compile is refused in its author's terms; see bad_rules.py."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

import bad_rules
import pytest

from sphere_fused.check import RuleError, check
from sphere_fused.optim import RULES
from sphere_fused.rule import Rule, Update, maximum, sqrt, where


def step(gram, s, h):
    """May be what it likes."""
    return Update(s=s, a_w=h.decay, a_x=-h.lr)


def share(gram, h):
    return gram.wg / gram.ww


def share_of_radius(gram, h):
    return gram.wg / gram.radius


def verdict_on_x(whole, peak, h):
    return peak / whole.xx


def everything(products, v, numbers, /):
    """Unannotated, with names of its own."""
    v = numbers.beta2 * v + products.gg * 1
    moved = (v > 0) | (products.ww != 0) & (v >= numbers.own.floor)
    v = where(moved, v, -v)
    return Update(a_x=-numbers.lr / v, a_w=1.0, s=v, b_w=0.0, b_x=1.0)


def land(gram, y, u, h):
    return Update(s=u.s, a_w=u.a_w, a_x=u.a_x, b_x=y.wy)


def land_on_the_line(gram, y, u, h):
    return Update(s=u.s, a_w=u.a_w, a_x=u.a_x, a_1=y.wy)


def lands_nowhere(gram, y, u, h):
    return Update(s=u.s, a_w=u.a_w, a_x=y.gg)


def lands_radially(gram, y, u, h):
    return Update(s=u.s, a_w=u.radial, a_x=u.a_x)


def whole_landing(gram, y, u, h):
    return Update(s=u.s, a_w=y, a_x=u.a_x)


def whole_update(gram, y, u, h):
    return Update(s=u, a_w=u.a_w, a_x=u.a_x)


def lands_halfway(gram, y, u, h):
    return Update(s=u.s, a_w=u.a_w, a_x=u.a_x, a_h=1.0)


def uses_s(gram, s, h):
    return Update(s=0.0, a_w=s + 1.0, a_x=0.0)


def changes_s(gram, s, h):
    return Update(s=0.0, a_w=1.0, a_x=0.0)


def uses_own(gram, s, h):
    return Update(s=s, a_w=h.own.radius, a_x=0.0)


def of_mean(gram, s, h):
    return Update(s=s, a_w=gram.sx / h.dim, a_x=0.0)


def of_radius(gram, s, h):
    return Update(s=s, a_w=gram.radius / sqrt(gram.ww), a_x=0.0)


def by_verdict(gram, s, h):
    return Update(s=s, a_w=h.verdict, a_x=0.0)


def peak(gram, h):
    """A product of what is known before x, by a name."""
    share = gram.wg / sqrt(gram.ww * gram.gg)
    return maximum(share, -share)


def verdict(whole, most, h):
    return where(most < h.own.floor, whole.ww, 2.0)


def too_early(gram, h):
    return gram.wx


def compared(gram, h):
    return gram.wg > 0


def unended(gram, h):
    share = gram.wg
    share = share / gram.ww


def surveying(peak: Any, verdict: Any, own: tuple[str, ...] = ("floor",)) -> Rule:
    return Rule("mine", step, peak=peak, verdict=verdict, own=own)


def tangential(gram, s, h):
    return Update(s=gram.hh, a_w=1.0, a_x=0.0, a_h=gram.wg, b_h=gram.gx - gram.hx)


# fmt: off
def from_elsewhere():
    Update = functools.partial

    def in_a_function(gram, s, h):
# A comment here leaves the function no indent that all its lines have.
        return Update(s=s, a_w=1.0, a_x=0.0)

    return in_a_function
# fmt: on


def from_a_prompt():
    scope: dict[str, Any] = {}
    exec("def unread(gram, s, h): return Update(s=s, a_w=1.0, a_x=0.0)", scope)
    return scope["unread"]


def wrapper():
    @functools.wraps(step)
    def wrapped(gram, s, h):
        return step(gram, s, h)

    return wrapped


def own(*names: Any) -> Rule:
    return Rule("mine", step, own=names)


ADAM: dict[str, Any] = {"direction": "adam", "second_moment": "element"}
BAD = [
    (Rule("mine", function), re.escape(inspect.getdoc(function) or "undocumented"))
    for function in vars(bad_rules).values()
    if inspect.isfunction(function) and function.__module__ == "bad_rules"
] + [
    (Rule("mine", from_elsewhere()), "Update in this file is functools.partial; import it from"),
    (Rule("mine", from_a_prompt()), "source of .*unread cannot be read: .* not in a prompt"),
    (Rule("mine", wrapper()), "source of .*step cannot be read"),
    (Rule("mine", lambda gram, s, h: s), r"<lambda> is no plain function: write def step\(gram,"),
    (Rule("mine", functools.partial(step)), r"partial\(.*\) is no plain function"),
    (Rule("mine", Update), "sphere_fused.rule.Update is no plain function"),
    (Rule("mine", land), r"it must have 3 arguments, as step\(gram, s, h\), not 4"),
    (Rule("mine", step, step), r"it must have 4 arguments, as land\(gram, y, u, h\), not 3"),
    (Rule("mine", step, lands_nowhere), "y has no gg: it has yy, wy, xy"),
    (Rule("mine", step, lands_radially), "u has no radial: it has s, a_w, a_x, b_w, b_x"),
    (Rule("mine", step, lands_halfway), 'Update has a_h only where direction is "previous"'),
    (Rule("mine", step, whole_landing), "y is all the products of the new point: name one, y.yy"),
    (Rule("mine", step, whole_update), "u is all the coefficients: name one, u.s"),
    (Rule("mine", tangential), "gram has hh only where"),
    (Rule("mine", tangential, **ADAM), "gram has hh only where"),
    (Rule("mine", step, land, "previous"), 'whose direction is "previous" has no land'),
    (
        Rule("mine", uses_s, second_moment=None),
        '"segment", or with a segment_state: hand it on, s=s',
    ),
    (
        Rule("mine", step, direction="previous", peak=share, verdict=verdict),
        'whose direction is "previous" has no verdict',
    ),
    (
        Rule("mine", step, keeps_radius=True, peak=share_of_radius, verdict=verdict),
        "gram has radius only where x is known",
    ),
    (Rule("mine", step, peak=share, verdict=verdict_on_x), "whole has xx only where x is known"),
    (Rule("mine", changes_s, **ADAM), "the second moment is not the rule's: hand s on"),
    (Rule("mine", uses_own, own=("floor",)), "h.own has no radius: declare it"),
    (Rule("mine", step, land, "sign"), 'b_x only where direction is "moment" or "previous"'),
    (Rule("mine", of_mean), 'gram has sx only where direction is "adam" or "nesterov" or "sign"'),
    (Rule("mine", step, land_on_the_line), 'a_1 only where direction is "adam" or "nesterov"'),
    (Rule("mine", of_radius), "gram has radius only where keeps_radius=True"),
    (Rule("mine", by_verdict), "h has verdict only where the rule has a verdict"),
    (Rule("mine", step, peak=peak), "peak and verdict go together: give both or neither"),
    (Rule("mine", step, verdict=verdict), "peak and verdict go together: give both or neither"),
    (
        Rule("mine", step, land, peak=peak, verdict=verdict),
        "land and verdict do not go together: leave one out",
    ),
    (surveying(step, verdict), r"it must have 2 arguments, as peak\(gram, h\), not 3"),
    (surveying(peak, peak), r"it must have 3 arguments, as verdict\(whole, peak, h\), not 2"),
    (surveying(too_early, verdict), "gram has wx only where x is known, which is later"),
    (surveying(peak, verdict, own=()), "h.own has no floor: declare it"),
    (surveying(compared, verdict), "`gram.wg > 0` is a condition: use where"),
    (surveying(unended, verdict), "it must end in return"),
    (Rule("mine", step, segment_state="q"), "leave segment_state out"),
    (Rule("", step), "its name must be a str that is not empty, not ''"),
    (Rule(None, step), "its name must be a str that is not empty, not None"),
    (Rule("mine", step, direction="next"), "direction must be .*, not 'next'"),
    (Rule("mine", step, second_moment="row"), "second_moment must be .*, not 'row'"),
    (Rule("mine", step, direction="adam"), "go together: give both or neither"),
    (Rule("mine", step, second_moment="element"), "go together: give both or neither"),
    (Rule("mine", step, own="radius"), r"own must be a tuple of names, .*, not 'radius'"),
    (own("a-b"), "own has 'a-b', which is not a name"),
    (own("lambda"), "own has 'lambda', which is not a name"),
    (own(1), "own has 1, which is not a name"),
    (own("a", "b", "a"), "own has 'a' twice"),
    (own("eps"), "own has 'eps', which is taken"),
    (own("betas"), "own has 'betas', which is taken"),
    (own("backend"), "own has 'backend', which is taken"),
    (own("_a"), "own has '_a', which is taken"),
]


@pytest.mark.parametrize(
    ("rule", "message"), BAD, ids=[getattr(rule.step, "__name__", "partial") for rule, _ in BAD]
)
def test_a_bad_rule_is_explained(rule: Rule, message: str) -> None:
    with pytest.raises(RuleError, match=message) as error:
        check(rule)
    assert str(error.value).startswith(f"rule {rule.name}")


def test_an_error_shows_its_line() -> None:
    lines, first = inspect.getsourcelines(bad_rules.in_place)
    with pytest.raises(RuleError) as error:
        check(Rule("mine", bad_rules.in_place))
    assert str(error.value) == (
        "rule mine, function in_place: "
        "`s += 1.0` is not in the vocabulary of rules: write s = s + 1.0\n"
        f"  bad_rules.py:{first + 2}: {lines[2].strip()}"
    )


GOOD = [
    *RULES,
    Rule("mine", step, land),
    Rule("mine", step, land, second_moment=None),
    Rule("mine", step, land_on_the_line, **ADAM),
    Rule("mine", step, land_on_the_line, "nesterov"),
    Rule("mine", of_mean, direction="sign", second_moment=None, segment_state="q"),
    Rule("mine", of_radius, keeps_radius=True),
    Rule("mine", by_verdict, peak=peak, verdict=verdict, own=("floor",)),
    Rule("mine", everything, own=("floor",)),
    Rule("mine", tangential, direction="previous"),
    Rule("mine", changes_s, second_moment=None),
]


@pytest.mark.parametrize("rule", GOOD, ids=lambda rule: rule.step.__name__)
def test_a_good_rule_passes(rule: Rule) -> None:
    check(rule)
