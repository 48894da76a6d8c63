"""Clips: options, shapes, and what is said of them."""

import fractions
import shutil
import subprocess

import numpy as np
import pytest

import preheat
from conftest import jpeg

FRAMES = {"a": 30, "b": 20, "c": 9}


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Directories of numbered images, one with a caption."""
    folder = tmp_path_factory.mktemp("clips")
    for name, count in FRAMES.items():
        (folder / name).mkdir()
        for at in range(count):
            (folder / name / f"{at:04}.jpg").write_bytes(jpeg(at, (64, 64)))
    (folder / "a.txt").write_text("about a")
    return folder


def test_clips_have_an_axis_for_time(load, clips, tmp_path):
    loader = load(
        dataset=clips,
        format="frames at 24",
        index=tmp_path / "index",
        frames=[4, 8],
        fps=12,
        clip_start="first",
        target_area=64 * 64,
        global_batch=1,
        as_="numpy",
    )
    seen = {}
    for batch in loader:
        assert batch.latents.shape == (1, 4, batch.frames, 8, 8)
        assert batch.bucket == (64, 64)
        np.testing.assert_array_equal(batch.clip_frames[0], np.arange(batch.frames) * 2)
        np.testing.assert_allclose(batch.clip_times[0], np.arange(batch.frames) / 12)
        assert batch.clip_starts.tolist() == [0.0]
        assert f"x{batch.frames})" in repr(batch)
        seen[batch.keys[0]] = (batch.frames, batch.captions[0])
    assert seen == {"a": (8, "about a"), "b": (8, None), "c": (4, None)}


def test_windows_are_samples(load, clips, tmp_path):
    loader = load(
        dataset=clips,
        format="frames at 24",
        index=tmp_path / "index",
        frames=8,
        stride=1,
        clip_start="windows",
        target_area=64 * 64,
        global_batch=2,
        as_="numpy",
    )
    assert loader.samples == 3 + 2 + 1
    assert loader.key(1) == "a#1"


@pytest.mark.parametrize("fps", [24, 24.0, "24/1", fractions.Fraction(48, 2)])
def test_rates_are_read_as_they_are_written(load, clips, tmp_path, fps):
    loader = load(
        dataset=clips,
        format="frames at 24",
        index=tmp_path / "index",
        frames=5,
        fps=fps,
        clip_start="first",
        target_area=64 * 64,
        global_batch=1,
        as_="numpy",
    )
    assert next(iter(loader)).clip_frames.tolist() == [[0, 1, 2, 3, 4]]
    assert "24 a second" in loader.state_dict()["run"]["clips"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs FFmpeg")
def test_videos_are_decoded_here(load, tmp_path):
    for name in ("one", "two"):
        source = ["-f", "lavfi", "-i", "testsrc=size=96x64:rate=25", "-frames:v", "40"]
        subprocess.run(["ffmpeg", "-v", "error", *source, str(tmp_path / f"{name}.mp4")], check=True)
    for encoding in ("jpeg", ("jpeg", 80), "png", "raw"):
        loader = load(
            dataset=tmp_path,
            index=tmp_path / ".index",
            frames=[5],
            clip_encoding=encoding,
            target_area=64 * 64,
            global_batch=2,
            as_="numpy",
        )
        batch = next(iter(loader))
        assert batch.latents.shape[:3] == (2, 4, 5)
        assert np.isfinite(batch.latents).all()
        assert (np.diff(batch.clip_frames) == 1).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frames": 5, "fps": "x"}, "`fps` is 'x', must be frames a second"),
        ({"frames": 5, "fps": 24, "stride": 2}, "`stride` is given, and so is `fps`"),
        ({"frames": [5, 5]}, "with a length twice"),
        ({"frames": 5, "clip_start": "middle"}, '"windows"'),
        ({"frames": 5, "clip_encoding": ("jpeg", 0)}, "must be 1..=100"),
        ({"fps": 24}, "says no length of clips"),
        ({"frames": "many"}, "a number of frames"),
    ],
)
def test_what_makes_no_sense_is_named(load, changes, said):
    with pytest.raises(preheat.ConfigError) as error:
        load(**changes)
    assert said in str(error.value)
