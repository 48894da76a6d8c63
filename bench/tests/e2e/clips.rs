//! Clips from real files, through FFmpeg, real loaders and real replicas: frames carry their numbers,
//! which are read in what the encoder was given.

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use preheat_bench::replica::Replica;
use preheat_client::{
    Batch, ClipEncoding, Config, Crop, DataLoader, Pace, Rate, SampleInfo, State,
};
use preheat_clips::{
    Cut, Encoding, Ffmpeg, Filter, Input, Limits,
    fixtures::{self, Codec, Numbered, Pattern, read_colour},
};
use preheat_models::{
    DType, Device, PixelData, Pixels, Posterior, Scale, Source as ModelSource, open,
};
use tempfile::TempDir;

use crate::{held_address, latent, replica, replica_at, run};

/// Frames a second of every clip, which none of the videos has.
const RATE: u32 = 12;
/// Containers round timestamps to milliseconds.
const TICK: f64 = 1.1e-3;

/// How long a call may be in coming, where FFmpeg has the next clips.
const CALL_WAIT: Duration = Duration::from_secs(10);

/// Videos of several codecs, containers, rates and rotations, as far as this FFmpeg can make them; none
/// without FFmpeg. And their rates, by file name.
struct Videos {
    folder: TempDir,
    ffmpeg: Ffmpeg,
}

