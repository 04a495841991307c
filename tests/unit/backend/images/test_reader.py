"""Images from anywhere, friendly or hostile: what is read, what is refused, and who is sent the token."""

from __future__ import annotations

import base64
import gzip
import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from everylabel.backend.images.decode import decode
from everylabel.backend.images.decoding_limits import ImageLimits
from everylabel.backend.images.errors import (
    AddressRefusedError,
    ImageMissingError,
    ImageTokenError,
    ImageTooLargeError,
    ImageUnreachableError,
    NotAnImageError,
)
from everylabel.backend.images.guarded_transport import is_reserved
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.label_studio.errors import LabelStudioError

SECRET = "Token 5ec2e7"
LIMITS = ImageLimits(
    max_bytes=200_000, max_pixels=1_000_000, connect_seconds=2, read_seconds=0.5, total_seconds=1.5
)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stored = io.BytesIO()
    image.save(stored, kind, **options)
    return stored.getvalue()


RED = encoded(Image.new("RGB", (8, 6), (255, 0, 0)))


class Server:
    """A small web server on loopback: `routes[path]` is (status, headers, body) or a function of the handler."""

    def __init__(self) -> None:
        self.routes: dict[str, Any] = {}
        self.seen: list[tuple[str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.seen.append((self.path, self.headers.get("Authorization")))
                route = server.routes.get(urlsplit(self.path).path, (404, {}, b""))
                if callable(route):
                    route(self)
                    return
                status, headers, body = route
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def label_studio() -> Iterator[Server]:
    server = Server()
    server.routes["/data/upload/1/red.png"] = (200, {}, RED)
    yield server
    server.close()


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    server = Server()
    server.routes["/red.png"] = (200, {}, RED)
    yield server
    server.close()


def reader(label_studio: Server, *, private: bool = False) -> ImageReader:
    return ImageReader(label_studio.url, lambda: SECRET, limits=LIMITS, allow_private_addresses=private)


# --- what is read


@pytest.mark.parametrize("form", ["/data/upload/1/red.png", "upload/1/red.png", "{}/data/upload/1/red.png"])
def test_an_upload_is_read_with_the_token(label_studio: Server, form: str) -> None:
    image = reader(label_studio).read(form.format(label_studio.url), 1)
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (8, 6), (255, 0, 0))
    assert label_studio.seen == [("/data/upload/1/red.png", SECRET)]


def test_uploads_in_a_cloud_store_are_found(label_studio: Server) -> None:
    label_studio.routes["/storage-data/uploaded/"] = (200, {}, RED)
    assert reader(label_studio).read("/data/upload/1/moved.png", 1).size == (8, 6)
    assert label_studio.seen[-1] == ("/storage-data/uploaded/?filepath=upload/1/moved.png", SECRET)


def test_a_cloud_link_is_resolved_by_label_studio_and_followed_without_the_token(
    label_studio: Server, elsewhere: Server
) -> None:
    signed = f"{elsewhere.url}/red.png?X-Signature=abc"
    label_studio.routes["/tasks/7/presign/"] = (303, {"Location": signed}, b"")
    assert reader(label_studio, private=True).read("s3://bucket/dir/red.png", 7).size == (8, 6)
    path, token = label_studio.seen[0]
    fileuri = parse_qs(urlsplit(path).query)["fileuri"][0]
    assert base64.urlsafe_b64decode(fileuri) == b"s3://bucket/dir/red.png"
    assert token == SECRET
    assert elsewhere.seen == [("/red.png?X-Signature=abc", None)]


def test_a_path_prefix_of_label_studio_is_kept_once(label_studio: Server) -> None:
    label_studio.routes["/ls/data/upload/1/a.png"] = (200, {}, RED)
    under_prefix = ImageReader(f"{label_studio.url}/ls/", lambda: SECRET)
    under_prefix.read("/data/upload/1/a.png", 1)
    under_prefix.read("/ls/data/upload/1/a.png", 1)
    assert label_studio.seen == [("/ls/data/upload/1/a.png", SECRET)] * 2


def test_a_data_uri_is_read(label_studio: Server) -> None:
    uri = "data:image/png;base64," + base64.b64encode(RED).decode()
    assert reader(label_studio).read(uri, 1).size == (8, 6)


def test_many_threads_share_a_reader(label_studio: Server) -> None:
    shared = reader(label_studio)
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda _: shared.read("/data/upload/1/red.png", 1).size, range(60)))
    assert set(sizes) == {(8, 6)}


