"""Where a model of `hf:` comes from, which one exactly, under which licence, and what is said where it cannot be had."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everylabel.model import encoders
from everylabel.model.encoders import hub_errors, hub_source
from everylabel.model.encoders.hub_errors import explain
from tests.hub_server import Hub, Repository, serving
from tests.image_models import SIZE, VIT, made, saved
from tests.two_towers import saved_two_towers

REPOSITORY = Path(__file__).resolve().parents[4]
FIRST, SECOND = "a" * 40, "b" * 40
CARD = "---\nlicense: apache-2.0\ntags:\n- vision\n---\n# A model\n"
TERMS = "---\nlicense: other\nlicense_name: some-license\nlicense_link: https://example.org/terms\n---\n"

FIND = """
import json, sys
from everylabel.model.encoders import hub_source
before = hub_source.licence(sys.argv[1])
try:
    found = hub_source.find(sys.argv[1])
except ValueError as error:
    print(json.dumps({"error": str(error), "licence": before}))
else:
    said = {"identity": found.identity, "licence": found.licence, "before": before, "commit": found.commit}
    print(json.dumps({**said, "files": sorted(path.name for path in found.folder.iterdir()), "torch": "torch" in sys.modules}))
"""
ENCODE = """
import json, sys
import numpy as np
from everylabel.model import encoders
encoder = encoders.create(sys.argv[1], device="cpu")
crops = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
print(json.dumps({"signature": encoder.signature, "licence": encoder.licence, "rows": encoder.encode(crops).tolist()}))
"""
TRACE = """
import json, sys, traceback
from everylabel.model.encoders import hub_source
try:
    hub_source.find(sys.argv[1])
except ValueError:
    print(json.dumps({"logged": traceback.format_exc()}))
"""
WORDS = """
import json, sys
from everylabel.model import encoders
print(json.dumps({"words": encoders.create(sys.argv[1], device="cpu").encode_words(["a rusty bolt"]).tolist()}))
"""


def model(folder: Path, seed: int = 0, card: str | None = CARD) -> Path:
    """Save a small DINOv2 as its makers publish one; another seed gives other weights."""
    network = made("Dinov2Model", "Dinov2Config", **VIT)
    network.layernorm.weight.data += seed
    saved(network, folder)
    if card is not None:
        (folder / "README.md").write_text(card)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return model(folder / "first"), model(folder / "second", seed=1)


@pytest.fixture
def hub(models: tuple[Path, Path]) -> Iterator[Hub]:
    both = {FIRST: models[0], SECOND: models[1]}
    public = Repository(both, {"main": FIRST, "v2": SECOND})
    with serving(Hub({"makers/tiny": public})) as found:
        yield found


def run(script: str, source: str, hub: Hub, home: Path, **environment: str) -> dict[str, Any]:
    """Run a script in a process of its own: the hub's client reads the environment as it is loaded."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
    }
    own = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **environment,
    }
    ran = subprocess.run(
        [sys.executable, "-c", script, source],
        env={**kept, **own},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    for token in hub.tokens:
        assert token not in ran.stdout + ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def test_a_model_comes_from_the_hub_once_and_stays_what_it_was(hub: Hub, tmp_path: Path) -> None:
    first = run(ENCODE, "hf:makers/tiny", hub, tmp_path)
    assert f"hf:makers/tiny@{FIRST} " in first["signature"]
    assert first["licence"] == "apache-2.0, as its model card says"
    asked = len(hub.requests)
    assert asked
    hub.repositories["makers/tiny"].refs["main"] = SECOND
    assert run(ENCODE, "hf:makers/tiny", hub, tmp_path) == first
    assert len(hub.requests) == asked, "the hub is not asked again"
    other = run(ENCODE, "hf:makers/tiny", hub, tmp_path / "another machine")
    assert f"hf:makers/tiny@{SECOND} " in other["signature"]
    assert other["rows"] != first["rows"]


def test_a_model_in_the_cache_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    first = run(FIND, "makers/tiny", hub, tmp_path)
    assert not first["torch"]
    gone = Hub(url="http://127.0.0.1:9")  # nobody listens there
    assert run(FIND, "makers/tiny", gone, tmp_path) == first
    assert run(FIND, "makers/tiny", gone, tmp_path, HF_HUB_OFFLINE="1") == first


def test_a_cache_that_another_program_has_filled_is_completed_once(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "towers").mkdir()
    saved_two_towers(tmp_path / "towers", "clip")
    (tmp_path / "towers" / "README.md").write_text(CARD)
    hub.repositories["makers/towers"] = Repository({FIRST: tmp_path / "towers"}, {"main": FIRST})
    home = tmp_path / "home"
    whole = run(FIND, "makers/towers", hub, home)
    shutil.rmtree(next(home.glob("hub/*/.no_exist")))
    (snapshot,) = home.glob("hub/*/snapshots/*")
    for path in snapshot.iterdir():
        if path.name not in ("config.json", "model.safetensors", "tokenizer_config.json"):
            path.unlink()
    alone = run(FIND, "makers/towers", hub, home, HF_HUB_OFFLINE="1")
    for said in (alone["before"], alone["licence"]):
        assert said == "unknown: its model card is not in the cache"
    assert run(FIND, "makers/towers", hub, home) == whole
    asked = len(hub.requests)
    assert run(FIND, "makers/towers", hub, home) == whole
    assert len(hub.requests) == asked, "nothing is missing any more"


def test_only_what_is_read_is_downloaded(hub: Hub, models: tuple[Path, Path], tmp_path: Path) -> None:
    more = shutil.copytree(models[0], tmp_path / "more")
    for name in ("pytorch_model.bin", "tf_model.h5", "model.fp16.safetensors"):
        (more / name).write_bytes(b"large")
    hub.repositories["makers/more"] = Repository({FIRST: more}, {"main": FIRST})
    found = run(FIND, "makers/more", hub, tmp_path / "home")
    assert found["files"] == ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]


