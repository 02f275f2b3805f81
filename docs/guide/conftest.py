"""Run the examples of the guide as tests: `pytest --doctest-glob='*.rst' docs/guide`."""

from importlib.util import find_spec

import pytest

# Pages that need optional packages.
NEEDS = {
    "large.rst": ["pyarrow", "h5py", "distributed"],
    "progress.rst": ["sklearn.callback", "rich", "pandas"],
    "saving.rst": ["skops", "skl2onnx", "onnxruntime"],
    "seeing.rst": ["matplotlib"],
}
collect_ignore = ["conftest.py"]  # it has no examples, and tests/ has a file of that name
collect_ignore += [page for page, names in NEEDS.items() if not all(map(find_spec, names))]


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path, monkeypatch):
    """Run each page in a temporary folder, without opening windows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("COLUMNS", "120")  # width of rich's output