def test_an_image_is_read_as_a_browser_shows_it(label_studio: Server) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.new("RGB", (5, 5), color) for color in ((255, 0, 0), (0, 255, 0))]
    grey = np.array([[0, 32768, 65535]], dtype=np.uint16)
    files = {
        "rotated.jpg": encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif),
        "animated.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "cmyk.jpg": encoded(Image.new("CMYK", (4, 4)), "JPEG"),
        "grey16.png": encoded(Image.fromarray(grey)),
    }
    images = {}
    for name, content in files.items():
        label_studio.routes[f"/data/upload/1/{name}"] = (200, {}, content)
        images[name] = reader(label_studio).read(f"/data/upload/1/{name}", 1)
        assert images[name].mode == "RGB"
    assert images["rotated.jpg"].size == (4, 8)
    assert images["animated.gif"].getpixel((0, 0)) == (255, 0, 0)
    assert images["cmyk.jpg"].getpixel((0, 0)) == (255, 255, 255)
    assert [images["grey16.png"].getpixel((x, 0))[0] for x in range(3)] == [0, 127, 255]


# --- who gets the token


def test_a_redirect_elsewhere_leaves_the_token_behind(label_studio: Server, elsewhere: Server) -> None:
    label_studio.routes["/data/upload/1/a.png"] = (302, {"Location": f"{elsewhere.url}/red.png"}, b"")
    reader(label_studio, private=True).read("/data/upload/1/a.png", 1)
    assert elsewhere.seen == [("/red.png", None)]


def test_a_stranger_that_redirects_to_label_studio_does_not_borrow_the_token(
    label_studio: Server, elsewhere: Server
) -> None:
    target = f"{label_studio.url}/data/upload/1/red.png"
    elsewhere.routes["/a.png"] = (302, {"Location": target}, b"")
    reader(label_studio, private=True).read(f"{elsewhere.url}/a.png", 1)
    assert label_studio.seen == [("/data/upload/1/red.png", None)]


@pytest.mark.parametrize("path", ["/api/users/", "/data/../api/users/", "/data/%2e%2e/api/users/", "/logout"])
def test_only_media_routes_of_label_studio_get_the_token(label_studio: Server, path: str) -> None:
    with pytest.raises(ImageError):
        reader(label_studio).read(f"{label_studio.url}{path}", 1)
    assert all(token is None for _, token in label_studio.seen)


def test_messages_hold_no_secret(label_studio: Server, elsewhere: Server) -> None:
    elsewhere.routes["/a.png"] = (403, {}, b"")
    label_studio.routes["/data/upload/1/a.png"] = (401, {}, b"")
    host = elsewhere.url.removeprefix("http://")
    for url in (f"http://user:hunter2@{host}/a.png?token=hunter2", "/data/upload/1/a.png?token=hunter2"):
        with pytest.raises(ImageError) as caught:
            reader(label_studio, private=True).read(url, 1)
        assert "hunter2" not in str(caught.value)
        assert "5ec2e7" not in str(caught.value)


@pytest.mark.parametrize("hidden", ["\x1b]0;title\x07", "\x9b31m", "\u202e", "\u200b", "\x7f", "\x00"])
@pytest.mark.parametrize("start", ["", "/data/upload/1/", "http://127.0.0.1:1/", "s3://bucket/", "file:///"])
def test_messages_hold_nothing_that_a_terminal_obeys(label_studio: Server, start: str, hidden: str) -> None:
    with pytest.raises(ImageError) as caught:
        reader(label_studio).read(f"{start}a{hidden}b.png", 1)
    assert str(caught.value).isprintable()


def test_a_refused_or_missing_token_says_what_to_set(label_studio: Server) -> None:
    label_studio.routes["/data/upload/1/red.png"] = (401, {}, b"")
    with pytest.raises(ImageTokenError, match="LABEL_STUDIO_API_KEY"):
        reader(label_studio).read("/data/upload/1/red.png", 1)

    def no_token() -> str:
        raise LabelStudioError("Set LABEL_STUDIO_API_KEY")

    with pytest.raises(ImageTokenError, match="LABEL_STUDIO_API_KEY"):
        ImageReader(label_studio.url, no_token).read("/data/upload/1/red.png", 1)


