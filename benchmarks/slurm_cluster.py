"""A Slurm of one node on this machine, for as long as a block runs: munged, slurmctld and slurmd on 127.0.0.1, as this user.

Debian's packages slurmctld, slurmd, slurm-client and munge are enough; no service is started and no file under /etc is read.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
PARTITION = "check"
CONFIGURATION = """\
ClusterName=check
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName={partition} Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why no Slurm can be started here, or None."""
    absent = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    return f"{', '.join(absent)} not installed (Debian: slurm-wlm munge)" if absent else None


@contextmanager
def slurm_cluster(folder: Path, *, cpus: int = 2, seconds: float = 60) -> Generator[dict[str, str]]:
    """Start the three daemons and wait for the node; they are stopped when the block ends.

    Args:
        folder: For keys, state and logs; it is made.
        cpus: Of the node: so many tasks run at once.

    Yields:
        The environment in which sbatch, squeue and srun talk to this Slurm.

    Raises:
        RuntimeError: A daemon stopped, or the node was not ready within `seconds`; what the daemon wrote is in the error.
    """
    for name in (folder, folder / "state", folder / "spool"):
        name.mkdir(mode=0o755)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(64))
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=socket.gethostname().split(".")[0],
            user=subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip(),
            controller=free_port(),
            node=free_port(),
            folder=folder,
            cpus=cpus,
            partition=PARTITION,
        ),
        encoding="utf-8",
    )
    environment = os.environ | {"SLURM_CONF": str(configuration), "PATH": _path()}
    files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munge.pid"}
    files |= {"log-file": folder / "munge.log", "seed-file": folder / "munge.seed"}
    commands = {
        "munged": ["munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items())],
        "slurmctld": ["slurmctld", "-D", "-f", str(configuration)],
        "slurmd": ["slurmd", "-D", "-f", str(configuration)],
    }
    with ExitStack() as stack:
        daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name, command in commands.items():
            log = stack.enter_context((folder / f"{name}.out").open("wb"))
            daemons[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            stack.callback(stop, daemons[name])
            if name == "munged":
                wait_for((folder / "munge.socket").exists, 10, daemons, folder)
        wait_for(lambda: _node_is_idle(environment), seconds, daemons, folder)
        yield environment


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a daemon, gently at first."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(
    ready: Callable[[], bool], seconds: float, daemons: dict[str, subprocess.Popen[bytes]], folder: Path
) -> None:
    """Wait until `ready()`, as long as every daemon runs."""
    deadline = time.monotonic() + seconds
    while not ready():
        ended = [name for name, process in daemons.items() if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            name = (ended or list(daemons))[-1]
            written = (folder / f"{name}.out").read_text(errors="replace").strip().splitlines()
            what = "stopped" if ended else f"was not ready within {seconds:.0f} s"
            raise RuntimeError(f"{name} {what}: {' | '.join(written[-3:])}")
        time.sleep(0.2)


def _node_is_idle(environment: dict[str, str]) -> bool:
    command = ["sinfo", "--noheader", "--format=%t"]
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip() == "idle"


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where Debian puts the daemons
