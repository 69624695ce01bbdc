"""A sweep in blocks, kept on disk, cut off and gone on with, gives the same numbers."""

import jax
import numpy as np
import pytest
from small import ALL, DATA, RULES, STEPS, alike, identical, swept, task

from fnn import models, optim, store, tasks, train
from fnn.base.errors import InputError
from fnn.train import blocks, checkpoints, engine, footprint
from fnn.train.labels import Labels


@pytest.fixture(scope="module")
def whole():
    return swept(**ALL, networks=True)


@pytest.fixture
def two_settings(monkeypatch):
    """Blocks of two settings, of which one is filled up."""
    monkeypatch.setattr(blocks, "SETTINGS_ON_CPU", 2)


@pytest.fixture(scope="module")
def in_twos():
    """The sweep in blocks of two settings, undisturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "SETTINGS_ON_CPU", 2)
        return swept(**ALL, networks=True)


@pytest.fixture
def sizes(monkeypatch):
    """The sizes of the blocks that sweeps are cut into."""
    found, cut = [], blocks.cut

    def recorded(work, size, keep):
        found.append(cut(work, size, keep).size)
        return cut(work, size, keep)

    monkeypatch.setattr(blocks, "cut", recorded)
    return found


def stop(*arguments, **options):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def work():
    """The work of the sweep."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "done", lambda work, *rest: found.append(work) or stop())
        with pytest.raises(KeyboardInterrupt):
            swept(**ALL)
    return found[0]


@pytest.fixture
def needed(work):
    """Bytes of a block of n networks, with its data."""
    bytes_of = lambda tree: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    return lambda n: blocks.COPIES * bytes_of(work.states()) * n + bytes_of(DATA)


def test_blocks_that_fit_the_memory_are_one_block_bit_for_bit(whole, sizes, needed):
    alike(swept(**ALL, networks=True, memory=needed(6)), whole)
    assert sizes == [(3, 2)]


def test_blocks_of_fewer_settings_give_the_same_networks(whole, sizes, needed):
    ds, networks = swept(**ALL, networks=True, memory=needed(2))
    assert sizes == [(2, 1)]
    for name in whole[0].data_vars:
        np.testing.assert_allclose(ds[name], whole[0][name], rtol=1e-5, atol=1e-6, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), networks, whole[1])


def test_fewer_settings_step_together_where_their_products_do_not_fit_the_cache(whole, sizes, work, monkeypatch):
    run, hps = next(iter(work.runs.values())), next(iter(work.hps.values()))
    one = jax.tree.map(lambda leaf: leaf[0], hps)
    each = footprint.widest(run, one, work.keys[0], work.data)
    monkeypatch.setattr(blocks, "CACHE", 2 * each)
    ds, networks = swept(**ALL, networks=True)
    assert sizes == [(2, 3)]
    for name in whole[0].data_vars:
        np.testing.assert_allclose(ds[name], whole[0][name], rtol=1e-5, atol=1e-6, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), networks, whole[1])


@pytest.mark.parametrize(
    ("network", "floats"),
    [
        (models.multilayer((20,), 3), 8 * 20),
        (models.cnn(3, (4, 5), (6,)), 8 * 5 * 6 * 9 * 4),  # the patches of the second convolution
    ],
)
def test_the_widest_product_is_of_activations(network, floats):
    x = np.zeros((9, 10, 12, 1), np.float32)
    task = tasks.classification(network, batch=8, prepare=tasks.images if floats > 1000 else tasks.rows)
    run = train.training(task, optim.rule("adam"), 2, evaluate_at=(2,))
    data = {"train": tasks.Split(x, np.zeros(9, np.int32))}
    hp = train.Hyper(optim.rule("adam").hyper)
    assert footprint.widest(run, hp, jax.random.key(0), data) == 4 * floats


def test_what_does_not_fit_at_all_is_one_sentence(needed):
    with pytest.raises(InputError, match=r"One network takes 0 MB with its data, and 0 MB may be taken"):
        swept(**ALL, memory=needed(1) - 1)


def test_every_network_is_in_one_block():
    for settings, seeds, size in ((0, 1, (1, 1)), (5, 3, (2, 2)), (4, 4, (4, 3)), (1, 5, (1, 5))):
        work = blocks.Work(
            {}, {}, settings, engine.seeds(seeds), (), 1, 1, Labels(None, None, (), ()), False, blocks.Size(*size)
        )
        count = np.zeros((max(1, settings), seeds), int)
        for place in work.places():
            count[np.ix_(place.settings, place.seeds)] += 1
            assert len(place.settings) <= size[0]
            assert len(place.seeds) <= size[1]
        assert (count == 1).all()


def forbidden(*arguments, **options):
    raise AssertionError("nothing is left to train")


