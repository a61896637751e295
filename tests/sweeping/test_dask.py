"""A sweep on a Dask cluster that loses a worker."""

import os
import signal

import pytest

from lstm_toolkit.sweeping.sweep import SweepConfig, grid, sweep
from tests.helpers.sum_file import write_sum

distributed = pytest.importorskip("distributed", reason="needs the extra 'sweep' of lstm_toolkit (Dask)")


def test_a_dask_cluster_that_loses_a_worker_loses_no_row(tmp_path):
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

        result = sweep(configs, client.get_executor(), progress=kill, results=tmp_path / "rows.jsonl")
        assert killed[0] not in client.run(os.getpid).values()
    assert [row.config for row in result.rows] == configs
    assert [row.error for row in result.rows] == [None] * 24
    assert all(row.median > 0 for row in result.rows)
    assert sum(row.max_abs_error is not None and row.max_abs_error < 1e-5 for row in result.rows) == 6
    assert {row.executor for row in result.rows} == {"ClientExecutor"}
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 24
