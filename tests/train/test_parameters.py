"""Parameters come back from a file as they were, or not at all; training goes on from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from fnn import sweep
from fnn.base.errors import InputError
from fnn.train import load, save, starting_from

pytestmark = pytest.mark.usefixtures("unchecked")

TREE = {
    "a": (jnp.arange(6.0).reshape(2, 3), jnp.ones((), jnp.int32)),
    "half": jnp.asarray([1.5, -2.0, 1e-3], jnp.bfloat16),
    "empty": jnp.zeros((0, 2)),
    "file": jnp.ones(2),
}


def test_there_and_back(tmp_path):
    path = save(tmp_path / "weights.npz", TREE)
    for like in (TREE, jax.eval_shape(lambda: TREE)):
        found = load(path, like)
        jax.tree.map(np.testing.assert_array_equal, found, TREE)
        assert jax.tree.map(lambda a: a.dtype, found) == jax.tree.map(lambda a: a.dtype, TREE)
    assert set(np.load(path).files) == {"a.0", "a.1", "half:bfloat16", "empty", "file"}, "as other programs read it"
    assert float(load(save(tmp_path / "one.npz", jnp.float32(3)), jnp.float32(0))) == 3


def test_a_sweep_goes_on_from_saved_weights(tmp_path):
    """The first loss of the second training is that of the network that was saved."""
    _, networks = sweep(small.task(), "adam", seeds=1, steps=30, networks=True)
    params = jax.tree.map(lambda a: a[0], networks[""])
    path = save(tmp_path / "trained.npz", params)
    task = starting_from(small.task(), load(path, params))
    ds = sweep(task, "sgd", over={"lr": [0.0]}, seeds=2, steps=1)
    expected = task.metrics(task.hyper, params, ((), (), ()), task.data)["train_loss"]
    np.testing.assert_allclose(ds.train_loss, float(expected), rtol=1e-6)


def test_every_damage_is_seen(tmp_path):
    path = save(tmp_path / "weights.npz", {"w": jnp.arange(3.0)})
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            found = load(path, {"w": jnp.zeros(3)})
        except InputError:
            continue
        np.testing.assert_array_equal(found["w"], [0, 1, 2], err_msg=f"byte {at} is of no value")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as parameters"):
        load(path, {"w": jnp.zeros(3)})


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda path: load(path, {"v": jnp.zeros(3)}), "holds other parameters: v, w of one"),
        (lambda path: load(path, {"w": jnp.zeros(4)}), r"w of .* is float32 of shape \(3,\), and the network's is"),
        (lambda path: load(path, {"w": jnp.zeros(3, jnp.int32)}), "and the network's is int32"),
        (lambda path: load(path.with_name("none"), {"w": jnp.zeros(3)}), "No such file"),
        (lambda path: save(path, {}), "There are no parameters"),
        (
            lambda path: sweep(starting_from(small.task(), {"w": jnp.zeros(3)}), "sgd", seeds=1, steps=1),
            "The parameters to start from are not those of the network",
        ),
    ],
)
def test_others_are_refused_in_a_sentence(act, sentence, tmp_path):
    path = save(tmp_path / "weights.npz", {"w": jnp.arange(3.0)})
    with pytest.raises(InputError, match=sentence):
        act(path)
