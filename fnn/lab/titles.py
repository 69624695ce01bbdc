"""The names of update rules as people write them, and their colors and markers in figures."""

from fnn.lab.figures import Style

NOTES = ("sgd", "momentum", "adagrad", "adam", "rmsprop", "nesterov")
"""The rules of the notes."""

TITLES = {
    "sgd": "SGD",
    "momentum": "Momentum",
    "adagrad": "AdaGrad",
    "adam": "Adam",
    "rmsprop": "RMSProp",
    "nesterov": "Nesterov",
    "acprop": "ACProp",
    "adabelief": "AdaBelief",
    "adadelta": "AdaDelta",
    "adafactor": "Adafactor",
    "adamax": "AdaMax",
    "adamaxw": "AdaMaxW",
    "adamw": "AdamW",
    "adan": "Adan",
    "ademamix": "AdEMAMix",
    "adopt": "ADOPT",
    "amsgrad": "AMSGrad",
    "asgd": "ASGD",
    "cocob": "COCOB",
    "dadapt_adamw": "D-Adapt AdamW",
    "dog": "DoG",
    "dowg": "DoWG",
    "dpsgd": "DP-SGD",
    "fromage": "Fromage",
    "galore": "GaLore",
    "lamb": "LAMB",
    "lars": "LARS",
    "lbfgs": "L-BFGS",
    "lion": "Lion",
    "madgrad": "MADGRAD",
    "mechanize": "Mechanic, Adam",
    "momo": "MoMo",
    "momo_adam": "MoMo-Adam",
    "muon": "Muon",
    "nadam": "NAdam",
    "nadamw": "NAdamW",
    "noisy_sgd": "noisy SGD",
    "novograd": "NovoGrad",
    "optimistic_adam_v2": "optimistic Adam",
    "optimistic_gradient_descent": "optimistic GD",
    "polyak_sgd": "Polyak SGD",
    "prodigy": "Prodigy",
    "radam": "RAdam",
    "reduce_on_plateau": "SGD on plateaus",
    "rprop": "Rprop",
    "sam": "SAM, SGD",
    "schedule_free_adamw": "schedule-free AdamW",
    "schedule_free_sgd": "schedule-free SGD",
    "sign_sgd": "sign SGD",
    "signum": "Signum",
    "simplified_ademamix": "simplified AdEMAMix",
    "sm3": "SM3",
    "sophia": "Sophia",
    "yogi": "Yogi",
}
"""Names as people write them; a rule without an entry keeps its name. The order is that of colors and markers."""


def title(name: str) -> str:
    """A rule's name as people write it: "Adam" for "adam", with a dialect in brackets, "Adam (torch)"."""
    head, _, rest = name.partition(":")
    return TITLES.get(head, head) + (f" ({rest})" if rest else "")


STYLE = Style(title, {name: number for number, name in enumerate(TITLES)})
"""Names, colors and markers of rules, the same in every figure."""
