//! Which devices there are.

use std::fmt;

use crate::{Device, Error};

/// A device that this build can use and that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What to call it.
    pub device: Device,
    /// What it is, for people.
    pub name: String,
    /// Whether `auto` may choose it: not, if it is a GPU in software.
    pub automatic: bool,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.device, self.name)
    }
}

/// The devices that this build can use and that are there, the best first and the CPU last.
pub fn devices() -> Vec<Found> {
    #[cfg(feature = "cpu")]
    let found = crate::device::find().into_iter();
    #[cfg(not(feature = "cpu"))]
    let found = std::iter::empty();
    let cpu = Found {
        device: Device::Cpu,
        name: "this machine's processor".to_owned(),
        automatic: true,
    };
    found.chain([cpu]).collect()
}

/// From `auto`, or a list such as `cuda:0,cuda:1`, to devices. `auto` takes every GPU of the best kind
/// that was found, or the CPU.
///
/// # Errors
/// [`Error::UnknownDevice`] for names that mean nothing or that stand twice in the list. Whether a
/// named device is there shows when a model is opened on it.
pub fn choose(text: &str, found: &[Found]) -> Result<Vec<Device>, Error> {
    if text == "auto" {
        let mut automatic = found.iter().filter(|found| found.automatic);
        let Some(best) = automatic.next() else {
            return Ok(vec![Device::Cpu]);
        };
        let kind = std::mem::discriminant(&best.device);
        let others = automatic.filter(|found| std::mem::discriminant(&found.device) == kind);
        return Ok([best].into_iter().chain(others).map(|f| f.device).collect());
    }
    let mut devices = Vec::new();
    for name in text.split(',') {
        let device = name.trim().parse()?;
        if devices.contains(&device) {
            return Err(Error::UnknownDevice {
                name: name.trim().to_owned(),
                reason: "it stands twice in the list".to_owned(),
            });
        }
        devices.push(device);
    }
    Ok(devices)
}

/// The first device that `text` means, as for [`choose`]. Looks around only where it has to: GPU
/// libraries take their time, and memory.
///
/// # Errors
/// As for [`choose`].
pub fn choose_one(text: &str) -> Result<Device, Error> {
    let found = if text == "auto" {
        devices()
    } else {
        Vec::new()
    };
    Ok(choose(text, &found)?[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(device: Device, automatic: bool) -> Found {
        let name = String::new();
        Found {
            device,
            name,
            automatic,
        }
    }

    #[test]
    fn auto_takes_all_of_the_best_kind() {
        let (cuda, vulkan) = (Device::Cuda, Device::Vulkan);
        let cpu = found(Device::Cpu, true);
        let choose = |found: &[Found]| choose("auto", found).unwrap();
        let both = [found(cuda(0), true), found(cuda(1), true), cpu.clone()];
        assert_eq!(choose(&both), [cuda(0), cuda(1)]);
        let software = [found(vulkan(0), false), cpu];
        assert_eq!(choose(&software), [Device::Cpu]);
        assert_eq!(choose(&[]), [Device::Cpu]);
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(
            choose("cuda:1, cpu", &[]).unwrap(),
            [Device::Cuda(1), Device::Cpu]
        );
        for (text, say) in [
            ("cuda:0,cuda:0", "twice"),
            ("gpu", "cuda:N"),
            ("", "cuda:N"),
        ] {
            let error = choose(text, &[]).unwrap_err().to_string();
            assert!(error.contains(say), "{error}");
        }
    }
}
