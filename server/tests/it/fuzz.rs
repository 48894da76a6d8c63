//! Good requests, spoiled in every layer, against a real replica on a real socket.
//!
//! A thousand by default; `PREHEAT_FUZZ_CASES` sets another number, and from ten thousand on the
//! memory of the replica is watched too. The cases are the same in every run, so a failure names
//! one that can be run again.

use bytes::Bytes;
use futures::StreamExt;
use preheat_proto::{
    Filter, ItemCode, META_VERSION, Meta, Posterior, ReplyMeta, RequestMeta, Scale, Source,
    batch::archive, v1,
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use prost::Message;
use tonic::Code;

use crate::{
    files::{CHELSEA, PNG, WEBP},
    harness::{Ask, PATIENCE, Reply, client, connect},
    process::Program,
    raw::{Raw, prefix},
};

/// Cases under way at once: enough to mix batches, few enough to fit the queue.
const AT_ONCE: usize = 8;
/// A good request follows so many spoiled ones.
const GOOD_EVERY: usize = 100;
/// What the replica may grow by from the first quarter of a long run to its end.
const GROWTH: u64 = 48 << 20;
/// A long run.
const LONG: usize = 10_000;

/// Something spoiled. Places are taken modulo what is there.
#[derive(Clone, Debug)]
enum Spoil {
    MetaField(usize, u32),
    ItemField(usize, usize, u32),
    Items(u16),
    Payload(usize, Bytewise),
    Payloads(u16),
    Archive(Bytewise),
    Envelope(Bytewise),
    Version(u32),
    Model(String),
    Fingerprint(String),
    /// The flag and the length before the message.
    Prefix(u8, u32),
    Header(usize, Vec<u8>),
}

#[derive(Clone, Debug)]
enum Bytewise {
    Set(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Empty,
}

/// Headers that the replica reads.
const HEADERS: [&str; 8] = [
    "preheat-cost-pixels",
    "preheat-needed-in-ms",
    "grpc-timeout",
    "grpc-encoding",
    "grpc-accept-encoding",
    "traceparent",
    "authorization",
    "endpoint-load-metrics-bin",
];

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        prop::sample::select(vec![
            0, 1, 2, 7, 8, 63, 64, 65, 160, 512, 1024, 4096, 32_768, 32_769
        ]),
        prop::sample::select(vec![1 << 20, 1 << 24, 1 << 31, u32::MAX - 1, u32::MAX]),
        any::<u32>(),
    ]
}

fn bytewise() -> impl Strategy<Value = Bytewise> {
    let some = prop::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        4 => (any::<usize>(), any::<u8>()).prop_map(|(at, to)| Bytewise::Set(at, to)),
        2 => any::<usize>().prop_map(Bytewise::Cut),
        2 => (any::<usize>(), some).prop_map(|(at, bytes)| Bytewise::Insert(at, bytes)),
        2 => (any::<usize>(), 1..64_usize).prop_map(|(at, count)| Bytewise::Remove(at, count)),
        1 => Just(Bytewise::Empty),
    ]
}

fn header() -> impl Strategy<Value = Vec<u8>> {
    let digits = "[0-9]{1,20}[HMSmunx]?";
    prop_oneof![
        digits.prop_map(String::into_bytes),
        "[ -~]{0,80}".prop_map(String::into_bytes),
        prop::collection::vec(prop_oneof![0x20..0x7f_u8, 0x80..=0xff_u8], 0..40),
        Just(vec![b'9'; 3000]),
    ]
}

fn spoil() -> impl Strategy<Value = Spoil> {
    prop_oneof![
        4 => (0..6_usize, number()).prop_map(|(field, to)| Spoil::MetaField(field, to)),
        6 => (0..8_usize, 0..13_usize, number())
            .prop_map(|(item, field, to)| Spoil::ItemField(item, field, to)),
        1 => (0..1500_u16).prop_map(Spoil::Items),
        6 => (0..8_usize, bytewise()).prop_map(|(at, how)| Spoil::Payload(at, how)),
        1 => (0..5000_u16).prop_map(Spoil::Payloads),
        5 => bytewise().prop_map(Spoil::Archive),
        5 => bytewise().prop_map(Spoil::Envelope),
        1 => number().prop_map(Spoil::Version),
        1 => "\\PC{0,600}".prop_map(Spoil::Model),
        1 => "\\PC{0,100}".prop_map(Spoil::Fingerprint),
        2 => (any::<u8>(), number()).prop_map(|(flag, length)| Spoil::Prefix(flag, length)),
        4 => (0..HEADERS.len(), header()).prop_map(|(name, value)| Spoil::Header(name, value)),
    ]
}

