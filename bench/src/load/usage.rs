//! What a process uses, where the system tells.

use std::{fs, time::Duration};

/// Of one process, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time since it started, in all its threads.
    pub(crate) cpu: Duration,
    /// The part of that in the kernel.
    pub(crate) system: Duration,
    /// User and system time of processes that it started, once they have ended.
    pub(crate) children: Duration,
    /// Resident memory, in bytes.
    pub(crate) resident: u64,
}

/// What there is to know of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// It runs.
    Alive(Usage),
    /// It has ended.
    Ended,
    /// This system does not tell.
    Unknown,
}

impl Process {
    /// Asks the system.
    pub(crate) fn look(id: u32) -> Self {
        if fs::metadata("/proc/self/stat").is_err() {
            return Self::Unknown;
        }
        let stat = fs::read_to_string(format!("/proc/{id}/stat"));
        stat.map_or(Self::Ended, |stat| {
            Self::parse(
                &stat,
                rustix::param::clock_ticks_per_second(),
                rustix::param::page_size() as u64,
            )
        })
    }

    /// The fields behind the name, which may itself hold blanks and brackets: state first, then 10
    /// others, user and system time in ticks, the same of children, 6 others, resident pages.
    fn parse(stat: &str, ticks: u64, page: u64) -> Self {
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let time = |count: u64| Duration::from_secs_f64(count as f64 / ticks.max(1) as f64);
        let children = number(13)
            .zip(number(14))
            .map_or(0, |(user, system)| user + system);
        match (fields.first(), number(11), number(12), number(21)) {
            (Some(&("Z" | "X")), ..) => Self::Ended,
            (Some(_), Some(user), Some(system), Some(pages)) => Self::Alive(Usage {
                cpu: time(user + system),
                system: time(system),
                children: time(children),
                resident: pages * page,
            }),
            _ => Self::Unknown,
        }
    }

    /// What it uses, while it runs.
    pub(crate) const fn usage(self) -> Option<Usage> {
        match self {
            Self::Alive(usage) => Some(usage),
            Self::Ended | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_system_writes() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4 5 0 0 0 150 50 30 10 20 0 9 0 99 4096000 1000 \
                    184467 1 1";
        let usage = Usage {
            cpu: Duration::from_secs(2),
            system: Duration::from_millis(500),
            children: Duration::from_millis(400),
            resident: 4_096_000,
        };
        assert_eq!(Process::parse(stat, 100, 4096), Process::Alive(usage));
        let zombie = stat.replace(") S", ") Z");
        assert_eq!(Process::parse(&zombie, 100, 4096), Process::Ended);
        assert_eq!(Process::parse("nonsense", 100, 4096), Process::Unknown);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_alive_and_holds_memory() {
        let usage = Process::look(std::process::id()).usage().unwrap();
        assert!(usage.resident > 1 << 20, "{usage:?}");
    }
}
