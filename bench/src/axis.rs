//! From values to pixels, and which values to name.

/// Names along an axis, at most.
const TICKS: f64 = 9.0;
/// Past so many powers of ten only those are named, not their doubles and fives.
const MANY_DECADES: f64 = 2.5;

/// One axis of a panel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis {
    values: [f64; 2],
    /// Where the values lie in the picture.
    pixels: [f64; 2],
    log: bool,
}

impl Axis {
    /// From 0 to a little more than `most`.
    pub(crate) fn linear(most: f64, pixels: [f64; 2]) -> Self {
        let most = if most > 0.0 { most * 1.06 } else { 1.0 };
        Self {
            values: [0.0, most],
            pixels,
            log: false,
        }
    }

    /// Logarithmic, around `values`, to the next 1, 2 or 5 on either side.
    pub(crate) fn log(values: impl Iterator<Item = f64>, pixels: [f64; 2]) -> Self {
        let [mut least, mut most] = [f64::INFINITY, 0.0_f64];
        for value in values.filter(|value| *value > 0.0) {
            least = least.min(value);
            most = most.max(value);
        }
        if most == 0.0 {
            (least, most) = (1.0, 10.0);
        }
        let round: Vec<f64> = round_values(least / 10.0, most * 10.0).collect();
        let below = round.iter().rev().find(|round| **round < least * 0.999);
        let above = round.iter().find(|round| **round > most * 1.001);
        Self {
            values: [
                below.copied().unwrap_or(least),
                above.copied().unwrap_or(most),
            ],
            pixels,
            log: true,
        }
    }

    /// Where a value lies.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let scale = |value: f64| {
            if self.log {
                value.max(1e-9).log10()
            } else {
                value
            }
        };
        let [from, to] = self.values.map(scale);
        let share = ((scale(value) - from) / (to - from)).clamp(0.0, 1.0);
        self.pixels[0] + share * (self.pixels[1] - self.pixels[0])
    }

    /// The largest value on it.
    pub(crate) const fn end(&self) -> f64 {
        self.values[1]
    }

    /// The values to name.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        let [from, to] = self.values;
        if self.log {
            let all: Vec<f64> = round_values(from * 0.999, to * 1.001).collect();
            let tens = |value: &f64| is_power_of_ten(*value);
            return if (to / from).log10() > MANY_DECADES {
                all.into_iter().filter(tens).collect()
            } else {
                all
            };
        }
        let step = round_values(to / TICKS / 10.0, to)
            .find(|step| to / step <= TICKS)
            .unwrap_or(to);
        (0..)
            .map(|index| f64::from(index) * step)
            .take_while(|value| *value <= to)
            .collect()
    }
}

/// A value as it is named: no more digits than it takes.
pub(crate) fn name(value: f64) -> String {
    let decimals = match value {
        x if x == x.trunc() || x >= 100.0 => 0,
        x if x >= 1.0 => 1,
        x if x >= 0.1 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// 1, 2 and 5 times the powers of ten, from `from` to `to`.
fn round_values(from: f64, to: f64) -> impl Iterator<Item = f64> {
    let decades = (from.log10().floor() as i32)..=(to.log10().ceil() as i32);
    decades
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|lead| lead * 10_f64.powi(decade)))
        .filter(move |value| (from..=to).contains(value))
}

fn is_power_of_ten(value: f64) -> bool {
    (value.log10() - value.log10().round()).abs() < 1e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let ticks = |most| Axis::linear(most, [0.0, 1.0]).ticks();
        assert_eq!(ticks(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        for most in [0.3, 7.0, 99.0, 1234.0, 1e6] {
            assert!((3..=10).contains(&ticks(most).len()), "{most}");
        }
    }

    #[test]
    fn logarithmic_axes_end_on_round_values() {
        let axis = Axis::log([130.0, 900.0].into_iter(), [100.0, 0.0]);
        assert_eq!(axis.ticks(), [100.0, 200.0, 500.0, 1000.0]);
        assert!((axis.at(1000.0) - 0.0).abs() < 1e-9 && (axis.at(100.0) - 100.0).abs() < 1e-9);
        // The middle of a decade is its square root of ten.
        assert!((axis.at(316.227_766) - 50.0).abs() < 1e-6);
        let wide = Axis::log([1.5, 80_000.0].into_iter(), [1.0, 0.0]);
        assert_eq!(wide.ticks(), [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]);
        assert!(!Axis::log([].into_iter(), [1.0, 0.0]).ticks().is_empty());
    }

    #[test]
    fn names_are_short() {
        let names = [0.05, 0.5, 2.5, 40.0, 1234.0].map(name);
        assert_eq!(names, ["0.050", "0.50", "2.5", "40", "1234"]);
    }
}
