"""Samples of datasets that are the user's own."""

import contextlib
import io
import itertools
import threading

import numpy as np
import pytest
from PIL import Image

import preheat
from conftest import jpeg, started


class Photos:
    """Pairs of an image and a number, as torchvision's datasets return them."""

    def __init__(self, count=22, kind="bytes", bad=()):
        self.count, self.kind, self.bad = count, kind, bad
        self.asked = []
        self.threads = set()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        self.asked.append(index)
        self.threads.add(threading.current_thread())
        if index in self.bad:
            return b"no image", index
        data = jpeg(index, [(96, 64), (64, 96), (80, 80)][index % 3], quality=100)
        if self.kind == "pil":
            return Image.open(io.BytesIO(data)), index
        if self.kind == "array":
            return np.asarray(Image.open(io.BytesIO(data))), index
        if self.kind == "dict":
            return {"caption": f"photo {index}", "image": data}
        return data, index


@pytest.fixture
def wrap(endpoint):
    with contextlib.ExitStack() as stack:

        def make(dataset=None, **changes):
            given = {"endpoint": endpoint, "model": "vae", "size": (64, 64), "batch_size": 4}
            given.update(as_="numpy", seed=3, rank=0, world_size=1)
            given.update(changes)
            given = {name: value for name, value in given.items() if value is not ...}
            return stack.enter_context(preheat.wrap(dataset or Photos(), **given))

        yield make


def seen(batches):
    return [(b.epoch, b.step, b.indices.tolist()) for b in batches]


def two_epochs(loader):
    return [batch for _ in range(2) for batch in loader]


def test_an_epoch_is_every_sample_once(wrap):
    loader = wrap()
    batches = two_epochs(loader)
    assert len(loader) == 6 and len(batches) == 12 and loader.epoch == 2
    for epoch in range(2):
        own = [b for b in batches if b.epoch == epoch]
        indices = np.concatenate([b.indices[~b.padding] for b in own])
        assert sorted(indices.tolist()) == list(range(22))
    assert seen(batches[:6]) != [(0, s, i) for _, s, i in seen(batches[6:])]
    for batch in batches:
        assert batch.latents.shape == (4, 4, 8, 8) and batch.mask.all()
        assert [number for _, number in batch.samples] == batch.indices.tolist()


def test_latents_are_those_of_the_images(wrap, endpoint):
    dataset = Photos()
    with preheat.Encoder(endpoint, model="vae", as_="numpy") as encoder:
        batch = next(iter(wrap(dataset)))
        for latent, (image, _) in zip(batch.latents, batch.samples):
            assert np.array_equal(latent, encoder.encode(image, size=(64, 64))[0])


@pytest.mark.parametrize("kind", ["pil", "array", "dict"])
def test_what_datasets_return(wrap, kind):
    reference = list(wrap(Photos(kind="bytes")))
    for a, b in zip(wrap(Photos(kind=kind)), reference):
        assert np.array_equal(a.indices, b.indices)
        # Decoders may differ in the last bit of a pixel.
        assert np.allclose(a.latents, b.latents, atol=0.1)
    images = wrap(Photos(kind="dict"), image="image")
    assert np.array_equal(next(iter(images)).latents, reference[0].latents)
    images = wrap(Photos(), image=lambda sample: sample[0])
    assert np.array_equal(next(iter(images)).latents, reference[0].latents)


def test_it_looks_ahead_and_no_further(wrap):
    dataset = Photos(100)
    loader = wrap(dataset, workers=3, batches_ahead=5)
    next(iter(loader))
    # Six batches at most: five ahead, and the one that was taken.
    assert len(dataset.asked) <= 6 * 4
    list(loader)
    # All of them, and five batches of the next epoch at most.
    assert set(dataset.asked) == set(range(100)) and len(dataset.asked) <= 100 + 5 * 4
    assert len(dataset.threads) <= 3
    assert threading.main_thread() not in dataset.threads


def test_it_looks_past_the_end_of_an_epoch_where_it_knows_the_order(wrap):
    reference = seen(two_epochs(wrap()))
    own, sampled = wrap(batches_ahead=3), wrap(sampler=range(22), batches_ahead=3)
    for loader in (own, sampled):
        assert len(list(zip(range(len(loader)), loader))) == len(loader)
    # Nobody has asked for the end of the epoch yet.
    assert [(epoch, step) for epoch, step, *_ in own._under_way] == [(1, 0), (1, 1), (1, 2)]
    assert not sampled._under_way
    # And it is another one all the same: nothing of it is lost, or comes too early.
    assert (own.epoch, own.step, own.state_dict()["epoch"]) == (1, 0, 1)
    assert seen(own) == reference[6:] and own.epoch == 2
    own.set_epoch(0)
    assert seen(two_epochs(own)) == reference


def test_state_at_every_batch(wrap):
    loader = wrap(crop="random")
    reference, states = [], [loader.state_dict()]
    for batch in itertools.chain(loader, loader):
        reference.append(batch)
        states.append(loader.state_dict())
    other = wrap(crop="random")
    for at, state in enumerate(states[:-1]):
        other.load_state_dict(state)
        rest = [batch for _ in range(other.epoch, 2) for batch in other]
        assert seen(rest) == seen(reference[at:])
        assert np.array_equal(rest[0].latents, reference[at].latents)


