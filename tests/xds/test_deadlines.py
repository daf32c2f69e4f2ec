from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmesh.xds.deadlines import Deadlines


def test_earliest_first_and_moved() -> None:
    deadlines = Deadlines()
    for name, when in (("a", 3.0), ("b", 1.0), ("c", 2.0), ("b", 4.0)):
        deadlines.set(name, when)
    deadlines.cancel("c")
    assert deadlines.next() == 3.0
    assert deadlines.pop_due(4.0) == ["a", "b"]
    assert deadlines.next() is None


def test_cancelled_entries_do_not_pile_up() -> None:
    deadlines = Deadlines()
    for when in range(10_000):
        deadlines.set("a", float(when))
    assert len(deadlines._heap) < 100
    assert deadlines.pop_due(9998.0) == []
    assert deadlines.pop_due(9999.0) == ["a"]


_NAMES = st.sampled_from("abcd")
_TIMES = st.integers(0, 9).map(float)
_STEPS = st.one_of(
    st.tuples(st.just("set"), _NAMES, _TIMES),
    st.tuples(st.just("cancel"), _NAMES),
    st.tuples(st.just("pop"), _TIMES),
    st.tuples(st.just("keep"), st.frozensets(_NAMES)),
)


@given(st.lists(_STEPS, max_size=40))
def test_behaves_as_a_plain_dict(steps: list[tuple]) -> None:
    deadlines, want = Deadlines(), dict[str, float]()
    for step in steps:
        match step:
            case "set", name, when:
                deadlines.set(name, when)
                want[name] = when
            case "cancel", name:
                deadlines.cancel(name)
                want.pop(name, None)
            case "keep", names:
                deadlines.keep_only(names)
                want = {name: when for name, when in want.items() if name in names}
            case "pop", now:
                due = sorted((when, name) for name, when in want.items() if when <= now)
                assert deadlines.pop_due(now) == [name for _, name in due]
                want = {name: when for name, when in want.items() if when > now}
        assert deadlines.next() == min(want.values(), default=None)
        assert all(name in deadlines for name in want)