impl Bytewise {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |at: usize, bytes: &[u8]| at % (bytes.len() + 1);
        match self {
            Self::Set(at, to) => {
                let at = place(*at, bytes);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *to;
                }
            }
            Self::Cut(at) => bytes.truncate(place(*at, bytes)),
            Self::Insert(at, more) => {
                let at = place(*at, bytes);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = place(*at, bytes);
                let end = (at + count).min(bytes.len());
                bytes.drain(at..end);
            }
            Self::Empty => bytes.clear(),
        }
    }

    fn applied(&self, bytes: &Bytes) -> Bytes {
        let mut bytes = bytes.to_vec();
        self.apply(&mut bytes);
        bytes.into()
    }
}

fn good() -> Ask {
    let mut ask = Ask::new(64, 64)
        .grey(7)
        .file(PNG.0, PNG.1, [3, 5])
        .file(WEBP.0, WEBP.1, [9, 9])
        .file(CHELSEA.0, CHELSEA.1, [8, 0]);
    let last = ask.meta.items.last_mut().unwrap();
    (last.resize_width, last.resize_height) = (96, 72);
    ask
}

/// The same as clips.
fn good_clips() -> Ask {
    let mut ask = good();
    ask.meta.frames = 3;
    for item in &mut ask.meta.items {
        item.payloads = 3;
    }
    let thrice = |payload| std::iter::repeat_n(payload, 3);
    ask.payloads = ask.payloads.into_iter().flat_map(thrice).collect();
    ask
}

/// Headers and body of a spoiled request.
fn spoiled(spoils: &[Spoil]) -> (Vec<(String, Vec<u8>)>, Bytes) {
    let mut ask = match spoils {
        [_, _, ..] => good_clips(),
        _ => good(),
    };
    for spoil in spoils {
        spoil_meta(&mut ask.meta, spoil);
    }
    let mut request = v1::EncodeRequest {
        meta_version: META_VERSION,
        model: "m".into(),
        fingerprint: String::new(),
        // More than an archive may hold is refused by whoever writes it, so sent as it is.
        meta: archive(&ask.meta).unwrap_or_else(|_| vec![0; 1 << 20].into()),
        payloads: ask.payloads,
    };
    for spoil in spoils {
        match spoil {
            Spoil::Archive(how) => request.meta = how.applied(&request.meta),
            Spoil::Payload(at, how) => {
                let count = request.payloads.len().max(1);
                if let Some(payload) = request.payloads.get_mut(at % count) {
                    *payload = how.applied(payload);
                }
            }
            Spoil::Payloads(count) => request.payloads.resize((*count).into(), Bytes::new()),
            Spoil::Version(version) => request.meta_version = *version,
            Spoil::Model(name) => request.model.clone_from(name),
            Spoil::Fingerprint(print) => request.fingerprint.clone_from(print),
            _ => {}
        }
    }
    let mut message = request.encode_to_vec();
    let mut headers = vec![];
    let mut start = None;
    for spoil in spoils {
        match spoil {
            Spoil::Envelope(how) => how.apply(&mut message),
            Spoil::Prefix(flag, length) => start = Some((*flag, *length)),
            Spoil::Header(name, value) => headers.push((HEADERS[*name].to_owned(), value.clone())),
            _ => {}
        }
    }
    let mut body = prefix(message.len() as u32).to_vec();
    if let Some((flag, length)) = start {
        body[0] = flag;
        body[1..].copy_from_slice(&length.to_be_bytes());
    }
    body.extend(message);
    (headers, body.into())
}

