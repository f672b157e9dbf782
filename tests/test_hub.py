"""Models of the Hugging Face hub, fetched from a real server on loopback: see loopback_hub.py."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from loopback_hub import COMMIT, FILE, GGUF, LICENCE, OLDER, REPO, Hub, serving

from synthgen_local import ModelError, ModelNotFoundError
from synthgen_local.models import resolve, store
from synthgen_local.models.catalog import CatalogEntry

Run = Callable[..., Any]

NAME = f"{REPO}:Q4_K_M"
SHA256 = hashlib.sha256(GGUF).hexdigest()


class Hasty:
    """The clock of a client that does not wait between two tries."""

    time = time.time

    @staticmethod
    def sleep(_seconds: float) -> None:
        """Go on."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, an empty cache of ours, and an empty one of the hub's."""
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving() as server:
        # What the client read from its environment when it was imported.
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
        monkeypatch.setattr("huggingface_hub.file_download.time", Hasty)
        yield server
        huggingface_hub.close_session()


def kept(tmp_path: Path) -> list[str]:
    """The names of the files in both caches, without the client's own marks."""
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    return sorted(p.name for p in files if ".locks" not in p.parts and p.name != "CACHEDIR.TAG")


def test_a_model_is_fetched_pinned_and_checked(hub: Hub, tmp_path: Path) -> None:
    """The commit, hash, licence and licence text that the hub tells are recorded with the model."""
    notes: list[str] = []

    model = resolve.pull(NAME, notes.append)

    assert model.path.read_bytes() == GGUF
    assert (model.repo, model.revision, model.sha256) == (REPO, COMMIT, SHA256)
    assert (model.licence, model.licence_text) == ("apache-2.0", LICENCE.decode())
    assert resolve.find(NAME) == model.path
    assert store.find(NAME) == model
    assert any("apache-2.0" in note and COMMIT in note for note in notes)
    assert [note for note in notes if note.startswith("100 %")]
    assert f"Verified sha256 {SHA256}" in notes


def test_a_second_pull_asks_nobody(hub: Hub) -> None:
    """What is here is not fetched again, unless another revision is asked for."""
    resolve.pull(NAME)
    asked = len(hub.asked)

    resolve.pull(NAME, pytest.fail)
    assert len(hub.asked) == asked
    assert resolve.pull(NAME, revision=OLDER).revision == OLDER
    assert len(hub.downloads()) == 1  # the same bytes: the blob is hashed, not fetched


def test_nothing_else_is_asked_or_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """No telemetry: only the model's own addresses, and a user agent of plain versions."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # what the variable does
    resolve.pull(NAME)

    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    for _, path, headers in hub.asked:
        assert REPO in path or path == f"/cdn/{FILE}"
        assert "agent/" not in headers["user-agent"]


def test_a_token_is_for_the_hub_alone(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_TOKEN opens a private model, and is not shown to the host that keeps the bytes."""
    hub.token = "hf_secret"
    with pytest.raises(ModelError, match="does not show") as caught:
        resolve.pull(NAME)
    assert "HF_TOKEN" in caught.value.hint

    monkeypatch.setenv("HF_TOKEN", hub.token)
    resolve.pull(NAME)

    (download,) = hub.downloads()
    assert "authorization" not in download[1]


def test_a_connection_cut_half_way_is_taken_up(hub: Hub) -> None:
    """A cut inside one pull goes on where it was, in ranges, and the file is whole."""
    hub.faults = ["cut", "cut"]

    assert resolve.pull(NAME).path.read_bytes() == GGUF
    starts = [headers.get("range") for _, headers in hub.downloads()]
    assert starts[0] is None
    assert starts[1] == "bytes=76000-"  # of 102,404 bytes 76,803 came, in blocks of 1,000
    assert len(starts) == 3


