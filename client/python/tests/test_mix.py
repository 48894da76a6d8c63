"""How often samples come: weights, and several datasets as one."""

import collections
import pickle

import numpy as np
import pytest

import preheat
from conftest import jpeg, seen


@pytest.fixture
def art(tmp_path):
    """Six more photos, of a shape that the others have too."""
    folder = tmp_path / "art"
    folder.mkdir()
    for i in range(6):
        (folder / f"{i}.jpg").write_bytes(jpeg(100 + i, (80, 80)))
        (folder / f"{i}.txt").write_text(f"art {i}")
    return folder


def delivered(loader, epochs=1):
    """How often each id comes, padding aside."""
    times = collections.Counter()
    for _ in range(epochs):
        for batch in loader:
            times.update(batch.ids[~batch.padding].tolist())
    return times


def test_weights_say_how_often_by_id(load):
    weights = np.ones(24)
    weights[3], weights[4], weights[5] = 2, 0, 0.5
    loader = load(weights=weights)
    times = delivered(loader, 2)
    assert times[3] == 4 and 4 not in times
    assert all(times[i] == 2 for i in range(24) if i not in (3, 4, 5))
    assert loader.report()["weightless"] == 1
    # By any name, and wherever it is sent.
    for other in (load(weights=weights.tolist()), load(weights=weights.astype(np.float16))):
        assert seen(other) == seen(load(weights=weights))
    with pickle.loads(pickle.dumps(loader)) as copy:
        assert copy.state_dict() == loader.state_dict()
    assert seen(load(weights=[1] * 24)) == seen(load())
    with pytest.raises(preheat.StateMismatchError, match="weights was"):
        load(resume=loader.state_dict())


def test_wrong_weights_name_the_id(load):
    for weights, text in [
        ([1.0] * 23 + [-2.0], "has -2 for sample 23"),
        ([1.0, float("nan")], "has NaN for sample 1"),
        ([1e300], "has inf for sample 0"),
        ([1.0] * 23, "has 23 weights, and the dataset has 24 samples"),
        (np.zeros(24), "has 24 weights, all 0"),
        (np.ones((4, 6)), "is 4x6, must be"),
        (2.0, "is a single number"),
        (["often"] * 24, "must be a number for each sample"),
        ([[1.0], [1.0, 2.0]], "must be a number for each sample"),
    ]:
        with pytest.raises(preheat.ConfigError) as raised:
            load(weights=weights)
        assert text in str(raised.value) and "`weights`" in str(raised.value)
        assert isinstance(raised.value, ValueError)


def test_several_datasets_as_one(load, photos, art):
    loader = load(dataset={"photos": str(photos), "art": preheat.Source(art, repeats=2)})
    assert loader.sources == ("photos", "art") and loader.samples == 30
    assert loader.key(0) == "photos/000.jpg" and loader.key(24) == "art/0.jpg"
    assert "'photos', 'art'" in repr(loader)
    mixed = False
    for batch in loader:
        for number, key, source, caption in zip(batch.ids, batch.keys, batch.sources, batch.captions):
            assert source == ("photos" if number < 24 else "art")
            assert key == loader.key(number) and key.startswith(source + "/")
            assert caption.startswith("photo " if source == "photos" else "art ")
        mixed |= len(set(batch.sources)) == 2
    assert mixed
    times = delivered(loader)
    assert times == {i: 1 if i < 24 else 2 for i in range(30)}
    with pickle.loads(pickle.dumps(loader)) as copy:
        assert seen(copy) == seen(loader)


def test_one_dataset_has_no_name(load):
    loader = load()
    assert loader.sources == () and loader.samples == 24
    assert set(next(iter(loader)).sources) == {""}
    assert [loader.key(i) for i in (0, 23)] == ["000.jpg", "023.jpg"]
    with pytest.raises(preheat.ConfigError, match="`id` is 24, and the dataset has 24 samples"):
        loader.key(24)


def test_weights_of_sources_share_an_epoch(load, photos, art):
    def mix(weight):
        sources = {"photos": preheat.Source(photos, weight=1), "art": preheat.Source(art, weight=weight)}
        return load(dataset=sources, epoch_samples=40)

    loader = mix(3)
    times = delivered(loader)
    of_art = sum(times[i] for i in range(24, 30))
    # Each of the three buckets rounds.
    assert abs(sum(times.values()) - 40) <= 3 and abs(of_art - 30) <= 3
    state = loader.state_dict()
    with pytest.raises(preheat.StateMismatchError, match="mix was"):
        mix(2).load_state_dict(state)


def test_wrong_mixes(load, photos, art):
    given = preheat.Source
    for dataset, more, text in [
        ({}, {}, "`dataset` is empty"),
        ({"a/b": photos}, {}, "`dataset` has a source named"),
        ({3: photos}, {}, "has the name 3"),
        ({"a": 3}, {}, "(source 'a')"),
        ({"a": given(photos, weight=2), "b": art}, {}, "a weight for 'a' and none for 'b'"),
        ({"a": photos}, {"epoch_samples": 9}, "no weights"),
        (photos, {"epoch_samples": 9}, "`epoch_samples` is for several"),
        ({"a": photos}, {"format": "tar"}, "give it to preheat.Source"),
        ({"a": given(photos, format="zip")}, {}, "`dataset[\"a\"].format` is \"zip\""),
        ({"a": given(photos, columns=["x"])}, {}, "`dataset[\"a\"].columns`"),
        ({"a": given(photos, repeats="often")}, {}, "`dataset[\"a\"].repeats` is 'often'"),
        ({"a": given(photos, repeats=-1)}, {}, "shares are 0 to"),
        ({"a": given(photos, store={"x": 1})}, {}, "`dataset[\"a\"].store.x` is not known"),
        (given(photos), {}, "sources have names"),
    ]:
        with pytest.raises(preheat.ConfigError) as raised:
            load(dataset=dataset, **more)
        assert text in str(raised.value), (dataset, str(raised.value))
    with pytest.raises(preheat.ConfigError, match="both given"):
        given(photos, repeats=1, weight=1)
    with pytest.raises(preheat.DatasetError, match="source `b`"):
        load(dataset={"a": photos, "b": art / "nothing"})
    assert repr(given("x", repeats=2, format="tar")) == "Source('x', repeats=2, format='tar')"
