//! What is known of one replica.

use std::{sync::Arc, time::Duration};

use super::{
    index::Place,
    rate::Rate,
    types::{ReplicaId, RequestId, Served, Time},
    view::{ReplicaView, Standing},
};

/// Calls that one replica may have at once: below the streams that it allows on its connections.
pub(super) const MAX_CALLS: usize = 64;
/// Out after the first fault; twice as long after each further one, ...
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// ... and at most so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Faults after which a replica counts as broken, not as unlucky.
const STRIKES: u32 = 3;
/// Answers that make up for one fault.
const FORGIVEN_AFTER: u32 = 4;
/// What is left of its window after a replica said that it is full.
const FULL_KEEPS: f32 = 0.5;
/// What each answer gives back of it.
const ANSWER_GIVES: f32 = 0.05;
/// A replica that says that it is so many times faster than it is when it has work, ...
const MOST_FLATTERY: f64 = 4.0;
/// ... after so many answers, is odd.
const ANSWERS_TO_DOUBT: u32 = 32;
/// A replica that is late is expected to take as long again as it is late, and at least so long.
const SHORTEST_LATENESS: Duration = Duration::from_millis(5);

/// A replica as it serves one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) group: u16,
    pub(super) rate: Rate,
    /// Where it is in the group's index, while it takes work.
    pub(super) place: Option<Place>,
    /// Its part of the group's total rate.
    pub(super) counted: f64,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) id: ReplicaId,
    pub(super) name: Arc<str>,
    pub(super) served: Option<Arc<Served>>,
    pub(super) standing: Standing,
    pub(super) reason: Arc<str>,
    pub(super) lanes: Vec<Lane>,
    pub(super) aboard: Vec<RequestId>,
    /// Requests aboard that may have ended another replica.
    pub(super) suspects: u32,
    pub(super) pixels: u64,
    /// Seconds that all it has should take.
    load: f64,
    /// When it should be through with all it has, as last corrected.
    pub(super) free_at: Time,
    /// The same, as promised: what it is late against.
    promised: Time,
    /// Since when it has worked on what it answers next.
    busy_since: Time,
    pub(super) last_answer: Time,
    /// Calls that it may have: a slow start.
    ramp: usize,
    /// Part of the window that it gets.
    window: f32,
    /// Seconds of work beyond the window that it wants to have: it is a balancer itself.
    allowance: f32,
    /// Gets nothing until a timer says so.
    pub(super) shut: bool,
    pub(super) opens_at: Time,
    /// Whether it was said that it flatters itself.
    doubted: bool,
    /// Whether it was asked if it is well again.
    pub(super) probed: bool,
    strikes: u32,
    streak: u32,
    answered_calls: u64,
    answered_pixels: u64,
    faults: u64,
    pub(super) ejections: u64,
}

impl Lane {
    pub(super) const fn new(group: u16, rate: Rate) -> Self {
        Self {
            group,
            rate,
            place: None,
            counted: 0.0,
        }
    }
}

impl Replica {
    pub(super) fn new(id: ReplicaId, name: &str, now: Time) -> Self {
        Self {
            id,
            name: name.into(),
            served: None,
            standing: Standing::Unknown,
            reason: Arc::from("not asked yet"),
            lanes: Vec::new(),
            aboard: Vec::new(),
            suspects: 0,
            pixels: 0,
            load: 0.0,
            free_at: now,
            promised: now,
            busy_since: now,
            last_answer: now,
            ramp: 1,
            window: 1.0,
            allowance: 0.0,
            shut: false,
            opens_at: now,
            probed: false,
            doubted: false,
            strikes: 0,
            streak: 0,
            answered_calls: 0,
            answered_pixels: 0,
            faults: 0,
            ejections: 0,
        }
    }