def test_a_pull_given_up_goes_on_later(hub: Hub, tmp_path: Path) -> None:
    """What has come is kept when the hub goes away, and the same command goes on there."""
    hub.faults = ["cut", "unavailable"]
    send = hub.RequestHandlerClass.send_bytes  # type: ignore[attr-defined]

    def unavailable(answer: Any) -> None:
        if hub.faults == ["unavailable"]:
            return answer.send(b"{}", 503, {})  # type: ignore[no-any-return]
        return send(answer)  # type: ignore[no-any-return]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub.RequestHandlerClass, "send_bytes", unavailable)
        with pytest.raises(ModelNotFoundError, match="answers 503") as caught:
            resolve.pull(NAME)
    assert caught.value.exit_code == 3
    assert kept(tmp_path / "hub") == [f"{SHA256}.synthgen-local.incomplete"]
    with pytest.raises(ModelNotFoundError):
        resolve.find(NAME)

    hub.faults = []
    notes: list[str] = []
    assert resolve.pull(NAME, notes.append).path.read_bytes() == GGUF
    assert hub.downloads()[-1][1]["range"] == "bytes=76000-"
    assert any(note.startswith("Going on at") for note in notes)


def test_an_answer_that_ends_early(hub: Hub) -> None:
    """A proxy that hides where the file ends does not make half a file a whole one."""
    hub.faults = ["ends early"]

    with pytest.raises(ModelNotFoundError, match="cut off at 51202 of 102404 bytes"):
        resolve.pull(NAME)
    assert resolve.pull(NAME).path.read_bytes() == GGUF


def test_a_server_without_ranges(hub: Hub) -> None:
    """Where a range is not understood the file is fetched from its start, not doubled."""
    hub.faults = ["cut", "no ranges"]

    assert resolve.pull(NAME).path.read_bytes() == GGUF


@pytest.mark.parametrize("cut", [False, True])
def test_wrong_bytes_are_not_kept(cut: bool, hub: Hub, tmp_path: Path) -> None:
    """A file whose hash is not the hub's is deleted, also when it came in two parts."""
    hub.faults = [*["cut"] * cut, "wrong bytes"]

    with pytest.raises(ModelError, match="not what the hub says") as caught:
        resolve.pull(NAME)
    assert caught.value.exit_code == 1
    assert kept(tmp_path) == []


def test_more_bytes_than_promised_are_not_taken(hub: Hub, tmp_path: Path) -> None:
    """A hub that sends without end fills no disk: what came is deleted at once."""
    hub.faults.append("endless")
    with pytest.raises(ModelError, match="sends more than the 102404 bytes"):
        resolve.pull(NAME)

    assert kept(tmp_path) == []
    assert hub.sent < 50_000_000, "it was read to the end"


def test_a_licence_has_an_end(hub: Hub, tmp_path: Path) -> None:
    """What the hub says that a text has is not what it sends."""
    hub.endless.add("LICENSE")
    with pytest.raises(ModelError, match="LICENSE may have"):
        resolve.pull(NAME)

    assert "LICENSE" not in kept(tmp_path)
    assert hub.sent < 50_000_000, "it was read to the end"


@pytest.mark.parametrize(
    "name", ["../../../evil-Q4_K_M.gguf", "a\x1b]0;evil\x07-Q4_K_M.gguf", "/q-Q4_K_M.gguf"]
)
def test_names_that_lead_elsewhere(name: str, hub: Hub, tmp_path: Path) -> None:
    """A hub's file names become paths, and are shown."""
    hub.files = {name: GGUF}
    with pytest.raises(ModelError, match=r"leads elsewhere|answers with something else|has no"):
        resolve.pull(NAME)
    assert kept(tmp_path) == []


def test_a_damaged_rest_of_an_earlier_pull(hub: Hub, tmp_path: Path) -> None:
    """A partial file that was changed, or grew too long, never becomes the model."""
    partial = tmp_path / f"hub/models--somebody--Tiny-GGUF/blobs/{SHA256}.synthgen-local.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"?" * 100)
    with pytest.raises(ModelError, match="not what the hub says"):
        resolve.pull(NAME)
    assert kept(tmp_path) == []

    partial.write_bytes(b"?" * 2 * len(GGUF))
    assert resolve.pull(NAME).path.read_bytes() == GGUF


def test_a_damaged_file_in_the_hubs_cache(hub: Hub) -> None:
    """A blob that anybody damaged is fetched again: a pull ends with the right bytes or none."""
    path = resolve.pull(NAME).path
    store.remove(NAME)
    assert not path.exists()
    resolve.pull(NAME).path.resolve().write_bytes(GGUF[:-1] + b"!")

    with pytest.raises(ModelError, match="is damaged"):
        store.verify(store.find(NAME))
    assert resolve.pull(NAME, revision=COMMIT).path.read_bytes() == GGUF
    assert len(hub.downloads()) == 3


