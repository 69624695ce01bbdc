"""Arguments of a sweep that are none get one sentence, before anything is trained."""

import jax.numpy as jnp
import numpy as np
import pytest
from small import DATA, RULES, STEPS, Hyper, Weights, swept, task

from fnn import models, optim, stream, sweep, tasks
from fnn.base.errors import InputError
from fnn.tasks.contract import Label, Trial
from fnn.train import engine

pytestmark = pytest.mark.usefixtures("unchecked")

TRIAL = Trial(lambda hp, key, data: {"x": hp["a"]}, (), {"a": 1.0})
OTHER = {**DATA, "train": DATA["train"]._replace(y=1 - DATA["train"].y)}
COUNTS = (0, -1, 2.5, float("nan"), "3", [3], True)


class Named:
    """An observation of an array with this name, shape and label."""

    def __init__(self, name, shape=(), dims=(), coords=None):
        self.name, self.shape = name, shape
        self.labels, self.coords = {name: Label(dims=dims)}, coords or {}

    def __call__(self, moment):
        return {self.name: jnp.zeros(self.shape)}


def over(**values):
    return {"over": values}


# What is wrong: (arguments, options, the sentence).
CASES = {
    "no task": ((None, "sgd"), {}, "What is learned is a fnn.tasks.Task, or several by name"),
    "no tasks": (({}, "sgd"), {}, "What is learned is a fnn.tasks.Task"),
    "a network for a task": ((models.multilayer((4,), 2), "sgd"), {}, "What is learned is a fnn.tasks.Task"),
    "a task's name": (({"a/b": task()}, "sgd"), {}, "Tasks have names without '/'"),
    "a task without data": ((task(data=None), "sgd"), {}, "The task has no data: give them to it"),
    "tasks of unequal data": (({"a": task(), "b": task(data=OTHER)}, "sgd"), {}, "together have the same data"),
    "no rule": ((task(),), {}, "A sweep needs a rule"),
    "no rules": ((task(), {}), {}, "A sweep needs a rule"),
    "no names of rules": ((task(), ()), {}, "A sweep needs a rule"),
    "an unknown rule": ((task(), "adma"), {}, "There is no optimizer 'adma'; there are"),
    "an unknown dialect": ((task(), ["adam:bok"]), {}, "adam has no dialect 'bok'"),
    "a rule of another kind": ((task(), {"a": 3}), {}, "This takes a Rule, .* not 3"),
    "rules of another kind": ((task(), 3), {}, "Rules are one, names of several, or a mapping"),
    "a rule's module": ((task(), {"a": optim}), {}, "This takes a Rule"),
    "a rule's name": ((task(), {"a/b": "adam"}), {}, "Rules have names without '/'"),
    "one rule twice": ((task(), ["adam", "adam"]), {}, "A rule is named more than once"),
    **{f"steps {n!r}": ((), {"steps": n, "evaluate": ()}, "steps=1000, not") for n in (*COUNTS, None)},
    **{f"seeds {n!r}": ((), {"seeds": n}, "A sweep needs at least 1 seed") for n in (*COUNTS, None)},
    "no seeds": ((), {"seeds": range(0)}, "Seeds are a number or a range without gaps"),
    "seeds with gaps": ((), {"seeds": range(0, 9, 2)}, "Seeds are a number or a range without gaps"),
    "seeds below 0": ((), {"seeds": range(-1, 2)}, "Seeds are whole numbers from 0 on"),
    "over no mapping": ((), {"over": [0.1]}, "over is a mapping of names to values, over={'lr'"),
    "over no text": ((), {"over": {3: [0.1]}}, "named by text, 'lr' say, not by 3"),
    "over nothing together": ((), {"over": {(): [0.1]}}, "named, .* not by ()"),
    "over no value": ((), over(lr=[]), "There is no value of lr"),
    "over no label": ((), over(lr={}), "There is no value of lr"),
    "over one value": ((), over(lr=0.1), "The values of lr are a list, not 0.1"),
    "over text": ((), over(lr="0.1"), "The values of lr are a list, not '0.1'"),
    "over texts": ((), over(lr=["a", 0.1]), "The values of lr are numbers, unlike 'a'"),
    "over infinity": ((), over(lr=[float("inf")]), "The values of lr are numbers, unlike inf"),
    "over an unknown name": ((), over(lrr=[0.1]), r"There is no hyperparameter 'lrr'.*did you mean lr\?"),
    "over what one rule lacks": ((), over(b1=[0.1]), "There is no hyperparameter 'b1'"),
    "over an ambiguous name": ((task(hyper={"lr": 0.1, "weights": Weights(), "decay": 0.0}), "sgd"), over(lr=[0.1]),
                               r"means several hyperparameters: rule.lr, task.lr, or \*.lr"),
    "over out of range": ((), over(lr=[0.1, -0.1]), "The hyperparameter rule.lr is a number in .*-0.1"),
    "over one twice": ((), {"over": {"lr": [0.1], "rule.lr": [0.2]}}, "rule.lr is varied twice"),
    "over a tree and a part of it": ((), {"over": {"weights": {"a": Weights()}, "weights.std": [0.2]}},
                                     "task.weights.std is varied twice"),
    "over trees of another kind": ((), over(weights={"a": Weights(), "b": 3.0}), "A value of weights is like its def"),
    "over arrays": ((), over(decay={"a": np.zeros(2)}), "A value of decay is like its default"),
    "over a taken name": ((task(hyper={"seed": 0.1, "weights": Weights(), "decay": 0.0}), "sgd"), over(seed=[0.1]),
                          "different names, and seed is taken"),
    "together of other lengths": ((), {"over": {("lr", "decay"): [(0.1, 0.2), (0.1,)]}}, "Each place of lr, decay has"),
    "together in two ways": ((), {"over": {("lr",): [0.1], ("decay",): [0.1]}}, "name them in one tuple"),
    "together as text": ((), {"over": {("lr", "decay"): [(0.1, "a")]}}, "hyperparameter task.decay is a number"),
    "by rule of one rule": ((task(), "sgd"), over(lr={"sgd": [0.1]}), "A value of lr is like its default"),
    "by rule without one": ((), over(lr={"sgd": [0.1]}), "by rule are for adam, sgd, and adam differs"),
    "by rule of another": ((), over(lr={"sgd": [0.1], "adam": [0.1], "x": [0.1]}), "for adam, sgd, and x differs"),
    "by rule of other lengths": ((), over(lr={"sgd": [0.1], "adam": [0.1, 1]}), "as many values of lr as the others"),
    "a schedule": ((), {"schedule": lambda now: 1.0}, "A schedule is shapes by names"),
    "a shape": ((), {"schedule": {"lr": 0.5}}, "A shape is a function of progress, not 0.5"),
    "a scheduled name": ((), {"schedule": {"lrr": lambda now: 1.0}}, "There is no hyperparameter 'lrr'"),
    "a scheduled tree": ((), {"schedule": {"weights": lambda now: 1.0}}, "weights .* several numbers"),
    "evaluate one": ((), {"evaluate": 3}, "evaluate is a list of numbers of updates, not 3"),
    "evaluate late": ((), {"evaluate": (2, STEPS + 1)}, "evaluate names numbers of updates from 1 to 6, unlike 7"),
    "evaluate early": ((), {"evaluate": (0, 2.5)}, "evaluate names numbers of updates from 1 to 6, unlike 0, 2.5"),
    "observe": ((), {"observe": 3}, "What to observe is a function of a Moment, not 3"),
    "observe at": ((), {"observe": Named("x"), "observe_at": (9,)}, "observe_at names numbers of updates from 1 to 6"),
    "observe a metric": ((), {"observe": Named("test_loss")}, "What is observed has names other than .*: test_loss"),
    "observe the loss": ((), {"observe": Named("loss")}, "What is observed has names other than .*: loss"),
    "observe a hyperparameter": ((), {**over(lr=[0.1]), "observe": Named("lr")}, "names other than .*, unlike lr"),
    "observe a dimension": ((), {"observe": Named("x", (2,), ("seed",))}, "names other than .*, unlike seed"),
    "observe with few labels": ((), {"observe": Named("x", (2, 3), ("a",))}, "x has 2 dimensions, .* label names 1"),
    "observe with few coordinates": ((), {"observe": Named("x", (2,), ("a",), {"a": [1, 2, 3]})},
                                     "x has 2 places along a, which has 3"),
    "memory": ((), {"memory": 0}, "The memory is a number of bytes above 0, not 0"),
    "memory as text": ((), {"memory": "1 GB"}, "The memory is a number of bytes above 0"),
    "executor": ((), {"executor": 4}, "An executor is one of concurrent.futures, with a method submit, unlike 4"),
    "keep": ((), {"keep": 3}, "A folder is named by its path, not by 3"),
    "labels beyond the network": ((task(network=models.multilayer((4,), 2), data={"train": tasks.Split(
        np.zeros((6, 2), np.float32), np.arange(6))}), "sgd"), {}, "The labels of train are classes 0 to 1"),
    "no split to learn": ((task(data={"test": DATA["test"]}), "sgd"), {}, "There is no split 'train' to learn from"),
    **{f"a trial with {name}": ((TRIAL,), {"over": None, "steps": None, "seeds": 1, name: value},
                                f"A Trial is measured without {name}")
       for name, value in {"rules": "sgd", "steps": 3, "schedule": {}, "loss_after": True, "evaluate": (1,),
                           "observe": Named("x"), "observe_at": (1,), "networks": True}.items()},
    "a trial's name": ((TRIAL,), {"over": {"b": [1.0]}, "steps": None}, "There is no hyperparameter 'b'"),
    "a trial by rule": ((TRIAL,), {"over": {"a": {"sgd": [1.0]}}, "steps": None}, "A value of a is like its default"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch, tmp_path):
    def trained(*arguments, **options):
        raise AssertionError("it was to be refused before anything is trained")
        yield

    monkeypatch.setattr(engine, "_stream_group", trained)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_it_is_one_sentence(name):
    arguments, options, sentence = CASES[name]
    with pytest.raises(InputError, match=sentence) as caught:
        swept(*(arguments or (task(), RULES)), **{"over": None} | options)
    assert len(str(caught.value).splitlines()) == 1


def test_a_stream_refuses_as_soon_as_it_is_made():
    with pytest.raises(InputError, match="steps=1000, not None"):
        stream(task(), "sgd")
    with pytest.raises(InputError, match="A Trial has no steps to stream"):
        stream(TRIAL, None)


def test_the_hyperparameters_of_a_task_are_checked():
    with pytest.raises(InputError, match=r"The hyperparameter task\.decay is a number"):
        sweep(task(hyper=Hyper(decay="x")), "sgd", steps=STEPS)
