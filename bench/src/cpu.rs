//! Processor time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::load::usage::Process;

/// User and system time that this process has used, in all its threads.
pub fn of_this_process() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// The same of the processes that this one started and that have ended; zero where the system does not
/// tell.
pub fn of_ended_children() -> Duration {
    let usage = Process::look(std::process::id()).usage();
    usage.map_or(Duration::ZERO, |usage| usage.children)
}
