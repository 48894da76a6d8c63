//! What the fleet serves, as if it were one replica.

use std::{collections::BTreeMap, time::Duration};

use http::Response;
use preheat_proto::{
    Code, Error as CallError,
    v1::{InfoResponse, Limits, Model},
};
use prost::Message as _;
use tonic::{Status, body::Body};

use super::{answer, seam::Serving};

/// While no replica is up: about how often the balancer looks for one.
const NOBODY_PUSHBACK: Duration = Duration::from_millis(500);

/// Said while no replica is up.
pub(super) fn nobody() -> CallError {
    let message = "no replica is up: the balancer goes on looking for those that it was told of";
    CallError::new(Code::Unavailable, message).retry_after(NOBODY_PUSHBACK)
}

/// The answer to Info.
pub(super) fn answer(fleet: &Serving) -> Response<Body> {
    let Some(info) = merge(fleet) else {
        return Status::from(nobody()).into_http();
    };
    let message = info.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(
        u32::try_from(message.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    framed.extend(message);
    answer::whole(framed.into())
}

/// What all of them serve together; `None` without any. Of several fingerprints of one name, that
/// of the most replicas is the current one, the others are older ones: runs that pin them go on.
pub(super) fn merge(fleet: &Serving) -> Option<InfoResponse> {
    let first = fleet.first()?;
    let mut by_name: BTreeMap<&str, Vec<&Model>> = BTreeMap::new();
    for model in fleet.iter().flat_map(|info| &info.models) {
        by_name.entry(&model.name).or_default().push(model);
    }
    let is_said_by_all = fleet.iter().all(|info| info.version == first.version);
    Some(InfoResponse {
        version: match is_said_by_all {
            true => first.version.clone(),
            false => "mixed".to_owned(),
        },
        meta_version: most(fleet.iter().map(|info| info.meta_version)),
        models: by_name.into_values().map(|all| one(&all)).collect(),
        limits: Some(limits(fleet)),
    })
}

/// One model, from what several replicas say of it.
fn one(all: &[&Model]) -> Model {
    let current = most(all.iter().map(|model| model.fingerprint.as_str()));
    let served = all.iter().filter(|model| model.fingerprint == current);
    let mut model = Model::clone(served.clone().next().unwrap_or(&all[0]));
    let mut devices: Vec<&str> = served.clone().flat_map(|m| m.device.split(',')).collect();
    devices.sort_unstable();
    devices.dedup();
    model.device = devices.join(",");
    let preferred = served.map(|m| m.preferred_batch_pixels).filter(|&p| p > 0);
    // Chunks of this size suit every replica.
    model.preferred_batch_pixels = preferred.min().unwrap_or(0);
    let fingerprints = |m: &&Model| -> Vec<String> {
        let current = [m.fingerprint.clone()].into_iter();
        current
            .chain(m.older_fingerprints.iter().cloned())
            .collect()
    };
    let mut older: Vec<String> = all.iter().flat_map(fingerprints).collect();
    older.sort_unstable();
    older.dedup();
    older.retain(|fingerprint| fingerprint != current);
    model.older_fingerprints = older;
    model
}

/// Whatever comes most often; of several, the smallest.
fn most<T: Ord + Copy + Default>(all: impl Iterator<Item = T>) -> T {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    let most = counts.into_iter().rev().max_by_key(|(_, count)| *count);
    most.map(|(one, _)| one).unwrap_or_default()
}

/// The smallest that any of them sets.
fn limits(fleet: &Serving) -> Limits {
    let all = || fleet.iter().filter_map(|info| info.limits.as_ref());
    let least = |of: fn(&Limits) -> u64| all().map(of).filter(|&limit| limit > 0).min();
    let items = least(|limits| limits.max_items.into());
    Limits {
        max_items: items.map_or(0, |items| u32::try_from(items).unwrap_or(u32::MAX)),
        max_message_bytes: least(|limits| limits.max_message_bytes).unwrap_or(0),
        max_source_pixels: least(|limits| limits.max_source_pixels).unwrap_or(0),
        max_output_pixels: least(|limits| limits.max_output_pixels).unwrap_or(0),
        max_request_bytes: least(|limits| limits.max_request_bytes).unwrap_or(0),
        // A call may go to any of them.
        video_files: fleet
            .iter()
            .all(|info| info.limits.is_some_and(|limits| limits.video_files)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn replica(models: &[(&str, &str, &[&str])], pixels: u64) -> Arc<InfoResponse> {
        let model = |(name, fingerprint, older): &(&str, &str, &[&str])| Model {
            name: (*name).to_owned(),
            fingerprint: (*fingerprint).to_owned(),
            device: format!("cuda:{pixels}"),
            preferred_batch_pixels: pixels,
            older_fingerprints: older.iter().map(|&older| older.to_owned()).collect(),
            ..Model::default()
        };
        Arc::new(InfoResponse {
            version: "1".into(),
            meta_version: 1,
            models: models.iter().map(model).collect(),
            limits: Some(Limits {
                max_items: 10,
                max_source_pixels: pixels,
                ..Limits::default()
            }),
        })
    }

    #[test]
    fn the_fleet_is_one_replica() {
        let fleet: Serving = Arc::new([
            replica(&[("vae", "new", &["old"]), ("other", "x", &[])], 7),
            replica(&[("vae", "old", &["oldest"])], 5),
            replica(&[("vae", "new", &[])], 9),
        ]);
        let info = merge(&fleet).unwrap();
        assert_eq!((&*info.version, info.meta_version), ("1", 1));
        let [other, vae] = &info.models[..] else {
            panic!("{:?}", info.models)
        };
        assert_eq!((&*other.fingerprint, &*other.device), ("x", "cuda:7"));
        assert_eq!(vae.fingerprint, "new");
        assert_eq!(vae.older_fingerprints, ["old", "oldest"]);
        assert_eq!(vae.preferred_batch_pixels, 7);
        assert_eq!(vae.device, "cuda:7,cuda:9");
        let limits = info.limits.unwrap();
        assert_eq!((limits.max_items, limits.max_source_pixels), (10, 5));
    }

    #[test]
    fn without_replicas_there_is_nothing_to_say() {
        assert_eq!(merge(&Serving::from([])), None);
        let even: Serving = Arc::new([
            replica(&[("vae", "b", &[])], 1),
            replica(&[("vae", "a", &[])], 1),
        ]);
        assert_eq!(merge(&even).unwrap().models[0].fingerprint, "a");
    }
}
