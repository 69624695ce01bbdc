"""A regression on a table: the progress of diabetes from ten measurements of 442 patients."""

from sklearn.datasets import load_diabetes

from fnn import data, losses, models, sweep, tasks
from fnn.train import EarlyStopping

load_diabetes(as_frame=True, scaled=False).frame.to_csv("diabetes.csv", index=False)

table = data.from_csv("diabetes.csv", target="target", classes=False, validation=0.2, test=0.2)
scale = table.y_train.std()
task = tasks.regression(
    models.multilayer((32,), 1),
    table,
    tasks.Epochs(32),
    loss=lambda outputs, targets: losses.huber(outputs / scale, targets / scale),
    metrics={"error": lambda outputs, targets: abs(outputs - targets).mean()},
)
found = sweep(
    task,
    ["adam", "momentum"],
    over={"lr": [0.01, 0.1]},
    seeds=3,
    steps=600,
    evaluate=range(50, 601, 50),
    stopping=EarlyStopping("validation_loss", patience=4),
)
print(found.test_error.isel(update=-1).mean("seed").to_pandas())