# --- which addresses are refused


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/red.png",
        "http://localhost:{port}/red.png",
        "http://2130706433:{port}/red.png",
        "http://[::1]:{port}/red.png",
        "http://[::ffff:127.0.0.1]:{port}/red.png",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/red.png",
        "file:///etc/passwd",
        "ftp://example.com/red.png",
        "gopher://example.com/",
        "red.png",
        "//example.com/red.png",
        "http://",
    ],
)
def test_addresses_that_are_not_fetched(label_studio: Server, elsewhere: Server, url: str) -> None:
    with pytest.raises(AddressRefusedError):
        reader(label_studio).read(url.format(port=urlsplit(elsewhere.url).port), 1)
    assert elsewhere.seen == []


def test_a_redirect_to_a_private_address_is_refused(label_studio: Server, elsewhere: Server) -> None:
    label_studio.routes["/data/upload/1/a.png"] = (302, {"Location": f"{elsewhere.url}/red.png"}, b"")
    with pytest.raises(AddressRefusedError, match="EVERYLABEL_ALLOW_PRIVATE_ADDRESSES"):
        reader(label_studio).read("/data/upload/1/a.png", 1)
    assert elsewhere.seen == []


def test_a_redirect_to_a_file_is_refused(label_studio: Server) -> None:
    label_studio.routes["/data/upload/1/a.png"] = (302, {"Location": "file:///etc/passwd"}, b"")
    with pytest.raises(AddressRefusedError):
        reader(label_studio).read("/data/upload/1/a.png", 1)


