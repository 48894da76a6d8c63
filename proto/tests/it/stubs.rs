//! The committed stubs equal what the generator makes of the `.proto` file today.
//! `PREHEAT_BLESS=1 cargo test -p preheat-proto` rewrites them.

use std::{env, fs, path::Path};

use prost_types::FileDescriptorSet;

fn generate(out: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors: FileDescriptorSet =
        protox::compile([root.join("preheat/v1/encoder.proto")], [root]).unwrap();
    fs::write(
        out.join("descriptor.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )
    .unwrap();
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .out_dir(out)
        .compile_fds(descriptors)
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
    for name in ["preheat.v1.rs", "descriptor.bin"] {
        assert!(
            fs::read(committed.join(name)).unwrap() == fs::read(fresh.path().join(name)).unwrap(),
            "{name} is stale: run PREHEAT_BLESS=1 cargo test -p preheat-proto and commit src/gen"
        );
    }
}
