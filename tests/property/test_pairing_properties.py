"""Pairing, whatever names lie in the directory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from semd.protocol.pairing import IMAGE_SUFFIXES, Dialect, pair_names

NAMES = st.sets(
    st.builds(
        "{}{}".format,
        st.text(alphabet="aA1.~-é\n", min_size=0, max_size=4),
        st.sampled_from([*IMAGE_SUFFIXES, ".txt", ".hdr", ".TXT", ".JPG", "-tif.hdr", ".tmp", ".reason.txt", ""]),
    ),
    max_size=12,
)


@given(NAMES, st.sampled_from(Dialect))
def test_every_name_is_used_at_most_once_and_whole_pairs_are_whole(names: set[str], dialect: Dialect) -> None:
    candidates = pair_names(names, dialect)
    used = [name for found in candidates for name in (found.image, found.text) if name is not None]
    assert len(used) == len(set(used))
    assert set(used) <= names
    assert len({found.stem for found in candidates}) == len(candidates)
    for found in candidates:
        needs_text = dialect.sidecar_suffix is not None
        assert found.whole == (found.image is not None and (found.text is not None or not needs_text))
        assert found.image is None or found.image.rpartition(".")[0] == found.stem


@given(NAMES, st.sampled_from(Dialect), st.randoms(use_true_random=False))
def test_the_order_of_the_directory_does_not_matter(names: set[str], dialect: Dialect, random: object) -> None:
    ordered = sorted(names)
    shuffled = list(ordered)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert {found.stem for found in pair_names(ordered, dialect)} == {
        found.stem for found in pair_names(shuffled, dialect)
    }
