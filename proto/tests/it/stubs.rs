//! The committed stubs equal what the generator makes of the `.proto` files today.
//! `PREHEAT_BLESS=1 cargo test -p preheat-proto` rewrites them.

use std::{env, fs, path::Path};

use prost_types::FileDescriptorSet;

/// Every protocol on the port.
const PROTOCOLS: [&str; 2] = ["preheat/v1/encoder.proto", "inference/open_inference.proto"];

/// What decodes their messages.
const CODEC: &str = "crate::screen::ScreenedCodec";

fn compile(files: &[&str]) -> FileDescriptorSet {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    protox::compile(files.iter().map(|file| root.join(file)), [root]).unwrap()
}

fn generate(out: &Path) {
    for file in PROTOCOLS {
        tonic_prost_build::configure()
            .bytes(".")
            .codec_path(CODEC)
            .build_transport(false)
            .out_dir(out)
            .compile_fds(compile(&[file]))
            .unwrap();
    }
    let descriptors = compile(&PROTOCOLS);
    fs::write(
        out.join("descriptor.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )
    .unwrap();
}

#[test]
fn committed_stubs_are_current() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen");
    if env::var_os("PREHEAT_BLESS").is_some() {
        fs::create_dir_all(&committed).unwrap();
        generate(&committed);
    }
    let fresh = tempfile::tempdir().unwrap();
    generate(fresh.path());
    for name in ["preheat.v1.rs", "inference.rs", "descriptor.bin"] {
        assert!(
            fs::read(committed.join(name)).unwrap() == fs::read(fresh.path().join(name)).unwrap(),
            "{name} is stale: run PREHEAT_BLESS=1 cargo test -p preheat-proto and commit src/gen"
        );
    }
}
