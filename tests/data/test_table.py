"""CSV files: the types of columns, the target, the split; and what a table may lack."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fnn import data
from fnn.base.errors import InputError
from fnn.data import files, table

RNG = np.random.default_rng(0)
COLORS = ["red", "green", "blue"]
ROWS = [(i, round(float(v), 3), COLORS[i % 3], "yes" if v > 0 else "no") for i, v in enumerate(RNG.normal(size=60))]
HEADER = "rank,size,color,label"
TABLE = "\n".join([HEADER, *(",".join(map(str, row)) for row in ROWS)]) + "\n"


def put(folder, text, name="table.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def sentence(path, *args, **named):
    with pytest.raises(InputError) as caught:
        data.from_csv(path, *args, **named)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def whole(ds):
    """All rows of a data set, sorted."""
    pairs = [zip(x.tolist(), y.tolist(), strict=True) for x, y in ds.parts.values()]
    return sorted((*x, ds.classes[y]) for pair in pairs for x, y in pair)


def test_types_are_inferred_and_categories_keep_their_names(tmp_path):
    ds = data.from_csv(put(tmp_path, TABLE), standardize=False)
    assert ds.features == ("rank", "size", "color=blue", "color=green", "color=red")
    assert ds.classes == ("no", "yes")
    expected = [(i, np.float32(v), *(float(color == c) for c in sorted(COLORS)), label) for i, v, color, label in ROWS]
    assert whole(ds) == sorted((float(i), float(v), *rest) for i, v, *rest in expected)
    assert ds.x_train.dtype == np.float32
    assert (ds.x_train.shape, ds.x_test.shape) == ((48, 5), (12, 5))


def test_columns_of_numbers_are_standardized_and_categories_are_not(tmp_path):
    ds = data.load(put(tmp_path, TABLE))
    assert sorted(ds.scales) == ["rank", "size"]
    np.testing.assert_allclose(ds.x_train[:, :2].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(ds.x_train[:, :2].std(0), 1, atol=1e-6)
    assert set(ds.x_train[:, 2:].ravel().tolist()) == {0, 1}
    mean, deviation = ds.scales["rank"]
    ranks = np.concatenate([ds.x_train[:, 0], ds.x_test[:, 0]]) * deviation + mean
    np.testing.assert_allclose(sorted(ranks), range(60), atol=1e-4)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_spellings_of_one_table(tmp_path, delimiter, ending):
    text = TABLE.replace(",", delimiter).replace("\n", ending)
    expected = data.load(put(tmp_path, TABLE))
    assert data.load(put(tmp_path, text)).checksum == expected.checksum
    spaced = text.replace(delimiter, f"{delimiter} ").replace("red", '"red"') + ending
    assert data.load(put(tmp_path, "\ufeff" + spaced)).checksum == expected.checksum
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert data.load(tmp_path / "table.csv.gz").checksum == expected.checksum


def test_a_target_is_named_by_the_call_or_in_the_path(tmp_path):
    path = put(tmp_path, TABLE)
    by_color = data.from_csv(path, "color")
    assert by_color.classes == ("blue", "green", "red")
    assert by_color.features == ("rank", "size", "label=no", "label=yes")
    assert data.load(f"{path}:color").checksum == by_color.checksum == data.from_csv(path, 2).checksum
    assert data.from_csv(path, -2, drop=("rank",)).features == ("size", "label=no", "label=yes")


def test_a_table_without_names(tmp_path):
    text = TABLE.partition("\n")[2]
    ds = data.from_csv(put(tmp_path, text), -1)
    assert ds.features == ("0", "1", "2=blue", "2=green", "2=red")
    assert ds.checksum == data.load(put(tmp_path, TABLE)).checksum == data.load(f"{put(tmp_path, text)}:3").checksum


def test_names_that_are_numbers_are_recognized_where_one_is_not(tmp_path):
    """As pandas writes a frame of an array with a column of labels beside it."""
    text = "0,1,label\n" + "".join(f"{i},{2 * i},{i % 2}\n" for i in range(20))
    ds = data.load(put(tmp_path, text))
    assert (ds.features, ds.classes) == (("0", "1"), ("0", "1"))
    plain = put(tmp_path, "".join(f"{name}\n" for name in ("1,2", *["3,4", "5,6"] * 9)))
    assert data.from_csv(plain, 1, header=True).features == ("1",)
    assert len(whole(data.from_csv(plain, 1, header=True))) == 18


def test_a_target_with_a_fraction_is_a_regression(tmp_path):
    ds = data.from_csv(put(tmp_path, TABLE), "size", validation=0.1)
    assert ds.classes == ()
    assert ds.y_train.dtype == np.float32
    ys = np.concatenate([y for _, y in ds.parts.values()])
    assert sorted(ys.tolist()) == sorted(np.float32(row[1]).item() for row in ROWS)
    assert "names no classes" in sentence(put(tmp_path, TABLE), "size", classes=True)


def test_whole_numbers_as_a_target(tmp_path):
    path = put(tmp_path, TABLE)
    assert "may be classes or numbers: say classes=True or classes=False" in sentence(path, "rank")
    assert data.from_csv(path, "rank", classes=False).y_train.dtype == np.float32
    assert "too many for classes" in sentence(path, "rank", classes=True)
    few = put(tmp_path, "a,y\n" + "".join(f"{i}.5,{3 * (i % 4) - 2}\n" for i in range(40)))
    assert data.load(few).classes == ("-2", "1", "4", "7")
    assert data.from_csv(few, classes=False).classes == ()
    assert data.from_csv(
        put(tmp_path, few.read_text().replace("\n", ".0\n").replace("y.0", "y")), classes=True
    ).classes == (*("-2", "1", "4", "7"),)


def test_numbers_of_python_alone_are_text(tmp_path):
    text = "id,v,y\n" + "".join(f"20_{i % 2},{i},{i % 2}\n" for i in range(20))
    assert data.load(put(tmp_path, text)).features == ("id=20_0", "id=20_1", "v")


def changed(old, new, count=1):
    assert old in TABLE
    return TABLE.replace(old, new, count)


ROW7 = ",".join(map(str, ROWS[6]))
BAD = {
    "empty": ("", {}, "is empty"),
    "blank": ("\n \n", {}, "has no rows"),
    "names only": (HEADER + "\n", {}, "has a line of names, and no rows"),
    "wide": ("a,b,y\n" + "1," * 2**16 + "2\n", {}, "has a line of 65,537 cells: at most 65,536"),
    "one column": ("label\n1\n2\n", {}, "has one column, by the delimiter ','"),
    "missing number": (changed(ROW7, ROW7.replace("6,", ",", 1)), {}, "has no value ('') in line 8, column 'rank'"),
    "NA": (changed(ROW7, ROW7.replace(COLORS[0], "NA")), {}, "has no value ('NA') in line 8, column 'color'"),
    "NaN": (changed(ROW7, ROW7.replace("6,", "NaN,", 1)), {}, "has no value ('NaN') in line 8, column 'rank'"),
    "missing target": (TABLE + "61,1,red,?\n", {}, "has no value ('?') in line 62, column 'label'"),
    "infinite": (TABLE + "inf,1,red,no\n", {}, "'inf', which is not finite, in line 62, column 'rank'"),
    "beyond float32": (TABLE + "1e300,1,red,no\n", {}, "1e+300 in column 'rank', which is beyond float32"),
    "short": (TABLE + "1,2\n", {}, "has 2 cells in line 62: expected 4"),
    "long": (TABLE + "1,2,3,4,5\n", {}, "has 5 cells in line 62: expected 4"),
    "duplicate": (changed("size", "rank"), {}, "more than one column ['rank']"),
    "clash": (changed("size", "color=red"), {}, "called as a value of another: ['color=red']"),
    "nameless": (changed("rank", ""), {}, "has a column without a name"),
    "no target": (changed("label", "kind"), {}, "Name the target column of"),
    "two targets": (changed("size", "Target"), {}, "Target and label"),
    "unknown target": (TABLE, {"target": "labels"}, "target names 'labels'"),
    "target beyond": (TABLE, {"target": 4}, "target names 4"),
    "unknown column": (TABLE, {"drop": ["weight"]}, "drop names 'weight'"),
    "dropped target": (TABLE, {"target": "label", "drop": ["label"]}, "is to be dropped"),
    "nothing left": (TABLE, {"drop": ["rank", "size", "color"]}, "no column beside the target"),
    "text as numbers": (TABLE, {"target": "color", "classes": False}, "not a number in every row"),
    "free text": ("note,y\n" + "".join(f"note {i},{i % 2}\n" for i in range(1100)), {}, "than 1,000 different values"),
    "target of names": ("v,y\n" + "".join(f"{i},n{i}\n" for i in range(60)), {}, "too many for classes"),
    "one class": (TABLE.replace("yes", "no"), {}, "are 'no': a classification has at least two classes"),
    "delimiter": (TABLE, {"delimiter": "::"}, "one character, not '::'"),
    "half a column": (TABLE, {"target": 1.5}, "target names 1.5"),
    "drop": (TABLE, {"drop": 3}, "a list of names of columns, not 3"),
    "header": (TABLE, {"header": "yes"}, "True, False or None, not 'yes'"),
    "classes": (TABLE, {"classes": 2}, "True, False or None, not 2"),
    "number as delimiter": (TABLE, {"delimiter": 3}, "one character, not 3"),
    "too few": (TABLE, {"test": 70}, "60 examples: 70 to test on"),
    "HTML": ("<!doctype html>\n<p>not here", {}, "is an HTML page"),
    "quote without end": (TABLE + '"' + "1,2,3,4\n" * 40000, {}, "is no CSV in line"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "named", "complaint"), BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_gets_a_sentence(unchecked, tmp_path, text, named, complaint):
    assert complaint in sentence(put(tmp_path, text), **named)


BYTES = {
    "Latin-1": (TABLE.replace("red", "röt").encode("latin-1"), "is not UTF-8 in line 2"),
    "zeros": (TABLE.encode() + b"\0", "has zero bytes"),
    "zip": (b"PK\x03\x04" + bytes(30), "is a zip archive"),
    "Parquet": (b"PAR1" + bytes(30), "is a Parquet file"),
    "pickle": (b"\x80\x04\x95" + bytes(30), "is a pickle, which is never loaded"),
    "cut gzip": (gzip.compress(TABLE.encode())[:-9], "is a gzip file that is cut off"),
}


@pytest.mark.parametrize(("content", "complaint"), BYTES.values(), ids=BYTES.keys())
def test_a_file_that_is_no_text_gets_a_sentence(tmp_path, content, complaint):
    (tmp_path / "table.csv").write_bytes(content)
    assert complaint in sentence(tmp_path / "table.csv")


def test_sizes_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(TABLE.encode() + b"\n" * 2**20))
    monkeypatch.setattr(files, "MOST_TEXT", 2**19)
    assert "holds more than 524288 bytes (decompressed)" in sentence(path)
    monkeypatch.setattr(files, "MOST_BYTES", 60 * 5 * 4 - 1)
    assert "becomes a table of 60 × 5" in sentence(put(tmp_path, TABLE))


def test_numbers_alone_are_read_by_one_call_with_the_same_result(tmp_path, monkeypatch):
    text = '"a","b\n2",y\n\n' + "".join(f"{v!r}, {i},{i % 2}\n" for i, v in enumerate(RNG.normal(size=50).tolist()))
    path = put(tmp_path, text)
    fast = data.load(path)
    assert fast.features == ("a", "b\n2")
    monkeypatch.setattr(np, "loadtxt", lambda *args, **named: int("x"))
    slow = data.load(path)
    assert slow.checksum == fast.checksum
    assert slow.scales == fast.scales


def test_blocks_of_rows_are_one_table(tmp_path, monkeypatch):
    path = put(tmp_path, TABLE)
    expected = data.load(path).checksum
    monkeypatch.setattr(table, "_BLOCK", 7)
    assert data.load(path).checksum == expected


def test_the_tables_that_scikit_learn_ships(tmp_path):
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("scikit-learn is not installed")
    from sklearn import datasets

    shipped = Path(datasets.__file__).parent / "data"
    digits = data.from_csv(shipped / "digits.csv.gz", -1, standardize=False)
    assert digits.classes == tuple("0123456789")
    expected = datasets.load_digits()
    assert digits.checksum == data.from_arrays(expected.data, expected.target).checksum
    wine = datasets.load_wine(as_frame=True)
    wine.frame.to_csv(tmp_path / "wine.csv", index=False)
    ds = data.load(tmp_path / "wine.csv")
    assert (ds.classes, len(ds.features), len(ds.y_train)) == (("0", "1", "2"), 13, 142)
    wine.frame.to_csv(tmp_path / "indexed.csv")
    assert "without a name" in sentence(tmp_path / "indexed.csv")
    assert data.from_csv(tmp_path / "indexed.csv", drop="").checksum == ds.checksum
