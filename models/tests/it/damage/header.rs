//! Damage to the header of a safetensors file, and files cut short.

use std::{fs, panic};

use preheat_models::{DType, Device, Source, open};
use serde_json::{Map, Value, json};

use crate::{
    checkpoint::{assert_says, copy, edited, refusal},
    hollow::WEIGHTS,
};

/// Where the data of a safetensors file begins.
fn data(bytes: &[u8]) -> usize {
    let (length, _) = bytes.split_first_chunk().expect("a length");
    8 + u64::from_le_bytes(*length) as usize
}

/// The same file with another header.
fn with_header(bytes: &[u8], edit: impl Fn(&mut Map<String, Value>)) -> Vec<u8> {
    let data = data(bytes);
    let mut header = serde_json::from_slice(&bytes[8..data]).expect("JSON");
    edit(&mut header);
    let header = serde_json::to_vec(&header).expect("JSON");
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], &header, &bytes[data..]].concat()
}

/// An `F32` of shape `[16]`.
const NAME: &str = "encoder.mid_block.resnets.0.conv1.bias";

/// What happens to the entry of [`NAME`].
type Edit = fn(&mut Value);

fn moved(offsets: &mut Value, by: [i64; 2]) {
    for (offset, by) in by.into_iter().enumerate() {
        offsets[offset] = json!(offsets[offset].as_i64().expect("an offset") + by);
    }
}

/// What the tensor does, and a word of the error.
const CASES: [(&str, Edit, &str); 14] = [
    (
        "overlaps",
        |t| moved(&mut t["data_offsets"], [-4, -4]),
        "should start at",
    ),
    (
        "leaves a gap",
        |t| moved(&mut t["data_offsets"], [4, 4]),
        "should start at",
    ),
    (
        "ends first",
        |t| moved(&mut t["data_offsets"], [0, -128]),
        "should start at",
    ),
    (
        "is cut",
        |t| moved(&mut t["data_offsets"], [0, -4]),
        "60 bytes",
    ),
    (
        "is far away",
        |t| moved(&mut t["data_offsets"], [1 << 40, 1 << 40]),
        "should start at",
    ),
    (
        "is at the end of time",
        |t| t["data_offsets"] = json!([0, u64::MAX]),
        "bytes",
    ),
    (
        "starts before zero",
        |t| t["data_offsets"] = json!([-64, 0]),
        "-64",
    ),
    (
        "has one offset",
        |t| t["data_offsets"] = json!([0]),
        "length 1",
    ),
    (
        "has more values than bytes",
        |t| t["shape"] = json!([17]),
        "64 bytes, which are not F32",
    ),
    ("has fewer", |t| t["shape"] = json!([15]), "[15]"),
    (
        "overflows",
        |t| t["shape"] = json!([u64::MAX, u64::MAX]),
        "64 bytes",
    ),
    (
        "has a wider dtype",
        |t| t["dtype"] = json!("I64"),
        "not I64",
    ),
    ("has no known dtype", |t| t["dtype"] = json!("F7"), "F7"),
    ("is not described", |t| *t = json!(null), "null"),
];

#[test]
fn headers_that_contradict_themselves() {
    for (case, edit, word) in CASES {
        println!("a tensor that {case}");
        let damage = |bytes: Vec<u8>| {
            with_header(&bytes, |header| {
                edit(header.get_mut(NAME).expect("the tensor"))
            })
        };
        // Where two tensors overlap, either may be the one to be blamed.
        edited(
            WEIGHTS,
            damage,
            &["damaged safetensors header: tensor `", word],
        );
    }
}

#[test]
fn headers_of_other_data() {
    let blamed =
        |bytes: Vec<u8>| with_header(&bytes, |header| header[NAME]["shape"] = json!([4, 5]));
    edited(WEIGHTS, blamed, &[NAME, "[4, 5]"]);
    // All in order, but beyond the end of the file.
    let longer = |bytes: Vec<u8>| {
        let end = bytes.len() - data(&bytes);
        with_header(&bytes, |header| {
            let tensor = json!({"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]});
            header.insert("decoder.extra".to_owned(), tensor);
        })
    };
    edited(WEIGHTS, longer, &["the header promises"]);
    let shorter = |bytes: Vec<u8>| with_header(&bytes, |header| header.clear());
    edited(WEIGHTS, shorter, &["the header promises"]);
    let empty = |_| [&2_u64.to_le_bytes()[..], b"{}"].concat();
    edited(WEIGHTS, empty, &["missing tensor `encoder.conv_in.weight`"]);
}

#[test]
fn truncated_anywhere() {
    let dir = copy();
    let path = dir.path().join(WEIGHTS);
    let bytes = fs::read(&path).expect("reads");
    let data = data(&bytes);
    let header = (16..data).step_by(61);
    let behind = (data..bytes.len()).step_by(1009);
    for length in (0..16).chain(header).chain(behind).chain([bytes.len() - 1]) {
        fs::write(&path, &bytes[..length]).expect("writes");
        assert_says(&refusal(dir.path()), &[WEIGHTS, "truncated"]);
    }
}

/// Whatever a header says, it is served or refused by name.
#[test]
fn headers_with_a_wrong_byte() {
    let dir = copy();
    let path = dir.path().join(WEIGHTS);
    let bytes = fs::read(&path).expect("reads");
    let mut refused = 0;
    for at in (0..data(&bytes)).step_by(7) {
        for byte in [b'9', b'"', 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            fs::write(&path, &bytes).expect("writes");
            let source = Source::Directory(dir.path().to_owned());
            let opened = panic::catch_unwind(|| open(&source, Device::Cpu, DType::F32).map(drop));
            let opened = opened.unwrap_or_else(|_| panic!("byte {at} as {byte:#x} panics"));
            if let Err(error) = opened {
                refused += 1;
                assert_says(&error.to_string(), &[WEIGHTS]);
            }
        }
    }
    assert!(refused > 1000, "only {refused} were refused");
}
