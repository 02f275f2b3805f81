"""Measure a table cell by cell, and store the results in a file, so that a run can be resumed."""

import json

from joblib import Parallel, delayed, parallel_config


def measured(path, tasks, measure, *, again=lambda task: False, n_jobs=2):
    """Return the results of all tasks by name; measure those that the file does not have.

    Parameters
    ----------
    path : Path
        JSON file, written after each task.
    tasks : list of tuple
        Arguments of `measure`; they also form the name of the result.
    measure : callable
        Returns a dict of numbers.
    again : callable
        ``again(task)`` returns whether to measure a task again if the file has its result.
    n_jobs : int, default=2
        Number of processes, with one thread each.
    """
    results = json.loads(path.read_text()) if path.exists() else {}
    names = {task: "|".join(map(str, task)) for task in tasks}
    todo = [task for task in tasks if again(task) or names[task] not in results]
    with parallel_config("loky", inner_max_num_threads=1):
        found = Parallel(n_jobs=n_jobs, return_as="generator")(
            delayed(measure)(*task) for task in todo
        )
        for task, values in zip(todo, found):
            results[names[task]] = values
            path.write_text(json.dumps(results, indent=0, sort_keys=True) + "\n")
    return {task: results[name] for task, name in names.items()}
