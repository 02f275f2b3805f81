"""Draw _static/progress.svg, the progress bars of a fit: python docs/progress_picture.py"""

import io
import re
import time
from pathlib import Path

from rich.console import Console
from sklearn.callback import ProgressBar, _progressbar
from sklearn.datasets import load_digits

from skae import StackedAutoencoderClassifier

PICTURE = Path(__file__).parent / "_static" / "progress.svg"


class Picture(ProgressBar):
    """Progress bars that are drawn once, after a number of tasks."""

    def on_fit_task_end(self, estimator, context):
        super().on_fit_task_end(estimator, context)
        self.n_ended += 1
        if self.n_ended == self.n_before_picture:
            time.sleep(0.5)  # the bars are updated in a thread
            console = Console(record=True, width=108, file=io.StringIO())
            (monitor,) = _progressbar._run_monitors.values()
            console.print(monitor.progress_ctx.get_renderable())
            svg = console.export_svg(title="Training")
            # The fonts would be fetched from the network.
            PICTURE.write_text(re.sub(r"@font-face {.*?}\s*", "", svg, flags=re.DOTALL))


bar = Picture()
bar.n_ended, bar.n_before_picture = 0, 52
X, y = load_digits(return_X_y=True)
clf = StackedAutoencoderClassifier((64, 32), max_iter=10, random_state=0)
clf.set_callbacks(bar).fit(X / 16, y)