@pytest.mark.parametrize("fault", ["no lfs", "weak etag"])
def test_one_hash_is_enough(fault: str, hub: Hub) -> None:
    """A mirror may tell the hash in the LFS record or in the ETag."""
    hub.faults = [fault]

    assert resolve.pull(NAME).sha256 == SHA256


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (["no lfs", "weak etag"], "tells no sha256"),
        (["other hash"], "tells two hashes"),
    ],
)
def test_without_a_hash_nothing_is_fetched(
    faults: list[str], message: str, hub: Hub, tmp_path: Path
) -> None:
    """What could not be checked is not fetched."""
    hub.faults = faults

    with pytest.raises(ModelError, match=message):
        resolve.pull(NAME)
    assert hub.downloads() == []
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "status", "code", "exit_code", "message"),
    [
        ("/api/", 404, "RepoNotFound", 1, "has no somebody/Tiny-GGUF"),
        ("/api/", 401, "", 1, "does not show"),
        ("/api/", 403, "GatedRepo", 1, "accepted its terms"),
        ("/api/", 400, "", 1, "answers 400"),
        ("/api/", 500, "", 3, "answers 500"),
        ("/api/", 503, "", 3, "answers 503"),
        ("/api/", 429, "", 3, "answers 429"),
        ("/resolve/", 404, "EntryNotFound", 1, "not this file"),
        ("/resolve/", 403, "GatedRepo", 1, "accepted its terms"),
        ("/cdn/", 403, "", 1, "does not show"),
        ("/cdn/", 502, "", 3, "answers 502"),
        ("/api/", 200, "", 1, "something else than the hub"),
    ],
)
def test_refusals(
    path: str, status: int, code: str, exit_code: int, message: str, hub: Hub, tmp_path: Path
) -> None:
    """Each refusal has its line: 3 where another time may help, 1 where it will not."""
    hub.status = {path: (status, code)}

    with pytest.raises(ModelError, match=message) as caught:
        resolve.pull(NAME)
    assert caught.value.exit_code == exit_code
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelNotFoundError):
        resolve.find(NAME)


def test_names_that_do_not_say_which(hub: Hub) -> None:
    """No quantisation, a wrong one, a part of a file, and a name that no repository can have."""
    hub.files["big-Q6_K-00001-of-00002.gguf"] = b"GGUF"
    for name, message in {
        REPO: "names 3 files",
        f"{REPO}:Q2_K": "names 0 files",
        f"{REPO}:Q6_K": "part of several",
        "some--body/x:Q8_0": "no name of a repository",
    }.items():
        with pytest.raises(ModelError, match=message):
            resolve.pull(name)
    assert hub.downloads() == []


def test_a_file_that_is_no_model(hub: Hub) -> None:
    """What does not begin as a GGUF file is not recorded as a model."""
    hub.files[FILE] = b"<html>" * 100

    with pytest.raises(ModelError, match="no GGUF file"):
        resolve.pull(NAME)
    assert store.lookup_model(NAME) is None


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({"license": "mit"}, "mit"),
        ({"license": "other", "license_name": "llama3.2\x1b[2J\n x"}, "llama3.2[2J x"),
        ({}, "not stated"),
    ],
)
def test_the_licence_is_what_the_card_says(card: dict[str, str], licence: str, hub: Hub) -> None:
    """A licence of its own is called by its name, and cannot write on the terminal."""
    hub.card = card

    assert resolve.pull(NAME).licence == licence


def test_an_entry_of_the_catalog_from_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short name stands for a repository; the catalog's licence is shown, the hub's hash kept."""
    entry = CatalogEntry(
        name="tiny", title="Tiny", quantisation="Q4_K_M", licence="Tiny Terms",
        checked_by="hub", sources=[{"kind": "hub", "repo": REPO}],
    )  # fmt: skip
    for module in (resolve, store):
        monkeypatch.setattr(module, "catalog", lambda: {"tiny": entry})

    with pytest.raises(ModelNotFoundError, match="not on this machine"):
        resolve.find("tiny")
    model = resolve.pull("tiny")

    assert resolve.find("tiny") == model.path
    assert (model.licence, model.sha256, model.revision) == ("Tiny Terms", SHA256, COMMIT)


def test_remove_leaves_the_rest_of_the_hubs_cache(hub: Hub, tmp_path: Path) -> None:
    """Only the model's file goes; other files and revisions that were fetched stay."""
    resolve.pull(NAME)
    resolve.pull(f"{REPO}:Q8_0")

    store.remove(NAME)

    names = kept(tmp_path / "hub")
    assert "tiny-Q8_0.gguf" in names
    assert "LICENSE" in names
    assert FILE not in names
    assert SHA256 not in names
    assert resolve.find(f"{REPO}:Q8_0").is_file()


