"""How commands end: exit codes, one line on standard error, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from blockkit import create_image
from blockkit.cli.groups import img as group
from blockkit.cli.img import COMMANDS
from blockkit.cli.root import root
from blockkit.cli.running import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("words", [("--version",), ("-V",)])
def test_the_version_is_told(words: tuple[str, ...], cli: Callable) -> None:
    result = cli(*words)
    assert result.code == 0
    assert result.out.startswith("blockkit ")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_that_are_valid_and_exit_codes(name: str, img: Callable) -> None:
    for flag in ("-h", "--help"):
        result = img(name, flag)
        assert result.code == 0
        assert "Exit codes:\n  0 " in result.out
    command = group.get_command(click.Context(root), name)
    assert command.declared.examples
    for example in command.declared.examples:
        assert f"  {example}\n" in result.out
        words = example.partition(" | ")[0].replace("'", "").split()
        assert words[:3] == ["blockkit", "img", name]
        command.make_context(name, words[3:], resilient_parsing=False).close()


@pytest.mark.parametrize("words", [(), ("img",)])
def test_no_command_shows_what_there_is(words: tuple[str, ...], cli: Callable) -> None:
    result = cli(*words)
    assert result.code == (1 if words else 2)
    assert "Commands:" in result.err


def test_the_list_of_commands_imports_none_of_them(environment: dict[str, str]) -> None:
    program = "import sys; from blockkit.cli.running import run; run(['img', '--help']); print('MODULES', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    modules = done.stdout.rpartition("MODULES")[2].split()
    assert not [name for name in modules if name.startswith("blockkit.cli.img.")]
    assert "construct" not in modules


@pytest.mark.parametrize(
    ("words", "hint"),
    [(("img", "inof"), "'info'"), (("im",), "'img'"), (("img", "info", "--outptu", "json", "a"), "--output")],
)
def test_a_misspelling_is_told_with_what_was_meant(words: tuple[str, ...], hint: str, cli: Callable) -> None:
    result = cli(*words)
    assert result.code == (1 if words[0] == "img" else 2)
    assert hint in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_a_missing_image_is_one_line_and_no_traceback(name: str, tmp_path: Path, img: Callable) -> None:
    missing = tmp_path / "no such directory" / "a"
    words = {
        "create": (missing, "1M"),
        "convert": (missing, tmp_path / "b"),
        "compare": (missing, missing),
        "resize": (missing, "1M"),
        "dd": (f"if={missing}", f"of={tmp_path / 'b'}"),
    }.get(name, (missing,))
    result = img(name, *words)
    assert result.code == (2 if name == "compare" else 1)
    assert result.err.startswith("blockkit: ")
    assert "no such file or directory" in result.err
    assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["info", "check", "map", "measure", "inspect", "bench"])
@pytest.mark.parametrize("head", [b"QFI\xfb", b"QFI\xfb\0\0\0\3" + b"\xff" * 96, b"QFI\xfb\0\0\0\2" + bytes(96)])
def test_a_broken_image_is_one_line_and_no_traceback(name: str, head: bytes, tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "a.qcow2"
    path.write_bytes(head.ljust(1024, b"\0"))
    result = img(name, "-f", "qcow2", path)
    assert result.code == 1
    assert result.err.startswith(f"blockkit: {path}: ")
    assert result.err.count("\n") == 1


def test_debug_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    from blockkit.errors import NodeIOError

    with pytest.raises(NodeIOError):
        run(["--debug", "img", "info", str(tmp_path / "missing")])


def test_a_mistake_of_ours_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, img: Callable) -> None:
    def fail(*_words: object, **_more: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("blockkit.block.graph.open_image", fail)
    result = img("info", tmp_path / "a")
    assert result.code == 1
    assert result.err == (
        "blockkit: internal error: ZeroDivisionError: two lines; run 'blockkit --debug ...' to see where\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory"),
        (OSError(28, "x", "somewhere"), 1, "somewhere: no space left on device"),
    ],
)
def test_what_is_no_fault_of_an_image_has_its_own_line(
    error: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, img: Callable
) -> None:
    def fail(*_words: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr("blockkit.block.graph.open_image", fail)
    result = img("info", tmp_path / "a")
    assert (result.code, result.err) == (code, f"blockkit: {text}\n")


def test_a_signal_while_a_class_is_made_ends_as_any_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, img: Callable
) -> None:
    class Field:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    def fail(*_words: object, **_more: object) -> None:
        type("Made", (), {"field": Field()})

    monkeypatch.setattr("blockkit.block.graph.open_image", fail)
    result = img("info", tmp_path / "a")
    assert (result.code, result.err) == (130, "blockkit: interrupted\n")


@pytest.mark.parametrize(
    ("words", "code"), [("check -r", 1), ("check --output", 1), ("compare -F", 2), ("create -f", 1)]
)
def test_a_value_that_is_missing_is_told_as_other_mistakes_are(words: str, code: int, img: Callable) -> None:
    result = img(*words.split())
    name, option = words.split()
    assert result.code == code
    assert result.err == (
        f"blockkit: img {name}: option {option!r} requires an argument; see 'blockkit img {name} --help'\n"
    )


def test_an_interrupted_conversion_exits_with_130_and_leaves_nothing(tmp_path: Path, process: Callable) -> None:
    source, target = tmp_path / "a.raw", tmp_path / "b.qcow2"
    source.write_bytes(os.urandom(8 << 20))
    child = process(
        "img", "convert", "--progress", "json", "-r", "1M", "-f", "raw", "-O", "qcow2", source, target,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert b'"state": "running"' in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert b"Traceback" not in err
    assert err.endswith(b"blockkit: interrupted\n")
    assert not target.exists()


def test_output_that_cannot_be_written_is_an_error(tmp_path: Path, process: Callable) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(512))
    with open("/dev/full", "wb") as full:
        child = process("img", "info", path, stdout=full)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert err.count(b"\n") == 1
    assert b"no space left on device" in err


def test_names_come_out_as_they_went_in_whatever_the_locale(tmp_path: Path, process: Callable) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.raw"
    with open(path, "wb") as file:
        file.truncate(512)
    child = process("img", "info", os.fsdecode(path), env={"PYTHONIOENCODING": "utf-8:strict"})
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, b"")
    assert b"image: " + path in out


def test_colours_are_for_terminals_that_want_them(tmp_path: Path, environment: dict[str, str]) -> None:
    path = tmp_path / "a.qcow2"
    create_image(path, "qcow2", 1 << 20)

    def at_terminal(**more: str) -> bytes:
        ours, theirs = os.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "blockkit", "img", "info", str(path)],
            stdout=theirs,
            env={**environment, "TERM": "xterm", "NO_COLOR": "", **more},
        ) as child:
            os.close(theirs)
            shown = b""
            while True:
                try:
                    piece = os.read(ours, 65536)
                except OSError:
                    break
                shown += piece
                if not piece:
                    break
            assert child.wait(timeout=60) == 0
        os.close(ours)
        return shown

    assert b"\x1b[1mimage:" in at_terminal()
    plain = at_terminal(NO_COLOR="1")
    assert b"\x1b" not in plain
    assert b"image:        " in plain  # aligned all the same
    assert b"\x1b" not in at_terminal(TERM="dumb")


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, b"interrupted"), (signal.SIGTERM, 143, b"terminated"), (signal.SIGHUP, 129, b"terminated")],
)
def test_a_signal_leaves_no_new_target_and_tells_of_an_old_one(
    number: int, code: int, word: bytes, tmp_path: Path, process: Callable
) -> None:
    def heed() -> None:
        """Undo what nohup and shells without job control have their children ignore."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    source, old, link = tmp_path / "a.raw", tmp_path / "old.raw", tmp_path / "link"
    source.write_bytes(os.urandom(4 << 20))
    old.write_bytes(b"old" * 1000)
    link.symlink_to(old)
    for target, told in (
        (f"file:{tmp_path}/new", b""),
        (link, b"; %s was overwritten and is unfinished" % bytes(link)),
    ):
        child = process(
            "img", "convert", "--progress", "json", "-r", "1M", "-f", "raw", "-O", "qcow2", source, target,
            preexec_fn=heed,
        )  # fmt: skip
        assert b'"state": "running"' in child.stderr.readline()
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
        assert child.returncode == code, err
        assert err.endswith(b"blockkit: " + word + told + b"\n")
        assert b"Traceback" not in err
    assert not (tmp_path / "new").exists()
    assert link.is_symlink()
    assert old.exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_told_by_name(unbuffered: str, tmp_path: Path, process: Callable) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(512))
    with open("/dev/full", "wb") as full:
        child = process("img", "info", path, stdout=full, env={"PYTHONUNBUFFERED": unbuffered})
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (1, b"blockkit: standard output: no space left on device\n")


