"""The extensions and their compiler flags. Everything else is in pyproject.toml."""

import os
import shutil
import subprocess
import tempfile
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NAMES = ["_blas", "_team", "_sgd"]
HEADERS = sorted(glob("skae/_kernel/*.h"))

# Flags that the compiler does not support are dropped. No -march=native: wheels must run on other
# machines. No -ffast-math: it removes NaN checks. -fopenmp-simd only enables `#pragma omp simd`.
UNIX_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-g0"]
MSVC_FLAGS = ["/O2", "/std:c11"]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": True,
}


class BuildExt(build_ext):
    def build_extensions(self):
        flags = self.accepted_flags()
        for extension in self.extensions:
            extension.extra_compile_args = flags
            # The generated C is written to build/, not next to the sources. It is always generated
            # again, because Cython does not detect a change of the directives above.
            [generated] = cythonize(
                [extension],
                build_dir="build/cython",
                compiler_directives=DIRECTIVES,
                force=True,
                quiet=True,
            )
            extension.sources = generated.sources
        super().build_extensions()

    def accepted_flags(self):
        """Return the flags that the compiler supports; SystemExit if it does not work at all."""
        if self.compiler.compiler_type == "msvc":
            try:
                if not self.compiler.initialized:
                    self.compiler.initialize()
            except Exception:
                stop_without_compiler("Visual C++", "the Visual C++ Build Tools")
            return MSVC_FLAGS

        command = self.compiler.compiler_so
        if shutil.which(command[0]) is None:
            stop_without_compiler(command[0], "gcc or clang")
        error = self.try_compile([])
        if error is not None:
            raise SystemExit(
                f"\nskae is compiled when it is installed, and the C compiler {command[0]!r} "
                f"could not compile an empty Python extension (it needs Python's header files, "
                f"which some systems package as python3-dev or python3-devel):\n{error}"
            )
        return [flag for flag in UNIX_FLAGS if self.try_compile([flag]) is None]

    def try_compile(self, flags):
        """Compile an empty extension; return None, or the output of the compiler if it fails."""
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "empty.c")
            with open(source, "w") as file:
                file.write("#include <Python.h>\n")
            include = [f"-I{path}" for path in self.compiler.include_dirs]
            target = ["-c", source, "-o", os.path.join(folder, "empty.o")]
            run = subprocess.run(
                [*self.compiler.compiler_so, *include, *flags, *target],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        return run.stdout if run.returncode else None


def stop_without_compiler(command, remedy):
    raise SystemExit(
        f"\nskae is compiled when it is installed, and no C compiler was found "
        f"(tried {command!r}): install {remedy} and try again.\n"
    )


setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=[
        Extension(
            f"skae._kernel.{name}",
            [f"skae/_kernel/{name}.pyx"],
            include_dirs=["skae/_kernel"],
            libraries=[] if os.name == "nt" else ["m"],
            depends=HEADERS,
        )
        for name in NAMES
    ],
)