def test_the_connection_goes_to_the_address_that_was_checked(
    label_studio: Server, elsewhere: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when asked first and private when asked again: it is only asked once."""
    asked: list[str] = []
    connected: list[str] = []

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        address = "93.184.216.34" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        connected.append(address[0])
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(ImageUnreachableError):
        reader(label_studio).read("http://rebinding.example/red.png", 1)
    assert (asked, connected) == (["rebinding.example"], ["93.184.216.34"])


def test_a_name_with_one_private_address_among_public_ones_is_refused(
    label_studio: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        addresses = "93.184.216.34", "192.168.0.7"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(AddressRefusedError):
        reader(label_studio).read("http://mixed.example/red.png", 1)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:8.8.8.8",
        "64:ff9b::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002::1",
        "fc00::1",
        "fe80::1",
        "ff02::1",
    ],
)
def test_what_label_studio_bans_is_reserved(address: str) -> None:
    assert is_reserved(address)


def test_public_addresses_are_not_reserved() -> None:
    assert not is_reserved("93.184.216.34")
    assert not is_reserved("2606:4700::1111")


# --- hostile and broken content


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises pixels and holds none: small enough for any limit on bytes."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\x00" * 1000)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


NOISE = encoded(Image.effect_noise((64, 64), 90), "JPEG")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", NotAnImageError),
        (b"\x00" * 500, NotAnImageError),
        (b"<!doctype html><title>Sign in</title>", NotAnImageError),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", NotAnImageError),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NotAnImageError),
        (NOISE[: len(NOISE) // 2], NotAnImageError),
        (RED[:40], NotAnImageError),
        (RED[:45] + b"\xff" * 20 + RED[65:], NotAnImageError),
        (png_header(2_000, 2_000), ImageTooLargeError),
        (png_header(60_000, 60_000), ImageTooLargeError),
        (png_header(0, 0), NotAnImageError),
    ],
    ids=[
        "empty",
        "zeros",
        "html",
        "svg",
        "eps",
        "cut-jpeg",
        "cut-png",
        "damaged-png",
        "large",
        "bomb",
        "no-pixels",
    ],
)
def test_bad_content_has_a_reason(content: bytes, error: type[ImageError]) -> None:
    with pytest.raises(error) as caught:
        decode(content, LIMITS, "crop.png")
    assert "crop.png" in caught.value.reason
    assert caught.value.way_out


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_every_cut_of_a_file_is_an_image_or_a_named_error() -> None:
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        whole = encoded(Image.effect_noise((24, 24), 90), kind)
        rng = np.random.default_rng(0)
        for cut in range(0, len(whole), max(1, len(whole) // 25)):
            flipped = bytearray(whole)
            for position in rng.integers(0, len(whole), 4):
                flipped[position] ^= int(rng.integers(1, 256))
            for content in (whole[:cut], bytes(flipped)):
                with suppress(ImageError):
                    assert decode(content, LIMITS).mode == "RGB"


def test_too_many_bytes_are_not_read(label_studio: Server) -> None:
    label_studio.routes["/data/upload/1/a.png"] = (200, {"Content-Length": "900000000"}, b"x")
    with pytest.raises(ImageTooLargeError, match="EVERYLABEL_MAX_IMAGE_MEGABYTES"):
        reader(label_studio).read("/data/upload/1/a.png", 1)


def test_a_stream_without_a_length_is_cut_off(label_studio: Server) -> None:
    sent = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        try:
            while sent < 50_000_000:
                sent += handler.wfile.write(b"x" * 10_000)
        except OSError:
            pass

    label_studio.routes["/data/upload/1/a.png"] = endless
    with pytest.raises(ImageTooLargeError):
        reader(label_studio).read("/data/upload/1/a.png", 1)
    time.sleep(0.2)
    assert sent < 20_000_000


def test_a_compressed_answer_unfolds_within_the_limit(label_studio: Server) -> None:
    bomb = gzip.compress(b"\x00" * 50_000_000)
    assert len(bomb) < LIMITS.max_bytes
    label_studio.routes["/data/upload/1/bomb.png"] = (200, {"Content-Encoding": "gzip"}, bomb)
    label_studio.routes["/data/upload/1/fine.png"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(RED))
    with pytest.raises(ImageTooLargeError):
        reader(label_studio).read("/data/upload/1/bomb.png", 1)
    assert reader(label_studio).read("/data/upload/1/fine.png", 1).size == (8, 6)


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("data:image/png;base64," + "A" * 400_000, ImageTooLargeError),
        ("data:image/png;base64", NotAnImageError),
        ("data:image/png;base64,AAA", NotAnImageError),
        ("data:text/html,<p>", NotAnImageError),
    ],
    ids=["large", "no-data", "damaged", "html"],
)
def test_bad_data_uris(label_studio: Server, uri: str, error: type[ImageError]) -> None:
    with pytest.raises(error):
        reader(label_studio).read(uri, 1)


@pytest.mark.parametrize("part", ["headers", "body", "nothing"])
def test_a_slow_server_is_given_up_on(label_studio: Server, part: str) -> None:
    """Each byte arrives in time, the whole never does: only the deadline of the request ends it."""

    def drip(handler: BaseHTTPRequestHandler) -> None:
        try:
            if part == "nothing":
                time.sleep(60)
                return
            if part == "body":
                handler.send_response(200)
                handler.end_headers()
            else:
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for _ in range(600):
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.1)
        except OSError:
            pass

    label_studio.routes["/data/upload/1/a.png"] = drip
    started = time.monotonic()
    with pytest.raises(ImageUnreachableError) as caught:
        reader(label_studio).read("/data/upload/1/a.png", 1)
    assert time.monotonic() - started < 30, "the server goes on for a minute"
    assert caught.value.retry


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((404, {}, b""), ImageMissingError),
        ((410, {}, b""), ImageMissingError),
        ((500, {}, b""), ImageUnreachableError),
        ((429, {}, b""), ImageUnreachableError),
        ((302, {"Location": "/data/upload/1/a.png"}, b""), ImageUnreachableError),
        ((302, {"Location": "/user/login/?next=/"}, b""), ImageTokenError),
    ],
    ids=["404", "410", "500", "429", "loop", "login"],
)
def test_answers_without_an_image(label_studio: Server, answer: Any, error: type[ImageError]) -> None:
    label_studio.routes["/data/upload/1/a.png"] = answer
    with pytest.raises(error):
        reader(label_studio).read("/data/upload/1/a.png", 1)


def test_nobody_listening_can_be_tried_again(label_studio: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = ImageReader(f"http://127.0.0.1:{unused.getsockname()[1]}", lambda: SECRET, limits=LIMITS)
        with pytest.raises(ImageUnreachableError):
            gone.read("/data/upload/1/a.png", 1)


@pytest.mark.parametrize("url", ["", "  ", None, 7, ["a.png"]])
def test_a_task_without_an_address(label_studio: Server, url: Any) -> None:
    with pytest.raises(ImageMissingError):
        reader(label_studio).read(url, 1)
