"""A language model of a text file, character by character: Python's own reference of its topics."""

from pathlib import Path
from pydoc_data.topics import topics

from fnn import data, models, sweep, tasks

Path("topics.txt").write_text("\n".join(topics.values())[:200_000], encoding="utf-8")

text = data.load("topics.txt")
network = models.transformer(len(text.classes), 32, blocks=1, width=32, heads=2)
task = tasks.language(network, text, 32, context=32)
found = sweep(task, "adam", over={"lr": [0.003, 0.01]}, seeds=2, steps=150)
print(found.validation_bits.mean("seed").squeeze().to_pandas())