/// Name, codec, frames a second as a fraction, frames, and degrees by which the file says to turn them.
type Spec = (&'static str, Codec, (u32, u32), u32, u16);

const VIDEOS: [Spec; 8] = [
    ("a.mp4", Codec::H264, (25, 1), 40, 0),
    ("b.mp4", Codec::H264, (30, 1), 60, 90),
    ("c.mp4", Codec::H264, (60, 1), 100, 180),
    ("d.mkv", Codec::H265, (30_000, 1001), 50, 0),
    ("e.webm", Codec::Vp9, (24, 1), 36, 0),
    ("f.mkv", Codec::Av1, (24_000, 1001), 40, 0),
    ("g.avi", Codec::Mjpeg, (24, 1), 45, 0),
    ("h.mp4", Codec::H264, (8, 1), 20, 270),
];

impl Videos {
    fn make() -> Option<Self> {
        let ffmpeg = fixtures::ffmpeg()?;
        let folder = tempfile::tempdir().unwrap();
        for (name, codec, rate, frames, rotation) in VIDEOS {
            let video = Numbered {
                rate,
                rotation,
                pattern: Pattern::Colour,
                size: if rotation % 180 == 0 {
                    [96, 72]
                } else {
                    [72, 96]
                },
                ..Numbered::new(codec, frames)
            };
            video.write(&ffmpeg, &folder.path().join(name)).unwrap();
        }
        Some(Self { folder, ffmpeg })
    }

    fn config(&self, endpoint: &str) -> Config {
        Config {
            global_batch: 2,
            epochs: Some(2),
            target_area: 64 * 64,
            bucket_step: 8,
            crop: Crop::Random,
            flip: 0.5,
            frames: vec![5, 17],
            pace: Pace::Rate(Rate::new(RATE, 1)),
            index: Some(self.folder.path().join("clips.index")),
            ..Config::new(self.folder.path(), endpoint, "vae")
        }
    }
}

/// What the synthetic model was given: the mean of each colour of each frame is in its latents.
fn numbers(batch: &Batch, index: usize) -> Vec<u32> {
    let shape = &batch.latents.shape;
    let frames = batch.bucket.frames as usize;
    assert_eq!(shape[2] as usize, frames, "{shape:?}");
    let plane = (shape[3] * shape[4]) as usize;
    let values = latent(batch, index);
    let level = |colour: usize, frame: usize| {
        let cells = &values[(colour * frames + frame) * plane..][..plane];
        let mean = cells.iter().map(|&v| f64::from(v)).sum::<f64>() / plane as f64;
        ((mean + 1.0) * 127.5).round() as u8
    };
    let number = |frame| read_colour(&[0, 1, 2].map(|colour| level(colour, frame)));
    (0..frames)
        .map(|frame| number(frame).expect("a number in every frame"))
        .collect()
}

/// Frames are those that are shown at equal distances from the start, by the file's own rate.
fn right(sample: &SampleInfo, numbers: &[u32]) {
    let clip = sample.clip.as_ref().unwrap();
    assert_eq!(numbers, &*clip.frames, "{}", sample.key);
    let video = VIDEOS.iter().find(|video| video.0 == sample.key).unwrap();
    let (_, _, (frames, seconds), _, _) = *video;
    let lasts = f64::from(seconds) / f64::from(frames);
    for (k, &number) in (0..).zip(numbers) {
        let at = clip.start.as_f64() + f64::from(k) / f64::from(RATE);
        let [from, to] = [number, number + 1].map(|n| f64::from(n) * lasts);
        assert!(
            from <= at + TICK && at < to + TICK,
            "{}: frame {number} at {at} s",
            sample.key
        );
    }
}

#[test]
fn the_encoder_receives_the_frames_that_were_chosen_in_whatever_form_they_travel() {
    let Some(videos) = Videos::make() else { return };
    let replica = replica("synthetic");
    let forms = [
        ClipEncoding::Jpeg { quality: 95 },
        ClipEncoding::Png,
        ClipEncoding::Rgb8,
        ClipEncoding::AsIs,
    ];
    let runs = forms.map(|clip_encoding| {
        let batches = run(Config {
            clip_encoding,
            ..videos.config(&replica.endpoint())
        });
        for batch in &batches {
            for (index, sample) in batch.samples.iter().enumerate() {
                right(sample, &numbers(batch, index));
            }
        }
        batches
    });
    let samples = |batches: &[Batch]| {
        let samples = batches.iter().flat_map(|batch| batch.samples.clone());
        samples.collect::<Vec<_>>()
    };
    let first = samples(&runs[0]);
    for other in &runs[1..] {
        assert!(samples(other) == first, "the form is no part of the order");
    }
    let clips: BTreeSet<_> = first
        .iter()
        .map(|s| format!("{} {:?}", s.key, s.clip))
        .collect();
    let files: BTreeSet<_> = first.iter().map(|sample| &sample.key).collect();
    assert!(files.len() >= 6, "{files:?}");
    assert!(clips.len() > files.len(), "epochs begin at other moments");
}

#[test]
fn a_run_of_clips_resumes_at_another_world_size_with_the_same_latents() {
    let Some(videos) = Videos::make() else { return };
    let replica = replica("synthetic");
    let config = videos.config(&replica.endpoint());
    let whole = run(config.clone());
    for done in [1, whole.len() / 2, whole.len() - 2] {
        let mut loader = DataLoader::new(config.clone()).unwrap();
        let mut taken = 0;
        while taken < done {
            // `None` between the epochs is not a batch.
            taken += usize::from(loader.next_batch().unwrap().is_some());
        }
        let state = State::from_json(&loader.state().to_json()).unwrap();
        drop(loader);
        let rank = |rank| {
            let mut loader = DataLoader::new(Config {
                rank,
                world_size: 2,
                resume: Some(state.clone()),
                ..config.clone()
            })
            .unwrap();
            let mut rest = Vec::new();
            while loader.state().epoch < 2 {
                rest.extend(loader.next_batch().unwrap());
            }
            rest
        };
        let (low, high): (Vec<Batch>, Vec<Batch>) = (rank(0), rank(1));
        assert_eq!(low.len(), whole.len() - done);
        for ((low, high), expected) in low.iter().zip(&high).zip(&whole[done..]) {
            let samples = [&low.samples[..], &high.samples].concat();
            assert!(samples == expected.samples, "step {}", expected.step);
            let latents = [&low.latents.data[..], &high.latents.data].concat();
            assert!(latents == expected.latents.data, "step {}", expected.step);
        }
    }
}

#[test]
fn clips_survive_the_death_of_their_replica() {
    let Some(videos) = Videos::make() else { return };
    // Slow enough that most of the run is still to come when it dies.
    let model = "synthetic:ms-per-megapixel=1000";
    let address = held_address();
    let first = replica_at(model, &address);
    let config = Config {
        max_batches_ahead: 2,
        chunk_items: Some(1),
        ..videos.config(&first.endpoint())
    };
    let undisturbed = run(config.clone());
    let mut loader = DataLoader::new(config).unwrap();
    let mut batches = Vec::new();
    let mut replica = Some(first);
    while loader.state().epoch < 2 {
        let Some(batch) = loader.next_batch().unwrap() else {
            continue;
        };
        batches.push(batch);
        if batches.len() % 3 == 1 {
            // Not while the next clips are all with FFmpeg, unless there are none.
            let since = Instant::now();
            while loader.stats().bytes_in_flight == 0 && since.elapsed() < CALL_WAIT {
                thread::yield_now();
            }
            replica.take().unwrap().kill();
            replica = Some(replica_at(model, &address));
        }
    }
    assert!(
        loader.stats().retries > 0,
        "the deaths were not even noticed"
    );
    assert_eq!(batches.len(), undisturbed.len());
    for (batch, expected) in batches.iter().zip(&undisturbed) {
        assert!(batch.samples == expected.samples, "step {}", batch.step);
        assert!(batch.latents == expected.latents, "step {}", batch.step);
    }
}

#[test]
fn a_video_model_delivers_what_it_encodes_beside_an_image_model() {
    let Some(videos) = Videos::make() else { return };
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_preheat-bench"));
    let models = [
        "--model",
        "vae=builtin:wan",
        "--model",
        "photos=builtin:tiny",
    ];
    let options = [&models[..], &["--listen", "127.0.0.1:0"]].concat();
    let replica = Replica::spawn(program, &options).unwrap();
    let photos = crate::folder(1);
    let stills = Config {
        model: "photos".to_owned(),
        ..crate::config(&photos, &replica)
    };
    let stills = thread::spawn(|| run(stills));
    let batches = run(Config {
        epochs: Some(1),
        clip_encoding: ClipEncoding::Png,
        ..videos.config(&replica.endpoint())
    });
    let stills = stills.join().unwrap();
    assert!(stills.iter().all(|batch| batch.latents.shape.len() == 4));
    assert_eq!(stills.len(), 6);
    let mut model = open(&ModelSource::BuiltinWan, Device::Cpu, DType::F32).unwrap();
    for batch in &batches {
        let (size, shape) = (batch.bucket, &batch.latents.shape);
        let time = (size.frames - 1) / 4 + 1;
        assert_eq!(shape[1..], [16, time, size.height / 8, size.width / 8]);
        for (index, sample) in batch.samples.iter().enumerate() {
            let rgb = videos.frames(batch, sample);
            let moments = model
                .encode(&Pixels {
                    batch: 1,
                    frames: size.frames as usize,
                    height: size.height as usize,
                    width: size.width as usize,
                    data: PixelData::Rgb8(rgb),
                })
                .unwrap();
            let expected = moments.latent(0, model.spec(), Posterior::Mode, Scale::Normalized);
            let got = latent(batch, index);
            let off = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
            let off: f64 = got.iter().zip(&expected).map(off).sum();
            let of: f64 = expected.iter().map(|&v| f64::from(v).powi(2)).sum();
            // Another batch, another order of sums in f32.
            assert!(
                (off / of).sqrt() <= 1e-6,
                "{}: {:e}",
                sample.key,
                (off / of).sqrt()
            );
        }
    }
}

impl Videos {
    /// What the replica made of a sample that was sent without loss.
    fn frames(&self, batch: &Batch, sample: &SampleInfo) -> Vec<u8> {
        let input = Input::Path(self.folder.path().join(&sample.key));
        let limits = Limits::default();
        let video = self.ffmpeg.probe(&input, &limits).unwrap();
        let (drawn, size) = (&sample.transform, batch.bucket);
        let source = [drawn.source.width, drawn.source.height];
        let resize = [drawn.resize.width, drawn.resize.height];
        let cut = Cut {
            resize: (source != resize).then_some(resize),
            crop: Some([drawn.crop_x, drawn.crop_y, size.width, size.height]),
            filter: Filter::Lanczos,
            ..Cut::whole(sample.clip.as_ref().unwrap().times.to_vec(), Encoding::Rgb8)
        };
        let frames = self.ffmpeg.frames(&input, &video, &cut, &limits).unwrap();
        let row = 3 * size.width as usize;
        let mut rgb: Vec<u8> = frames.flat_map(|frame| frame.unwrap()).collect();
        if drawn.flip {
            for row in rgb.chunks_exact_mut(row) {
                let (pixels, _) = row.as_chunks_mut::<3>();
                pixels.reverse();
            }
        }
        rgb
    }
}

#[test]
fn without_ffmpeg_it_is_said_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("ffmpeg");
    fs::write(&nowhere, "").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_preheat-bench"))
        .args(["demo", "--clips"])
        .env("PREHEAT_FFMPEG", &nowhere)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("--clips") && said.contains("PREHEAT_FFMPEG"),
        "{said}"
    );
}
