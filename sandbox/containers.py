"""Level C: a container runtime of the site (podman, docker, apptainer), by its command line.

No image is pulled: the root is an empty folder (docker: an empty image, made once), and this
machine's system and Python are mounted into it read-only, at their own paths. A keeper
(`sandbox/keeper.py`) runs the command line and removes the container afterwards.

Covered, as far as the runtime keeps its word: no network, own processes, users and mounts, no
capability, no privilege to gain, read-only root, /tmp and /dev/shm of a set size, limits of
memory and processes where the runtime may set them, the filter of `sandbox/seccomp.py`, an
environment of named variables. Not covered: a daemon that runs as root (docker), kernel faults,
the GPU driver's own interface; apptainer sets no size of /tmp and /dev/shm.
"""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from memory.errors import SandboxError
from sandbox import keeper, seccomp
from sandbox.boundary import ENVIRONMENT, Contained, Isolation, Limits, Mount, Run
from sandbox.bubblewrap import GPU_NODES, SYSTEM_FILES, SYSTEM_LINKS
from sandbox.gpus import Gpu
from sandbox.processes import descendants, tail
from sandbox.usage import remove

ASK_S = 60.0
SLACK_MIB = 512
IMAGE = "segwright-empty"
EMPTY_ARCHIVE = bytes(1024)
NEVER = "0001-"
REFUSED = 125
CLIENT_VARIABLES = (
    *("PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("DBUS_SESSION_BUS_ADDRESS", "CONTAINERS_CONF", "DOCKER_HOST", "DOCKER_CONTEXT"),
)
"""What a runtime needs of this process's environment; nothing of it is seen inside."""


class Containers:
    """The backend of level C: one isolation for each runtime that is installed."""

    name = "container"
    level = "C"
    gaps: Mapping[str, str] = {}

    def find(self) -> list[Isolation]:
        """Return the runtimes of this machine, those that need no daemon first."""
        found = [(name, shutil.which(name)) for name in LINES]
        return [Isolation(self.level, n, Path(p), version(Path(p))) for n, p in found if p]

    def start(self, isolation: Isolation, run: Run) -> Contained:
        """Start a run; a warm parent cannot join a container, and is not asked."""
        scratch = keeper.make_scratch()
        (scratch / "root").mkdir()
        name = f"segwright-{secrets.token_hex(8)}"
        try:
            line = LINES[isolation.name](isolation, run, scratch / "root", name)
        except SandboxError:
            remove(scratch)
            raise
        runtime = str(isolation.path)
        last = [[runtime, "inspect", "--format", "{{.State.StartedAt}}", name]]
        last.append([runtime, "rm", "--force", name])
        orders = keeper.Orders(
            argv=[*line, *inside(run)],
            env=client_environment(),
            scratch=str(scratch),
            last=[] if isolation.name == "apptainer" else last,
            log_bytes=(run.limits.log_mib + 1) << 20,
        )
        if isolation.name == "apptainer":
            return keeper.Kept(run, scratch, orders)
        return InContainer(run, scratch, orders, runtime, name)


class InContainer(keeper.Kept):
    """A run in a container that somebody else's process may have started."""

    def __init__(
        self, run: Run, scratch: Path, orders: keeper.Orders, runtime: str, name: str
    ) -> None:
        """Start the runtime's client below a keeper."""
        self.runtime, self.container, self.first_pid = runtime, name, 0
        super().__init__(run, scratch, orders)

    def pids(self) -> list[int]:
        """Return the keeper, all below it, and the processes of the container."""
        found = super().pids()
        if found and not self.first_pid:
            told = ask([self.runtime, "inspect", "--format", "{{.State.Pid}}", self.container])
            self.first_pid = int(told) if told.isdecimal() else 0
        inside = descendants(self.first_pid) if found and self.first_pid else []
        return list(dict.fromkeys([*found, *inside]))

    @property
    def folders(self) -> list[Path]:
        """Nothing: /tmp and /dev/shm inside have a size."""
        return []

    def end(self) -> None:
        """Have the runtime kill the container, which it else loses count of; then the rest."""
        if self.code is None:
            ask([self.runtime, "kill", "--signal", "KILL", self.container])
            self.poll(keeper.GONE_S)
        super().end()

    def fault(self) -> str:
        """Return why the command never ran; the runtime tells when the container started."""
        told = self.outcome().get("last", [""])
        if self.code == REFUSED and (not told[0] or told[0].startswith(NEVER)):
            return f"the sandbox could not be set up: {tail(self.log, 500)}"
        return super().fault()


def inside(run: Run) -> list[str]:
    """Return what runs in the container: the trusted lines, then the run's command."""
    env = {**ENVIRONMENT, **run.env}
    if run.gpu is not None:
        env["CUDA_VISIBLE_DEVICES"] = run.gpu.uuid
    limits = keeper.process_limits(run)
    return keeper.first(run.argv, env, limits, filters=[seccomp.program()])


def podman(isolation: Isolation, run: Run, root: Path, name: str) -> list[str]:
    """Return podman's command line, up to the command: no daemon, this user alone inside.

    Without a privilege of its own a container cannot set every limit; those that it may set are
    asked for.
    """
    controllers = ask([str(isolation.path), "info", "--format", "{{.Host.CgroupControllers}}"])
    line = [str(isolation.path), "run", *common(run, name)]
    line += ["--read-only-tmpfs=false", "--no-hosts", "--passwd=false", "--log-driver", "none"]
    line += ["--uidmap", "0:0:1", "--gidmap", "0:0:1", "--user", "0:0"]
    line += ["--pids-limit", str(run.limits.processes)] if "pids" in controllers else []
    line += ["--memory", memory(run.limits)] if "memory" in controllers else []
    return [*line, "--rootfs", str(root)]


def docker(isolation: Isolation, run: Run, root: Path, name: str) -> list[str]:
    """Return docker's command line, up to the command.

    Raises:
        SandboxError: the daemon does not answer.
    """
    told = ask([str(isolation.path), "info", "--format", "{{json .SecurityOptions}}"])
    if not told:
        raise SandboxError("docker's daemon does not answer this user")
    has_image = ask([str(isolation.path), "image", "inspect", "--format", "{{.Id}}", IMAGE])
    if not has_image and not ask([str(isolation.path), "import", "-", IMAGE], EMPTY_ARCHIVE):
        raise SandboxError(f"docker could not make the empty image {IMAGE}")
    user = "0:0" if "rootless" in told else f"{os.getuid()}:{os.getgid()}"
    line = [str(isolation.path), "run", *common(run, name), "--user", user]
    line += ["--pids-limit", str(run.limits.processes), "--memory", memory(run.limits)]
    return [*line, "--log-driver", "none", "--pull", "never", IMAGE]


def apptainer(isolation: Isolation, run: Run, root: Path, name: str) -> list[str]:
    """Return apptainer's command line, up to the command; its processes are the client's own."""
    line = [str(isolation.path), "exec", "--containall", "--no-home", "--cleanenv", "--userns"]
    line += ["--net", "--network", "none", "--no-privs", "--drop-caps", "all", "--pwd", "/tmp"]
    for source, target, is_writable in all_mounts(run):
        place_for(Path(source), root / target.lstrip("/"))
        line += ["--bind", f"{source}:{target}:{'rw' if is_writable else 'ro'}"]
    for node in gpu_nodes(run.gpu):
        line += ["--bind", f"{node}:{node}"]
    for folder in ("tmp", "proc", "dev", "sys"):
        (root / folder).mkdir(exist_ok=True)
    return [*line, str(root)]


LINES: Mapping[str, Callable[[Isolation, Run, Path, str], list[str]]] = {
    "podman": podman,
    "apptainer": apptainer,
    "docker": docker,
}


def common(run: Run, name: str) -> list[str]:
    """Return the options that podman and docker share."""
    limits = run.limits
    line = ["--name", name, "--network", "none", "--hostname", "sandbox", "--read-only"]
    line += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    line += ["--security-opt", "label=disable", "--workdir", "/tmp"]
    line += ["--tmpfs", f"/tmp:rw,mode=1777,size={limits.tmp_mib}m"]
    line += ["--shm-size", f"{limits.shm_mib}m"]
    line += ["--ulimit", f"nofile={limits.open_files}:{limits.open_files}", "--ulimit", "core=0:0"]
    line += ["--ulimit", f"nproc={limits.processes}:{limits.processes}"]
    for source, target, is_writable in all_mounts(run):
        line += ["--volume", f"{source}:{target}:{'rw' if is_writable else 'ro'}"]
    for node in gpu_nodes(run.gpu):
        line += ["--device", str(node)]
    return line


def all_mounts(run: Run) -> list[Mount]:
    """Return the run's mounts, and this machine's system and Python at their own paths."""
    folders = [Path("/usr"), *(Path("/", name) for name in SYSTEM_LINKS)]
    folders += [Path(path) for path in SYSTEM_FILES]
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):
        if not Path(prefix).is_relative_to("/usr"):
            folders.append(Path(prefix))
    own = [Mount(folder.resolve(), str(folder)) for folder in folders if folder.exists()]
    return [*own, *(Mount(m.source.resolve(), m.target, m.is_writable) for m in run.mounts)]