def test_a_model_that_reads_words_comes_with_its_tokenizer(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "towers").mkdir()
    saved_two_towers(tmp_path / "towers", "clip")
    hub.repositories["makers/towers"] = Repository({FIRST: tmp_path / "towers"}, {"main": FIRST})
    source, home = f"hf:makers/towers@{FIRST}", tmp_path / "home"
    run(ENCODE, source, hub, home)
    words = run(WORDS, source, Hub(url="http://127.0.0.1:9"), home, HF_HUB_OFFLINE="1")["words"]
    expected = encoders.create(f"hf:{tmp_path / 'towers'}", device="cpu").encode_words(["a rusty bolt"])
    np.testing.assert_allclose(words, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("revision", "commit"), [("v2", SECOND), (SECOND, SECOND), ("main", FIRST)])
def test_a_revision_can_be_named(revision: str, commit: str, hub: Hub, tmp_path: Path) -> None:
    assert run(FIND, f"makers/tiny@{revision}", hub, tmp_path)["identity"] == f"makers/tiny@{commit}"


def test_a_download_that_was_broken_off_is_finished_at_its_commit(hub: Hub, tmp_path: Path) -> None:
    run(FIND, "makers/tiny", hub, tmp_path)
    (weights,) = tmp_path.glob("hub/*/snapshots/*/model.safetensors")
    weights.unlink()
    hub.repositories["makers/tiny"].refs["main"] = SECOND
    assert run(FIND, "makers/tiny", hub, tmp_path)["commit"] == FIRST
    assert weights.exists()


def test_weights_in_several_files_come_whole(hub: Hub, tmp_path: Path) -> None:
    network = made("Dinov2Model", "Dinov2Config", **VIT)
    saved(network, tmp_path / "shards")
    network.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    (tmp_path / "shards" / "model.safetensors").unlink(missing_ok=True)
    hub.repositories["makers/shards"] = Repository({FIRST: tmp_path / "shards"}, {"main": FIRST})
    files = run(FIND, "makers/shards", hub, tmp_path / "home")["files"]
    assert sum(name.startswith("model-0000") for name in files) > 1
    assert encoders.create(f"hf:{tmp_path / 'shards'}", device="cpu").dim == 2 * VIT["hidden_size"]


