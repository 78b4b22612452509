"""Scoring and training as on a cluster, on this machine: with workers killed in the middle, the results are those of a quiet run.

Scoring runs through `--executor slurm` on a real slurmctld and slurmd of one node with two tasks, and through `--executor ray` on a
real local Ray; in both, a worker is killed when some shards are labelled and others are not, and the shards must be byte for byte
those of one process. Training runs as two torchrun agents on loopback; one is killed with its worker and started again, and every
loss must be that of two agents that were left alone. `make cluster-check`; what is not installed is skipped with a line.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import psutil

from benchmarks import cluster_work, slurm_cluster
from benchmarks.cluster_work import Work, digests, kill_tree, prepare, processes, wait_until
from release.console import print_json

SCORE = (sys.executable, "-m", "release", "score", "--family", "family.toml")
LABELLED = "docstrings/*"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(CHECKS), nargs="+", default=list(CHECKS))
    parser.add_argument("--keep", type=Path, help="an empty folder for everything, which is left there")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    outcomes: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="check-") as temporary:
        base = (options.keep or Path(temporary)).resolve()
        base.mkdir(parents=True, exist_ok=True)
        teacher = cluster_work.write_teacher(base / "teacher")
        for name in options.only:
            started = time.monotonic()
            try:
                outcomes[name] = CHECKS[name](base, teacher)
            except (RuntimeError, subprocess.SubprocessError) as error:
                outcomes[name] = f"failed: {error}"
            print(f"{time.monotonic() - started:5.0f} s  {name}: {outcomes[name]}", flush=True)
    print_json(outcomes)
    if any(not value.startswith(("identical", "skipped")) for value in outcomes.values()):
        sys.exit(1)


def reference(base: Path, teacher: Path) -> dict[str, str]:
    """The labelled shards of one process that nobody disturbs, made once."""
    folder = base / "reference"
    if not folder.exists():
        prepare(folder, teacher).run(*SCORE, log="score.log")
    return digests(folder / cluster_work.BUILD / "data/mixture", LABELLED)


def compared(work: Work, base: Path, teacher: Path) -> str:
    """Whether the shards of `work` are those of the reference."""
    ours, theirs = digests(work.mixture, LABELLED), reference(base, teacher)
    different = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
    return f"different: {', '.join(different)}" if different else "identical"


def in_the_middle(work: Work) -> bool:
    """Whether some shards are labelled and others are not."""
    return 0 < work.finished() < cluster_work.SHARDS


# --- Slurm ------------------------------------------------------------------------------------------------------------


def check_slurm(base: Path, teacher: Path) -> str:
    """Two tasks of a job array, one of which is killed; the same command again labels what is missing."""
    if reason := slurm_cluster.missing():
        return f"skipped: {reason}"
    with slurm_cluster.slurm_cluster(base / "slurm-state") as environment:
        work = prepare(base / "slurm", teacher)
        work = replace(work, environment=work.environment | {"SLURM_CONF": environment["SLURM_CONF"]})
        command = [*SCORE, "--workers", "2", "--executor", "slurm", "--option", f"partition={slurm_cluster.PARTITION}"]
        command += ["--option", "time=01:00:00"]
        work.run(*command, log="score.log")
        wait_until(lambda: in_the_middle(work), "slurm: a first shard")
        victims = processes("launch_pickled_pipeline", str(work.folder))
        if not victims:
            raise RuntimeError("no task was there to be killed")
        kill_tree(victims[0])
        wait_until(lambda: not queue(work), "slurm: the end of the job")
        left = cluster_work.SHARDS - work.finished()
        if not left:
            raise RuntimeError("the task was killed too late: all shards are labelled")
        print(
            f"        slurm: a task was killed, {left} of {cluster_work.SHARDS} shards are missing; the same command again"
        )
        for _ in range(2):  # one that labels the rest, and one that finds nothing to do and writes the manifest
            work.run(*command, log="score.log")
            wait_until(lambda: not queue(work), "slurm: the end of the second job")
        if not (work.mixture / "manifest.json").is_file():
            raise RuntimeError(f"no manifest: {work.tail('score.log')}")
    return compared(work, base, teacher)


def queue(work: Work) -> str:
    """What Slurm still has to do."""
    command = ["squeue", "--noheader", "--format=%i %T %r"]
    return subprocess.run(command, env=work.environment, capture_output=True, text=True, check=True).stdout


# --- Ray --------------------------------------------------------------------------------------------------------------


def check_ray(base: Path, teacher: Path) -> str:
    """Two actors, one of which is killed: Ray starts it again, and its shard with it."""
    if not find_spec("ray"):
        return "skipped: ray not installed (pip install 'ettin-release[cluster]')"
    work = prepare(base / "ray", teacher)
    port = slurm_cluster.free_port()
    start = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--node-ip-address=127.0.0.1"]
    start += [f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    start += ["--object-store-memory=100000000", f"--temp-dir={base / 'r'}"]  # sockets have short names only
    head = work.start(*start, log="ray.log")
    try:
        command = [*SCORE, "--workers", "2", "--executor", "ray"]
        scoring = work.start(*command, log="score.log", RAY_ADDRESS=f"127.0.0.1:{port}")
        wait_until(lambda: in_the_middle(work) or scoring.poll() is not None, "ray: a first shard")
        victims = actors(head)
        if scoring.poll() is not None or not victims:
            raise RuntimeError(f"no actor was there to be killed: {work.tail('score.log')}")
        kill_tree(victims[0])
        left = cluster_work.SHARDS - work.finished()
        print(f"        ray: an actor was killed, {left} of {cluster_work.SHARDS} shards were missing")
        if scoring.wait(cluster_work.SECONDS):
            raise RuntimeError(f"scoring failed: {work.tail('score.log')}")
    finally:
        kill_tree(psutil.Process(head.pid))
        head.wait()
    return compared(work, base, teacher)


def actors(head: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Ray's actors."""
    below = psutil.Process(head.pid).children(recursive=True)
    return [process for process in below if "RayWorker" in " ".join(process.cmdline())]


