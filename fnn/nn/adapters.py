"""Networks of other libraries, and plain functions, as layers: flax.linen, flax.nnx, equinox.

Parameters are the library's own trees of arrays; what else a model carries (running statistics) is the layer's `stats`.
Their weights declare no axes: rules that depend on axes take a convention, `muon` with `fnn.nn.axes.inputs_first` for
flax. Batches are the first axis of arrays; equinox's models, which take one example, are mapped over it.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.base.checks import check_key
from fnn.base.errors import require
from fnn.nn.layers import Layer

INFERENCE = ("deterministic", "use_running_average", "inference")
"""Arguments of flax's modules that are true at inference; others, in `TRAINING`, are true in training."""
TRAINING = ("train", "training", "is_training")


def from_functions(init: Callable[..., Any], apply: Callable[..., Any]) -> Layer:
    """The layer of `init(key, x) -> params` and `apply(params, x) -> y`, which may take `key` and `train` by name.

    x: a batch; of `init` it may be only its shape and dtype. key: of the network's noise, None where none is drawn.
    train: whether it is trained.
    """
    require(callable(init) and callable(apply), f"A network is two functions, not {init!r:.60} and {apply!r:.60}.")
    names = _names(apply)

    def run(params, stats, x, key, train):
        return apply(params, x, **_named({"key": key, "train": train}, names)), stats

    return Layer(lambda key, x: (init(key, x), ()), run)


def from_flax(module: Any, example: Any) -> Layer:
    """The layer of a flax model.

    module: a `flax.linen.Module`, or `make(rngs) -> flax.nnx.Module`, a function or a class of one argument.
    example: a batch, or its shape and dtype, with which a linen model is traced once.

    Training draws from `rngs` named "dropout" and others of the model by the layer's key. An argument `train`,
    `training`, `deterministic` or `use_running_average` of linen's `__call__` is set as its name says; nnx's modes are
    set by `train()` and `eval()`. Raises `InputError` for other objects.
    """
    from flax import linen

    if isinstance(module, linen.Module):
        return _from_linen(module, example)
    require(callable(module), f"A flax model is a linen.Module, or a function make(rngs) of nnx, not {module!r:.80}.")
    return _from_nnx(module)


def _from_linen(module, example):
    names = _names(type(module).__call__)
    mode = lambda train: _named(
        {**dict.fromkeys(TRAINING, train), **dict.fromkeys(INFERENCE, not train)}, names, everything=False
    )

    def init(key, x):
        check_key(key)
        k_params, k_noise = jax.random.split(key)
        zeros = jnp.zeros(x.shape, x.dtype)
        variables = dict(module.init({"params": k_params, "dropout": k_noise}, zeros, **mode(False)))
        return variables.pop("params", {}), variables

    stats = jax.eval_shape(init, jax.random.key(0), _spec(example))[1]

    def apply(params, stats, x, key, train):
        variables, changed = {"params": params, **stats}, list(stats) if train else False
        rngs = None if key is None else {"dropout": key}
        y = module.apply(variables, x, rngs=rngs, mutable=changed, **mode(train))
        return (y[0], {**stats, **y[1]}) if train and changed else (y[0] if changed else y, stats)

    return Layer(init, apply, mixes="batch_stats" in stats)


def _from_nnx(make):
    from flax import nnx

    def parts(model):
        """The graph, the parameters, the streams of random numbers and the rest."""
        return nnx.split(model, nnx.Param, nnx.RngState, ...)

    abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    require(isinstance(abstract, nnx.Module), f"make(rngs) gives a flax.nnx.Module, not {abstract!r:.80}.")
    graph, shapes, noise, rest = parts(abstract)
    mixes = any(isinstance(node, nnx.BatchNorm) for _, node in nnx.iter_graph(abstract))

    def init(key, x):
        check_key(key)
        k_params, k_noise = jax.random.split(key)
        _, params, _, stats = parts(make(nnx.Rngs(params=k_params, dropout=k_noise)))
        return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    def apply(params, stats, x, key, train):
        held = [nnx.clone(state) for state in (shapes, rest)]
        for state, values in zip(held, (params, stats), strict=True):
            nnx.replace_by_pure_dict(state, values)
        model = nnx.merge(graph, held[0], _streams(nnx, noise, key), held[1])
        model.train() if train else model.eval()
        y = model(x)
        _, _, _, after = parts(model)
        return y, nnx.to_pure_dict(after)

    return Layer(init, apply, mixes=mixes)


