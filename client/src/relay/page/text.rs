//! Words and numbers for readers.

/// Characters of a name or a reason: strangers chose them.
const MAX_CHARS: usize = 200;

/// What a stranger wrote, fit to be shown: of bounded length, without line breaks and what else
/// could change how the text around it reads. Markup is escaped where it is put in.
pub(super) fn clean(text: &str) -> String {
    let visible = |c: char| {
        let marks = '\u{200e}'..='\u{200f}';
        let (embeddings, isolates) = ('\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}');
        let bidi = [marks, embeddings, isolates]
            .iter()
            .any(|range| range.contains(&c));
        if c.is_control() || bidi {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut clean: String = text.chars().take(MAX_CHARS).map(visible).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        clean.push('…');
    }
    clean
}

/// With narrow spaces between thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// Pixels as megapixels, one decimal.
pub(super) fn mega(pixels: f64) -> String {
    let tenths = (finite(pixels) / 1e5).round() as u64;
    format!("{}.{}", count(tenths / 10), tenths % 10)
}

/// A share, in whole percents.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0}\u{202f}%", finite(share) * 100.0)
}

/// A share of a bar's width, for a style.
pub(super) fn width(share: f64) -> String {
    format!("width:{:.1}%", finite(share).min(1.0) * 100.0)
}

/// Part of a whole; nothing of nothing is nothing.
pub(super) fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        finite(part / whole)
    } else {
        0.0
    }
}

/// `1 replica`, `2 replicas`.
pub(super) fn several(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number))
}

fn finite(value: f64) -> f64 {
    if value.is_finite() {
        value.max(0.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_break_a_line_or_turn_it_round() {
        assert_eq!(clean("gpu-1"), "gpu-1");
        assert_eq!(clean("a\nb\u{202e}c\0"), "a\u{fffd}b\u{fffd}c\u{fffd}");
        assert_eq!(clean(&"ä".repeat(200)).chars().count(), 200);
        assert_eq!(clean(&"ä".repeat(9999)).chars().count(), 201);
    }

    #[test]
    fn numbers_are_grouped_and_rounded() {
        assert_eq!(
            [count(0), count(999), count(1000)],
            ["0", "999", "1\u{202f}000"]
        );
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(mega(12_345_678.0), "12.3");
        assert_eq!(mega(2.5e9), "2\u{202f}500.0");
        assert_eq!([mega(f64::NAN), mega(-1.0)], ["0.0", "0.0"]);
        assert_eq!(percent(0.876), "88\u{202f}%");
        assert_eq!(width(7.0), "width:100.0%");
        assert_eq!(share(1.0, 0.0), 0.0);
        assert_eq!(several(1, "replica"), "1 replica");
    }
}
