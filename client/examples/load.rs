//! A trainer's loop in twenty lines.
//!
//! ```text
//! cargo run -p preheat-client --example load -- PHOTOS http://127.0.0.1:7000 MODEL
//! ```

use std::{error::Error, process::ExitCode};

use preheat_client::{BadSamples, Config, Crop, DataLoader};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [photos, endpoint, model] = &args[..] else {
        return Err("usage: load PHOTOS ENDPOINT MODEL".into());
    };
    let mut config = Config::new(photos, endpoint, model);
    config.global_batch = 8;
    config.target_area = 256 * 256;
    config.crop = Crop::Random;
    config.flip = 0.5;
    config.bad_samples = BadSamples::Substitute;

    let mut loader = DataLoader::new(config)?;
    for epoch in 0..2 {
        for batch in loader.epoch() {
            let batch = batch?;
            // A training step goes here, on `batch.latents.data`.
            println!(
                "epoch {epoch}: {:?} of {:?}",
                batch.latents.shape,
                batch.ids()
            );
        }
    }
    // Save this with the checkpoint; `Config::resume` or `load_state` takes it back.
    println!("{}", loader.state().to_json());
    let stats = loader.stats();
    println!("{}", stats.summary());
    for bad in stats.bad {
        println!("bad: {}: {}", bad.key, bad.reason);
    }
    Ok(())
}
