import errno
import hashlib
import io
import tarfile
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from common.cli.errors import UserError
from common.data.fetch import SIZES, download, fetch, missing, size_text, unpack
from common.data.specs import SPECS

CONTENT = bytes(range(256)) * 800
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """Serves `files` on 127.0.0.1; `ranges` notes what was asked for. `lies`: headers that it states instead of the true ones. `cut` = bytes after which an answer breaks off, once."""

    def __init__(self, knows_ranges: bool):
        self.files, self.ranges, self.lies, self.cut, self.etag, self.knows_ranges = (
            {},
            [],
            {},
            None,
            None,
            knows_ranges,
        )
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self))
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *args):
        self.mine = server
        super().__init__(*args)

    def do_GET(self):
        content, asked = self.mine.files.get(self.path[1:]), self.headers.get("Range")
        self.mine.ranges.append(asked)
        if self.headers.get("If-Range", self.mine.etag) != self.mine.etag:
            asked = None
        if content is None:
            return self.send_error(404)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.mine.knows_ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if self.mine.etag:
            self.send_header("ETag", self.mine.etag)
        if start and "Content-Range" not in self.mine.lies:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for name, value in ({"Content-Length": str(len(content) - start)} | self.mine.lies).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        end, self.mine.cut = self.mine.cut, None
        self.wfile.write(content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def server(request):
    server = Server(request.param)
    server.files["set.bin"] = CONTENT
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def ranging():
    server = Server(True)
    server.files["set.bin"] = CONTENT
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_a_download_is_checked_and_leaves_no_part(server, tmp_path):
    target = tmp_path / "new" / "set.bin"
    download(server.url("set.bin"), target, MD5)
    assert target.read_bytes() == CONTENT and [path.name for path in target.parent.iterdir()] == ["set.bin"]
    download(server.url("set.bin"), target, MD5)
    assert len(server.ranges) == 1


def test_a_broken_download_goes_on_where_it_broke_off(server, tmp_path):
    server.cut = 100_000
    with pytest.raises(UserError, match="broke off after 100,000 of 204,800 bytes; fetch again to go on from there$"):
        download(server.url("set.bin"), tmp_path / "set.bin", MD5)
    assert (tmp_path / "set.bin.part").stat().st_size == 100_000 and not (tmp_path / "set.bin").exists()
    download(server.url("set.bin"), tmp_path / "set.bin", MD5)
    assert server.ranges == [None, "bytes=100000-"] and (tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_part_that_is_whole_is_kept(server, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(CONTENT)
    download(server.url("set.bin"), tmp_path / "set.bin", MD5)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_stops_and_the_part_goes(server, tmp_path):
    server.files["set.bin"] = CONTENT[:-1] + b"x"
    with pytest.raises(UserError, match=f"^set.bin has MD5 [0-9a-f]{{32}}, published is {MD5}$"):
        download(server.url("set.bin"), tmp_path / "set.bin", MD5)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_put_there_by_hand_is_refused_and_kept(server, tmp_path):
    (tmp_path / "set.bin").write_bytes(b"something else")
    with pytest.raises(UserError, match="published is"):
        download(server.url("set.bin"), tmp_path / "set.bin", MD5)
    assert (tmp_path / "set.bin").read_bytes() == b"something else" and server.ranges == []


@pytest.mark.parametrize("length", ["abc", "-5", "1.5", ""])
def test_a_length_that_is_no_number_is_refused(server, tmp_path, length):
    server.lies = {"Content-Length": length}
    with pytest.raises(
        UserError, match=f"^http://127.* states a Content-Length of {length!r}, expected a number of bytes$"
    ):
        download(server.url("set.bin"), tmp_path / "set.bin")
    assert list(tmp_path.iterdir()) == []


def test_another_range_than_was_asked_for_is_not_put_behind_the_part(tmp_path):
    server = Server(True)
    server.files["set.bin"], server.lies = CONTENT, {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(UserError, match="sends the range 'bytes 0-.*', asked were the bytes from 1,000$"):
        download(server.url("set.bin"), tmp_path / "set.bin", MD5)
    assert (tmp_path / "set.bin.part").read_bytes() == CONTENT[:1000]
    server.http.shutdown()
    server.http.server_close()


OTHER = CONTENT[::-1]


def begun(server, tmp_path, etag):
    """A download without a published checksum that broke off after 100,000 bytes."""
    server.etag, server.cut = etag, 100_000
    with pytest.raises(UserError, match="broke off after 100,000 of"):
        download(server.url("set.bin"), tmp_path / "set.bin")


@pytest.mark.parametrize("etag", ['"2"', None, 'W/"1"'], ids=["another ETag", "none", "a weak one"])
def test_a_file_that_changed_on_the_server_is_not_joined_to_its_former_part(server, tmp_path, etag):
    begun(server, tmp_path, '"1"' if etag == '"2"' else etag)
    server.files["set.bin"], server.etag = OTHER, etag
    download(server.url("set.bin"), tmp_path / "set.bin")
    assert (tmp_path / "set.bin").read_bytes() == OTHER and [path.name for path in tmp_path.iterdir()] == ["set.bin"]


def test_a_part_without_a_checksum_is_gone_on_with_where_the_server_vouches_for_it(server, tmp_path):
    begun(server, tmp_path, '"1"')
    download(server.url("set.bin"), tmp_path / "set.bin")
    assert (tmp_path / "set.bin").read_bytes() == CONTENT and server.ranges == [None, "bytes=100000-"]


@pytest.mark.parametrize("sent", ["bytes 100000-204799/204801", "bytes 100000-204798/204800", "bytes 100000-/204800", "bytes 100000-99999/204800",
                                  "bytes 100000-204800/204801", "items 100000-204799/204800", "", "bytes 100000-204799/1"])  # fmt: skip
def test_a_range_that_does_not_end_the_file_that_was_begun_is_refused(tmp_path, sent, ranging):
    begun(ranging, tmp_path, '"1"')
    ranging.lies = {"Content-Range": sent}
    with pytest.raises(UserError, match="sends (the range )?'"):
        download(ranging.url("set.bin"), tmp_path / "set.bin")
    assert (tmp_path / "set.bin.part").read_bytes() == CONTENT[:100_000]


def test_a_part_longer_than_the_file_is_taken_away(tmp_path, ranging):
    (tmp_path / "set.bin.part").write_bytes(CONTENT + b"more")
    with pytest.raises(UserError, match="has no byte 204,804.*the part was taken away, fetch again$"):
        download(ranging.url("set.bin"), tmp_path / "set.bin", MD5)
    download(ranging.url("set.bin"), tmp_path / "set.bin", MD5)
    assert [path.name for path in tmp_path.iterdir()] == ["set.bin"]


@pytest.mark.parametrize("lies", [{}, {"Content-Length": None}], ids=["stated", "not stated"])
def test_a_file_far_larger_than_the_set_is_not_loaded(server, tmp_path, monkeypatch, lies):
    monkeypatch.setitem(SIZES, "set.bin", 50_000)
    monkeypatch.setattr("common.data.fetch.CHUNK", 10_000)
    server.lies = lies
    with pytest.raises(UserError, match="sends [0-9,]+ bytes or more, and set.bin has 50,000; nothing was kept$"):
        download(server.url("set.bin"), tmp_path / "set.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_drips_is_left_and_the_part_kept(server, tmp_path, monkeypatch):
    monkeypatch.setattr("common.data.fetch.WINDOW_S", 0.0)
    monkeypatch.setattr("common.data.fetch.SLOWEST", 1e15)
    with pytest.raises(UserError, match="set.bin sent .* bytes in 0 s, which is too slow; fetch again to go on from"):
        download(server.url("set.bin"), tmp_path / "set.bin", MD5)
    assert (tmp_path / "set.bin.part").stat().st_size > 0


def test_an_archive_without_an_image_leaves_nothing_and_is_loaded_again(server, tmp_path):
    server.files["iSUN.tar.gz"] = tarball(("iSUN/readme.txt", b"moved"))
    spec = replace(SPECS["isun"], urls=(server.url("iSUN.tar.gz"),))
    for _ in range(2):
        with pytest.raises(UserError, match="iSUN.tar.gz holds no image; nothing was kept$"):
            fetch(spec, tmp_path)
        assert [path.name for path in tmp_path.rglob("*")] == [".downloads"]
    (tmp_path / ".downloads/iSUN.tar.gz").write_bytes(b"put there by hand")
    with pytest.raises(UserError, match="does not unpack"):
        fetch(spec, tmp_path)
    assert (tmp_path / ".downloads/iSUN.tar.gz").read_bytes() == b"put there by hand"


def test_what_is_missing_is_known_with_its_size_before_anything_is_loaded(tmp_path):
    assert missing(SPECS["svhn"], tmp_path) == ["test_32x32.mat", "train_32x32.mat"]
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn/test_32x32.mat").touch()
    assert size_text(missing(SPECS["svhn"], tmp_path)) == "182 MB"
    assert size_text(["train_32x32.mat", "iSUN.tar.gz"]) == "182 MB and 1 of a size that is not known"


def test_a_dead_link_says_where_to_put_the_file(server, tmp_path):
    spec = replace(SPECS["isun"], urls=(server.url("gone/iSUN.tar.gz"),))
    wanted = tmp_path / ".downloads" / "iSUN.tar.gz"
    with pytest.raises(
        UserError,
        match=f"^isun: .*gone/iSUN.tar.gz answers 404 .*; or put iSUN.tar.gz at {wanted} yourself and fetch again$",
    ):
        fetch(spec, tmp_path)


def test_a_host_that_does_not_answer_is_named(tmp_path):
    with pytest.raises(UserError, match=r"^http://127.0.0.1:1/x cannot be read \(.*refused"):
        download("http://127.0.0.1:1/x", tmp_path / "x")


def test_a_set_behind_a_login_says_what_to_get_and_where_to_put_it(tmp_path):
    with pytest.raises(
        UserError,
        match=f"^imagenet1k cannot be downloaded: register at https://image-net.org for ILSVRC2012_img_train.tar.*{tmp_path}/imagenet1k/train",
    ):
        fetch(SPECS["imagenet1k"], tmp_path)


def tarball(*members: tuple[str, bytes | str], mode: str = "w:gz") -> bytes:
    """A tar of (name, bytes); a str instead of bytes makes a symbolic link to it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(*members: tuple[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            member = zipfile.ZipInfo(name)
            if isinstance(content, str):
                member.external_attr = 0o120777 << 16
            archive.writestr(member, content)
    return buffer.getvalue()


def test_fetch_downloads_unpacks_and_clears_up(server, tmp_path):
    server.files["iSUN.tar.gz"] = tarball(("iSUN/a.jpeg", b"1"), ("./iSUN/deep/b.jpeg", b"2"))
    spec = replace(SPECS["isun"], urls=(server.url("iSUN.tar.gz"),))
    assert fetch(spec, tmp_path) == {"iSUN.tar.gz": "no published checksum"}
    assert (tmp_path / "isun" / "iSUN" / "deep" / "b.jpeg").read_bytes() == b"2"
    assert (
        sorted(path.name for path in tmp_path.iterdir()) == [".downloads", "isun"]
        and list((tmp_path / ".downloads").iterdir()) == []
    )
    assert fetch(spec, tmp_path) == {"iSUN.tar.gz": ""}


def test_a_top_folder_of_the_places_own_name_is_taken_off(server, tmp_path):
    content = tarball(("cifar-10-batches-py/test_batch", b"1"))
    server.files["cifar-10-python.tar.gz"] = content
    md5s = {"cifar-10-python.tar.gz": hashlib.md5(content).hexdigest()}
    said = fetch(replace(SPECS["cifar10"], urls=(server.url("cifar-10-python.tar.gz"),), md5s=md5s), tmp_path)
    assert said == {"cifar-10-python.tar.gz": "MD5 as published (torchvision's source)"}
    assert (tmp_path / "cifar-10-batches-py" / "test_batch").exists()


def test_a_single_file_is_put_in_its_folder(server, tmp_path):
    server.files["test_32x32.mat"] = CONTENT
    fetch(replace(SPECS["svhn"], urls=(server.url("test_32x32.mat"),), md5s={"test_32x32.mat": MD5}), tmp_path)
    assert (tmp_path / "svhn" / "test_32x32.mat").read_bytes() == CONTENT


@pytest.mark.parametrize("make", [tarball, zipped])
def test_both_kinds_of_archive_unpack(make, tmp_path):
    (tmp_path / "archive").write_bytes(make(("a/1.png", b"1"), ("b/2.png", b"2")))
    unpack(tmp_path / "archive", tmp_path / "set")
    assert {path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*.png")} == {
        "a/1.png",
        "b/2.png",
    }


@pytest.mark.parametrize("make", [tarball, zipped])
@pytest.mark.parametrize("name", ["../out.png", "a/../../out.png", "/out.png", "..\\out.png", "C:/out.png"])
def test_a_path_that_leaves_the_folder_is_refused_and_nothing_stays(make, name, tmp_path):
    (tmp_path / "archive").write_bytes(make(("fine.png", b"1"), (name, b"2")))
    with pytest.raises(UserError, match=r"^archive: refused '.*out.png', which would leave the folder$"):
        unpack(tmp_path / "archive", tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"] and not (tmp_path.parent / "out.png").exists()


@pytest.mark.parametrize("make", [tarball, zipped])
def test_a_link_is_refused(make, tmp_path):
    (tmp_path / "archive").write_bytes(make(("fine.png", b"1"), ("link.png", "/etc/hostname")))
    with pytest.raises(UserError, match="^archive: refused 'link.png', which is a link"):
        unpack(tmp_path / "archive", tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_device_is_refused(tmp_path):
    with tarfile.open(tmp_path / "archive", "w") as tar:
        device = tarfile.TarInfo("null")
        device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
        tar.addfile(device)
    with pytest.raises(UserError, match=r"^archive: refused 'null' \('null' is a special file\)$"):
        unpack(tmp_path / "archive", tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize("content", [b"no archive at all", tarball(("a.png", CONTENT))[:150]])
def test_a_damaged_archive_is_named(content, tmp_path):
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(UserError, match=r"archive does not unpack \(.*; delete it and fetch again$"):
        unpack(tmp_path / "archive", tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_disk_that_is_full_is_no_damage_and_the_archive_is_kept(server, tmp_path, small_files):
    server.files["iSUN.tar.gz"] = tarball(("a.png", bytes(2 * 10**6)))
    with pytest.raises(OSError) as caught:
        fetch(replace(SPECS["isun"], urls=(server.url("iSUN.tar.gz"),)), tmp_path)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "isun"))
    assert [path.name for path in tmp_path.rglob("*")] == [".downloads", "iSUN.tar.gz"]


def test_a_disk_that_is_full_is_not_blamed_on_the_server(server, tmp_path, small_files):
    server.files["set.bin"] = bytes(2 * 10**6)
    with pytest.raises(OSError) as caught:
        download(server.url("set.bin"), tmp_path / "set.bin")
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "set.bin.part"))


@pytest.mark.parametrize("field, value, said", [(6, 1, "encrypted"), (8, 77, "compression method")])
def test_a_zip_that_is_encrypted_or_packed_in_an_unknown_way_is_named_and_nothing_stays(field, value, said, tmp_path):
    content = bytearray(zipped(("a.png", b"1"), ("b.png", b"2")))
    # The second file's header, and its entry in the directory at the end, where every field lies two bytes further on
    content[content.rindex(b"PK\3\4") + field] = value
    content[content.rindex(b"PK\1\2") + field + 2] = value
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(UserError, match=f"archive does not unpack \\(.*{said}.*; delete it and fetch again$"):
        unpack(tmp_path / "archive", tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
