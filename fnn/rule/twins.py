"""The optax transformation that equals each of our rules, at the same hyperparameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from fnn.base.errors import InputError
from fnn.base.types import Hyper
from fnn.nn.axes import axes, inputs_first, only_matrices, outputs_first, undeclared
from fnn.rule.contract import Rule
from fnn.rule.interop import from_optax


def _l2(hp, transformation):
    """The transformation, with an L2 term in its gradient."""
    return optax.chain(optax.add_decayed_weights(hp.weight_decay), transformation)


def _torch_momentum(hp):
    kept = lambda count: jnp.where(count == 0, 1, 1 - hp.dampening)
    return optax.chain(optax.scale_by_schedule(kept), optax.trace(hp.mu), optax.scale_by_learning_rate(hp.lr))


def _outer_eps_adagrad(hp, lr, h0=0.0):
    # h0 + Σg² is t + 1 times a running mean, and that mean is RMSProp's with decay 1 − 1/(t + 1). Pulling √(t + 1) out
    # of the root leaves the book's form: lr/√(t + 1) and eps/√(t + 1) beside √(mean).
    def share(count):
        return 1.0 / (count + 2)

    return optax.inject_hyperparams(optax.rmsprop, static_args=("eps_in_sqrt", "centered", "bias_correction"))(
        learning_rate=lambda count: lr(count) * jnp.sqrt(share(count)),
        decay=lambda count: 1 - share(count),
        eps=lambda count: hp.eps * jnp.sqrt(share(count)),
        initial_scale=h0,
        eps_in_sqrt=False,
    )


def _book_adagrad(hp):
    return _outer_eps_adagrad(hp, lambda count: hp.lr)


def _torch_adagrad(hp):
    return _l2(hp, _outer_eps_adagrad(hp, lambda count: hp.lr / (1 + count * hp.lr_decay), hp.h0))


def _early_eps(hp):
    """eps beside √v is eps / √(1 − b2ᵗ) beside √v̂."""
    return lambda count: hp.eps / jnp.sqrt(1 - hp.b2 ** (count + 1))


def _book_adam(hp):
    return optax.inject_hyperparams(optax.adam)(learning_rate=hp.lr, b1=hp.b1, b2=hp.b2, eps=_early_eps(hp))


def _outer_eps_rmsprop(hp):
    return optax.rmsprop(hp.lr, hp.rho, hp.eps, eps_in_sqrt=False)


def _torch_rmsprop(hp, scale_by):
    scaled = scale_by(hp.rho, hp.eps, eps_in_sqrt=False)
    return _l2(hp, optax.chain(scaled, optax.trace(hp.mu), optax.scale_by_learning_rate(hp.lr)))


def _uncorrected_amsgrad(hp):
    return optax.amsgrad(hp.lr, hp.b1, hp.b2, hp.eps, bias_correction_mu=False, bias_correction_nu=False)


def _torch_amsgrad(hp):
    # m̂ / (√(v_max / c) + eps) is √c m̂ / (√v_max + √c eps), with c = 1 − b2ᵗ.
    return optax.inject_hyperparams(optax.amsgrad, static_args=("bias_correction_mu", "bias_correction_nu"))(
        learning_rate=lambda count: hp.lr * jnp.sqrt(1 - hp.b2 ** (count + 1)),
        b1=hp.b1,
        b2=hp.b2,
        eps=lambda count: hp.eps * jnp.sqrt(1 - hp.b2 ** (count + 1)),
        bias_correction_nu=False,
    )


def _torch_radam(hp):
    return optax.inject_hyperparams(optax.scale_by_radam)(b1=hp.b1, b2=hp.b2, eps=_early_eps(hp))


def _yogi(hp):
    return optax.chain(
        optax.scale_by_yogi(hp.b1, hp.b2, hp.eps, initial_accumulator_value=hp.start),
        optax.scale_by_learning_rate(hp.lr),
    )


def _sm3(hp):
    # optax's cannot take scalars; as vectors of one it can.
    inner = optax.chain(optax.scale_by_sm3(hp.b1, eps=hp.eps), optax.scale_by_learning_rate(hp.lr))
    as_vectors = lambda tree: jax.tree.map(jnp.atleast_1d, tree)

    def update(updates, state, params=None):
        stepped, state = inner.update(as_vectors(updates), state)
        return jax.tree.map(lambda u, g: u.reshape(g.shape), stepped, updates), state

    return optax.GradientTransformation(lambda params: inner.init(as_vectors(params)), update)


def _adafactor(hp):
    # `optax.adafactor` raises its count to the power in float32; with another power function it keeps float64.
    keep = lambda count, decay: 1 - (count + 1).astype(jnp.result_type(float)) ** -decay
    return optax.chain(
        optax.scale_by_factored_rms(decay_rate=hp.decay, epsilon=hp.eps, decay_rate_fn=keep),
        optax.clip_by_block_rms(hp.clip),
        optax.scale_by_param_block_rms(),
        optax.scale_by_learning_rate(hp.lr),
    )


def _noisy_sgd(hp):
    noisy = optax.noisy_sgd(hp.lr, hp.eta, hp.gamma, key=jax.random.key(0))

    def update(updates, state, params=None, *, key=None, **others):
        return noisy.update(updates, (state[0]._replace(rng_key=key), *state[1:]), params)

    return optax.GradientTransformationExtraArgs(noisy.init, update)


def _dpsgd(hp):
    private = contrib.differentially_private_aggregate(hp.clip, hp.noise, key=jax.random.key(0))
    private = optax.chain(private, optax.scale_by_learning_rate(hp.lr))

    def update(updates, state, params=None, *, key=None, **others):
        return private.update(updates, (state[0]._replace(rng_key=key), *state[1:]), params)

    return optax.GradientTransformationExtraArgs(private.init, update)


def _sophia(hp):
    sophia = contrib.sophia(
        *(hp.lr, hp.b1, hp.b2, hp.eps, hp.weight_decay),
        gamma=hp.gamma,
        clip_threshold=hp.bound,
        hessian_diagonal_fn=contrib.hutchinson_estimator_diag_hessian(jax.random.key(0)),
    )

    def update(updates, state, params=None, *, value_fn=None, key=None, **others):
        first = state[0]._replace(hessian_fn_state=state[0].hessian_fn_state._replace(key=key))
        return sophia.update(updates, (first, *state[1:]), params, obj_fn=value_fn)

    return optax.GradientTransformationExtraArgs(sophia.init, update)


def _sam(hp):
    up = optax.chain(contrib.normalize(), optax.sgd(hp.rho))
    sam = contrib.sam(optax.sgd(hp.inner.lr), up, opaque_mode=True)

    def update(updates, state, params=None, *, value_fn: Any = None, **others):
        return sam.update(updates, state, params, grad_fn=lambda w, i: jax.grad(value_fn)(w))

    return optax.GradientTransformationExtraArgs(sam.init, update)


def _trusted(params):
    """True for arrays with a trust ratio and decay: all but those that fnn's layers declare to be no weights."""
    return jax.tree.map(lambda a: not a.exempt, axes(params, undeclared))


