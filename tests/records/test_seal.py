"""Seals and ids: each bit counts. That C computes the same seals is shown in tests/kernel/test_choose.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmesh.records.digest import content_id, name_id
from kmesh.records.seal import seal

U64 = st.integers(0, 2**64 - 1)


@given(st.sampled_from([8, 20]).flatmap(lambda size: st.binary(min_size=size, max_size=size)), U64, st.data())
def test_one_other_bit_is_another_seal(key: bytes, target: int, data: st.DataObject) -> None:
    action = data.draw(st.integers(0, 2**32 - 1))
    whole = int.from_bytes(key + target.to_bytes(8, "little") + action.to_bytes(4, "little"), "little")
    bit = data.draw(st.integers(0, (len(key) + 12) * 8 - 1))
    other = (whole ^ 1 << bit).to_bytes(len(key) + 12, "little")
    numbers = int.from_bytes(other[-12:-4], "little"), int.from_bytes(other[-4:], "little")
    assert seal(other[:-12], *numbers) != seal(key, target, action)


def test_seals_stay_what_they_are() -> None:
    """Pinned cells outlive an upgrade that keeps the layout."""
    assert seal(bytes(range(20)), 2**63 + 5, 7) == 7342064235894631934
    assert seal(bytes(range(8)), 2**63 + 5, 7) == 9457184781989669495


def test_ids_stay_what_they_are() -> None:
    assert name_id("cluster", "outbound|80||a") == 3588810183698716516
    assert content_id(b"") == 13020603013274838756


def test_kinds_keep_names_apart() -> None:
    assert name_id("cluster", "a") != name_id("cursor", "a")


def test_no_id_is_zero(monkeypatch) -> None:
    """Zero means none; a digest of zero is made one."""
    monkeypatch.setattr("kmesh.records.digest.blake2b", lambda *_, **__: ZeroDigest())
    assert content_id(b"") == 1


class ZeroDigest:
    def digest(self) -> bytes:
        return bytes(8)
