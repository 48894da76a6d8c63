"""Writes the shards beside this file, with the packages that trainers write theirs with.

    python -m venv venv
    venv/bin/pip install webdataset mosaicml-streaming datasets pillow
    venv/bin/python make_shards.py

`expected.json` lists what a reader must find: dataset, then samples in order, each with the image
it holds (a file in `images`) and its parts as text. Each package reads its own shards back here
first, so what is expected is also what the package itself returns.
"""

import io
import json
import shutil
import tempfile
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset
from PIL import Image
from streaming import MDSWriter, StreamingDataset

HERE = Path(__file__).parent
CAPTIONS = ["a red square", "ein grüner Hügel", "猫がいる 🐈", 'quotes " and \\ and \n lines', ""]


def images():
    """Small images of three formats and several shapes, all different."""
    folder = fresh("images")
    for at in range(10):
        width, height = [(40, 24), (24, 40), (32, 32)][at % 3]
        image = Image.new("RGB", (width, height))
        image.putdata([(x * 6 % 256, y * 6 % 256, at * 25) for y in range(height) for x in range(width)])
        kind = ["jpg", "png", "webp"][at % 3] if at else "jpg"
        # The second one is turned by its EXIF block.
        exif = Image.Exif()
        if at == 1:
            exif[0x0112] = 6
        image.save(folder / f"{at}.{kind}", exif=exif)
    return sorted(folder.iterdir())


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def samples(files):
    for at, path in enumerate(files):
        caption = CAPTIONS[at % len(CAPTIONS)]
        yield at, path, caption, {"id": at, "tags": ["a", str(at)], "deep": {"x": [1, None]}}


def expect(key, path, **parts):
    return {"key": key, "image": path.name, "parts": {name: text for name, text in parts.items()}}


def write_webdataset(files):
    folder, expected = fresh("webdataset"), []
    pattern = str(folder / "shard-%03d.tar")
    with webdataset.ShardWriter(pattern, maxcount=4, verbose=0) as sink:
        for at, path, caption, meta in samples(files):
            # Longer than a tar's name field; in a directory; with letters that are not ASCII.
            key = ["plain", "in/a/directory", "long-" * 40, "größe"][at % 4] + f"-{at}"
            kind = path.suffix[1:]
            written = {"__key__": key, kind: path.read_bytes(), "txt": caption, "json": meta, "cls": at}
            sink.write(written)
            expected.append(expect(key, path, txt=caption, json=json.dumps(meta), cls=str(at)))
    for wanted, got in zip(expected, webdataset.WebDataset(shards(folder, "*.tar"), shardshuffle=False), strict=True):
        assert got["__key__"] == wanted["key"], got["__key__"]
        assert got["txt"].decode() == wanted["parts"]["txt"]
        assert json.loads(got["json"]) == json.loads(wanted["parts"]["json"])
    return {"webdataset": expected}


def shards(folder, pattern):
    return [str(path) for path in sorted(folder.glob(pattern))]


