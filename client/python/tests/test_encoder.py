"""One-off calls."""

import asyncio
import io
import os
import socket

import numpy as np
import pytest
from PIL import Image

import preheat
from conftest import jpeg, started


@pytest.fixture
def encoder(endpoint):
    with preheat.Encoder(endpoint, model="vae", as_="numpy") as one:
        yield one


def pixels(seed, height=64, width=96):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(array):
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def test_every_form_of_an_image_is_the_same_image(encoder, tmp_path):
    array = pixels(1)
    path = tmp_path / "image.png"
    path.write_bytes(png(array))
    forms = [
        png(array),
        bytearray(png(array)),
        path,
        str(path),
        Image.fromarray(array),
        array,
        array.transpose(2, 0, 1),
        Image.fromarray(array).convert("RGBA"),
    ]
    latents = encoder.encode(forms)
    assert latents.shape == (len(forms), 4, 8, 12) and latents.dtype == np.float32
    assert np.isfinite(latents).all() and latents.std() > 0
    for one in latents[1:]:
        assert np.array_equal(one, latents[0])
    assert not np.array_equal(encoder.encode(pixels(2))[0], latents[0])
    grey = array[:, :, 0]
    assert np.array_equal(encoder.encode(grey), encoder.encode(Image.fromarray(grey)))


def test_one_image_is_a_batch_of_one(encoder):
    array = pixels(3)
    assert encoder.encode(array).shape == (1, 4, 8, 12)
    assert np.array_equal(encoder.encode(np.stack([array] * 3))[2], encoder.encode(array)[0])


def test_exif_turns_files_and_pil_alike(encoder):
    image = Image.fromarray(pixels(4))
    exif = image.getexif()
    exif[0x0112] = 6
    out = io.BytesIO()
    image.save(out, "PNG", exif=exif)
    file = encoder.encode(out.getvalue())
    assert file.shape == (1, 4, 12, 8)
    assert np.array_equal(encoder.encode(Image.open(io.BytesIO(out.getvalue()))), file)


def test_sizes(encoder):
    several = [jpeg(1, (100, 70)), jpeg(2, (64, 64))]
    with pytest.raises(preheat.ConfigError, match="100x70 and 64x64: give `size`"):
        encoder.encode(several)
    assert encoder.encode(several, size=(48, 40)).shape == (2, 4, 5, 6)
    # What is no multiple of the model's cell loses its edges, and is not resized.
    odd = pixels(5, 70, 101)
    assert np.array_equal(encoder.encode(odd), encoder.encode(odd[3:67, 2:98]))
    with pytest.raises(preheat.ConfigError, match="multiples of 8"):
        encoder.encode(several, size=(50, 40))
    crops = [encoder.encode(several, size=(32, 32), crop="random", seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(crops[0], crops[1]) and not np.array_equal(crops[1], crops[2])


def test_many_are_more_than_one_call(encoder):
    images = [pixels(i, 256, 256) for i in range(70)]
    latents = encoder.encode(images)
    for i in (0, 33, 69):
        assert np.array_equal(latents[i], encoder.encode(images[i])[0])


def test_latents_are_where_they_were_received(endpoint):
    with preheat.Encoder(endpoint, model="vae", as_="numpy", dtype="float16") as encoder:
        pending = encoder._submit([pixels(1)], (None, "center", 0), False)
        memory, dtype, size, bad = pending.wait()
        assert (dtype, size, bad, memory.copied) == ("float16", (96, 64), [], False)


def test_what_is_no_image(encoder):
    for image, text in [
        (pixels(1) / 255, "must be uint8"),
        (pixels(1)[:, :, :2], "[height, width, 3]"),
        (np.zeros((3, 64, 3), np.uint8), "must be"),
        ([np.zeros((2, 64, 64, 3), np.uint8)], "clips"),
        (3, "is a int"),
        ([], "are 0"),
    ]:
        with pytest.raises(preheat.ConfigError) as raised:
            encoder.encode(image)
        assert text in str(raised.value)
    good = jpeg(1, (64, 64))
    for bad in (b"no image", b"", good[: len(good) // 2]):
        with pytest.raises(preheat.BadSampleError, match="image 1: ") as raised:
            encoder.encode([good, bad], size=(64, 64))
        assert raised.value.key == "1" and raised.value.reason


def test_who_is_not_there(endpoint):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(preheat.EndpointError):
            preheat.Encoder(nobody, model="vae", connect_timeout=0.2)
    with pytest.raises(preheat.UnknownModelError):
        preheat.Encoder(endpoint, model="other")
    with pytest.raises(preheat.ConfigError, match="posterior"):
        preheat.Encoder(endpoint, model="vae", posterior="mean")
    encoder = preheat.Encoder(endpoint, model="vae")
    encoder.close()
    encoder.close()
    with pytest.raises(preheat.ClosedError):
        encoder.encode(pixels(1))


def test_asyncio(encoder):
    async def many():
        images = [pixels(i) for i in range(20)]
        answers = await asyncio.gather(*(encoder.aencode(image) for image in images))
        return images, answers

    images, answers = asyncio.run(many())
    for image, answer in zip(images, answers):
        assert np.array_equal(answer, encoder.encode(image))

    async def bad():
        with pytest.raises(preheat.BadSampleError):
            await encoder.aencode(b"no image", size=(64, 64))

    asyncio.run(bad())


def test_a_cancelled_task_leaves_the_loop_alone(endpoint):
    async def cancelled(encoder):
        task = asyncio.ensure_future(encoder.aencode(pixels(1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with started("vae=synthetic:ms-per-megapixel=10000000") as slow:
        with preheat.Encoder(slow.endpoint, model="vae") as encoder:
            asyncio.run(cancelled(encoder))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_encoders_say_so(encoder):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            encoder.encode(pixels(1))
        except preheat.ForkError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
