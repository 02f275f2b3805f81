"""Run the examples of a page when the site is built, and show their output.

The output written below an example is what its test expects (`pytest docs/guide`, with pytest's
option NUMBER). It has few digits, as numbers differ between processors. Readers see all digits.
"""

import doctest
import os
import tempfile
import warnings


class Recorder(doctest.DocTestRunner):
    """Keep what each example printed."""

    def __init__(self, page):
        super().__init__(verbose=False)
        self.page, self.printed = page, {}

    def report_start(self, out, test, example):
        pass

    def report_success(self, out, test, example, got):
        self.printed[example.lineno] = got

    report_failure = report_success

    def report_unexpected_exception(self, out, test, example, exc_info):
        raise RuntimeError(f"{self.page}, line {example.lineno + 1}") from exc_info[1]


def executed(text, page):
    """Return the text of a page, with the output of its examples below them."""
    test = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    if not any(has_output(example) for example in test.examples):
        return text
    recorder, home = Recorder(page), os.getcwd()
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("error")
        os.chdir(scratch)
        try:
            recorder.run(test, out=lambda text: None)
        finally:
            os.chdir(home)
    lines = text.splitlines()
    for example in reversed(test.examples):
        if has_output(example):
            begin = example.lineno + example.source.count("\n")
            got = recorder.printed[example.lineno].splitlines()
            indent = " " * example.indent
            lines[begin : begin + example.want.count("\n")] = [
                indent + (line or "<BLANKLINE>") for line in got
            ]
    return "\n".join(lines) + "\n"


def has_output(example):
    """Whether an example is run, prints something, and does not raise."""
    skipped = example.options.get(doctest.SKIP, False)
    return bool(example.want) and example.exc_msg is None and not skipped