def write_mds(files):
    result = {}
    for name, encoding, compression in [
        ("mds", "bytes", None),
        ("mds-jpeg", "jpeg", None),
        ("mds-zstd", "bytes", "zstd:7"),
        ("mds-pil", "pil", None),
    ]:
        folder, expected, shard, row = fresh(name), [], 0, 0
        columns = {"image": encoding, "caption": "str", "meta": "json", "id": "int", "score": "float32"}
        taken = [path for path in files if encoding != "jpeg" or path.suffix == ".jpg"]
        size_limit = 1 << 22 if encoding == "pil" else 4000
        with MDSWriter(out=str(folder), columns=columns, compression=compression, size_limit=size_limit) as sink:
            for at, path, caption, meta in samples(taken):
                image = path.read_bytes() if encoding == "bytes" else Image.open(path)
                if encoding == "pil":
                    image = image.convert("RGB")
                sink.write({"image": image, "caption": caption, "meta": meta, "id": at - 5, "score": at / 4})
                parts = {"caption": caption, "meta": json.dumps(meta), "id": str(at - 5), "score": short(at / 4)}
                expected.append(expect(None, path, **parts))
        index = json.loads((folder / "index.json").read_text())
        places = [(entry, row) for entry in index["shards"] for row in range(entry["samples"])]
        for wanted, (entry, row) in zip(expected, places, strict=True):
            stored = entry["zip_data"] or entry["raw_data"]
            wanted["key"] = f"{stored['basename']}#{row}"
        with tempfile.TemporaryDirectory() as local:
            read = StreamingDataset(remote=str(folder), local=local, shuffle=False, batch_size=1)
            for wanted, got in zip(expected, read, strict=True):
                assert got["caption"] == wanted["parts"]["caption"]
                assert got["id"] == int(wanted["parts"]["id"])
        assert len(index["shards"]) > 1 or encoding in ("pil", "jpeg")
        result[name] = expected
    return result


def short(number):
    return str(int(number)) if number == int(number) else str(number)


def rows(files):
    for at, path, caption, meta in samples(files):
        yield at, path, {
            "caption": caption if at != 3 else None,
            "score": at / 4,
            "label": at - 5,
            "good": at % 2 == 0,
            "tags": meta["tags"],
        }


def parts(row, score=repr):
    kept = {name: value for name, value in row.items() if value is not None}
    texts = {"score": score, "label": str, "good": json.dumps, "tags": compact}
    return {name: texts.get(name, str)(value) for name, value in kept.items()}


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def write_datasets(files):
    folder, expected = fresh("datasets"), []
    taken = list(rows(files))
    columns = {name: [row[name] for _, _, row in taken] for name in taken[0][2]}
    columns["image"] = [{"bytes": path.read_bytes(), "path": path.name} for _, path, _ in taken]
    data = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    for part in range(2):
        name = f"train-{part:05}-of-00002.parquet"
        half = data.shard(num_shards=2, index=part, contiguous=True)
        half.to_parquet(str(folder / name), batch_size=3)
        for at in range(len(half)):
            _, path, row = taken[len(expected)]
            expected.append(expect(f"{name}#{at}", path, **parts(row)))
    read = datasets.load_dataset("parquet", data_files=shards(folder, "*.parquet"), split="train")
    read = read.cast_column("image", datasets.Image(decode=False))
    for wanted, got in zip(expected, read, strict=True):
        assert got["image"]["bytes"] == (HERE / "images" / wanted["image"]).read_bytes()
        assert got["caption"] == wanted["parts"].get("caption")
    return {"datasets": expected}


def write_parquet(files):
    """What other writers do: a plain binary column, page indexes, other codecs and pages."""
    result = {}
    for name, options in {
        "parquet-paged": dict(compression="zstd", write_page_index=True, use_dictionary=False, data_page_size=1),
        "parquet-dictionary": dict(compression="lz4", write_page_index=True, data_page_version="2.0"),
        "parquet-plain": dict(compression="none", use_dictionary=False, row_group_size=4),
    }.items():
        folder, expected = fresh(name), []
        taken = list(rows(files)) * 3
        columns = {key: [row[key] for _, _, row in taken] for key in taken[0][2]}
        columns["image"] = pa.array([path.read_bytes() for _, path, _ in taken], pa.binary())
        # Without it every page index would be of one page.
        pq.write_table(pa.table(columns), folder / "all.parquet", write_batch_size=4, **options)
        for at, (_, path, row) in enumerate(taken):
            expected.append(expect(f"all.parquet#{at}", path, **parts(row)))
        result[name] = expected
    return result


def main():
    files = images()
    expected = write_webdataset(files) | write_mds(files) | write_datasets(files) | write_parquet(files)
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (HERE / "expected.json").write_text(text + "\n")


main()
