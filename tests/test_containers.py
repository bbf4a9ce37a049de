"""Level C: the command lines of container runtimes, and a real container where one works."""

import os
import sys
from pathlib import Path

import pytest

from memory.errors import SandboxError
from sandbox import containers
from sandbox.boundary import Isolation, Limits, Mount, Run
from sandbox.containers import Containers
from sandbox.gpus import Gpu
from sandbox.processes import is_alive
from tests.boxes import Box

LIMITS = Limits(memory_mib=1000, shm_mib=64, tmp_mib=32, processes=40, open_files=99)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    for name in ("data", "out"):
        (tmp_path / name).mkdir()
    job = tmp_path / "job.json"
    job.write_text("{}")
    mounts = [
        Mount(tmp_path / "data", "/data"),
        Mount(job, "/job.json"),
        Mount(tmp_path / "out", "/out", True),
    ]
    return Run([sys.executable, "-I", "-c", "print(1)"], mounts, tmp_path / "log", {}, LIMITS)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Let a runtime answer by the second word of a question; nothing where it is not known."""
    known: dict[str, str] = {}
    monkeypatch.setattr(containers, "ask", lambda line, given=b"": known.get(line[1], ""))
    return known


def isolation(name: str) -> Isolation:
    return Isolation("C", name, Path(f"/usr/bin/{name}"), "1.0")


def options(line: list[str], name: str) -> list[str]:
    """Return the values of an option that may come several times."""
    return [value for option, value in zip(line, line[1:], strict=False) if option == name]


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_podman_and_docker_give_nothing_that_was_not_asked_for(
    name: str, run: Run, tmp_path: Path, answers: dict[str, str]
) -> None:
    answers["info"] = '[cpu memory pids] "name=seccomp"'
    answers["image"] = "sha256:0"
    line = containers.LINES[name](isolation(name), run, tmp_path / "root", "segwright-1")
    assert line[:2] == [f"/usr/bin/{name}", "run"]
    assert options(line, "--network") == ["none"]
    assert options(line, "--cap-drop") == ["ALL"]
    assert options(line, "--name") == ["segwright-1"]
    assert "no-new-privileges" in options(line, "--security-opt")
    assert {"--read-only"} <= set(line)
    assert not {"--privileged", "--rm", "--env", "-e"} & set(line)
    assert options(line, "--pids-limit") == ["40"]
    assert options(line, "--memory") == [f"{1000 + 64 + 32 + containers.SLACK_MIB}m"]
    assert options(line, "--shm-size") == ["64m"]
    assert options(line, "--tmpfs") == ["/tmp:rw,mode=1777,size=32m"]
    assert {"nofile=99:99", "core=0:0", "nproc=40:40"} <= set(options(line, "--ulimit"))
    volumes = options(line, "--volume")
    assert [v for v in volumes if v.endswith(":rw")] == [f"{tmp_path}/out:/out:rw"]
    assert f"{tmp_path}/data:/data:ro" in volumes
    assert f"{Path(sys.prefix).resolve()}:{sys.prefix}:ro" in volumes
    assert not [v for v in volumes if v.startswith(("/:", f"{Path.home()}:"))]


def test_podman_is_this_user_alone_and_sets_the_limits_that_it_may(
    run: Run, tmp_path: Path, answers: dict[str, str]
) -> None:
    answers["info"] = "[]"
    line = containers.podman(isolation("podman"), run, tmp_path / "root", "segwright-1")
    assert options(line, "--uidmap") == options(line, "--gidmap") == ["0:0:1"]
    assert "--read-only-tmpfs=false" in line
    assert not {"--pids-limit", "--memory"} & set(line)
    assert line[-2:] == ["--rootfs", str(tmp_path / "root")]


def test_docker_runs_as_the_user_whose_files_it_writes(
    run: Run, tmp_path: Path, answers: dict[str, str]
) -> None:
    with pytest.raises(SandboxError, match="does not answer"):
        containers.docker(isolation("docker"), run, tmp_path, "segwright-1")
    answers["info"] = '["name=seccomp,profile=builtin"]'
    with pytest.raises(SandboxError, match="could not make the empty image"):
        containers.docker(isolation("docker"), run, tmp_path, "segwright-1")
    answers["import"] = "sha256:0"
    line = containers.docker(isolation("docker"), run, tmp_path, "segwright-1")
    assert options(line, "--user") == [f"{os.getuid()}:{os.getgid()}"]
    assert line[-3:] == ["--pull", "never", containers.IMAGE]
    answers["info"] = '["name=rootless"]'
    line = containers.docker(isolation("docker"), run, tmp_path, "segwright-1")
    assert options(line, "--user") == ["0:0"]


def test_apptainer_finds_a_place_for_every_mount(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    line = containers.apptainer(isolation("apptainer"), run, root, "segwright-1")
    assert {"--containall", "--no-home", "--cleanenv", "--net", "--userns"} <= set(line)
    assert options(line, "--network") == ["none"]
    assert f"{tmp_path}/out:/out:rw" in options(line, "--bind")
    assert (root / "job.json").is_file()
    assert (root / "data").is_dir()
    assert (root / sys.prefix.lstrip("/")).is_dir()
    assert line[-1] == str(root)


def test_only_the_leased_card_is_given(
    run: Run, tmp_path: Path, answers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "GPU_NODES", ("/dev/null", "/dev/no-such-node"))
    leased = Run(run.argv, run.mounts, run.log, gpu=Gpu("GPU-1", 987))
    line = containers.podman(isolation("podman"), leased, tmp_path, "segwright-1")
    assert options(line, "--device") == ["/dev/null"]
    assert "GPU-1" in containers.inside(leased)[-1]


def test_a_client_gets_no_variable_that_it_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "hunter2")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    given = containers.client_environment()
    assert given["XDG_RUNTIME_DIR"] == "/run/user/1"
    assert "API_KEY" not in given


def test_versions_are_read_from_what_runtimes_say(answers: dict[str, str]) -> None:
    answers["--version"] = "Docker version 28.2.2, build e6534b4"
    assert containers.version(Path("/usr/bin/docker")) == "28.2.2"
    answers["--version"] = "podman version 4.3.1"
    assert containers.version(Path("/usr/bin/podman")) == "4.3.1"
    answers.clear()
    assert containers.version(Path("/usr/bin/podman")) == "unknown"


@pytest.mark.slow
class TestReal:
    """Whatever runtime works on this machine; none need be installed."""

    @pytest.fixture
    def box(self, tmp_path: Path) -> Box:
        reasons = []
        for found in Containers().find():
            folder = tmp_path / found.name
            folder.mkdir()
            box = Box(found, folder)
            try:
                if box.run("print('contained')").code == 0:
                    box.log.write_bytes(b"")
                    return box
                reasons.append(f"{found.name}: {box.said()[-200:]}")
            except SandboxError as error:
                reasons.append(f"{found.name}: {error}")
        pytest.skip(f"no container runtime works here: {'; '.join(reasons) or 'none installed'}")

    def test_a_run_has_its_mounts_and_named_variables_alone(
        self, box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("API_KEY", "hunter2")
        (tmp_path / "label").write_text("secret")
        ended = box.run(
            f"""
            import os
            open("/out/made", "w").write("x")
            print(os.path.exists("{tmp_path}/label"), "API_KEY" in os.environ, os.environ["GIVEN"])
            fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
            print(fields["CapEff"].strip(), fields["NoNewPrivs"].strip(), fields["Seccomp"].strip())
            print(os.listdir("/sys/class/net"))
            try:
                open("/usr/made", "w")
            except OSError:
                print("read-only")
            """,
            env={"GIVEN": "yes"},
        )
        assert ended.code == 0, box.said()
        lines = box.said().splitlines()
        assert lines == ["False False yes", "0000000000000000 1 2", "['lo']", "read-only"]
        assert (box.out / "made").stat().st_uid == os.getuid()

    def test_nothing_is_left_after_a_deadline(self, box: Box) -> None:
        ended = box.run(
            """
            import os, time
            if os.fork() == 0:
                os.setsid()
            open("/out/pid", "w").write("x")
            time.sleep(60)
            """,
            limits=Limits(wall_s=2),
        )
        assert ended.cause == "timed_out"
        runtime = str(box.boundary.path)
        if box.boundary.name != "apptainer":
            named = [runtime, "ps", "--all", "--quiet", "--filter", "name=segwright-"]
            assert containers.ask(named) == ""
        assert not [p for p in Path("/proc").iterdir() if self.holds(p, box.out)]

    @staticmethod
    def holds(process: Path, folder: Path) -> bool:
        """Return True when a process has the folder among its mounts."""
        if not process.name.isdecimal() or not is_alive(int(process.name)):
            return False
        try:
            mounted = (process / "mountinfo").read_text()
        except OSError:
            return False
        return f"{folder} /out " in mounted