def _lamb(hp):
    return optax.chain(
        optax.scale_by_adam(hp.b1, hp.b2, hp.eps),
        optax.add_decayed_weights(hp.weight_decay, _trusted),
        optax.masked(optax.scale_by_trust_ratio(), _trusted),
        optax.scale_by_learning_rate(hp.lr),
    )


def _muon(hp, layout):
    def dimensions(params):
        found = axes(params, only_matrices(layout))
        return jax.tree.map(lambda a: contrib.MuonDimensionNumbers(a.summed, a.outputs) if a.weights else None, found)

    return contrib.muon(
        hp.lr,
        beta=hp.b,
        eps=hp.eps,
        weight_decay=hp.weight_decay,
        adam_b1=hp.b1,
        adam_b2=hp.b2,
        muon_weight_dimension_numbers=dimensions,
    )


def _reduce_on_plateau(hp):
    # optax checks factor and tolerances in Python, so these stay at their defaults.
    plateau = contrib.reduce_on_plateau(patience=hp.patience, cooldown=hp.cooldown, min_scale=hp.least)
    return optax.chain(optax.sgd(hp.inner.lr), plateau)


TWINS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": lambda hp: optax.sgd(hp.lr),
    "sgd:book": lambda hp: optax.sgd(hp.lr),
    "sgd:torch": lambda hp: _l2(hp, optax.sgd(hp.lr)),
    "momentum": lambda hp: optax.sgd(hp.lr, hp.mu),
    "momentum:book": lambda hp: optax.chain(optax.scale_by_learning_rate(hp.lr), optax.trace(hp.mu)),
    "momentum:torch": lambda hp: _l2(hp, _torch_momentum(hp)),
    "nesterov": lambda hp: optax.sgd(hp.lr, hp.mu, nesterov=True),
    "nesterov:book": lambda hp: optax.chain(optax.scale_by_learning_rate(hp.lr), optax.trace(hp.mu, nesterov=True)),
    "nesterov:torch": lambda hp: _l2(hp, optax.sgd(hp.lr, hp.mu, nesterov=True)),
    "adagrad": lambda hp: optax.adagrad(hp.lr, hp.h0, hp.eps),
    "adagrad:book": _book_adagrad,
    "adagrad:torch": _torch_adagrad,
    "rmsprop": lambda hp: optax.rmsprop(hp.lr, hp.rho, hp.eps),
    "rmsprop:book": _outer_eps_rmsprop,
    "rmsprop:torch": lambda hp: _torch_rmsprop(hp, optax.scale_by_rms),
    "rmsprop:torch_centered": lambda hp: _torch_rmsprop(hp, optax.scale_by_stddev),
    "adam": lambda hp: optax.adam(hp.lr, hp.b1, hp.b2, hp.eps),
    "adam:book": _book_adam,
    "adam:torch": lambda hp: _l2(hp, optax.adam(hp.lr, hp.b1, hp.b2, hp.eps)),
    "adadelta": lambda hp: optax.adadelta(hp.lr, hp.rho, hp.eps, hp.weight_decay),
    "adamw": lambda hp: optax.adamw(hp.lr, hp.b1, hp.b2, hp.eps, weight_decay=hp.weight_decay),
    "adamw:torch": lambda hp: optax.adamw(hp.lr, hp.b1, hp.b2, hp.eps, weight_decay=hp.weight_decay),
    "adamax": lambda hp: optax.adamax(hp.lr, hp.b1, hp.b2, hp.eps),
    "adamax:torch": lambda hp: _l2(hp, optax.adamax(hp.lr, hp.b1, hp.b2, hp.eps)),
    "adamaxw": lambda hp: optax.adamaxw(hp.lr, hp.b1, hp.b2, hp.eps, hp.weight_decay),
    "amsgrad": lambda hp: optax.amsgrad(hp.lr, hp.b1, hp.b2, hp.eps),
    "amsgrad:paper": _uncorrected_amsgrad,
    "amsgrad:torch": lambda hp: _l2(hp, _torch_amsgrad(hp)),
    "amsgrad:torch_decoupled": lambda hp: optax.chain(
        _torch_amsgrad(hp), optax.add_decayed_weights(-hp.lr * hp.weight_decay)
    ),
    "nadam": lambda hp: optax.nadam(hp.lr, hp.b1, hp.b2, hp.eps),
    "nadamw": lambda hp: optax.nadamw(hp.lr, hp.b1, hp.b2, hp.eps, weight_decay=hp.weight_decay),
    "radam": lambda hp: optax.radam(hp.lr, hp.b1, hp.b2, hp.eps, threshold=hp.threshold),
    "radam:torch": lambda hp: _l2(hp, optax.chain(_torch_radam(hp), optax.scale_by_learning_rate(hp.lr))),
    "radam:torch_decoupled": lambda hp: optax.chain(
        _torch_radam(hp), optax.add_decayed_weights(hp.weight_decay), optax.scale_by_learning_rate(hp.lr)
    ),
    "adabelief": lambda hp: optax.adabelief(hp.lr, hp.b1, hp.b2, hp.eps, hp.eps_root),
    "adan": lambda hp: optax.adan(
        hp.lr, hp.b1, hp.b2, hp.b3, eps=hp.eps, eps_root=hp.eps_root, weight_decay=hp.weight_decay
    ),
    "yogi": _yogi,
    "lion": lambda hp: optax.lion(hp.lr, hp.b1, hp.b2, weight_decay=hp.weight_decay),
    "sign_sgd": lambda hp: optax.sign_sgd(hp.lr),
    "signum": lambda hp: optax.signum(hp.lr, hp.b1),
    "novograd": lambda hp: optax.novograd(hp.lr, hp.b1, hp.b2, hp.eps, weight_decay=hp.weight_decay),
    "lamb": _lamb,
    "lars": lambda hp: optax.lars(
        hp.lr, hp.weight_decay, _trusted, trust_coefficient=hp.trust, trust_ratio_mask=_trusted, momentum=hp.mu
    ),
    "fromage": lambda hp: optax.fromage(hp.lr, hp.min_norm),
    "rprop": lambda hp: optax.rprop(hp.lr, hp.eta_minus, hp.eta_plus, hp.step_min, hp.step_max),
    "sm3": _sm3,
    "optimistic_gradient_descent": lambda hp: optax.optimistic_gradient_descent(hp.lr, hp.alpha, hp.beta),
    "optimistic_adam_v2": lambda hp: optax.optimistic_adam_v2(
        hp.lr, alpha=hp.alpha, beta=hp.beta, b1=hp.b1, b2=hp.b2, eps=hp.eps
    ),
    "adafactor": _adafactor,
    "noisy_sgd": _noisy_sgd,
    "polyak_sgd": lambda hp: optax.polyak_sgd(hp.lr, f_min=hp.f_min, eps=hp.eps),
    "lbfgs": lambda hp: optax.lbfgs(hp.lr),
    "acprop": lambda hp: contrib.acprop(hp.lr, hp.b1, hp.b2, hp.eps, hp.eps_root, hp.weight_decay),
    "adopt": lambda hp: contrib.adopt(hp.lr, hp.b1, hp.b2, hp.eps),
    "ademamix": lambda hp: contrib.ademamix(hp.lr, hp.b1, hp.b2, hp.b3, hp.alpha, hp.eps, weight_decay=hp.weight_decay),
    "simplified_ademamix": lambda hp: contrib.simplified_ademamix(
        hp.lr, hp.b1, hp.b2, hp.alpha, hp.eps, weight_decay=hp.weight_decay
    ),
    "muon": lambda hp: _muon(hp, outputs_first),
    "muon:optax": lambda hp: _muon(hp, inputs_first),
    "sophia": _sophia,
    "schedule_free_sgd": lambda hp: contrib.schedule_free_sgd(hp.lr, b1=hp.b1, weight_decay=hp.weight_decay),
    "schedule_free_adamw": lambda hp: contrib.schedule_free_adamw(
        hp.lr, b1=hp.b1, b2=hp.b2, eps=hp.eps, weight_decay=hp.weight_decay
    ),
    "prodigy": lambda hp: contrib.prodigy(
        hp.lr, (hp.b1, hp.b2), eps=hp.eps, estim_lr0=hp.d0, estim_lr_coef=hp.coef, weight_decay=hp.weight_decay
    ),
    "dadapt_adamw": lambda hp: contrib.dadapt_adamw(
        hp.lr, (hp.b1, hp.b2), hp.eps, estim_lr0=hp.d0, weight_decay=hp.weight_decay
    ),
    "dog": lambda hp: contrib.dog(hp.lr, ("heuristic", hp.r_eps), hp.eps),
    "dowg": lambda hp: contrib.dowg(hp.lr, hp.r_eps2, hp.eps),
    "cocob": lambda hp: contrib.cocob(hp.lr, hp.alpha, hp.eps, hp.weight_decay),
    "madgrad": lambda hp: contrib.madgrad(hp.lr, hp.mu, hp.weight_decay, hp.eps),
    "momo": lambda hp: contrib.momo(hp.lr, hp.b, hp.f_min, hp.weight_decay),
    "momo_adam": lambda hp: contrib.momo_adam(hp.lr, hp.b1, hp.b2, hp.eps, hp.f_min, hp.weight_decay),
    "mechanize": lambda hp: contrib.mechanize(TWINS["adam"](hp.inner), hp.weight_decay, hp.eps, hp.s_init),
    "galore": lambda hp: contrib.galore(
        hp.lr, scale=hp.scale, base_optimizer=optax.scale_by_adam(hp.b1, hp.b2, hp.eps), weight_decay=hp.weight_decay
    ),
    "dpsgd": _dpsgd,
    "sam": _sam,
    "reduce_on_plateau": _reduce_on_plateau,
}
"""`TWINS[NAME](hp)` or `TWINS["NAME:DIALECT"](hp)`: the optax transformation equal to that rule at the same hp."""


def twin(spec: str, hyper: Hyper) -> Rule:
    """The twin of the rule `NAME` or `NAME:DIALECT`, whose default hyperparameters are `hyper`, as a rule.

    Raises `InputError` where there is none.
    """
    if spec not in TWINS:
        raise InputError(f"{spec} has no optax twin; these have one: {', '.join(sorted(TWINS))}.")
    return from_optax(hyper, TWINS[spec])
