"""Adam and SGD on single elements: what every optimizer here does where D = 1.

Adam:  u = (m/bc1) / (sqrt(v/bc2) + eps),  w' = a_w w - lr u
SGD:   w' = a_w w - lr b
with a_w = 1 - lr*weight_decay if the decay is decoupled, else 1.
"""

from sphere_fused.rule import Gram, Hyper, Rule, Scalar, Update


def elementwise(gram: Gram, s: Scalar, h: Hyper) -> Update:
    return Update(s=s, a_w=h.decay, a_x=-h.lr)


ADAM = Rule("adam", elementwise, direction="adam", second_moment="element")
SGD = Rule("sgd", elementwise, second_moment=None)