def _streams(nnx, noise, key):
    """The state of a model's streams of random numbers, all of them by this key, at their first number."""
    key = jax.random.key(0) if key is None else key
    flat = nnx.to_flat_state(noise)
    leaves = []
    for i, (path, variable) in enumerate(flat):
        is_key = jnp.issubdtype(variable.get_value().dtype, jax.dtypes.prng_key)
        value = jax.random.fold_in(key, i) if is_key else jnp.zeros((), variable.get_value().dtype)
        leaves.append((path, variable.replace(value)))
    return nnx.from_flat_state(leaves)


def from_equinox(make: Callable[[Any], Any]) -> Layer:
    """The layer of an equinox model: `make(key) -> module`, or `-> (module, state)` by `eqx.nn.make_with_state`.

    Its floating-point arrays are the parameters. The module takes one example, and a `key` where it has such an
    argument; a module with state takes it after the example and returns it after its output, under the axis "batch",
    as `equinox.nn.BatchNorm("…", axis_name="batch")` does. At inference `equinox.nn.inference_mode` is on.
    Raises `InputError` where `make` gives no module.
    """
    import equinox as eqx

    require(callable(make), f"An equinox model is given as a function make(key), not {make!r:.80}.")
    shapes = eqx.filter_eval_shape(make, jax.random.key(0))
    stateful = isinstance(shapes, tuple)
    module = shapes[0] if stateful else shapes
    require(isinstance(module, eqx.Module), f"make(key) gives an equinox.Module, not {module!r:.80}.")
    is_float = lambda a: hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jnp.inexact)
    is_array = lambda a: hasattr(a, "dtype")
    static = eqx.filter(module, is_array, inverse=True)
    takes_key = "key" in _names(type(module).__call__)

    def init(key, x):
        check_key(key)
        made = make(key)
        module, state = made if stateful else (made, ())
        params, others = eqx.partition(module, is_float)
        return params, (eqx.filter(others, is_array), state)

    def apply(params, stats, x, key, train):
        others, state = jax.tree.map(lambda a: a, stats)  # equinox invalidates a state that has been used
        model = eqx.nn.inference_mode(eqx.combine(params, others, static), value=not train)
        keys = None if key is None else jax.random.split(key, len(x))

        def one(x, key):
            more = {"key": key} if takes_key else {}
            return model(x, state, **more) if stateful else (model(x, **more), state)

        axes = (0, None if keys is None else 0)
        y, state = jax.vmap(one, axes, (0, None), axis_name="batch")(x, keys)
        return y, (others, state)

    return Layer(init, apply, mixes=stateful)


def frozen(layer: Layer, fixed: Callable[[str], bool]) -> Layer:
    """The layer whose parameters at the paths for which `fixed(path)` is true stay as they are initialized.

    path: of an array in the tree of parameters, as "Dense_0.kernel" or "0.w". Frozen arrays are part of `stats`, None
    takes their place among the parameters, and no rule sees them.
    Raises `InputError` where nothing is frozen, or everything.
    """
    require(callable(fixed), f"What is frozen is said by a function of an array's path, not {fixed!r:.80}.")

    def parted(params):
        name = lambda path: jax.tree_util.keystr(path, simple=True, separator=".")
        paths = [name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        held = [path for path in paths if fixed(path)]
        require(0 < len(held) < len(paths), f"{len(held)} of {len(paths)} arrays would be frozen: {', '.join(paths)}.")
        pick = lambda keep: jax.tree_util.tree_map_with_path(lambda p, a: a if fixed(name(p)) == keep else None, params)
        return pick(False), pick(True)

    def init(key, x):
        params, stats = layer.init(key, x)
        free, held = parted(params)
        return free, (held, stats)

    def apply(params, stats, x, key, train):
        held, stats = stats
        both = jax.tree.map(lambda a, b: b if a is None else a, params, held, is_leaf=lambda a: a is None)
        y, stats = layer.apply(both, stats, x, key, train)
        return y, (held, stats)

    return Layer(init, apply, mixes=layer.mixes)


def _spec(example):
    return jax.ShapeDtypeStruct(example.shape, example.dtype)


def _names(function):
    """The names of a function's arguments; "**" where it takes any."""
    kinds = inspect.signature(function).parameters.values()
    return {"**" if one.kind is inspect.Parameter.VAR_KEYWORD else one.name for one in kinds}


def _named(values, names, everything=True):
    """Those of the values that a function with arguments of these names takes."""
    return {name: value for name, value in values.items() if name in names or (everything and "**" in names)}