@pytest.mark.parametrize(
    ("words", "closed", "code", "complaint"),
    [
        ("info -f raw a", (0, 1, 2), 1, ""),
        ("info -f raw a", (1,), 1, "standard output: bad file descriptor"),
        ("info missing", (2,), 1, ""),
        ("convert -f raw a -", (1,), 1, "standard output: bad file descriptor"),
        ("convert -f raw - b", (0,), 1, "standard input: bad file descriptor"),
        ("convert -f raw -O qcow2 a b", (0, 1, 2), 0, ""),
    ],
)
def test_only_those_who_use_a_standard_stream_mind_that_it_is_closed(
    words: str, closed: tuple[int, ...], code: int, complaint: str, tmp_path: Path, process: Callable
) -> None:
    (tmp_path / "a").write_bytes(b"x" * 512)
    child = process("img", *words.split(), cwd=tmp_path, preexec_fn=lambda: [os.close(number) for number in closed])
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err.decode()) == (code, f"blockkit: {complaint}\n" if complaint else "")
    assert (tmp_path / "a").read_bytes() == b"x" * 512


def test_a_reader_that_leaves_ends_a_conversion_silently(tmp_path: Path, process: Callable) -> None:
    (tmp_path / "a").write_bytes(b"x" * (4 << 20))
    for fmt in ("raw", "qcow2"):
        child = process("img", "convert", "-f", "raw", "-O", fmt, tmp_path / "a", "-")
        child.stdout.read(10)
        child.stdout.close()
        assert child.wait(timeout=60) == 141
        assert child.stderr.read() == b""
