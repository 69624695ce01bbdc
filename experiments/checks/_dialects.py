"""Same name, different numbers: why each dialect differs from the rule's own form, which is optax's."""

WHY = {
    "sgd:book": "Nothing differs.",
    "sgd:torch": "Nothing differs while torch's L2 term is 0.",
    "momentum:book": "lr is inside the velocity, so that old gradients keep the lr of their step: nothing differs "
    "until lr changes.",
    "momentum:torch": "Nothing differs while torch's dampening and L2 term are 0.",
    "nesterov:book": "As momentum's.",
    "nesterov:torch": "Nothing differs while torch's L2 term is 0.",
    "adagrad:book": "The sum of squares starts at 0 where optax's starts at 0.1, which shortens optax's steps as long "
    "as the sum is not far above it.",
    "adagrad:torch": "eps is outside the root: with sums below eps optax divides by √eps, torch by about eps. With "
    "torch's own start of 0 it differs as the book's.",
    "rmsprop:book": "eps is outside the root, so that optax divides by at least √eps = 1e-4 and the book by eps.",
    "rmsprop:torch": "As the book's.",
    "rmsprop:torch_centered": "The squared mean is subtracted from the mean square, which lengthens steps the more, "
    "the steadier the gradient is; and eps is outside the root.",
    "adam:book": "eps is added to the uncorrected √v, which makes it 1/√(1 − b2ᵗ) as large: 32 times at first, for "
    "gradients as small as that.",
    "adam:torch": "Nothing differs while torch's L2 term is 0.",
    "adamw:torch": "Nothing differs but the default of weight_decay, 1e-2 where optax has 1e-4.",
    "adamax:torch": "Nothing differs while torch's L2 term is 0, but the default of lr, 2e-3 where optax has 1e-3.",
    "amsgrad:paper": "Neither mean is corrected, which makes steps (1 − b1ᵗ)/√(1 − b2ᵗ) times as long: 3.2 at first, "
    "6.5 at the tenth, and 1 in the end.",
    "amsgrad:torch": "The mean square is corrected after the maximum, so that a large v̂ of few gradients decays, "
    "where optax keeps it.",
    "amsgrad:torch_decoupled": "As amsgrad:torch, while weight_decay is 0.",
    "nadam:torch": "The momentum rises slowly from b1/2, where optax's is b1 from the start.",
    "nadamw:torch": "As nadam:torch.",
    "radam:torch": "eps is added to the uncorrected √v, which makes it 1/√(1 − b2ᵗ) as large: 13 times at the sixth "
    "update, the first that divides by it.",
    "radam:torch_decoupled": "As radam:torch, while weight_decay is 0.",
    "rprop:torch": "optax applies the previous step: none at first, then torch's, one update late.",
    "adafactor:torch": "Matrices of any size are factored, where optax requires sides of at least 128; eps bounds the "
    "root, where optax adds 1e-30 below it; and lr is at most 1/√t.",
    "galore:paper": "The gradient is projected onto its shorter side, where optax projects the longer one; and scale "
    "is 0.25, the authors' default, where optax has none.",
    "muon:optax": "Nothing differs on fnn's layers, which declare their axes. Other matrices are [inputs, outputs], "
    "which applies the factor √max(1, outputs / inputs) to other arrays.",
    "muon:torch": "Neither mean is corrected, which at first weights gradient and momentum differently; and arrays "
    "that are not matrices are trained by AdamW, where optax has NAdam.",
    "lbfgs:torch": "There is no line search, and the first step is scaled by the 1-norm where optax uses the 2-norm.",
    "asgd:torch": "Nothing differs but the default of t0: averaging starts after a million updates.",
}
"""At the same hyperparameters, where both forms have them."""
