"""What k trials are expected to give, from n ≥ k trials that were made: exactly, over all draws of k of them.

Dodge et al. 2019, arXiv:1909.03004, estimate it with replacement; here trials are drawn without.
"""

import numpy as np


def missed(n: int) -> np.ndarray:
    """`[k, i]`, 0 … n each: the probability that k of n trials, drawn without replacement, include none of the best i.

    The hypergeometric ∏_{j<i} (n − k − j) / (n − j).
    """
    k, j = np.arange(n + 1)[:, None], np.arange(n)
    return np.concatenate([np.ones((n + 1, 1)), np.cumprod(np.maximum(n - k - j, 0) / (n - j), axis=1)], axis=1)


def expected_best(by: np.ndarray, judged: np.ndarray | None = None, worst: float = 0.0) -> np.ndarray:
    """The expected score of the best of the first k = 1 … n trials, over all orders of the trials `[…, n]`.

    by: the scores that decide the choice, the higher the better: accuracies in validation. judged: the scores of the
    chosen trial, on images on which no choice depends; None for `by`. A score that is NaN counts as `worst`, and in
    `by` as the worst.
    """
    judged = by if judged is None else judged
    order = np.argsort(-np.nan_to_num(by, nan=-np.inf), axis=-1, kind="stable")
    missing = missed(by.shape[-1])[1:]
    chosen = np.take_along_axis(np.where(np.isnan(judged), worst, judged), order, -1)
    return chosen @ (missing[:, :-1] - missing[:, 1:]).T