def place_for(source: Path, target: Path) -> None:
    """Make the empty file or folder on which a source is mounted."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


def gpu_nodes(gpu: Gpu | None) -> list[Path]:
    """Return the nodes of one card and of the driver that this machine has."""
    nodes = [Path(node) for node in (*GPU_NODES, f"/dev/nvidia{gpu.minor}")] if gpu else []
    return [node for node in nodes if node.exists()]


def memory(limits: Limits) -> str:
    """Return the kernel's limit, which lies above the one that is watched from outside."""
    return f"{limits.memory_mib + limits.shm_mib + limits.tmp_mib + SLACK_MIB}m"


def client_environment() -> dict[str, str]:
    """Return the variables of this process that a runtime's client needs."""
    return {name: os.environ[name] for name in CLIENT_VARIABLES if name in os.environ}


def version(path: Path) -> str:
    """Return the version that a runtime reports; unknown where it does not start."""
    words = [word.strip(",") for word in ask([str(path), "--version"]).split()]
    return next((word for word in words if word[:1].isdecimal()), "unknown")


def ask(line: Sequence[str], given: bytes = b"") -> str:
    """Return what a runtime prints; empty where it fails."""
    try:
        ran = subprocess.run(
            line, env=client_environment(), input=given, capture_output=True, timeout=ASK_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.decode(errors="replace").strip() if ran.returncode == 0 else ""
