"""The keys that seal people's data: made once, for the owner's eyes only, and never silently replaced."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from addressbook.sealed import KeyRing, SealBroken
from runtime import keys
from runtime.keys import BadKeys

ALL_KEYS = ["digest-1.key", "seal-1.key"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.key"))


# ---- what stops the start


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    keys.load(tmp_path)
    (tmp_path / "seal-1.key").chmod(0o640)
    with pytest.raises(BadKeys, match="chmod 600"):
        keys.load(tmp_path)


@pytest.mark.parametrize("content", ["", "zz", "00" * 31, "00" * 33, "\x00"])
def test_a_file_that_is_no_key_is_refused_without_its_content(tmp_path: Path, content: str) -> None:
    keys.load(tmp_path)
    (tmp_path / "seal-1.key").write_text(content)
    with pytest.raises(BadKeys, match="not a key of 32 octets") as caught:
        keys.load(tmp_path)
    assert not content or content not in str(caught.value)


@pytest.mark.parametrize("lost", ["seal", "digest"])
def test_a_lost_key_is_not_replaced_by_a_new_one(tmp_path: Path, lost: str) -> None:
    """With a new digest key no number would be found any more, and nobody would know why."""
    keys.load(tmp_path)
    (tmp_path / f"{lost}-1.key").unlink()
    with pytest.raises(BadKeys, match=f"no {lost} key any more"):
        keys.load(tmp_path)
    assert len(names(tmp_path)) == 1


@pytest.mark.parametrize("number", ["0", "256", "999"])
def test_a_key_with_an_impossible_number_is_refused(tmp_path: Path, number: str) -> None:
    keys.load(tmp_path)
    other = tmp_path / f"seal-{number}.key"
    other.write_text("00" * 32)
    other.chmod(0o600)
    with pytest.raises(BadKeys, match="1 to 255"):
        keys.load(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadKeys, match="file"):
        keys.load(tmp_path / "file" / "keys")


def test_a_key_with_the_same_number_cannot_be_added_past_the_last(tmp_path: Path) -> None:
    keys.load(tmp_path)
    last = tmp_path / "seal-255.key"
    last.write_text("00" * 32)
    last.chmod(0o600)
    with pytest.raises(BadKeys, match="255"):
        keys.add(tmp_path)


# ---- what is made


def test_the_first_start_makes_both_keys_for_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "keys"
    seal, digest = keys.load(folder)
    assert names(folder) == ALL_KEYS
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir() if path.suffix == ".key")
    assert seal[1] != digest[1]
    assert keys.load(folder) == (seal, digest)


def test_processes_that_start_at_once_get_the_same_keys(tmp_path: Path) -> None:
    program = "import sys, pathlib; from runtime import keys; print(keys.load(pathlib.Path(sys.argv[1])))"
    with ThreadPoolExecutor(4) as pool:
        outputs = list(
            pool.map(
                lambda _: subprocess.run(
                    [sys.executable, "-c", program, str(tmp_path / "keys")],
                    capture_output=True, text=True, check=True,
                ).stdout,
                range(4),
            )
        )  # fmt: skip
    assert len(set(outputs)) == 1
    assert names(tmp_path / "keys") == ALL_KEYS
    assert [path for path in (tmp_path / "keys").iterdir() if path.name.startswith((".seal", ".digest"))] == []


def test_old_values_stay_readable_after_a_new_key_and_new_ones_use_it(tmp_path: Path) -> None:
    before = KeyRing(*keys.load(tmp_path))
    old = before.seal_text(b"name", "张三")
    added = keys.add(tmp_path)
    after = KeyRing(*keys.load(tmp_path))
    assert (added.use, added.id) == ("seal", 2)
    assert after.open_text(b"name", old) == "张三"
    new = after.seal_text(b"name", "张三")
    assert (old[0], new[0]) == (1, 2)
    assert after.number_digest("+8613900000001") == before.number_digest("+8613900000001")
    with pytest.raises(SealBroken):
        before.open_text(b"name", new)


def test_a_process_that_runs_on_opens_what_a_newer_one_seals(tmp_path: Path) -> None:
    older = KeyRing(*keys.load(tmp_path), reload=lambda: keys.load(tmp_path))
    keys.add(tmp_path)
    newer = KeyRing(*keys.load(tmp_path))
    sealed = newer.seal_text(b"name", "张三")
    assert sealed[0] == 2
    assert older.open_text(b"name", sealed) == "张三"
    assert newer.open_text(b"name", older.seal_text(b"name", "李四")) == "李四"


def test_a_value_of_a_key_that_nobody_has_stays_shut(tmp_path: Path) -> None:
    looks: list[int] = []

    def look() -> tuple[dict[int, bytes], dict[int, bytes]]:
        looks.append(1)
        return keys.load(tmp_path)

    ring = KeyRing(*keys.load(tmp_path), reload=look)
    for _ in range(100):
        with pytest.raises(SealBroken):
            ring.open(b"name", b"\x07" + bytes(40))
    assert len(looks) == 1  # the disk is not asked for each of them


def test_keys_are_listed_without_their_content(tmp_path: Path) -> None:
    seal, digest = keys.load(tmp_path)
    keys.add(tmp_path)
    listed = keys.listed(tmp_path)
    assert [(entry.use, entry.id) for entry in listed] == [("digest", 1), ("seal", 1), ("seal", 2)]
    assert not any(key.hex() in repr(listed) for key in (*seal.values(), *digest.values()))


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    keys.load(tmp_path)
    (tmp_path / "README.txt").write_text("back me up")
    (tmp_path / "seal-old.key").write_text("not ours")
    assert [entry.id for entry in keys.listed(tmp_path)] == [1, 1]
    keys.load(tmp_path)