    pub(super) fn lane(&mut self, group: u16) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.group == group)
    }

    /// Whether it may get a request, if its window has room.
    pub(super) fn takes_work(&self) -> bool {
        let calls = self.aboard.len();
        self.standing == Standing::Up && !self.shut && calls < self.ramp.min(MAX_CALLS)
    }

    /// What it is listed by: when it is free, seen through its window.
    pub(super) fn key(&self, window: Duration) -> Time {
        let less = window.mul_f32(1.0 - self.window);
        (self.free_at + less).saturating_sub(Duration::from_secs_f32(self.allowance))
    }

    /// It has a request more, which should take so long. When it should be through with it comes back.
    pub(super) fn takes(
        &mut self,
        now: Time,
        request: RequestId,
        pixels: u64,
        seconds: f64,
    ) -> Time {
        if self.aboard.is_empty() {
            self.busy_since = now;
            self.promised = now;
        }
        let work = Duration::from_secs_f64(seconds);
        self.free_at = self.free_at.max(now) + work;
        self.promised += work;
        self.load += seconds;
        self.pixels += pixels;
        self.aboard.push(request);
        self.free_at
    }

    /// A guess at its speed for a group that it has not served: what it says of itself.
    pub(super) fn said(&self) -> Rate {
        self.lanes
            .first()
            .map(|lane| lane.rate.said())
            .unwrap_or_default()
    }

    /// It has a request less, answered or not.
    pub(super) fn lays_down(&mut self, now: Time, request: RequestId, pixels: u64, seconds: f64) {
        if let Some(at) = self.aboard.iter().position(|&one| one == request) {
            self.aboard.swap_remove(at);
        }
        self.pixels = self.pixels.saturating_sub(pixels);
        // Rounding must not leave an idle replica with work.
        self.load = if self.aboard.is_empty() {
            0.0
        } else {
            (self.load - seconds).max(0.0)
        };
        self.free_at = now + Duration::from_secs_f64(self.load);
        self.promised = self.free_at;
    }

    /// It has answered; to be called before it lays the request down.
    pub(super) fn answers(&mut self, now: Time, group: u16, pixels: u64) {
        let busy = now.saturating_sub(self.busy_since).as_secs_f64();
        let load = self.load;
        if let Some(lane) = self.lane(group) {
            lane.rate.answered(pixels, busy, load);
        }
        self.busy_since = now;
        self.last_answer = now;
        self.answered_calls += 1;
        self.answered_pixels += pixels;
        self.ramp = (self.ramp + 1).min(MAX_CALLS);
        self.window = (self.window + ANSWER_GIVES).min(1.0);
        self.streak += 1;
        if self.streak >= FORGIVEN_AFTER {
            self.streak = 0;
            self.strikes = self.strikes.saturating_sub(1);
        }
    }

    /// What was measured of its speed; 0 for nothing.
    pub(super) fn measured(&mut self, group: u16) -> f64 {
        self.lane(group).map_or(0.0, |lane| lane.rate.measured())
    }

    /// Another replica has answered in its place: it would have taken longer. What was known of its
    /// speed before and after that comes back.
    pub(super) fn is_overtaken(
        &mut self,
        now: Time,
        group: u16,
        pixels: u64,
    ) -> Option<(f64, f64)> {
        let busy = now.saturating_sub(self.busy_since).as_secs_f64();
        let load = self.load;
        let lane = self.lane(group)?;
        let before = lane.rate.measured();
        lane.rate.answered(pixels, busy, load);
        let after = lane.rate.measured();
        self.busy_since = now;
        Some((before, after))
    }

    /// It is full.
    pub(super) fn overflows(&mut self) {
        self.window = (self.window * FULL_KEEPS).max(0.1);
    }

    /// It says that it has this many seconds of work beyond what this balancer gave it.
    pub(super) fn has_other_work(&mut self, now: Time, seconds: f64) {
        self.free_at = now + Duration::from_secs_f64(self.load + seconds);
        self.promised = self.free_at;
    }

    /// What it says of its speed is held against what it does; what is odd is said to people. Work is
    /// given by what it does.
    pub(super) fn doubt(&mut self, says: f64) {
        let known = self.lanes.iter().map(|lane| lane.rate);
        let known = known.filter(|rate| rate.answers() >= ANSWERS_TO_DOUBT);
        let does = known.map(|rate| rate.measured()).fold(0.0, f64::max);
        let doubted = does > 0.0 && says > does * MOST_FLATTERY && self.aboard.len() > 1;
        if doubted && !self.doubted && self.standing == Standing::Up {
            let (says, does) = (says / 1e6, does / 1e6);
            let odd =
                format!("says that it does {says:.1} megapixels a second, and does {does:.1}");
            tracing::warn!(replica = %self.name, "{odd}");
            self.reason = odd.into();
            self.doubted = true;
        }
    }

    /// It is a balancer, and wants so many seconds of work.
    pub(super) const fn wants(&mut self, seconds: f64) {
        self.allowance = seconds as f32;
    }

    /// A fault: how long it is to be left alone, and whether it counts as broken.
    pub(super) fn strike(&mut self) -> (Duration, bool) {
        self.faults += 1;
        self.streak = 0;
        self.strikes = (self.strikes + 1).min(30);
        self.ramp = 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << (self.strikes - 1).min(20));
        (pause.min(LONGEST_PAUSE), self.strikes >= STRIKES)
    }

    /// Whether it should have been through with all it has.
    pub(super) fn is_late(&self, now: Time) -> bool {
        !self.aboard.is_empty() && self.free_at < now
    }

    /// Expects it to take as long again as it is late.
    pub(super) fn expect_later(&mut self, now: Time) {
        let late = now.saturating_sub(self.promised);
        self.free_at = now + late.max(SHORTEST_LATENESS);
    }

    /// Nothing is made of its being late: it may have more calls, if they fit its window.
    pub(super) fn excuse(&mut self, now: Time) {
        self.free_at = now + Duration::from_secs_f64(self.load);
        self.promised = self.free_at;
        self.ramp = self.ramp.max(self.aboard.len() + 1);
    }

    /// It starts, or starts again, slowly.
    pub(super) fn begins(&mut self, now: Time) {
        self.standing = Standing::Up;
        self.reason = Arc::from("");
        self.shut = false;
        self.doubted = false;
        self.ramp = 1;
        self.window = 1.0;
        self.free_at = self.free_at.max(now);
    }

    /// It is gone, and will come back as another process: what was learned of its faults is void.
    pub(super) const fn ends(&mut self) {
        self.strikes = 0;
        self.streak = 0;
        self.allowance = 0.0;
    }

    pub(super) const fn lost(&mut self) {
        self.faults += 1;
    }

    pub(super) fn view(&self) -> ReplicaView {
        let rate = self.lanes.iter().map(|lane| lane.rate.measured());
        ReplicaView {
            id: self.id,
            name: self.name.clone(),
            standing: self.standing,
            reason: self.reason.clone(),
            pixels_per_second: rate.fold(0.0, f64::max),
            outstanding_pixels: self.pixels,
            outstanding_calls: self.aboard.len() as u32,
            answered_calls: self.answered_calls,
            answered_pixels: self.answered_pixels,
            faults: self.faults,
            ejections: self.ejections,
        }
    }
}