def test_the_order_is_that_of_any_number_of_ranks(wrap):
    reference = seen(wrap())
    ranks = [wrap(batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    first = [next(iter(rank)) for rank in ranks]
    state = ranks[0].state_dict()
    assert state == ranks[1].state_dict()
    assert first[0].indices.tolist() + first[1].indices.tolist() == reference[0][2]
    alone = wrap()
    alone.load_state_dict(state)
    assert seen(alone) == reference[1:]


def test_tails(wrap):
    assert [len(b) for b in wrap(tail="drop")] == [4] * 5
    assert [len(b) for b in wrap(tail="short")] == [4] * 5 + [2]
    padded = list(wrap())[-1]
    assert padded.padding.tolist() == [False, False, True, True]
    with pytest.raises(preheat.ConfigError, match="lower it"):
        wrap(Photos(3), tail="drop")


def test_a_device_changes_nothing_but_the_place(wrap):
    pytest.importorskip("torch")
    reference = two_epochs(wrap())
    loader = wrap(as_="torch", device="cpu")
    got, states = [], []
    for batch in itertools.chain(loader, loader):
        got.append(batch)
        states.append(loader.state_dict())
    assert seen(got) == seen(reference)
    for at in (0, 5, 7):
        loader.load_state_dict(states[at])
        assert seen(b for _ in range(loader.epoch, 2) for b in loader) == seen(reference[at + 1 :])


def samplers():
    torch = pytest.importorskip("torch")
    data = torch.utils.data

    def generator():
        return torch.Generator().manual_seed(5)

    numbers = range(22)
    return [
        lambda: {"sampler": data.RandomSampler(numbers)},
        lambda: {"sampler": data.RandomSampler(numbers, generator=generator())},
        lambda: {"sampler": data.SequentialSampler(numbers)},
        lambda: {"sampler": data.DistributedSampler(numbers, 2, 1, seed=4)},
        lambda: {"sampler": data.WeightedRandomSampler([1.0] * 22, 30)},
        lambda: {
            "batch_size": ...,
            "batch_sampler": data.BatchSampler(data.RandomSampler(numbers), 4, False),
        },
    ]


@pytest.mark.parametrize("which", range(6))
def test_samplers_are_followed_and_resumed(wrap, which):
    make = samplers()[which]
    loader = wrap(**make())
    reference, states = [], [loader.state_dict()]
    for batch in itertools.chain(loader, loader):
        reference.append(batch)
        states.append(loader.state_dict())
    assert len(reference) == 2 * len(loader)
    for at in (1, len(loader) - 1, len(loader), len(loader) + 2):
        other = wrap(**make())
        other.load_state_dict(states[at])
        rest = [batch for _ in range(other.epoch, 2) for batch in other]
        assert seen(rest) == seen(reference[at:])


def test_a_sampler_that_draws_otherwise_is_found_out(wrap):
    class Chance:
        def __len__(self):
            return 22

        def __iter__(self):
            return iter(np.random.default_rng().permutation(22).tolist())

    loader = wrap(sampler=Chance())
    next(iter(loader))
    state = loader.state_dict()
    rest = [len(batch) for batch in loader]
    with pytest.raises(preheat.StateMismatchError, match="does not draw what it drew"):
        loader.load_state_dict(state)
    # It goes on as it was.
    assert rest == [4, 4, 4, 4, 2] and loader.epoch == 1


def test_states_of_other_runs(wrap):
    state = wrap().state_dict()
    with pytest.raises(preheat.StateMismatchError, match="seed was 3, is 4") as raised:
        wrap(seed=4).load_state_dict(state)
    assert raised.value.fields == ["seed was 3, is 4"]
    with started("vae=synthetic:version=2") as other:
        with pytest.raises(preheat.StateMismatchError, match="model_fingerprint"):
            wrap(endpoint=other.endpoint).load_state_dict(state)
    for rubbish in (
        {},
        {**state, "state_version": 9},
        {**state, "epoch": "x"},
        {**state, "run": 3},
    ):
        with pytest.raises(preheat.StateError):
            wrap().load_state_dict(rubbish)


def test_bad_samples(wrap):
    loader = wrap(Photos(bad={7}))
    with pytest.raises(preheat.BadSampleError) as raised:
        list(loader)
    assert raised.value.key == "7"
    batches = list(wrap(Photos(bad={7}), bad_samples="skip"))
    masked = [b for b in batches if not b.mask.all()]
    assert len(masked) == 1 and masked[0].indices[~masked[0].mask].tolist() == [7]
    assert (masked[0].latents[~masked[0].mask] == 0).all()


def test_what_a_dataset_raises_comes_with_its_batch(wrap):
    class Broken(Photos):
        def __getitem__(self, index):
            if index == 7:
                raise OSError("the disk is gone")
            return super().__getitem__(index)

    loader, got = wrap(Broken()), []
    with pytest.raises(OSError, match="the disk is gone"):
        for batch in loader:
            got.append(batch)
    assert seen(got) == seen(wrap())[: len(got)]
    with pytest.raises(OSError):
        next(iter(loader))


def test_what_makes_no_sense(wrap):
    for change, text in [
        ({"dataset": iter([])}, "__getitem__"),
        ({"batch_size": 0}, "`batch_size` is 0"),
        ({"workers": 0}, "`workers` is 0"),
        ({"tail": "cut"}, "'pad', 'drop', 'short'"),
        ({"sampler": [1], "tail": "pad"}, "'drop', 'short'"),
        ({"sampler": [1], "batch_sampler": [[1]]}, "both given"),
        ({"bad_samples": "substitute"}, "`bad_samples`"),
        ({"rank": 2}, "`rank` is 2"),
        ({"device": "cpu"}, "numpy"),
    ]:
        with pytest.raises(preheat.ConfigError) as raised:
            wrap(**change)
        assert text in str(raised.value)
    loader = wrap()
    loader.close()
    loader.close()
    with pytest.raises(preheat.ClosedError):
        next(iter(loader))
