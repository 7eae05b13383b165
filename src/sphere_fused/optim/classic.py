"""Adam, SGD and Lion on single elements: what every optimizer here does where D = 1.

Adam:  u = (m/bc1) / (sqrt(v/bc2) + eps),  w' = a_w w - lr u
SGD:   w' = a_w w - lr b
Lion:  u = sign(beta1 m + (1-beta1) g),  w' = a_w w - lr u
with a_w = 1 - lr*weight_decay if the decay is decoupled, else 1.
"""

from sphere_fused.rule import Gram, Hyper, Rule, Scalar, Update, where


def elementwise(gram: Gram, s: Scalar, h: Hyper) -> Update:
    return Update(s=s, a_w=h.decay, a_x=-h.lr)


def torch_sgd(gram: Gram, s: Scalar, h: Hyper) -> Update:
    # b = momentum m + gain g, and the first gradient enters it undamped.
    gain = where(h.t > 1, h.gain1, 1.0)
    of_b = where(h.own.nesterov > 0, h.beta1, 1.0)
    a_h = -h.lr * (of_b * gain + h.own.nesterov)
    return Update(s=s, a_w=1.0, a_x=-h.lr * of_b * h.beta1, a_h=a_h, b_x=h.beta1, b_h=gain)


ADAM = Rule("adam", elementwise, direction="adam", second_moment="element")
SGD = Rule("sgd", elementwise, second_moment=None)
NESTEROV = Rule("nesterov", elementwise, direction="nesterov", second_moment=None)
LION = Rule("lion", elementwise, direction="sign", second_moment=None)
# As torch.optim.SGD is to the last detail.
TORCH_SGD = Rule(
    "torch sgd", torch_sgd, direction="previous", second_moment=None, own=("nesterov",)
)
