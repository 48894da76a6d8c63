//! The arrows between crates, held by a test: what may name what, dev-dependencies included.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .other_options(["--locked".to_owned()])
        .exec()
        .unwrap()
}

/// Every workspace crate with the crates that it names directly.
fn direct(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let names = |package: &Package| {
        package
            .dependencies
            .iter()
            .map(|d| d.name.clone())
            .collect()
    };
    metadata
        .workspace_packages()
        .iter()
        .map(|p| (p.name.to_string(), names(p)))
        .collect()
}

#[test]
fn crates_name_only_what_the_design_allows() {
    let metadata = metadata();
    let allowed = BTreeMap::from([
        ("preheat-proto", vec![]),
        ("preheat-models", vec![]),
        // Itself in its tests, with the feature that makes clips.
        ("preheat-clips", vec!["preheat-clips"]),
        ("preheat-client", vec!["preheat-clips", "preheat-proto"]),
        // The server in its tests, which start it: see below.
        ("preheat-python", vec!["preheat-client", "preheat-server"]),
        (
            "preheat-server",
            vec!["preheat-clips", "preheat-models", "preheat-proto"],
        ),
        (
            "preheat-bench",
            vec![
                "preheat-client",
                "preheat-clips",
                "preheat-models",
                "preheat-proto",
                "preheat-server",
            ],
        ),
    ]);
    let direct = direct(&metadata);
    assert!(
        direct.keys().eq(allowed.keys()),
        "a crate without a rule: {:?}",
        direct.keys()
    );
    for (name, dependencies) in &direct {
        let ours: Vec<_> = dependencies
            .iter()
            .filter(|d| d.starts_with("preheat-"))
            .collect();
        assert_eq!(
            ours,
            allowed[name.as_str()],
            "{name} names a crate of ours that it may not"
        );
    }
}

#[test]
fn the_python_package_knows_the_server_in_tests_only() {
    let metadata = metadata();
    let packages = metadata.workspace_packages();
    let python = packages
        .iter()
        .find(|p| p.name.as_str() == "preheat-python")
        .unwrap();
    let mut server = python.dependencies.iter();
    let server = server.find(|d| d.name == "preheat-server").unwrap();
    assert_eq!(server.kind, DependencyKind::Development);
    assert!(!server.uses_default_features, "without burn");
}

#[test]
fn heavy_crates_stay_in_their_rooms() {
    let metadata = metadata();
    let rooms = [
        ("burn", vec!["preheat-models"]),
        ("burn-flex", vec!["preheat-models"]),
        ("rkyv", vec!["preheat-client", "preheat-proto"]),
        ("pyo3", vec!["preheat-python"]),
        (
            "tonic",
            vec![
                "preheat-bench",
                "preheat-client",
                "preheat-proto",
                "preheat-server",
            ],
        ),
        (
            "flume",
            vec!["preheat-client", "preheat-python", "preheat-server"],
        ),
    ];
    for (name, dependencies) in direct(&metadata) {
        for (outside, wrappers) in &rooms {
            let named = dependencies.contains(*outside);
            assert!(
                !named || wrappers.contains(&name.as_str()),
                "{name} names {outside}"
            );
        }
    }
}

/// `cargo test -p preheat-client` and `-p preheat-proto` must stay cheap: nothing that they can
/// reach, by any kind of dependency, is burn.
#[test]
fn client_and_proto_never_build_burn() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().unwrap();
    let edges: BTreeMap<&PackageId, Vec<&PackageId>> = resolve
        .nodes
        .iter()
        .map(|node| {
            (
                &node.id,
                node.deps.iter().map(|dependency| &dependency.pkg).collect(),
            )
        })
        .collect();
    for package in metadata.workspace_packages() {
        if !["preheat-client", "preheat-proto"].contains(&package.name.as_str()) {
            continue;
        }
        let mut reached = BTreeSet::from([&package.id]);
        let mut open = vec![&package.id];
        while let Some(id) = open.pop() {
            open.extend(edges[id].iter().copied().filter(|id| reached.insert(id)));
        }
        for id in reached {
            let name = metadata[id].name.as_str();
            assert!(!name.starts_with("burn"), "{} reaches {name}", package.name);
        }
    }
}
