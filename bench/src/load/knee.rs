//! Where an endpoint stops keeping up, and how to find it. Pure.

/// Goodput below this share of the offered load: the endpoint does not follow any more.
const FOLLOWS: f64 = 0.95;
/// Where a step has few calls, it is chance how many are under way at its two ends. So many more at the
/// last than at the first are no sign of anything: this many, and [`UNDER_WAY`] times those that one
/// expects under way at the p99 of the lightest load.
const CALLS: f64 = 2.0;
const UNDER_WAY: f64 = 2.0;
/// A p99 past so many times that of the lightest load has exploded, where no limit is given.
const EXPLODES: f64 = 10.0;
/// Where the ramp begins, as a share of the capacity.
const FIRST: f64 = 0.25;
/// Each load of the ramp by the one before.
const GROWTH: f64 = 4.0 / 3.0;
/// Loads of the ramp before it gives up: the last is 18 times the capacity that was measured.
const MAX_STEPS: usize = 16;
/// How often the gap between the last load that held and the first that did not is halved.
const REFINEMENTS: usize = 2;

/// What was seen of one load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Images a second that were to be served.
    pub(super) offered: f64,
    /// Images a second that were, whole and in time.
    pub(super) goodput: f64,
    /// Images of a call.
    pub(super) items: f64,
    /// How long it was offered.
    pub(super) seconds: f64,
    /// Milliseconds; `None` where nothing was answered.
    pub(super) p99: Option<f64>,
}

/// What counts as keeping up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rule {
    /// The p99 in milliseconds that is still fine; `None`: so many times that of the lightest load.
    pub(super) limit: Option<f64>,
    /// Images a second that were served elsewhere, as in closed loops; 0 if nobody looked.
    pub(super) capacity: f64,
}

/// What a load is held against.
#[derive(Clone, Copy, Debug)]
struct Beside {
    lightest: Point,
    /// Most images a second that were ever served.
    best: f64,
}

impl Rule {
    /// Whether a load held.
    fn holds(&self, beside: Beside, point: &Point) -> bool {
        let normal = beside.lightest.p99;
        let limit = self.limit.or(normal.map(|p99| EXPLODES * p99));
        let calm = point
            .p99
            .zip(limit)
            .is_some_and(|(p99, limit)| p99 <= limit);
        let missing = point.offered - point.goodput;
        let under_way = UNDER_WAY * point.offered * normal.unwrap_or_default() / 1e3;
        let by_chance = (CALLS * point.items + under_way) / point.seconds;
        // More than was ever served is not served for long, whatever chance says.
        let possible = FOLLOWS * point.offered <= beside.best;
        let follows = point.goodput >= FOLLOWS * point.offered
            || (possible && point.goodput > 0.0 && missing <= by_chance);
        follows && calm
    }

    /// The highest load that held with all below it, and the lowest that did not.
    pub(super) fn knee(&self, points: &[Point]) -> (Option<Point>, Option<Point>) {
        let mut points = points.to_vec();
        points.sort_by(|a, b| a.offered.total_cmp(&b.offered));
        let Some(lightest) = points.first().copied() else {
            return (None, None);
        };
        let best = points.iter().map(|point| point.goodput);
        let best = best.fold(self.capacity, f64::max);
        let beside = Beside { lightest, best };
        let held = points
            .iter()
            .take_while(|point| self.holds(beside, point))
            .count();
        let before = held.checked_sub(1).map(|last| points[last]);
        (before, points.get(held).copied())
    }
}

/// The ramp: loads that grow until one does not hold, then a few between.
#[derive(Clone, Debug)]
pub(super) struct Ramp {
    rule: Rule,
    /// Typed rate and what was seen of it.
    seen: Vec<(f64, Point)>,
    refined: usize,
}

impl Ramp {
    /// Around the capacity of the rule.
    pub(super) const fn new(rule: Rule) -> Self {
        Self {
            rule,
            seen: Vec::new(),
            refined: 0,
        }
    }

    /// Takes note of what was seen at `rate`.
    pub(super) fn saw(&mut self, rate: f64, point: Point) {
        self.seen.push((rate, point));
    }

