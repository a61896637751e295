"""A sweep on a Dask cluster that loses a worker."""

import os
import signal

import pytest

from lstm_toolkit.sweeping.sweep import SweepConfig, grid, sweep
from tests.helpers.sum_file import write_sum

distributed = pytest.importorskip("distributed", reason="needs the extra 'sweep' of lstm_toolkit (Dask)")


def test_a_dask_cluster_that_loses_a_worker_loses_no_row(tmp_path):
    """The next sweep with the same results file measures what the executor failed at, and nothing else.

    `distributed.cfexecutor._cascade_future` takes a result for an error if the future's state changes between the
    arrival of the result and its reading, as it does when the worker dies: "cannot unpack non-iterable SweepRow".
    """
    sizes = {"time_steps": [4], "input_size": [2], "units": [3]}
    converted = grid(
        "unidirectional", sizes=sizes, options={"lowering": ["fused", "unrolled", "loop"]}, num_threads=[1, 2]
    )
    path = write_sum(tmp_path / "sum.tflite")
    timed = [SweepConfig(path, runs=runs) for runs in range(1, 19)]
    # Conversions before and after the loss: a new worker has to load TensorFlow too.
    configs = [*converted[:3], *timed, *converted[3:]]
    assert len(set(configs)) == 24
    killed = []
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(tmp_path)
        ) as cluster,
        distributed.Client(cluster) as client,
    ):

        def kill(row, done, total):
            if done == 8:
                # The busy one of the two, if there is one: what it does must be done again.
                busy = [name for name, keys in client.processing().items() if keys]
                killed.append(client.run(os.getpid, workers=busy[:1])[busy[0]])
                os.kill(killed[0], signal.SIGKILL)

        results = tmp_path / "rows.jsonl"
        rows = sweep(configs, client.get_executor(), progress=kill, results=results).rows
        assert [row.config for row in rows] == configs
        # Dask measures again what the worker had, but fails where it was fetching a result from it; see the docstring.
        fetching = [row for row in rows if not row.machine]
        assert len(results.read_text().splitlines()) == 24 - len(fetching)
        assert {row.error for row in fetching} <= {"TypeError: cannot unpack non-iterable SweepRow object"}
        result = sweep(configs, client.get_executor(), results=results)
        assert killed[0] not in client.run(os.getpid).values()
    assert [row.config for row in result.rows] == configs
    assert [row.error for row in result.rows] == [None] * 24
    assert all(row.median > 0 for row in result.rows)
    assert sum(row.max_abs_error is not None and row.max_abs_error < 1e-5 for row in result.rows) == 6
    assert {row.executor for row in result.rows} == {"ClientExecutor"}
    assert len(results.read_text().splitlines()) == 24
