"""Rules with one mistake each. Their docstrings are what the error must say."""

import math
from math import cos
from typing import final

from torch import minimum

from sphere_fused.rule import Update, maximum, sqrt, where

# ruff: noqa: F821
RADIUS = 2.0


def power(gram, s, h):
    """`gram.ww ** 2` is not in the vocabulary of rules: multiply, or take sqrt"""
    return Update(s=s, a_w=gram.ww**2, a_x=0.0)


def remainder(gram, s, h):
    """`s % 2` is not in the vocabulary of rules: a rule has + - * /, comparisons, &, | and sqrt"""
    return Update(s=s % 2, a_w=1.0, a_x=0.0)


def floor(gram, s, h):
    """`s // 2` is not in the vocabulary"""
    return Update(s=s // 2, a_w=1.0, a_x=0.0)


def plus(gram, s, h):
    """`+s` is not in the vocabulary of rules: leave the + out"""
    return Update(s=+s, a_w=1.0, a_x=0.0)


def text(gram, s, h):
    """`'s'` is not in the vocabulary"""
    return Update(s="s", a_w=1.0, a_x=0.0)


def boolean(gram, s, h):
    """`True` is not in the vocabulary"""
    return Update(s=True, a_w=1.0, a_x=0.0)


def huge(gram, s, h):
    """a number is too large for a double"""
    return Update(s=1e999, a_w=1.0, a_x=0.0)


def subscript(gram, s, h):
    """`gram[0]` is not in the vocabulary"""
    return Update(s=gram[0], a_w=1.0, a_x=0.0)


def pair(gram, s, h):
    """`(s, s)` is not in the vocabulary"""
    return Update(s=(s, s), a_w=1.0, a_x=0.0)


def either(gram, s, h):
    """`s > 0 or s < 1` is not in the vocabulary of rules: join conditions with |"""
    return Update(s=where(s > 0 or s < 1, s, 0.0), a_w=1.0, a_x=0.0)


def both(gram, s, h):
    """`s > 0 and h.lr < 1` is not in the vocabulary of rules: join conditions with &"""
    return Update(s=where(s > 0 and h.lr < 1, s, 0.0), a_w=1.0, a_x=0.0)


def negated(gram, s, h):
    """`not s > 0` is not in the vocabulary of rules: turn the comparison around"""
    return Update(s=where(not s > 0, s, 0.0), a_w=1.0, a_x=0.0)


def inverted(gram, s, h):
    """turn the comparison around"""
    return Update(s=where(~(s > 0), s, 0.0), a_w=1.0, a_x=0.0)


def chained(gram, s, h):
    """`0 < s < 1` is not in the vocabulary of rules: compare two at a time"""
    return Update(s=where(0 < s < 1, s, 0.0), a_w=1.0, a_x=0.0)


def identity(gram, s, h):
    """`s is gram.ww` is not in the vocabulary of rules: a rule has"""
    return Update(s=where(s is gram.ww, s, 0.0), a_w=1.0, a_x=0.0)


def ternary(gram, s, h):
    """is not in the vocabulary of rules: write where(condition, a, b)"""
    return Update(s=s if s > 0 else 0.0, a_w=1.0, a_x=0.0)


def branch(gram, s, h):
    """is not in the vocabulary of rules: choose a value, name = where(condition, a, b)"""
    if s > 0:
        s = -s
    return Update(s=s, a_w=1.0, a_x=0.0)


def two_ends(gram, s, h):
    """`if s > 0:` is not in the vocabulary"""
    if s > 0:
        return Update(s=s, a_w=1.0, a_x=0.0)
    else:
        return Update(s=-s, a_w=1.0, a_x=0.0)


def loop(gram, s, h):
    """`for i in range(3):` is not in the vocabulary of rules: write its lines out"""
    for i in range(3):
        s = s * i
    return Update(s=s, a_w=1.0, a_x=0.0)


def repeat(gram, s, h):
    """`while s > 0:` is not in the vocabulary"""
    while s > 0:
        s = s - 1
    return Update(s=s, a_w=1.0, a_x=0.0)


def expression(gram, s, h):
    """`print(s)` is not in the vocabulary"""
    print(s)
    return Update(s=s, a_w=1.0, a_x=0.0)


def in_place(gram, s, h):
    """`s += 1.0` is not in the vocabulary of rules: write s = s + 1.0"""
    s += 1.0
    return Update(s=s, a_w=1.0, a_x=0.0)


def annotated(gram, s, h):
    """`a: float = 1.0` is not in the vocabulary of rules: write a = 1.0"""
    a: float = 1.0
    return Update(s=s, a_w=a, a_x=0.0)


def unpacked(gram, s, h):
    """assign one name a line, name = value"""
    a, b = 1.0, 0.0
    return Update(s=s, a_w=a, a_x=b)


def at_once(gram, s, h):
    """assign one name a line, name = value"""
    a = b = 1.0
    return Update(s=s, a_w=a, a_x=b)


def into_a_tuple(gram, s, h):
    """assign one name a line, name = value"""
    h.lr = 1.0
    return Update(s=s, a_w=1.0, a_x=-h.lr)


def absolute(gram, s, h):
    """abs() cannot be called here: the functions of rules are"""
    return Update(s=abs(s), a_w=1.0, a_x=0.0)


def from_a_module(gram, s, h):
    """math.exp() cannot be called here: the functions of rules are sqrt, sin"""
    return Update(s=math.exp(s), a_w=1.0, a_x=0.0)


def smaller(gram, s, h):
    """sqrt, sin, cos, where, maximum, minimum; write minimum(a, b)"""
    return Update(s=min(s, 1.0), a_w=1.0, a_x=0.0)


def method(gram, s, h):
    """gram.ww.sqrt() cannot be called here: the functions of rules are sqrt, sin"""
    return Update(s=gram.ww.sqrt(), a_w=1.0, a_x=0.0)


def foreign_cos(gram, s, h):
    """cos in this file is math.cos; import it from sphere_fused.rule"""
    return Update(s=s, a_w=cos(h.lr), a_x=0.0)


def foreign_minimum(gram, s, h):
    """minimum in this file is torch.minimum; import it from sphere_fused.rule"""
    return Update(s=minimum(s, 1.0), a_w=1.0, a_x=0.0)


def not_imported(gram, s, h):
    """sin in this file is not defined; import it from sphere_fused.rule"""
    return Update(s=s, a_w=sin(h.lr), a_x=0.0)


def keywords(gram, s, h):
    """maximum() takes 2 argument(s), by position"""
    return Update(s=maximum(a=s, b=1.0), a_w=1.0, a_x=0.0)


def too_few(gram, s, h):
    """where() takes 3 argument(s), by position"""
    return Update(s=where(s > 0, s), a_w=1.0, a_x=0.0)


def from_outside(gram, s, h):
    """RADIUS is neither an argument nor assigned before; a number from"""
    return Update(s=s, a_w=RADIUS, a_x=0.0)


def misspelt(gram, s, hyper):
    """out, or declared, Rule(..., own=("NAME",)), and read as hyper.own.NAME"""
    length = sqrt(gram.ww)
    return Update(s=s, a_w=length, a_x=lenght)


def too_early(gram, s, h):
    """b is neither an argument nor assigned before"""
    a = b
    b = 1.0
    return Update(s=s, a_w=a, a_x=b)


def of_a_module(gram, s, h):
    """math is neither an argument nor assigned before"""
    return Update(s=s, a_w=math.pi, a_x=0.0)


def no_such_product(products, s, h):
    """products has no yy: it has ww, wx, xx, gg"""
    return Update(s=s, a_w=products.yy, a_x=0.0)


def no_such_hyper(gram, s, h):
    """h has no momentum: it has lr, beta1,"""
    return Update(s=s, a_w=1.0, a_x=h.momentum)


def unmeasured(gram, s, h):
    """gram has wg only where direction is"""
    return Update(s=gram.wg, a_w=1.0, a_x=0.0)


def undeclared(gram, s, h):
    """h.own has no radius: declare it, Rule(..., own=("radius",))"""
    return Update(s=s, a_w=h.own.radius, a_x=0.0)


def field_of_a_number(gram, s, h):
    """`s` is a number and has no fields"""
    return Update(s=s.mean, a_w=1.0, a_x=0.0)


def field_of_a_condition(gram, s, h):
    """`s > 0` is a condition and has no fields"""
    return Update(s=(s > 0).mean, a_w=1.0, a_x=0.0)


def whole_gram(gram, s, h):
    """gram is all the inner products: name one, gram.ww"""
    return Update(s=sqrt(gram), a_w=1.0, a_x=0.0)


def whole_hyper(gram, s, h):
    """h is all the hyperparameters: name one, h.lr"""
    return Update(s=s, a_w=1.0, a_x=-h)


def whole_own(gram, s, h):
    """h.own is all the hyperparameters of the rule's own: name one, h.own.NAME"""
    own = h.own
    return Update(s=s, a_w=1.0, a_x=own)


def condition_as_number(gram, s, h):
    """`small` is a condition: use where(small, a, b)"""
    small = gram.ww < 1e-3
    return Update(s=s, a_w=h.lr * small, a_x=0.0)


def condition_as_coefficient(gram, s, h):
    """`s > 0` is a condition: use where(s > 0, a, b)"""
    return Update(s=s, a_w=s > 0, a_x=0.0)


def condition_compared(gram, s, h):
    """`s > 0` is a condition: use where(s > 0, a, b)"""
    return Update(s=where((s > 0) == (h.lr > 0), s, 0.0), a_w=1.0, a_x=0.0)


def condition_chosen(gram, s, h):
    """`s < 1` is a condition: use where(s < 1, a, b)"""
    return Update(s=where(s > 0, s < 1, 0.0), a_w=1.0, a_x=0.0)


def numbers_joined(gram, s, h):
    """& and | join conditions, and `gram.ww` is a number: compare it"""
    return Update(s=where((s > 0) & gram.ww, s, 0.0), a_w=1.0, a_x=0.0)


def chosen_by_a_number(gram, s, h):
    """where() chooses by a condition, and `s` is a number: compare it"""
    return Update(s=where(s, 1.0, 0.0), a_w=1.0, a_x=0.0)


def chosen_by_a_tuple(gram, s, h):
    """gram is all the inner products: name one, gram.ww"""
    return Update(s=where(gram, 1.0, 0.0), a_w=1.0, a_x=0.0)


def becomes_a_condition(gram, s, h):
    """s was a number and is now a condition: choose another name"""
    s = s > 0
    return Update(s=where(s, 1.0, 0.0), a_w=1.0, a_x=0.0)


def becomes_a_number(gram, s, h):
    """small was a condition and is now a number: choose another name"""
    small = gram.ww < 1e-3
    small = where(small, 1.0, 0.0)
    return Update(s=s, a_w=small, a_x=0.0)


def hyper_assigned(gram, s, h):
    """h is all the hyperparameters: choose another name"""
    h = h.lr
    return Update(s=s, a_w=1.0, a_x=h)


def function_assigned(gram, s, h):
    """sqrt is a function of rules: choose another name"""
    sqrt = 1.0
    return Update(s=s, a_w=sqrt, a_x=0.0)


def function_as_argument(gram, maximum, h):
    """maximum is a function of rules: choose another name"""
    return Update(s=maximum, a_w=1.0, a_x=0.0)


def not_an_update(gram, s, h):
    """it must end in return Update(name=value, ...)"""
    return s


def no_return(gram, s, h):
    """it must end in return Update(name=value, ...)"""
    s = -s


def nothing(gram, s, h):
    """it must end in return Update(name=value, ...)"""


def named_update(gram, s, h):
    """Update() cannot be called here: it is for the last line, return Update(...)"""
    u = Update(s=s, a_w=1.0, a_x=0.0)
    return u


def early_return(gram, s, h):
    """return must be the last line"""
    return Update(s=s, a_w=1.0, a_x=0.0)
    s = -s


def by_position(gram, s, h):
    """give each value by its name, Update(s=s, a_w=...)"""
    return Update(s, 1.0, a_x=0.0)


def by_dict(gram, s, h):
    """give each value by its name, Update(s=s, a_w=...)"""
    return Update(s=s, **{"a_w": 1.0, "a_x": 0.0})


def no_such_coefficient(gram, s, h):
    """Update has no a_y: it has s, a_w, a_x, b_w, b_x"""
    return Update(s=s, a_w=1.0, a_x=0.0, a_y=1.0)


def radial(gram, s, h):
    """radial is filled in by the backend: leave it out"""
    return Update(s=s, a_w=1.0, a_x=0.0, radial=0.0)


def incomplete(gram, s, h):
    """Update lacks a_w, a_x"""
    return Update(s=s)


def a_h(gram, s, h):
    """Update has a_h only where direction is"""
    return Update(s=s, a_w=1.0, a_x=0.0, a_h=0.0)


def b_h(gram, s, h):
    """Update has b_h only where direction is"""
    return Update(s=s, a_w=1.0, a_x=0.0, b_h=0.0)


def default(gram, s, h=1):
    """arguments go by position and have no defaults: def step(gram, s, h)"""
    return Update(s=s, a_w=1.0, a_x=0.0)


def variable(*arguments):
    """arguments go by position and have no defaults"""
    return Update(s=1.0, a_w=1.0, a_x=0.0)


def variable_keywords(gram, s, h, **more):
    """arguments go by position and have no defaults"""
    return Update(s=s, a_w=1.0, a_x=0.0)


def keyword_only(gram, s, *, h):
    """arguments go by position and have no defaults"""
    return Update(s=s, a_w=1.0, a_x=0.0)


def two_arguments(gram, s):
    """it must have 3 arguments, as step(gram, s, h), not 2"""
    return Update(s=s, a_w=1.0, a_x=0.0)


@final
def decorated(gram, s, h):
    """decorators are not compiled: define it without"""
    return Update(s=s, a_w=1.0, a_x=0.0)


def underscored(gram, s, h):
    """begins with _"""
    _a = gram.ww
    return Update(s=s, a_w=1.0, a_x=_a)


async def awaited(gram, s, h):
    """bad_rules.awaited is no plain function: write def step(gram, s, h): ..."""
    return Update(s=s, a_w=1.0, a_x=0.0)