fn spoil_meta(meta: &mut RequestMeta, spoil: &Spoil) {
    match *spoil {
        Spoil::MetaField(field, to) => match field {
            0 => meta.width = to,
            1 => meta.height = to,
            2 => meta.frames = to,
            3 => meta.scale = Scale::Normalized,
            4 => meta.posterior = [Posterior::Sample, Posterior::Moments][to as usize % 2],
            _ => meta.dtype = preheat_proto::DType::F16,
        },
        Spoil::ItemField(at, field, to) => {
            let count = meta.items.len().max(1);
            let Some(item) = meta.items.get_mut(at % count) else {
                return;
            };
            match field {
                0 => item.source_width = to,
                1 => item.source_height = to,
                2 => item.resize_width = to,
                3 => item.resize_height = to,
                4 => item.crop_x = to,
                5 => item.crop_y = to,
                6 => item.payloads = to,
                7 => item.id = to.into(),
                8 => item.flip = !item.flip,
                9 => item.filter = [Filter::Bilinear, Filter::Bicubic][to as usize % 2],
                10 => item.source = [Source::Rgb8, Source::Encoded, Source::Video][to as usize % 3],
                11 => item.times = vec![to.into(); to as usize % 5],
                _ => (item.resize_width, item.resize_height) = (to, to),
            }
        }
        Spoil::Items(count) => {
            let items = meta.items.clone();
            meta.items = items.into_iter().cycle().take(count.into()).collect();
        }
        _ => {}
    }
}

/// What is wrong with the answer to a spoiled request, if anything is.
async fn judge(raw: &Raw, spoils: &[Spoil]) -> Result<Code, String> {
    let (headers, body) = spoiled(spoils);
    let answer = tokio::time::timeout(PATIENCE, raw.call(&headers, body)).await;
    let answer = answer.map_err(|_| format!("no answer within {PATIENCE:?}"))?;
    let answer = answer.map_err(|error| format!("the stream broke: {error}"))?;
    let status = answer.status().ok_or("no status")?;
    match status.code() {
        Code::Ok => {
            let reply = v1::EncodeResponse::decode(&answer.body[5..])
                .map_err(|error| format!("no answer: {error}"))?;
            let meta = Meta::<ReplyMeta>::open(reply.meta_version, &reply.meta)
                .map_err(|error| format!("no meta: {error}"))?;
            for item in meta.view().items.iter() {
                let message = item.message.as_str();
                if ItemCode::from(item.code) == ItemCode::Internal || message.contains("panick") {
                    return Err(format!("a fault of the replica: {message}"));
                }
            }
        }
        // Whoever sent nonsense must not be told that the replica is at fault.
        Code::Internal | Code::Unknown | Code::Unavailable | Code::DataLoss => {
            return Err(status.to_string());
        }
        _ => {}
    }
    Ok(status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn spoiled_requests_get_a_status_and_leave_no_trace() {
    let cases = std::env::var("PREHEAT_FUZZ_CASES").map_or(1000, |text| text.parse().unwrap());
    let options = ["--model", "m=synthetic", "--queue-pixels", "262144"];
    let bounds = ["--max-source-pixels", "1048576", "--decode-threads", "2"];
    let (program, address) = Program::start(&[options, bounds].concat());
    let mut client = client(connect(address).await);
    let expected = good().send(&mut client).await.unwrap();
    assert!(expected.items.iter().all(Result::is_ok), "{expected:?}");
    let raw = Raw::connect(address).await;

    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = prop::collection::vec(spoil(), 1..4);
    let mut codes = std::collections::BTreeMap::<_, usize>::new();
    let mut quarter = None;
    let mut done = 0;
    while done < cases {
        let some: Vec<_> = (0..GOOD_EVERY.min(cases - done))
            .map(|_| strategy.new_tree(&mut runner).unwrap().current())
            .collect();
        done += some.len();
        let mut judged = futures::stream::iter(&some)
            .map(async |spoils| (spoils, judge(&raw, spoils).await))
            .buffer_unordered(AT_ONCE);
        while let Some((spoils, verdict)) = judged.next().await {
            let code = verdict.unwrap_or_else(|wrong| panic!("{wrong}\nafter {spoils:?}"));
            *codes.entry(format!("{code:?}")).or_default() += 1;
        }
        assert!(served(&mut client, &expected).await, "after {done} cases");
        if done >= cases / 4 {
            quarter.get_or_insert_with(|| program.resident());
        }
    }
    println!("{done} cases: {codes:?}");
    // A fuzzer that never gets past the door tests the door.
    assert!(
        codes["Ok"] * 10 > cases && codes["InvalidArgument"] * 10 > cases,
        "{codes:?}"
    );
    if cases >= LONG {
        let (early, late) = (quarter.unwrap(), program.resident());
        println!("resident: {early} bytes after a quarter, {late} at the end");
        assert!(late < early + GROWTH, "grew from {early} to {late} bytes");
    }
}

async fn served(
    client: &mut v1::encoder_client::EncoderClient<tonic::transport::Channel>,
    expected: &Reply,
) -> bool {
    good()
        .send(client)
        .await
        .is_ok_and(|reply| reply == *expected)
}