# --- torchrun ---------------------------------------------------------------------------------------------------------


def check_torchrun(base: Path, teacher: Path) -> str:
    """Two agents with a worker each; the second is killed with its worker after a checkpoint, and started again."""
    quiet, disturbed = (prepare(base / name, teacher) for name in ("torchrun-quiet", "torchrun"))
    for work, disturb in ((quiet, False), (disturbed, True)):
        cluster_work.write_training_data(work)
        endpoint = f"127.0.0.1:{slurm_cluster.free_port()}"
        agents = [train(work, endpoint, node) for node in (0, 1)]
        try:
            if disturb:
                restart_second(work, endpoint, agents)
            for node, process in enumerate(agents):
                if process.wait(cluster_work.SECONDS):
                    raise RuntimeError(f"agent {node} failed: {work.tail(f'node-{node}.log')}")
        finally:
            for process in agents:
                if process.poll() is None:
                    kill_tree(psutil.Process(process.pid))
                    process.wait()
    ours, theirs = losses(disturbed), losses(quiet)
    different = [step for step in sorted(ours.keys() | theirs.keys()) if ours.get(step) != theirs.get(step)]
    return f"different: losses of the steps {different}" if different else "identical"


def train(work: Work, endpoint: str, node: int) -> subprocess.Popen[bytes]:
    """One agent of torchrun: as on a machine of its own, but for addresses that keep everything on this one."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=3"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", "--rdzv-id=cluster-check"]
    command += [f"--rdzv-conf=is_host={node == 0}", "--local-addr=127.0.0.1"]
    command += [str(cluster_work.ROOT / "recipes/distill.py"), "--family", "family.toml", "--size", "mini"]
    # Without the first, an agent that is started anew meets what is left of the first attempt, and hangs (PyTorch #135712).
    settings = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return work.start(*command, log=f"node-{node}.log", **settings)


def restart_second(work: Work, endpoint: str, agents: list[subprocess.Popen[bytes]]) -> None:
    """Kill the second agent and its worker when there is a checkpoint to go on from, and start the agent again."""
    checkpoints = work.folder / cluster_work.BUILD / "mini/checkpoints"
    wait_until(
        lambda: list(checkpoints.glob("*/*/trainer_state.json")) or any(agent.poll() is not None for agent in agents),
        "torchrun: a checkpoint",
    )
    if any(agent.poll() is not None for agent in agents):
        raise RuntimeError(f"an agent stopped too early: {work.tail('node-0.log')}")
    kill_tree(psutil.Process(agents[1].pid))
    agents[1].wait()
    step = max(int(path.parent.name.split("-")[1]) for path in checkpoints.glob("*/*/trainer_state.json"))
    print(f"        torchrun: an agent and its worker were killed after step {step}; the agent is started again")
    agents[1] = train(work, endpoint, 1)


def losses(work: Work) -> dict[int, float]:
    """The training loss of every step, from the record of the run."""
    record = json.loads((work.folder / cluster_work.BUILD / "mini/records/run.json").read_text(encoding="utf-8"))
    return {entry["step"]: entry["loss"] for entry in record["measured"]["log_history"] if "loss" in entry}


CHECKS: dict[str, Callable[[Path, Path], str]] = {"slurm": check_slurm, "ray": check_ray, "torchrun": check_torchrun}


if __name__ == "__main__":
    main()
