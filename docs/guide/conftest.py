"""The guide as a test: `pytest --doctest-glob='*.rst' docs/guide`."""

from importlib.util import find_spec

import pytest

# Pages about packages that need not be installed.
NEEDS = {
    "progress.rst": ["sklearn.callback", "rich", "pandas"],
    "saving.rst": ["skops", "skl2onnx", "onnxruntime"],
    "seeing.rst": ["matplotlib"],
}
collect_ignore = ["conftest.py"]  # no example in here, and tests/ has one of that name
collect_ignore += [page for page, names in NEEDS.items() if not all(map(find_spec, names))]


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path, monkeypatch):
    """What a page saves goes away with it; no page opens a window, or needs a wide one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("COLUMNS", "120")  # for what rich draws