def test_a_gated_model_says_how_to_be_let_in_and_shows_its_licence(
    hub: Hub, models: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(models[0], tmp_path / "gated")
    (folder / "README.md").write_text(TERMS)
    hub.repositories["makers/gated"] = Repository({FIRST: folder}, {"main": FIRST}, gated=True)
    refused = run(FIND, "makers/gated", hub, tmp_path / "home")
    for words in ("agreed to its terms", f"{hub.url}/makers/gated", "HF_TOKEN", "hf:FOLDER"):
        assert words in refused["error"]
    assert refused["licence"] == "some-license (https://example.org/terms), as its model card says"
    let_in = run(FIND, "makers/gated", hub, tmp_path / "home", HF_TOKEN=hub.valid_token)
    assert let_in["identity"] == f"makers/gated@{FIRST}"
    assert hub.tokens == {hub.valid_token}


@pytest.mark.parametrize(
    ("source", "environment", "words"),
    [
        ("makers/no-such-model", {}, ["knows no model makers/no-such-model", "private", "HF_TOKEN"]),
        ("makers/tiny@v9", {}, ["no revision v9", "/makers/tiny/commits/main"]),
        ("makers/tiny", {"HF_TOKEN": "hf_" + "old"}, ["refused the token"]),
        (
            "makers/tiny",
            {"HF_HUB_OFFLINE": "1"},
            ["not in the cache", "HF_HUB_OFFLINE", "hf download makers/tiny"],
        ),
        ("makers/pickled", {}, ["no model.safetensors", "pickled weights are not read"]),
        ("makers/empty", {}, ["no config.json"]),
        ("makers/--", {}, ["cannot be the name"]),
    ],
)
def test_what_cannot_be_had_is_said_in_words(
    source: str,
    environment: dict[str, str],
    words: list[str],
    hub: Hub,
    models: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    pickled = shutil.copytree(models[0], tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    (tmp_path / "empty").mkdir()
    hub.repositories["makers/pickled"] = Repository({FIRST: pickled}, {"main": FIRST})
    hub.repositories["makers/empty"] = Repository({FIRST: tmp_path / "empty"}, {"main": FIRST})
    said = run(FIND, source, hub, tmp_path / "home", **environment)["error"]
    assert said.startswith(f"Cannot load hf:{source}: ")
    for part in words:
        assert part in said
    assert "\n" not in said


def test_a_hub_that_cannot_be_reached_is_named_with_ways_round_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    said = explain(ConnectionError("hf_" + "secret"), "makers/tiny", None)
    for words in ("cannot be reached", "HTTPS_PROXY", "HF_ENDPOINT", "hf download makers/tiny --local-dir"):
        assert words in said
    assert "secret" not in said
    assert "HF_HOME" in explain(OSError(28, "No space left on device"), "makers/tiny", None)


def test_a_folder_is_known_by_its_content_wherever_it_lies(models: tuple[Path, Path], tmp_path: Path) -> None:
    moved = shutil.copytree(models[0], tmp_path / "moved")
    here, there = (encoders.create(f"hf:{folder}", device="cpu") for folder in (models[0], moved))
    assert here.name != there.name
    assert here.signature == there.signature
    assert str(tmp_path) not in there.signature
    (moved / "README.md").unlink()
    assert hub_source.find(str(moved)).identity == hub_source.find(str(models[0])).identity
    other = encoders.create(f"hf:{models[1]}", device="cpu")
    assert other.signature != here.signature
    crops = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    np.testing.assert_array_equal(here.encode(crops), there.encode(crops))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_every_file_that_rows_depend_on_counts(name: str, models: tuple[Path, Path], tmp_path: Path) -> None:
    changed = shutil.copytree(models[0], tmp_path / "changed")
    with (changed / name).open("ab") as opened:
        opened.write(b" ")
    assert hub_source.find(str(changed)).identity != hub_source.find(str(models[0])).identity


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (CARD, "apache-2.0, as its model card says"),
        ("---\nlicense:\n- mit\n- cc-by-4.0\n---\n", "mit, cc-by-4.0, as its model card says"),
        (TERMS, "some-license (https://example.org/terms), as its model card says"),
        ("---\nlicense: other\nlicense_name: x\nlicense_link: LICENSE\n---\n", "x, as its model card says"),
        ("---\r\nlicense: mit\r\n---\r\n", "mit, as its model card says"),
        ("---\ntags: [a]\n---\n", "unknown: its model card names none"),
        ("# no fields\n", "unknown: its model card names none"),
        ("---\nlicense: [\n---\n", "unknown: its model card names none"),
        ("---\n- 1\n---\n", "unknown: its model card names none"),
        ("---\nlicense: mit\ndate: 2024-02-31\n---\n", "mit, as its model card says"),
        ("---\nlicense: no\n---\n", "no, as its model card says"),
        ("---\nlicense: null\n---\n", "unknown: its model card names none"),
        ("---\nlicense: &a [*a]\n---\n", "unknown: its model card names none"),
        ("---\nlicense: " + "[" * 20_000 + "\n---\n", "unknown: its model card names none"),
        ("---" + "\n" * 60_000 + "x", "unknown: its model card names none"),
        ('---\nlicense: "mit\\n\\e[31mred"\n---\n', "mit [31mred, as its model card says"),
        (None, "unknown: there is no model card"),
    ],
)
def test_the_licence_is_what_the_model_card_says(card: str | None, said: str, tmp_path: Path) -> None:
    if card is not None:
        (tmp_path / "README.md").write_bytes(card.encode())
    assert hub_source.licence(str(tmp_path)) == said


def test_other_encoders_have_no_model_card() -> None:
    assert encoders.hub_licence("efficientnet-lite0") is None
    assert encoders.hub_licence("hf:") == "unknown: its model card cannot be read"


def test_a_folder_of_pickled_weights_says_how_to_write_safe_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"pickled weights are not read.*save_pretrained"):
        hub_source.find(str(tmp_path))


