"""Verbs as a user types them: output, exit codes, one line for each expected error."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.cli import main
from agent.run import alone
from memory.errors import SegwrightError
from tests.scripted import new_campaign, write_dataset


def call(*args: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


def refused(result: Result) -> str:
    """Return the one line of an expected error."""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.output
    assert lines[0].startswith("segwright: ")
    assert "Traceback" not in result.output
    return lines[0]


def test_help_names_every_verb_with_an_example() -> None:
    shown = call("--help").output
    verbs = ("demo", "init", "run", "status", "tree", "show", "why", "reproduce", "export", "check")
    for verb in (*verbs, "memory", "doctor"):
        assert f"  {verb} " in shown
        text = call(verb, "--help").output
        assert f"Example: segwright {verb}" in text
    assert "Example: segwright data check" in call("data", "check", "--help").output


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys\nfrom agent.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'langgraph', 'matplotlib', 'SimpleITK', 'scipy', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_init_makes_a_campaign_and_says_what_is_next(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, cases=24)
    result = call("init", tmp_path / "c", "--data", data, "--set", "explore.drafts=3")
    assert result.exit_code == 0, result.output
    assert "the split is locked" in result.output
    assert f"next: segwright run {tmp_path / 'c'}" in result.output
    assert "drafts = 3" in (tmp_path / "c" / "campaign.toml").read_text()
    locked = sorted((tmp_path / "c" / "locked" / "labels").iterdir())
    assert locked
    staged = {p.name for p in (tmp_path / "c" / "staging").rglob("*.nii.gz")}
    assert not {p.name for p in locked} & staged


def test_init_takes_the_settings_of_another_campaign(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, cases=24)
    options = ("--data", data, "--set", "explore.drafts=3", "--set", "engine.patch_size=[8, 8]")
    assert call("init", tmp_path / "a", *options).exit_code == 0
    again = ("--config", tmp_path / "a" / "campaign.toml", "--set", "explore.c=2.0")
    assert call("init", tmp_path / "b", "--data", data, *again).exit_code == 0
    text = (tmp_path / "b" / "campaign.toml").read_text()
    assert 'name = "b"' in text
    assert "drafts = 3" in text
    assert "c = 2.0" in text
    assert "patch_size = [8, 8]" in text


def test_init_json(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, cases=24)
    said = json.loads(call("init", tmp_path / "c", "--data", data, "--json").output)
    assert sum(said["cases"].values()) == 24
    planned = said["planned"]
    assert (planned["cases"], planned["seeds"]) == (said["cases"]["locked-test"], 3)
    assert (planned["power"], planned["alpha"]) == (0.8, 0.05)
    assert 0.02 < planned["detectable"] < 0.1
    assert said["exploratory"] == "7 locked subjects (a claim needs 50)"
    assert len(said["protocol"]) == 64


def test_init_says_what_can_be_found_and_that_few_cases_make_no_claim(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, cases=24)
    shown = call("init", tmp_path / "c", "--data", data, "--set", "confirm.seeds=2").output
    assert "with 7 locked subjects and 2 seeds a gain of about " in shown
    assert "will be found (80 % power) if noise is as usual" in shown
    assert "declared the protocol " in shown
    line = next(line for line in shown.splitlines() if line.startswith("exploratory: "))
    assert "7 locked subjects (a claim needs 50) and confirm.seeds of 2" in line
    assert line.endswith("nothing will be claimed")


def test_patients_count_once_however_many_cases_they_have(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, cases=24)
    declared = json.loads((data / "dataset.json").read_text())
    declared["patients"] = {f"case_{i:03d}": f"p{i // 2}" for i in range(24)}
    (data / "dataset.json").write_text(json.dumps(declared))
    said = json.loads(call("init", tmp_path / "c", "--data", data, "--json").output)
    assert 2 * said["planned"]["cases"] == said["cases"]["locked-test"]


def test_init_refuses_and_writes_nothing(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, cases=24)
    (data / "labelsTr" / "case_003.nii.gz").write_bytes(b"not an image")
    line = refused(call("init", tmp_path / "c", "--data", data))
    assert "case_003" in line
    assert sorted(p.name for p in tmp_path.iterdir()) == [data.name]


def test_init_never_overwrites(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, cases=24)
    (tmp_path / "c").mkdir()
    assert "exists" in refused(call("init", tmp_path / "c", "--data", data))


def test_init_names_a_wrong_setting(tmp_path: Path) -> None:
    result = call("init", tmp_path / "c", "--data", tmp_path, "--set", "explore.draft=3")
    assert "did you mean 'drafts'" in refused(result)
    assert result.exit_code == 1


@pytest.mark.parametrize(
    "args",
    [
        *(("status",), ("tree",), ("why",), ("run",), ("check",)),
        *(("show", "ab"), ("reproduce", "ab"), ("export", "--to", "x"), ("memory",)),
    ],
)
def test_a_folder_without_a_campaign_is_one_line(tmp_path: Path, args: tuple[str, ...]) -> None:
    result = call(args[0], tmp_path, *args[1:])
    assert "holds no campaign" in refused(result)
    assert result.exit_code == 1


def test_wrong_usage_is_2(tmp_path: Path) -> None:
    assert call("run", tmp_path, "--hours", "soon").exit_code == 2
    assert call("nonsense").exit_code == 2


def test_status_and_tree_of_a_new_campaign(tmp_path: Path) -> None:
    folder = new_campaign(tmp_path)
    assert json.loads(call("status", folder, "--json").output)["state"] == "new"
    assert json.loads(call("tree", folder, "--json").output)["nodes"] == []
    assert "new" in call("status", folder).output
    assert "no trial begins" in refused(call("show", folder, "zz"))


def test_data_check_names_each_fault_and_exits_1(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, cases=12)
    assert call("data", "check", data).exit_code == 0
    (data / "labelsTr" / "case_001.nii.gz").unlink()
    before = sorted(p.name for p in tmp_path.rglob("*"))
    result = call("data", "check", data)
    assert result.exit_code == 1
    assert "case_001" in result.output
    found: dict[str, Any] = json.loads(call("data", "check", data, "--json").output)
    assert [f["code"] for f in found["findings"]] == ["missing_label"]
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(SegwrightError, match="another `segwright run`"):
        with alone(tmp_path):
            pass


def test_doctor_names_the_isolation(tmp_path: Path) -> None:
    lines = json.loads(call("doctor", "--json").output)
    by_name = {line["name"]: line for line in lines}
    assert by_name["isolation level"]["is_ok"]
    assert by_name["no network"]["text"].startswith("yes")
    assert by_name["no survivors"]["is_ok"]
    assert all(line["fix"] for line in lines if not line["is_ok"])


def test_version() -> None:
    assert call("--version").output.strip().endswith("0.1.0")