def test_two_pulls_at_once(hub: Hub, tmp_path: Path) -> None:
    """A file that another process is fetching is left alone."""
    import fcntl

    partial = tmp_path / f"hub/models--somebody--Tiny-GGUF/blobs/{SHA256}.synthgen-local.incomplete"
    partial.parent.mkdir(parents=True)
    with partial.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ModelError, match="another process"):
            resolve.pull(NAME)
    assert partial.is_file()


# The rest as a user has it: the command, and the client's environment variables.


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "SYNTHGEN_LOCAL_CACHE": str(tmp_path / "cache"),
        "no_proxy": "127.0.0.1,localhost",
    }


def test_the_command(run: Run, environment: dict[str, str], tmp_path: Path) -> None:
    """user/repo:QUANT is fetched into HF_HOME, then found there, also with HF_HUB_OFFLINE."""
    before = run("models", "path", NAME, **environment)
    pulled = run("models", "pull", NAME, "--json", **environment)
    facts = json.loads(pulled.out)
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    after = run("models", "path", NAME, **offline)
    listed = json.loads(run("models", "list", "--json", **offline).out)

    assert before.code == 3
    assert Path(facts["path"]).read_bytes() == GGUF, pulled.err
    assert Path(facts["path"]).is_relative_to(tmp_path / "home")
    assert (facts["revision"], facts["sha256"], facts["licence"]) == (COMMIT, SHA256, "apache-2.0")
    assert f"Licence of {NAME}: apache-2.0" in pulled.err
    assert after.out == f"{facts['path']}\n"
    assert listed[-1]["name"] == NAME


def one_line_error(done: Any, code: int, message: str) -> None:
    """After lines of progress an error is a line and a hint, nothing on stdout, no traceback."""
    *_, error, hint = done.err.splitlines()
    assert (done.code, done.out) == (code, "")
    assert error.startswith("Error: ")
    assert message in error
    assert hint.startswith("Hint: ")
    assert "Traceback" not in done.err


def test_pull_without_a_network(run: Run, environment: dict[str, str], tmp_path: Path) -> None:
    """Exit code 3, one line, soon: of the hub, of wheels, and with HF_HUB_OFFLINE."""
    nowhere = environment | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    one_line_error(run("models", "pull", NAME, **nowhere), 3, "cannot be reached")
    one_line_error(run("models", "pull", "qwen3-0.6b", **nowhere), 3, "cannot be reached")
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    one_line_error(run("models", "pull", NAME, **offline), 3, "HF_HUB_OFFLINE is set")
    index = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    index |= {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    wheels = run("models", "pull", "smollm2-135m-instruct", **environment | index)
    one_line_error(wheels, 3, "'smollm2-135m-instruct' cannot be fetched")


def test_a_pull_that_was_killed_goes_on(environment: dict[str, str], hub: Hub) -> None:
    """kill -9 in the middle of a download costs the last block of 10 MiB and no more."""
    hub.files[FILE] = data = b"GGUF" + os.urandom(1 << 20) * 30
    hub.faults = ["stall"]
    command = [sys.executable, "-m", "synthgen_local", "models", "pull", NAME]
    settings = {"env": os.environ | environment, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **settings) as first:  # type: ignore[call-overload]
        assert hub.stalled.wait(30)
        (blobs,) = Path(environment["HF_HOME"]).rglob("blobs")
        (partial,) = blobs.iterdir()
        for _ in range(500):  # the bytes are on their way
            if partial.stat().st_size >= 20 << 20:
                break
            time.sleep(0.01)
        first.kill()
    assert partial.stat().st_size == 20 << 20

    second = subprocess.run(command, capture_output=True, check=True, env=os.environ | environment)

    assert Path(second.stdout.decode().strip()).read_bytes() == data
    assert hub.downloads()[-1][1]["range"] == f"bytes={20 << 20}-"
