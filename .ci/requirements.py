"""Print the requirements in pyproject.toml, one a line, for pip.

requirements.py GROUP...    to build, to run, or for an extra: "build", "run", or its name
requirements.py --lowest    constraints: of everything the lowest version that is allowed
"""

import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

table = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
project = table["project"]
groups = {
    "build": table["build-system"]["requires"],
    "run": project["dependencies"],
    **project["optional-dependencies"],
}


def requirements(group):
    for line in groups[group]:
        if extras := re.fullmatch(rf"{project['name']}\[(.*)\]", line):
            for extra in extras[1].split(","):
                yield from requirements(extra.strip())
        else:
            yield line


lowest = sys.argv[1:] == ["--lowest"]
lines = dict.fromkeys(chain.from_iterable(map(requirements, groups if lowest else sys.argv[1:])))
# The last release of the series that the bound names: of 2.0 that is 2.0.2.
print(*(re.sub(r">=([\w.]+)", r"==\1.*", line) if lowest else line for line in lines), sep="\n")
