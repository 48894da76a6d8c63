//! The trainers at work: a process for each rank, kept in step as an all-reduce would keep them.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    fleet::Fleet,
    log::{Beat, Log, RankLog},
    order::Expected,
    protocol::{Order, Said, Spec, Step},
    typed::Stop,
};
use crate::load::usage::Process;

/// How a rank is started: the name of a hidden command.
const COMMAND: &str = "rank";
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// No rank says nothing for so long: the loader gives a call up after two minutes without a replica,
/// and this is beyond any stop of the fleet besides.
const SILENCE: Duration = Duration::from_secs(300);

/// One part of a run.
pub(super) struct Phase {
    pub(super) what: &'static str,
    pub(super) warm_up: Duration,
    /// Measured then, at least.
    pub(super) seconds: Duration,
    /// Ends after so many measured steps instead.
    pub(super) steps: Option<u64>,
    pub(super) stop: Option<Stop>,
}

/// What came out of it.
pub(super) struct Ran {
    pub(super) logs: Vec<Log>,
    /// When the fleet stood still, since the start.
    pub(super) stopped: Option<[Duration; 2]>,
}

enum Event {
    Said(usize, Said),
    Ended(usize),
}

/// One rank.
struct Member {
    child: Child,
    stdin: ChildStdin,
    trainer: usize,
    rank: usize,
    arrived: Option<Step>,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Crew<'a> {
    members: Vec<Member>,
    events: Receiver<Event>,
    logs: Vec<Log>,
    expected: &'a mut [Expected],
    phase: &'a Phase,
    fleet: &'a Fleet,
    /// When all began.
    start: Instant,
    stopped: Vec<Duration>,
    progress: ProgressBar,
}

/// Runs all ranks of all trainers through a phase; `expected` has an entry for each trainer.
///
/// # Errors
/// Where a rank fails or gets anything but what it should, or a replica ends.
pub(super) fn run(
    specs: &[Spec],
    expected: &mut [Expected],
    fleet: &Fleet,
    phase: &Phase,
) -> anyhow::Result<Ran> {
    let (tell, events) = mpsc::channel();
    let mut members = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        members.push(Member::start(index, spec, tell.clone())?);
    }
    let style = ProgressStyle::with_template("{prefix:22} {bar:32} {pos}/{len} s  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let length = (phase.warm_up + phase.seconds).as_secs();
    let mut crew = Crew {
        logs: vec![Log::default(); expected.len()],
        members,
        events,
        expected,
        phase,
        fleet,
        start: Instant::now(),
        stopped: Vec::new(),
        progress: ProgressBar::new(length)
            .with_style(style)
            .with_prefix(phase.what),
    };
    crew.gather()?;
    crew.drive()?;
    crew.progress.finish_and_clear();
    let stopped = <[Duration; 2]>::try_from(crew.stopped).ok();
    Ok(Ran {
        logs: crew.logs,
        stopped,
    })
}

impl Member {
    fn start(index: usize, spec: &Spec, tell: Sender<Event>) -> anyhow::Result<Self> {
        let program = env::current_exe().context("finding this program")?;
        let mut child = Command::new(program)
            .arg(COMMAND)
            // This program's allocator asks for huge pages, for the sake of encoders. They hold and clear memory
            // that a window does not use, and glibc's, which trainers have, does not ask.
            .env("MIMALLOC_ALLOW_THP", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a rank")?;
        let stdout = child.stdout.take().context("no pipe from the rank")?;
        let stdin = child.stdin.take().context("no pipe to the rank")?;
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let said = serde_json::from_str(&line)
                    .unwrap_or_else(|error| Said::Failed(format!("said `{line}`: {error}")));
                let _ = tell.send(Event::Said(index, said));
            }
            let _ = tell.send(Event::Ended(index));
        });
        let mut member = Self {
            child,
            stdin,
            trainer: usize::try_from(spec.trainer).context("a trainer's number")?,
            rank: spec.rank as usize,
            arrived: None,
        };
        member.tell(&serde_json::to_string(spec)?)?;
        Ok(member)
    }

    fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.stdin, "{line}").context("a rank has ended; its own words are above")
    }
}

