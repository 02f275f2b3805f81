"""Check the contents of the sdist and the wheel: check_dist.py SDIST WHEEL.

That the sdist holds what git does is for check-sdist to say.
"""

import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

sdist, wheel = map(Path, sys.argv[1:])
with tarfile.open(sdist) as archive:
    files = [entry.name for entry in archive if entry.isfile()]
sources = {name.partition("/")[2] for name in files}
with zipfile.ZipFile(wheel) as archive:
    packed = {name for name in archive.namelist() if not name.endswith("/")}

of_package = {name for name in sources if name.startswith("skae/")}
problems = [f"lacks {name}" for name in of_package - packed]
strangers = {name for name in packed - sources if ".dist-info/" not in name}
for source in of_package:
    stem = source.removesuffix(".pyx") + "."
    if source.endswith(".pyx"):
        compiled = {name for name in strangers if name.startswith(stem)}
        if {PurePosixPath(name).suffix for name in compiled} not in ({".so"}, {".pyd"}):
            problems.append(f"lacks the compiled {source}")
        strangers -= compiled
problems += [f"holds {name}" for name in strangers | (packed & sources) - of_package]

size = wheel.stat().st_size / 1e6
if size >= 1:
    problems.append(f"has {size:.2f} MB, the limit is 1 MB")

print(f"{wheel.name}: {len(packed)} entries, {size:.2f} MB")
sys.exit("\n".join(f"{wheel.name} {problem}" for problem in sorted(problems)) or None)
