"""Peak performance of the machine: multiply-adds per second of one core, in registers only.

    python benchmarks/peak.py     prints the peak for float32 and float64

A loop of independent multiply-adds is compiled with the compiler of this Python, for the
instruction set that skae's own products use. No matrix product can be faster.
"""

import ctypes
import os
import shlex
import subprocess
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

from skae._kernel import _blas

BYTES = {"avx512": 64, "avx2": 32, "blas": 16}
TARGETS = {"avx512": "avx512f", "avx2": "avx2,fma"}
SOURCE = """
#include <time.h>
#define EACH _Pragma("GCC unroll 16") for (int j = 0; j < 12; j++)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

#define PEAK(type) \\
    typedef type type##_vector __attribute__((vector_size(BYTES))); \\
    TARGET double peak_##type(void) \\
    { \\
        type##_vector sum[12], x = {0}, y = {0}; \\
        EACH sum[j] = x + (type)j; \\
        double best = 0; \\
        for (int run = 0; run < 20; run++) { \\
            const double begin = now(); \\
            for (int i = 0; i < 1000000; i++) EACH \\
            { \\
                sum[j] = sum[j] * y + x; \\
                __asm__("" : "+x"(x), "+x"(y)); /* else it would compute them all at once */ \\
            } \\
            const double rate = 1e6 * 12 * (BYTES / sizeof(type)) / (now() - begin); \\
            best = rate > best ? rate : best; \\
        } \\
        EACH x += sum[j]; \\
        volatile type kept = x[0]; \\
        (void)kept; \\
        return best; \\
    }
PEAK(float)
PEAK(double)
"""


@cache
def peaks():
    """Return multiply-adds per second by dtype."""
    best = [*_blas.INSTRUCTIONS][-1]
    target = TARGETS.get(best)
    attribute = f'__attribute__((target("{target}")))' if target else ""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC"))
    with tempfile.TemporaryDirectory() as folder:
        library = str(Path(folder, "peak.so"))
        flags = [
            "-O2",
            "-w",
            "-shared",
            "-fPIC",
            f"-DBYTES={BYTES[best]}",
            f"-DTARGET={attribute}",
        ]
        subprocess.run(
            [*compiler, *flags, "-x", "c", "-", "-o", library],
            input=SOURCE,
            text=True,
            check=True,
        )
        library = ctypes.CDLL(library)
    found = {}
    for dtype, name in {"float32": "float", "float64": "double"}.items():
        function = getattr(library, f"peak_{name}")
        function.restype = ctypes.c_double
        found[dtype] = function()
    return found


if __name__ == "__main__":
    print(
        {
            dtype: f"{rate / 1e9:.1f} billion multiply-adds a second"
            for dtype, rate in peaks().items()
        }
    )