def test_finished_work_is_read(two_settings, in_twos, tmp_path, monkeypatch):
    found = swept(**ALL, networks=True, keep=tmp_path)
    alike(found, in_twos)
    assert store.numbers(tmp_path) == [0, 1]
    assert not list(tmp_path.glob(f"{blocks.PARTS}*")), "checkpoints are removed"
    monkeypatch.setattr(engine, "stream", forbidden)
    again = swept(**ALL, networks=True, keep=str(tmp_path))
    alike(again, in_twos)
    assert again[0].attrs["train_seconds"] == found[0].attrs["train_seconds"]
    identical(swept(**ALL, keep=tmp_path), in_twos[0])
    monkeypatch.setattr(blocks, "SETTINGS_ON_CPU", 16)
    identical(swept(**ALL, keep=tmp_path), in_twos[0])


def test_networks_that_were_not_kept_are_trained_again(tmp_path):
    options = ALL | {"seeds": 1}
    first = swept(**options, keep=tmp_path)
    ds, networks = swept(**options, keep=tmp_path, networks=True)
    identical(ds, first)
    assert networks["sgd"][0].w.shape == (3, 1, 4, 5)


def test_a_damaged_block_is_set_aside_and_made_again(two_settings, in_twos, tmp_path, caplog):
    swept(**ALL, networks=True, keep=tmp_path)
    block = tmp_path / "000001.npz"
    content = bytearray(block.read_bytes())
    content[200] ^= 1
    block.write_bytes(content)
    alike(swept(**ALL, networks=True, keep=tmp_path), in_twos)
    assert (tmp_path / "000001.npz.damaged").exists()
    assert "damaged" in caplog.text
    (tmp_path / f"{blocks.NETWORKS}000000.npz").unlink()
    alike(swept(**ALL, networks=True, keep=tmp_path), in_twos)


class Clock:
    """Time in which every reading is a minute after the one before, so that every chunk is a checkpoint."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 60.0
        return self.now


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_cut_off_anywhere_it_resumes(two_settings, small_chunks, tmp_path, monkeypatch, in_small_chunks, after):
    monkeypatch.setattr(checkpoints, "time", Clock())
    chunks, stream = [], engine.stream

    def interrupted(*arguments, **options):
        for chunk in stream(*arguments, **options):
            chunks.append(chunk.steps)
            yield chunk
            if len(chunks) == after:
                raise KeyboardInterrupt

    monkeypatch.setattr(engine, "stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        swept(**ALL, networks=True, keep=tmp_path)
    alike(swept(**ALL, networks=True, keep=tmp_path), in_small_chunks)
    assert len(chunks) == 2 * (STEPS // 2), "no chunk is trained twice"


@pytest.fixture(scope="module")
def in_small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "SETTINGS_ON_CPU", 2)
        patch.setattr("fnn.train.sweep.CHUNK", 2)
        return swept(**ALL, networks=True)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr("fnn.train.sweep.CHUNK", 2)


CHANGED = {
    "settings": {"over": {"lr": [0.01, 0.1, 0.2]}},
    "seeds": {"seeds": range(1, 4)},
    "steps": {"steps": STEPS + 1, "evaluate": (2,)},
    "program": {"evaluate": (2, 3)},
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    swept(**ALL, keep=folder)
    return folder


@pytest.mark.parametrize("what", CHANGED)
def test_other_work_is_refused(kept, what):
    with pytest.raises(InputError, match=f"holds part of another run, whose .*{what}.* differ"):
        swept(**ALL | CHANGED[what], keep=kept)


def test_other_data_are_refused(kept):
    train = DATA["train"]._replace(y=DATA["train"].y[::-1])
    with pytest.raises(InputError, match="holds part of another run, whose data differs"):
        swept(task(data=DATA | {"train": train}), RULES, **ALL, keep=kept)


def test_a_folder_in_use_is_refused(kept):
    with store.locked(kept, "-0"), pytest.raises(InputError, match="Another process is at work in"):
        swept(**ALL, keep=kept)


def test_work_that_left_nothing_makes_way(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(engine, "stream", stop)
        with pytest.raises(KeyboardInterrupt):
            swept(**ALL, keep=tmp_path)
    assert store.manifest(tmp_path)["steps"] == [STEPS, STEPS]
    identical(swept(task(), "sgd", seeds=1, over=None, keep=tmp_path), swept(task(), "sgd", seeds=1, over=None))


def test_observed_trees_are_in_checkpoints(small_chunks, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "time", Clock())
    norms = lambda moment: {"norm": {"first": moment.grads[0].w.sum()}}
    options = {"over": None, "seeds": 1, "observe": norms, "observe_at": (STEPS,)}
    stream = engine.stream

    def cut(*arguments, **others):
        yield next(stream(*arguments, **others))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine, "stream", cut)
        with pytest.raises(KeyboardInterrupt):
            swept(**options, keep=tmp_path)
    assert list(tmp_path.glob("part-000000/*.npz"))
    found = swept(**options, keep=tmp_path)
    identical(found, swept(**options))
    assert found["norm.first"].dims == ("rule", "seed", "update"), "observed where the metrics are taken"
