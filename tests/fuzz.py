"""Random programs against the public interface.

A program is one estimator and a sequence of calls, all of it drawn from a seed and all of it text.
So what is printed of a failure runs below ``from fuzz_inputs import *`` and
``from fuzz_programs import *``.

    python tests/fuzz.py 2000               run the programs of the seeds 0 to 1999
    python tests/fuzz.py 2000 --seed 5000   those of the seeds from 5000 on
    python tests/fuzz.py --program 5123     run one; if it fails, show where, and make it smaller

After each call, every function of `PROPERTIES` is asked. `KNOWN` lists the failures that do not
count until they are mended. To try something else: a value, a container or a kind of y is an entry
in a table of `fuzz_inputs.py`, a parameter in one of `fuzz_programs.py`.
"""

import argparse
import contextlib
import faulthandler
import io
import json
import os
import re
import subprocess
import sys
import traceback
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import fuzz_properties
from fuzz_programs import COPIES, evaluate, lines_of, perform, random_program
from fuzz_properties import PROPERTIES, origin
from sklearn import config_context

SECONDS = 20  # a program that takes longer hangs
MEMORY = 6 * 2**30  # address space of a child
BATCH = 250  # programs of a child


# -- running programs --------------------------------------------------------------------


@dataclass
class Report:
    """What came of a program."""

    seed: int
    outcomes: list = field(default_factory=list)
    known: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    text: list = field(default_factory=list)


def failures_of(step):
    """What the properties find wrong with a step; one that raises has failed, too."""
    for wrong in PROPERTIES:
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                detail = wrong(step)
        except Exception as error:
            detail = f"{step.call.method}, then {type(error).__name__}: {error} [{origin(error)}]"
        if detail is not None:
            yield wrong.__name__, str(detail)


def is_known(name, detail):
    return any(
        name == known and re.search(pattern, detail) for known, pattern in fuzz_properties.KNOWN
    )


@config_context()  # restores what a program sets
def run(program, seed=-1, on_error=None):
    """Run a program up to its first failure that is not known."""
    report = Report(seed)
    est = evaluate(lines_of(program)[0].removeprefix("est = "))
    for place, call in enumerate(program.calls):
        try:
            step = perform(program, call, est)
        except ImportError:  # pandas or polars is missing
            break
        report.outcomes.append("ok" if step.error is None else type(step.error).__name__)
        found = list(failures_of(step))
        report.known += [one for one in found if is_known(*one)]
        report.failures = [one for one in found if not is_known(*one)]
        if report.failures:
            report.text = lines_of(replace(program, calls=program.calls[: place + 1]))
            if on_error and step.error:
                on_error(step.error)
            break
        if call.method in COPIES and step.error is None:
            est = step.result
    return report


def run_seed(seed):
    return run(random_program(seed), seed)


def smaller(program):
    """Programs that lack one call, one argument or one parameter of this one."""
    for k, call in enumerate(program.calls):
        yield replace(program, calls=program.calls[:k] + program.calls[k + 1 :])
        for name in call.args:
            less = call._replace(args={n: v for n, v in call.args.items() if n != name})
            yield replace(program, calls=[*program.calls[:k], less, *program.calls[k + 1 :]])
    for name in program.params:
        if name not in ("n_components", "hidden_layer_sizes"):  # their defaults take longer
            yield replace(program, params={n: v for n, v in program.params.items() if n != name})


def kind_of(failure):
    """A failure, but for its numbers."""
    return (failure[0], re.sub(r"-?\d[\d.e+-]*", "#", failure[1])[:110])


def shrink(program):
    """The smallest program with the same failures that leaving out one thing at a time finds."""
    wanted = set(map(kind_of, run(program).failures))
    for candidate in smaller(program):
        if wanted and wanted & set(map(kind_of, run(candidate).failures)):
            return shrink(candidate)
    return program


# -- in child processes -------------------------------------------------------------------


def serve(first, count):
    """Run programs in this process; print a line before and after each."""
    limit_memory()
    for seed in range(first, first + count):
        print(json.dumps({"seed": seed}), flush=True)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            report = run_seed(seed)
        except Exception:
            report = Report(seed, failures=[("the fuzzer failed", traceback.format_exc())])
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(vars(report)), flush=True)


def limit_memory():
    with contextlib.suppress(ImportError, ValueError):  # as on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def run_batch(first, count):
    """Run programs in a child; after a crash or hang, in another one from the next seed on."""
    reports, stop = [], first + count
    while first < stop:
        command = [
            sys.executable,
            "-X",
            "faulthandler",
            __file__,
            "--serve",
            f"{first}",
            f"{stop - first}",
        ]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        child = subprocess.run(command, env=environment, capture_output=True, text=True)
        lines = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
        reports += [Report(**line) for line in lines if "outcomes" in line]
        begun = max((line["seed"] for line in lines), default=first)
        if child.returncode:
            report = Report(begun, text=lines_of(random_program(begun)))
            last_words = child.stderr.strip()[-1500:]
            kind = "hangs" if "Timeout" in last_words else "crashes"
            report.failures = [(kind, f"exit code {child.returncode}\n{last_words}")]
            reports.append(report)
        first = begun + 1
    return reports


def run_many(first, count, jobs=1):
    """Run programs, print the failures and a summary; return whether there were none."""
    batches = [(k, min(BATCH, first + count - k)) for k in range(first, first + count, BATCH)]
    outcomes, kinds, known, n_programs = Counter(), Counter(), Counter(), 0
    with ThreadPoolExecutor(jobs) as pool:
        for reports in pool.map(lambda batch: run_batch(*batch), batches):
            n_programs += len(reports)
            for report in reports:
                outcomes.update(report.outcomes)
                known.update(kind_of(one) for one in report.known)
                kinds.update(kind_of(one) for one in report.failures)
                if report.failures:
                    show(report)
    print(f"{n_programs} programs, {outcomes.total()} calls: {dict(outcomes.most_common())}")
    for title, counter in (("known", known), ("FAILED", kinds)):
        for (name, detail), number in counter.most_common():
            print(f"{title} {number} times: {name}: {detail}")
    return not kinds


def show(report):
    for name, detail in report.failures:
        print(f"\nprogram {report.seed}: {name}: {detail}")
    print(*(f"    {line}" for line in report.text), sep="\n", flush=True)


def run_one(seed):
    """Run one program and, if it fails, a smaller one; return whether it does not."""
    program = random_program(seed)
    print(*lines_of(program), sep="\n", flush=True)
    report = run(program, seed, on_error=traceback.print_exception)
    if report.failures:
        show(run(shrink(program), seed))
    return not report.failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n_programs", type=int, nargs="?", default=2000)
    parser.add_argument("--seed", type=int, default=0, help="that of the first program")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes")
    parser.add_argument("--program", type=int, metavar="SEED", help="run this one alone")
    parser.add_argument("--serve", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(*args.serve)
    if args.program is not None:
        return sys.exit(not run_one(args.program))
    sys.exit(not run_many(args.seed, args.n_programs, args.jobs))


if __name__ == "__main__":
    main()
