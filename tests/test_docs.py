"""README and docs: code runs, links lead somewhere, tables are those of the results."""

import doctest
import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
pytestmark = pytest.mark.skipif(
    not (README.exists() and (ROOT / "docs").exists()), reason="these are not in the wheel"
)
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.rst"))
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.rst"), *GUIDE]


def imported(name):
    """Import a module of docs."""
    path = ROOT / "docs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tables():
    return imported("benchmark_tables")


def text_of(path):
    return path.read_text(encoding="utf-8")


def results(name):
    return json.loads(text_of(ROOT / "benchmarks" / "results" / f"{name}.json"))


# ---- README --------------------------------------------------------------------------------


@pytest.mark.slow
def test_code_of_the_readme_runs_as_written(one_thread, capsys):
    [code] = re.findall(r"^```python\n(.*?)^```", text_of(README), re.MULTILINE | re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    accuracy = re.findall(r"0\.\d+", capsys.readouterr().out)[-1]
    assert float(accuracy) > 0.9


def test_code_of_the_front_page_is_that_of_the_readme():
    [code] = re.findall(r"^```python\n(.*?)^```", text_of(README), re.MULTILINE | re.DOTALL)
    [block] = re.findall(
        r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)",
        text_of(ROOT / "docs" / "index.rst"),
        re.MULTILINE,
    )
    assert [line.removeprefix("   ") for line in block.strip().splitlines()] == [
        *code.strip().splitlines()
    ]


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#\s]+)", text_of(README))
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_make_has_the_targets_that_are_named():
    command = re.compile(r"(?:`|^ *(?:\$ )?)(?:\w+=\S+ )*make ([a-z][a-z-]*)", re.MULTILINE)
    named = {name for page in PAGES for name in command.findall(text_of(page))}
    targets = set(re.findall(r"^([a-z][a-z-]*):", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert {"demo", "test", "docs"} <= named
    assert named - targets == set()


# ---- the code of the pages -----------------------------------------------------------------


def examples_of(path):
    return doctest.DocTestParser().get_examples(text_of(path))


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_code_of_a_page_can_be_read(page):
    """At most 72 columns, prompt included; no ellipsis in what it prints."""
    for example in examples_of(page):
        assert "..." not in example.want, example.source
        assert all(len(line) <= 68 for line in example.source.splitlines()), example.source


PAGE = """
A page
======

>>> x = 0.123
>>> print(x)
0.1

   >>> x + 1
   1.1
>>> raise ValueError("no")
Traceback (most recent call last):
ValueError: no
>>> "not run"  # doctest: +SKIP
shown
"""


def test_pages_show_what_their_examples_print():
    text = imported("executed").executed(PAGE, "page")
    assert text == PAGE.replace("0.1\n\n", "0.123\n\n").replace("   1.1", "   1.123")


def test_a_page_whose_example_fails_is_refused():
    with pytest.raises(RuntimeError, match="page, line 3") as caught:
        imported("executed").executed(">>> 1\n1\n>>> 1 / 0\n0\n", "page")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# ---- the tables of the benchmarks ----------------------------------------------------------


def shape_of(table):
    """How many cells each row has."""
    rows = re.split(r"^ *\* - ", table, flags=re.MULTILINE)[1:]
    return {1 + len(re.findall(r"^ +- ?", row, re.MULTILINE)) for row in rows}


def test_all_tables_are_made_of_what_was_committed(tables):
    for name, table in tables.TABLES.items():
        text = table()
        assert text.strip(), name
        for part in text.split(".. list-table::")[1:]:
            assert len(shape_of(part)) == 1, name


def test_goals_show_the_measured_ratios(tables):
    [row] = [
        row
        for row in results("training")["rows"]
        if (row["net"], row["threads"], row["dtype"]) == ("784-500", 1, "float32")
        and (row["solver"], row["noise"], row["batch"]) == ("sgd", "0.3", 100)
    ]
    text = tables.goals()
    for ratio in ("skae/floor", "torch/skae"):
        assert f"- {row['ratios'][ratio]:.2f}" in text


def test_every_row_of_the_training_times_is_shown(tables):
    rows, text = results("training")["rows"], tables.training()
    assert text.count("* - ") - text.count("* - solver") == len(rows)
    for row in rows:
        assert f"admonition:: {row['net']}, {row['dtype']}" in text


def test_errors_show_the_measured_errors(tables):
    rows, text = results("errors"), tables.errors()
    for row in rows.values():
        assert row["work"] in text
        for label, value in row["errors"].items():
            assert f"{label}: **{value:.2f}**" in text


@pytest.mark.parametrize(
    "value, goal, at_most, shown",
    [
        (0.936, 0.95, True, "0.94 (0.95)"),
        (1.002, 1.0, True, "1.00 (1.00)"),
        (1.029, 1.0, True, "1.03 (1.00, missed)"),
        (1.27, 1.9, False, "1.27 (1.90, missed)"),
        (1.27, None, False, "1.27"),
        (None, 1.9, False, "–"),
    ],
)
def test_a_missed_goal_is_named(tables, value, goal, at_most, shown):
    assert tables.judged(value, goal, at_most=at_most) == shown