    /// The next load to offer, in images a second; `None` when the knee is known.
    pub(super) fn next(&mut self) -> Option<f64> {
        let Some(&(_, lightest)) = self.seen.first() else {
            return Some(FIRST * self.rule.capacity);
        };
        let rule = self.rule;
        let best = self.seen.iter().map(|(_, point)| point.goodput);
        let best = best.fold(rule.capacity, f64::max);
        let beside = Beside { lightest, best };
        let seen = self.seen.iter().copied();
        let (held, failed): (Vec<_>, Vec<_>) =
            seen.partition(|(_, point)| rule.holds(beside, point));
        let held = held.into_iter().map(|(rate, _)| rate);
        let failed = failed.into_iter().map(|(rate, _)| rate);
        let Some(failed) = failed.min_by(f64::total_cmp) else {
            let last = held.max_by(f64::total_cmp)?;
            return (self.seen.len() < MAX_STEPS).then_some(last * GROWTH);
        };
        if self.refined == REFINEMENTS {
            return None;
        }
        let held = held.filter(|rate| *rate < failed).max_by(f64::total_cmp)?;
        self.refined += 1;
        Some((held * failed).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        limit: None,
        capacity: 100.0,
    };
    const LIMITED: Rule = Rule {
        limit: Some(40.0),
        ..RULE
    };

    /// A server of 100 images/s: latency as in a queue, a backlog past its capacity.
    fn queue(offered: f64) -> Point {
        let load: f64 = offered / 100.0;
        let p99 = if load < 1.0 {
            20.0 / (1.0 - load)
        } else {
            10_000.0
        };
        Point {
            offered,
            goodput: offered.min(100.0),
            items: 1.0,
            seconds: 100.0,
            p99: Some(p99),
        }
    }

    /// A server that refuses what is over its capacity at once: latency hardly moves.
    fn shedding(offered: f64) -> Point {
        Point {
            p99: Some(50.0),
            ..queue(offered)
        }
    }

    fn ramp(rule: Rule, server: impl Fn(f64) -> Point) -> Vec<f64> {
        let mut ramp = Ramp::new(rule);
        let mut rates = Vec::new();
        while let Some(rate) = ramp.next() {
            rates.push(rate);
            ramp.saw(rate, server(rate));
        }
        rates
    }

    fn knee(rule: Rule, server: impl Fn(f64) -> Point) -> f64 {
        let points: Vec<_> = ramp(rule, &server).into_iter().map(server).collect();
        rule.knee(&points).0.unwrap().offered
    }

    #[test]
    fn the_knee_of_a_queue_is_where_latency_explodes() {
        // 10 times 20 / 0.75 ms is reached at 92.5 images/s.
        let knee = knee(RULE, queue);
        assert!((80.0..=92.5).contains(&knee), "{knee}");
    }

    #[test]
    fn the_knee_of_a_shedding_server_is_where_goodput_stays_behind() {
        let knee = knee(RULE, shedding);
        assert!((93.0..=105.3).contains(&knee), "{knee}");
    }

    #[test]
    fn a_limit_takes_the_place_of_the_multiple() {
        // 20 / (1 - 0.5) is 40 ms.
        let knee = knee(LIMITED, queue);
        assert!((40.0..=50.0).contains(&knee), "{knee}");
    }

    #[test]
    fn the_ramp_ends_with_and_without_a_knee() {
        let rates = ramp(RULE, queue);
        assert!(rates.len() < 10, "{rates:?}");
        let endless = ramp(RULE, |offered| Point {
            offered,
            goodput: offered,
            items: 1.0,
            seconds: 100.0,
            p99: Some(1.0),
        });
        assert_eq!(endless.len(), MAX_STEPS);
        // Too slow even for the lightest: nothing lies between.
        let hopeless = ramp(
            Rule {
                limit: Some(1.0),
                ..RULE
            },
            queue,
        );
        assert_eq!(hopeless.len(), 1);
    }

    #[test]
    fn chance_is_forgiven_where_calls_are_few() {
        let short = |offered, goodput| Point {
            offered,
            goodput,
            items: 16.0,
            seconds: 10.0,
            p99: Some(400.0),
        };
        let lightest = short(25.0, 25.0);
        let holds = |point| {
            let best = 100.0;
            RULE.holds(Beside { lightest, best }, &point)
        };
        // Two calls are 3.2 images/s here, and 6.4 more are under way.
        assert!(holds(short(80.0, 70.5)));
        assert!(!holds(short(80.0, 70.3)));
        // Not past the capacity, where they would pile up.
        assert!(holds(short(104.0, 99.0)) && !holds(short(106.0, 100.0)));
        // Of many calls a twentieth, whatever the best was.
        assert!(holds(short(400.0, 381.0)) && !holds(short(400.0, 379.0)));
    }

    #[test]
    fn one_good_load_past_the_knee_is_luck() {
        let points = [
            queue(25.0),
            queue(50.0),
            queue(99.0),
            queue(60.0),
            queue(90.0),
        ];
        let lucky = Point {
            goodput: 120.0,
            items: 1.0,
            seconds: 100.0,
            p99: Some(30.0),
            offered: 120.0,
        };
        let points = [&points[..], &[lucky]].concat();
        let (held, failed) = RULE.knee(&points);
        assert_eq!(held.unwrap().offered, 90.0);
        assert_eq!(failed.unwrap().offered, 99.0);
        assert_eq!(RULE.knee(&[]), (None, None));
    }

    #[test]
    fn a_load_without_answers_does_not_hold() {
        let dead = Point {
            offered: 10.0,
            goodput: 0.0,
            items: 1.0,
            seconds: 1.0,
            p99: None,
        };
        assert_eq!(RULE.knee(&[dead]), (None, Some(dead)));
    }
}
