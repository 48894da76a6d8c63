"""Programs that are not ours against a replica: tritonclient, grpc reflection, grpc health.

    python -m venv venv && venv/bin/pip install "tritonclient[grpc]" grpcio-reflection \
        grpcio-health-checking numpy pillow
    cargo build -p preheat-server --no-default-features
    venv/bin/python server/tests/open_inference.py target/debug/preheat-server

Starts replicas of its own on free ports. Prints one line for each thing that holds.
"""

import io
import pathlib
import signal
import struct
import subprocess
import sys
import threading

import grpc
import numpy as np
import tritonclient.grpc as triton
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from PIL import Image
from tritonclient.utils import InferenceServerException

DATA = pathlib.Path(__file__).parent / "data"
PHOTOS = [(DATA / name).read_bytes() for name in ("astronaut-0.jpg", "chelsea-1.jpg", "rocket-0.jpg")]
PATIENCE = 60  # seconds, for anything
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Replica:
    """A process that is killed when the block ends."""

    def __init__(self, program, model, *options):
        command = [program, "--model", model, "--listen", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line
        self.address = line.removeprefix("listening on ").strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Native:
    """The native service, with messages from reflection and archives by hand."""

    DTYPES = {"f32": 1, "f16": 2, "bf16": 3}

    def __init__(self, channel):
        self.database = ProtoReflectionDescriptorDatabase(channel)
        # A pool of its own: the default one has tritonclient's description of the other service.
        pool = descriptor_pool.DescriptorPool(self.database)
        service = pool.FindServiceByName("preheat.v1.Encoder")
        encode = service.methods_by_name["Encode"]
        self.request = message_factory.GetMessageClass(encode.input_type)
        self.reply = message_factory.GetMessageClass(encode.output_type)
        self.call = channel.unary_unary(
            "/preheat.v1.Encoder/Encode",
            request_serializer=self.request.SerializeToString,
            response_deserializer=self.reply.FromString,
        )

    def encode(self, files, size, dtype):
        """Latents of files, each scaled to cover `size` (width, height) and cut at its centre."""
        items = b""
        for index, file in enumerate(files):
            source = Image.open(io.BytesIO(file)).size
            resize, crop = cover(source, size)
            # id, seed, sizes, corner, payloads, encoded, lanczos, no flip.
            items += struct.pack("<QQ7I3Bx", index, 0, *source, *resize, *crop, 1, 0, 2, 0)
        # Root: size, frames, dtype, mode, raw; then where the items lie, relative to itself.
        root = struct.pack("<3I3BxiI", *size, 1, self.DTYPES[dtype], 0, 0, -len(items) - 16, len(files))
        request = self.request(meta_version=1, model="m", meta=items + root, payloads=files)
        reply = self.call(request, timeout=PATIENCE)
        return self.tensors(reply, len(files), dtype)

    def tensors(self, reply, count, dtype):
        meta, root = reply.meta, len(reply.meta) - 20
        at, sides = struct.unpack_from("<iI", meta, root + 4)
        shape = struct.unpack_from(f"<{sides}I", meta, root + 4 + at)
        at, items = struct.unpack_from("<iI", meta, root + 12)
        assert items == count
        tensors = []
        for index in range(count):
            _, offset, code = struct.unpack_from("<QQB", meta, root + 12 + at + 32 * index)
            assert code == 0
            size = int(np.prod(shape)) * (4 if dtype == "f32" else 2)
            tensors.append(reply.latents[offset : offset + size])
        return [count, *shape], b"".join(tensors)


def cover(source, size):
    """The rule that the README states, in integers."""
    (w, h), (width, height) = source, size
    if width * h >= height * w:
        resize = (width, (2 * h * width + w) // (2 * w))
    else:
        resize = ((2 * w * height + h) // (2 * h), height)
    return resize, ((resize[0] - width) // 2, (resize[1] - height) // 2)


def images(files):
    tensor = triton.InferInput("image", [len(files)], "BYTES")
    tensor.set_data_from_numpy(np.array(files, dtype=np.object_))
    return [tensor]


def holds(what):
    print(f"ok  {what}", flush=True)


def refused(call, status, say):
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{status}", error
        assert say in error.message(), error
        return
    raise AssertionError(f"no {status}")


def check_latents(client, native):
    size = (256, 128)
    for dtype, datatype in [("f32", "FP32"), ("f16", "FP16"), ("bf16", "BF16")]:
        parameters = {"width": size[0], "height": size[1], "dtype": dtype}
        answer = client.infer("m", images(PHOTOS), parameters=parameters)
        shape, expected = native.encode(PHOTOS, size, dtype)
        seen = answer.as_numpy("latents")
        assert answer.get_output("latents").datatype == datatype
        assert list(seen.shape) == shape == [3, 4, 16, 32], shape
        assert seen.tobytes() == expected, f"{dtype} differs from the native service"
        holds(f"{datatype} latents equal those of preheat.v1.Encoder bit for bit")


def check_pixels(client):
    # Lossless, so that both sides see the same pixels.
    picture = Image.open(DATA / "palette.png").convert("RGB")
    pixels = np.asarray(picture)[None]
    tensor = triton.InferInput("pixels", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)
    from_pixels = client.infer("m", [tensor]).as_numpy("latents")
    from_file = client.infer("m", images([(DATA / "palette.png").read_bytes()])).as_numpy("latents")
    assert from_pixels.shape == (1, 4, 15, 20)
    assert (from_pixels == from_file).all()
    cells = pixels[0].reshape(15, 8, 20, 8, 3).mean(axis=(1, 3)) / 127.5 - 1
    assert np.abs(from_pixels[0, :3] - cells.transpose(2, 0, 1)).max() < 1e-5
    holds("pixels give what the file gives, which is what numpy says")

    answers = []
    done = threading.Semaphore(0)

    def answered(result, error):
        answers.append((result, error))
        done.release()

    for _ in range(8):
        client.async_infer("m", [tensor], answered, outputs=[triton.InferRequestedOutput("latents")])
    for _ in range(8):
        assert done.acquire(timeout=PATIENCE)
    assert all(error is None for _, error in answers)
    assert all((result.as_numpy("latents") == from_pixels).all() for result, _ in answers)
    holds("eight calls at once")


def check_service(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("m") and not client.is_model_ready("other")
    metadata = client.get_model_metadata("m")
    (fingerprint,) = metadata.versions
    assert [tensor.name for tensor in metadata.inputs] == ["image", "pixels"]
    assert client.is_model_ready("m", fingerprint) and not client.is_model_ready("m", "1")
    answer = client.infer("m", images(PHOTOS[:1]), model_version=fingerprint[:8])
    assert answer.get_response().model_version == fingerprint
    holds("liveness, readiness, metadata, versions")

    def call(**options):
        return client.infer("m", images(PHOTOS), **options)

    refused(call, "INVALID_ARGUMENT", "set `width` and `height`")
    refused(lambda: call(model_version="1"), "FAILED_PRECONDITION", fingerprint)
    refused(lambda: call(parameters={"size": 64}), "INVALID_ARGUMENT", "known are width")
    refused(lambda: client.infer("other", images(PHOTOS)), "NOT_FOUND", "served are m")
    refused(client.get_model_repository_index, "UNIMPLEMENTED", "RepositoryIndex is not served")
    refused(lambda: client.infer("m", images([PHOTOS[0], b"?"])), "INVALID_ARGUMENT", "image[1]")
    holds("refusals, in words")


def wait_until_full(client):
    """Until a call finds no room, because another is inside. Its size is wrong, which is seen only
    after admission, so that it takes no room for longer than that."""
    while True:
        try:
            client.infer("m", images(PHOTOS[:1]), parameters={"width": 9, "height": 9})
        except InferenceServerException as error:
            if error.status() == "StatusCode.RESOURCE_EXHAUSTED":
                return
            assert error.status() == "StatusCode.INVALID_ARGUMENT", error


def check_draining(program):
    # A call of 512x512 takes about two seconds and the whole queue.
    slow = ("m=synthetic:ms-per-megapixel=8000", "--queue-pixels", str(512 * 512))
    with Replica(program, *slow) as replica:
        channel = grpc.insecure_channel(replica.address)
        health = health_pb2_grpc.HealthStub(channel)
        services = ["", "preheat.v1.Encoder", "inference.GRPCInferenceService", "model:m"]
        for service in services:
            request = health_pb2.HealthCheckRequest(service=service)
            assert health.Check(request, timeout=PATIENCE).status == SERVING, service
        watches = [
            health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
            for service in services
        ]
        assert all(next(watch).status == SERVING for watch in watches)
        holds("health: Check and Watch say SERVING once the replica listens")

        client = triton.InferenceServerClient(replica.address)
        answers = []
        done = threading.Event()

        def answered(result, error):
            answers.append((result, error))
            done.set()

        client.async_infer("m", images(PHOTOS[:1]), answered)
        wait_until_full(client)
        replica.process.send_signal(signal.SIGTERM)
        assert all(next(watch).status == NOT_SERVING for watch in watches)
        assert client.is_server_live() and not client.is_server_ready()
        assert health.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
        refused(lambda: client.infer("m", images(PHOTOS[:1])), "UNAVAILABLE", "draining")
        holds("health: Check and Watch say NOT_SERVING after SIGTERM, and new calls are refused")
        assert done.wait(PATIENCE)
        (result, error), = answers
        assert error is None, error
        assert result.as_numpy("latents").shape == (1, 4, 64, 64)
        holds("a call in flight is answered while the replica drains")
        for watch in watches:
            assert next(watch, None) is None
        assert replica.process.wait(PATIENCE) == 0
        holds("watches end, and the replica exits with 0")


def main():
    program = sys.argv[1]
    with Replica(program, "m=synthetic") as replica:
        channel = grpc.insecure_channel(
            replica.address, options=[("grpc.max_receive_message_length", 64 << 20)]
        )
        native = Native(channel)
        services = native.database.get_services()
        assert {"inference.GRPCInferenceService", "preheat.v1.Encoder"} <= set(services), services
        holds("reflection lists both services and describes the native one")
        client = triton.InferenceServerClient(replica.address)
        check_service(client)
        check_latents(client, native)
        check_pixels(client)
    check_draining(program)


if __name__ == "__main__":
    main()