@pytest.mark.parametrize(
    "source", ["./no/folder", "/no/folder", "a/b/c", "a b", "makers/tiny@", "~nobody-here/x"]
)
def test_neither_a_folder_nor_a_name_is_said_so(source: str) -> None:
    with pytest.raises(ValueError, match=r"no such folder here, and it is no name"):
        hub_source.find(source)


def test_a_name_that_is_too_long_is_said_to_be_none() -> None:
    with pytest.raises(ValueError, match="cannot be the name of a model"):
        hub_source.find("a" * 300)
    assert hub_source.licence("a" * 300) == "unknown: its model card cannot be read"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that even root cannot read")
def test_files_that_cannot_be_read_are_said_to_be(models: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(models[0], tmp_path / "folder")
    for name in ("README.md", "model.safetensors"):
        (folder / name).unlink()
        (folder / name).symlink_to("/proc/self/mem")
    assert hub_source.licence(str(folder)) == "unknown: its model card cannot be read"
    with pytest.raises(ValueError, match=r"^Cannot load hf:.* cannot be read \(") as found:
        hub_source.find(str(folder))
    assert isinstance(found.value.__cause__, OSError)


def test_no_address_that_was_asked_reaches_a_log(hub: Hub, tmp_path: Path) -> None:
    logged = run(TRACE, "makers/no-such-model", hub, tmp_path)["logged"]
    assert "knows no model makers/no-such-model" in logged
    assert "/resolve/" not in logged


def test_the_address_of_a_models_page_is_the_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://me:secret@mirror:8080/hub/")
    assert hub_errors._page("makers/tiny") == "http://mirror:8080/hub/makers/tiny"


def test_an_index_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "../../secret.safetensors"}}'
    )
    with pytest.raises(ValueError, match="no file of weights beside it"):
        hub_source.find(str(tmp_path))
