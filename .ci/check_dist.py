"""What the sdist and the wheel must hold, and must not: check_dist.py SDIST WHEEL."""

import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

sdist, wheel = map(Path, sys.argv[1:])
problems = []

with tarfile.open(sdist) as archive:
    in_sdist = {PurePosixPath(*PurePosixPath(name).parts[1:]) for name in archive.getnames()}
with zipfile.ZipFile(wheel) as archive:
    in_wheel = {PurePosixPath(name) for name in archive.namelist()}

for archive, names in [(sdist, in_sdist), (wheel, in_wheel)]:
    problems += [f"{archive.name} holds {name}" for name in names if name.suffix in {".c", ".o"}]

# The sources as they lie here: all of them in the sdist, the package's in the wheel as well.
suffixes = {".py", ".pyx", ".pxd", ".pyi", ".h"}
for folder in ["skae", "tests", "benchmarks", "docs"]:
    for path in Path(folder).rglob("*"):
        name = PurePosixPath(path.as_posix())
        if path.suffix in suffixes and "_build" not in path.parts:
            if name not in in_sdist:
                problems.append(f"{sdist.name} lacks {name}")
            if folder == "skae" and name not in in_wheel:
                problems.append(f"{wheel.name} lacks {name}")
for file in ["LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "setup.py"]:
    if PurePosixPath(file) not in in_sdist:
        problems.append(f"{sdist.name} lacks {file}")

compiled = {".so", ".pyd"}
problems += [f"{sdist.name} holds {name}" for name in in_sdist if name.suffix in compiled]
for source in Path("skae").rglob("*.pyx"):
    stem = source.as_posix().removesuffix(".pyx") + "."
    if not any(str(name).startswith(stem) and name.suffix in compiled for name in in_wheel):
        problems.append(f"{wheel.name} lacks the compiled {source}")
strangers = {name.parts[0] for name in in_wheel} - {"skae"}
problems += [f"{wheel.name} holds {name}" for name in strangers if not name.endswith(".dist-info")]

size = wheel.stat().st_size / 1e6
if size >= 1:
    problems.append(f"{wheel.name} has {size:.2f} MB, the limit is 1 MB")

print(f"{sdist.name}: {len(in_sdist)} entries")
print(f"{wheel.name}: {len(in_wheel)} entries, {size:.2f} MB")
sys.exit("\n".join(sorted(problems)) or None)
