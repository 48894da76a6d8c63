"""Batches, their order and their state."""

import pickle

import numpy as np
import pytest

import preheat
from conftest import seen


def test_an_epoch_is_every_sample_once(load):
    loader = load()
    batches = list(loader)
    assert len(batches) == len(loader) == loader.report()["steps"]
    ids = np.concatenate([b.ids[~b.padding] for b in batches])
    assert sorted(ids.tolist()) == list(range(24))
    for batch in batches:
        width, height = batch.bucket
        assert batch.latents.shape == (len(batch), 4, height // 8, width // 8)
        assert np.isfinite(batch.latents).all()
        assert batch.ids.tolist() == loader.planned(batch.epoch, batch.step)
    assert loader.epoch == 1 and loader.step == 0


def test_what_is_said_of_samples(load):
    batch = next(iter(load(flip=0.5)))
    # Nothing is made before it is asked for, and then once; it is the trainer's own.
    assert batch._made == {} and batch.ids is batch.ids and list(batch._made) == ["ids"]
    assert all(batch[name].flags.writeable for name in ("ids", "mask", "micro_conditioning", "seeds"))
    for i, number in enumerate(batch.ids.tolist()):
        assert batch.keys[i] == f"{number:03}.jpg"
        assert batch.captions[i] == f"photo {number} äöü"
        assert batch.metadata[i]["txt"].decode() == batch.captions[i]
        assert batch.json[i] == {"number": number}
    width, height = batch.bucket
    told = batch.micro_conditioning
    assert told.shape == (len(batch), 6) and told.dtype == np.int64
    assert (told[:, 4] == height).all() and (told[:, 5] == width).all()
    assert batch.mask.all() and batch.flipped.dtype == np.bool_
    assert batch["latents"] is batch.latents
    with pytest.raises(KeyError):
        batch["nothing"]
    with pytest.raises(KeyError):
        batch["_core"]


def test_captions_are_found_named_and_dropped(load):
    assert set(next(iter(load(caption_dropout=1.0))).captions) == {""}
    named = next(iter(load(caption="json")))
    assert named.captions == [parts["json"].decode() for parts in named.metadata]
    assert set(next(iter(load(caption="nothing"))).captions) == {None}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_latents_are_where_they_were_received(load, dtype):
    for batch in load(dtype=dtype):
        address = batch.latents.__array_interface__["data"][0]
        assert address == batch._core.received_at
        assert not batch._core.memory.copied
        assert batch.latents.nbytes == batch._core.memory.nbytes
        # They are the trainer's own.
        batch.latents[...] = 1


def test_latents_outlive_everything(load):
    loader = load()
    batch = next(iter(loader))
    latents, copy = batch.latents, batch.latents.copy()
    del batch
    rest = list(loader)
    loader.close()
    del loader, rest
    assert np.array_equal(latents, copy)


def test_halves_are_rounded_floats(load):
    whole, half = load(), load(dtype=np.float16)
    for a, b in zip(whole, half):
        assert b.latents.dtype == np.float16
        assert np.array_equal(a.latents.astype(np.float16), b.latents)


def test_shared_buffers_are_copied(load, tmp_path):
    cache = {"folder": str(tmp_path), "max_bytes": 1 << 20}
    reference = list(load())
    for _ in range(2):
        loader = load(cache=cache)
        for batch, wanted in zip(loader, reference):
            assert np.array_equal(batch.latents, wanted.latents)
            # Were it shared with the writer of the cache, this would be on disk.
            batch.latents[...] = -1
        loader.close()


def test_loops_go_on_where_the_last_one_stopped(load):
    loader = load()
    reference = seen(list(loader) + list(loader))
    again, got = load(), []
    for batch in again:
        got.append(batch)
        if len(got) == 3:
            break
    assert (again.epoch, again.step) == (0, 3)
    got += list(again)
    # Exactly an epoch, whose end nobody asked for: the next loop is the next epoch.
    it = iter(again)
    got += [next(it) for _ in range(len(again))]
    assert seen(got) == reference
    assert again.epoch == 2
    assert next(iter(again)).epoch == 2


def test_state_at_every_batch(load):
    loader = load()
    reference, states = [], [loader.state_dict()]
    for _ in range(2):
        for batch in loader:
            reference.append(batch)
            states.append(loader.state_dict())
    assert loader.state_dict() == states[-1]
    other = load()
    for at, state in enumerate(states[:-1]):
        other.load_state_dict(state)
        assert other.state_dict() == state
        epochs = range(other.epoch, 2)
        assert seen(b for _ in epochs for b in other) == seen(reference[at:])


def test_states_hold_at_any_world_size(load):
    reference = seen(load())
    loader = load()
    for _ in zip(range(2), loader):
        pass
    state = loader.state_dict()
    ranks = [load(rank=rank, world_size=2, resume=state) for rank in range(2)]
    for at, parts in enumerate(zip(*ranks), 2):
        assert len({(p.epoch, p.step, p.bucket) for p in parts}) == 1
        ids = [i for part in parts for i in part.ids.tolist()]
        assert (parts[0].epoch, parts[0].step, parts[0].bucket, ids) == reference[at]
    assert ranks[0].state_dict() == ranks[1].state_dict()


def test_batch_size_is_of_one_rank(load):
    loader = load(batch_size=2, global_batch=..., rank=1, world_size=2)
    assert (loader.global_batch, loader.rank, loader.world_size) == (4, 1, 2)
    assert len(next(iter(loader))) == 2


def test_ranks_come_from_the_environment(load, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    loader = load(rank=None, world_size=None)
    assert (loader.rank, loader.world_size) == (1, 2)
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(preheat.ConfigError, match="RANK='one'"):
        load(rank=None, world_size=None)
    with pytest.raises(preheat.ConfigError, match="`rank` is given without `world_size`"):
        load(rank=0, world_size=None)


def test_seek_and_set_epoch(load):
    loader = load()
    reference = [seen(loader) for _ in range(3)]
    loader.seek(1, 2)
    assert seen(loader) == reference[1][2:]
    loader.set_epoch(0)
    it = iter(loader)
    assert seen([next(it)]) == reference[0][:1]
    # What is resumed within an epoch is not begun again.
    loader.set_epoch(0)
    assert seen(loader) == reference[0][1:]
    loader.set_epoch(1)
    assert seen(loader) == reference[1]
    with pytest.raises(preheat.StateError, match="step is 99"):
        loader.seek(0, 99)


def test_the_last_epoch_is_the_last(load):
    loader = load(epochs=1)
    assert len(list(loader)) == len(loader)
    assert list(loader) == [] and list(loader) == []
    assert loader.epoch == 1


def test_a_share_may_be_empty(load):
    parts = [list(load(tail="short", rank=rank, world_size=5, global_batch=5)) for rank in range(5)]
    assert len({len(part) for part in parts}) == 1
    assert any(len(batch) == 0 for batch in parts[0])
    for batch in parts[0]:
        width, height = batch.bucket
        assert batch.latents.shape == (len(batch), 4, height // 8, width // 8)
        assert batch.micro_conditioning.shape == (len(batch), 6) and batch.mask.shape == (len(batch),)
    ids = [i for part in parts for batch in part for i in batch.ids.tolist()]
    assert sorted(ids) == list(range(24))


def test_pickle_takes_the_place_along(load):
    loader = load()
    reference = seen(loader)
    loader.seek(0, 2)
    with pickle.loads(pickle.dumps(loader)) as other:
        assert "not started" in repr(other)
        assert other.state_dict() == loader.state_dict()
        assert seen(other) == reference[2:]
    with pickle.loads(pickle.dumps(load(start=False))) as fresh:
        assert seen(fresh) == reference


def test_what_there_is_to_see(load):
    loader = load()
    list(loader)
    stats = loader.stats()
    assert stats["images"] == 24 and stats["batches"] == len(loader)
    assert stats["bound"] in ("trainer", "fleet", "loader", "network", "store", "window")
    assert stats["encode"]["count"] > 0 and stats["bad"] == []
    assert f"{len(loader)} steps" in loader.progress()
    assert "images in" in loader.summary()
    assert loader.model()["latent_channels"] == 4
    report = loader.report()
    assert report["samples"] == 24
    assert sum(bucket["samples"] for bucket in report["buckets"]) == 24


def test_a_list_of_shards(load, tmp_path, photos):
    import tarfile

    paths = []
    for number in range(2):
        paths.append(tmp_path / f"{number}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            for name in sorted(photos.glob(f"00{number}.*")):
                tar.add(name, name.name)
    (tmp_path / "other.tar").write_bytes(b"no part of it")
    loader = load(dataset=paths, global_batch=1)
    assert loader.report()["samples"] == 2
