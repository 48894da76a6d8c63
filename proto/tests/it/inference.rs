//! The public inference protocol: bytes that other programs wrote are understood, and a message
//! cannot make more of itself than it is.
//!
//! `golden/infer-*.bin` were written by `tritonclient[grpc]` 2.73, so nothing here blesses them.

use bytes::Bytes;
use preheat_proto::{
    Code,
    inference::{
        InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
        ModelMetadataResponse, infer_parameter::ParameterChoice, model_infer_request as request,
        model_infer_response as response, model_metadata_response::TensorMetadata,
    },
    limits,
    screen::{elements, outline},
};
use proptest::prelude::*;
use prost::Message;

const REQUEST: &[u8] = include_bytes!("../golden/infer-request.bin");
const RESPONSE: &[u8] = include_bytes!("../golden/infer-response.bin");
const METADATA: &[u8] = include_bytes!("../golden/infer-metadata.bin");

fn parameter<K: From<&'static str>>(
    key: &'static str,
    choice: ParameterChoice,
) -> (K, InferParameter) {
    let parameter_choice = Some(choice);
    (key.into(), InferParameter { parameter_choice })
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> TensorMetadata {
    TensorMetadata {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.into(),
    }
}

#[test]
fn what_another_client_wrote_is_read() {
    use ParameterChoice::{BoolParam, DoubleParam, Int64Param, StringParam, Uint64Param};
    let expected = ModelInferRequest {
        model_name: "sdxl".into(),
        model_version: "0123abcd".into(),
        id: "call-1".into(),
        parameters: [
            parameter("width", Int64Param(512)),
            parameter("flip", BoolParam(true)),
            parameter("posterior", StringParam("mode".into())),
            parameter("ratio", DoubleParam(0.5)),
            parameter("seed", Uint64Param(u64::MAX)),
        ]
        .into(),
        inputs: vec![request::InferInputTensor {
            name: "image".into(),
            datatype: "BYTES".into(),
            shape: vec![2],
            parameters: [parameter("height", Int64Param(-7))].into(),
            contents: None,
        }],
        outputs: vec![request::InferRequestedOutputTensor {
            name: "latents".into(),
            parameters: Default::default(),
        }],
        raw_input_contents: vec![Bytes::from_static(b"\x05\0\0\0first\x07\0\0\0second!")],
    };
    assert_eq!(ModelInferRequest::decode(REQUEST).unwrap(), expected);
    outline(REQUEST).unwrap();
}

#[test]
fn what_another_client_reads_is_written() {
    let answer = ModelInferResponse {
        model_name: "sdxl".into(),
        model_version: "0123".into(),
        id: "call-1".into(),
        parameters: [parameter(
            "fingerprint",
            ParameterChoice::StringParam("0123".into()),
        )]
        .into(),
        outputs: vec![response::InferOutputTensor {
            name: "latents".into(),
            datatype: "FP16".into(),
            shape: vec![1, 4, 1, 2],
            parameters: Default::default(),
            contents: None,
        }],
        raw_output_contents: vec![(0..16).collect::<Vec<u8>>().into()],
    };
    assert_eq!(answer.encode_to_vec(), RESPONSE);
    let metadata = ModelMetadataResponse {
        name: "sdxl".into(),
        versions: vec!["0123".into()],
        platform: "preheat".into(),
        inputs: vec![tensor("image", "BYTES", &[-1])],
        outputs: vec![tensor("latents", "FP32", &[-1, 4, -1, -1])],
    };
    assert_eq!(metadata.encode_to_vec(), METADATA);
}

fn refusal(request: &ModelInferRequest) -> preheat_proto::Error {
    outline(&request.encode_to_vec()).unwrap_err()
}

#[test]
fn small_parts_are_bounded_and_payloads_are_not_small_parts() {
    let mut request = ModelInferRequest {
        raw_input_contents: vec![vec![7; 3 << 20].into()],
        ..Default::default()
    };
    let contents = InferTensorContents {
        bytes_contents: vec![vec![7; 3 << 20].into()],
        ..Default::default()
    };
    request.inputs = vec![request::InferInputTensor {
        contents: Some(contents),
        ..Default::default()
    }];
    outline(&request.encode_to_vec()).unwrap();

    let contents = InferTensorContents {
        uint_contents: vec![1; limits::MAX_META_BYTES],
        ..Default::default()
    };
    request.inputs[0].contents = Some(contents);
    let error = refusal(&request);
    assert_eq!(error.code, Code::TooLarge, "{error}");
    assert!(error.message.contains("send tensors raw"), "{error}");

    request.inputs = vec![Default::default(); limits::MAX_META_BYTES / 2];
    outline(&request.encode_to_vec()[..limits::MAX_META_BYTES]).unwrap();
    assert_eq!(refusal(&request).code, Code::TooLarge);

    request.inputs.clear();
    request.raw_input_contents = vec![Bytes::new(); limits::MAX_PAYLOADS];
    outline(&request.encode_to_vec()).unwrap();
    request.raw_input_contents.push(Bytes::new());
    let error = refusal(&request);
    assert!(error.message.contains("4097 payloads"), "{error}");
}

#[test]
fn half_a_message_is_refused() {
    let mut whole = Vec::new();
    for end in 0..REQUEST.len() {
        let readable = ModelInferRequest::decode(&REQUEST[..end]).is_ok();
        assert_eq!(outline(&REQUEST[..end]).is_ok(), readable, "{end} bytes");
        whole.push(readable);
    }
    assert!(whole.contains(&true) && whole.contains(&false));
    for endless in [
        &[0xff; 20][..],
        &[0x08, 0xff],
        &[0x3a, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(outline(endless).unwrap_err().code, Code::BadRequest);
    }
}

proptest! {
    /// What prost reads, the outline lets pass, as long as it is small; and neither panics.
    #[test]
    fn the_outline_is_no_stricter_than_the_parser(
        mut bytes in prop::collection::vec(any::<u8>(), 0..64),
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(REQUEST.len());
        bytes = [&REQUEST[..at], &bytes, &REQUEST[at..]].concat();
        if ModelInferRequest::decode(bytes.as_slice()).is_ok() && !has_group(&bytes) {
            prop_assert!(outline(&bytes).is_ok());
        }
    }
}

proptest! {
    /// Either the elements are all there is, or it is refused.
    #[test]
    fn elements_are_the_whole_tensor(raw in prop::collection::vec(0_u8..4, 0..64)) {
        let raw = Bytes::from(raw);
        if let Ok(elements) = elements("image", &raw) {
            let joined = |element: &Bytes| [&(element.len() as u32).to_le_bytes(), &element[..]].concat();
            let whole: Vec<u8> = elements.iter().flat_map(joined).collect();
            prop_assert_eq!(whole, raw);
        }
    }
}

#[test]
fn elements_that_do_not_add_up() {
    let cut = |raw: &'static [u8]| elements("image", &Bytes::from_static(raw));
    assert_eq!(cut(b"").unwrap(), [""; 0]);
    assert_eq!(cut(b"\x02\0\0\0ab\0\0\0\0").unwrap(), ["ab", ""]);
    for (raw, say) in [
        (&b"\x02\0\0"[..], "length of element 0"),
        (
            b"\0\0\0\0\x02\0\0\0a",
            "element 1 of `image` claims 2 bytes, but 1",
        ),
        (b"\xff\xff\xff\xff", "claims 4294967295 bytes, but 0"),
        (
            &[0; 4 * limits::MAX_PAYLOADS + 4],
            "more than 4096 elements",
        ),
    ] {
        let error = cut(raw).unwrap_err();
        assert_eq!(error.code, Code::BadRequest);
        assert!(error.message.contains(say), "{error}");
    }
}

/// prost skips groups with unknown numbers, which no peer of this protocol sends.
fn has_group(bytes: &[u8]) -> bool {
    outline(bytes).is_err_and(|error| error.message.ends_with("protobuf"))
}