impl Crew<'_> {
    /// Waits until all loaders run.
    fn gather(&mut self) -> anyhow::Result<()> {
        for member in &self.members {
            let log = &mut self.logs[member.trainer];
            let ranks = log.ranks.len().max(member.rank + 1);
            log.ranks.resize(ranks, RankLog::default());
        }
        for _ in 0..self.members.len() {
            let (index, said) = self.hear(SILENCE)?.context("a loader did not start")?;
            let Said::Ready { resident } = said else {
                bail!("a rank began without being told to");
            };
            self.rank_log(index).resident_before = resident;
        }
        Ok(())
    }

    /// Lets all begin together, and keeps each trainer in step until its time is over.
    fn drive(&mut self) -> anyhow::Result<()> {
        self.start = Instant::now();
        self.order(None, Order::Go)?;
        let mut running = self.members.len();
        let mut heard = Instant::now();
        let mut look = self.start;
        while running > 0 {
            if look <= Instant::now() {
                self.look()?;
                look += LOOK;
            }
            let due = self.stop_when_due()?.map_or(look, |due| due.min(look));
            let patience = due.saturating_duration_since(Instant::now());
            let Some((index, said)) = self.hear(patience)? else {
                if heard.elapsed() > SILENCE {
                    bail!("no rank has said anything for {SILENCE:?}: the loaders hang");
                }
                continue;
            };
            heard = Instant::now();
            match said {
                Said::Step(step) => {
                    self.members[index].arrived = Some(step);
                    self.meet(self.members[index].trainer)?;
                }
                Said::Bye(bye) => {
                    self.rank_log(index).bye = bye;
                    running -= 1;
                }
                Said::Ready { .. } | Said::Failed(_) => bail!("a rank began twice"),
            }
        }
        if self.stopped.len() == 1 {
            // The run ended before the stop did: nothing is left behind that cannot even be ended.
            self.fleet.stop(false)?;
            self.stopped.push(self.start.elapsed());
        }
        Ok(())
    }

    /// The next thing that a rank says, unless nothing comes in time.
    fn hear(&mut self, patience: Duration) -> anyhow::Result<Option<(usize, Said)>> {
        let (index, why) = match self.events.recv_timeout(patience) {
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("all ranks have ended"),
            Ok(Event::Said(index, Said::Failed(why))) => (index, why),
            Ok(Event::Said(index, said)) => return Ok(Some((index, said))),
            Ok(Event::Ended(index)) => {
                let log = self.rank_log(index);
                if log.ended {
                    return Ok(None);
                }
                log.ended = true;
                if self.logs[self.members[index].trainer].over {
                    return Ok(None);
                }
                (index, "it has ended without a word".to_owned())
            }
        };
        let Member { trainer, rank, .. } = self.members[index];
        bail!("trainer {trainer}, rank {rank}: {why}")
    }

    fn rank_log(&mut self, index: usize) -> &mut RankLog {
        let Member { trainer, rank, .. } = self.members[index];
        &mut self.logs[trainer].ranks[rank]
    }

    /// Tells all ranks of one trainer, or of all.
    fn order(&mut self, trainer: Option<usize>, order: Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(&order)?;
        let these = |member: &&mut Member| trainer.is_none_or(|one| one == member.trainer);
        for member in self.members.iter_mut().filter(these) {
            member.tell(&line)?;
        }
        Ok(())
    }

    /// Where all ranks of a trainer have arrived: checks what they got, and lets them go on.
    fn meet(&mut self, trainer: usize) -> anyhow::Result<()> {
        let mine = |member: &&mut Member| member.trainer == trainer;
        let ranks = self.members.iter_mut().filter(mine);
        let mut ranks: Vec<&mut Member> = ranks.collect();
        if ranks.iter().any(|member| member.arrived.is_none()) {
            return Ok(());
        }
        ranks.sort_by_key(|member| member.rank);
        let steps: Vec<Step> = ranks
            .iter_mut()
            .filter_map(|one| one.arrived.take())
            .collect();
        self.expected[trainer].check(&steps)?;
        let now = self.start.elapsed();
        let log = &mut self.logs[trainer];
        log.beat(Beat::new(now, &steps), &steps, self.phase.warm_up);
        let over = match self.phase.steps {
            Some(steps) => log.measured().len() as u64 >= steps,
            None => now >= self.phase.warm_up + self.phase.seconds,
        };
        log.over = over;
        let order = if over { Order::End } else { Order::Go };
        self.order(Some(trainer), order)
    }

    /// Stops the fleet and lets it go on, each in its time. When there is something to do next.
    fn stop_when_due(&mut self) -> anyhow::Result<Option<Instant>> {
        let Some(stop) = self.phase.stop else {
            return Ok(None);
        };
        let at = self.phase.warm_up + stop.at;
        let due = [at, at + stop.lasts];
        let Some(&next) = due.get(self.stopped.len()) else {
            return Ok(None);
        };
        if self.start.elapsed() < next {
            return Ok(Some(self.start + next));
        }
        self.fleet.stop(self.stopped.is_empty())?;
        self.stopped.push(self.start.elapsed());
        self.stop_when_due()
    }

    /// Memory of the ranks, and whether all replicas are there.
    fn look(&mut self) -> anyhow::Result<()> {
        self.fleet.check()?;
        for index in 0..self.members.len() {
            let usage = Process::look(self.members[index].child.id()).usage();
            let measuring = self.logs[self.members[index].trainer].is_measured();
            if let Some(usage) = usage {
                self.rank_log(index).look(usage, measuring);
            }
        }
        self.progress.set_position(self.start.elapsed().as_secs());
        let last = self.logs.first().and_then(|log| log.beats.last());
        if let Some(beat) = last {
            self.progress
                .set_message(format!("{} batches ready", beat.ready));
        }
        Ok(())
    }
}
