//! The filters between FFmpeg's decoder and us.

use std::fmt::Write;

use crate::{Cut, Filter, Video};

/// Exact arithmetic, chroma in full resolution on both sides, and no dependence on the processor.
const EXACT: &str = "accurate_rnd+full_chroma_int+full_chroma_inp+bitexact";

/// Picks the frames by their timestamps, announces each, scales it, turns it, cuts it out.
///
/// Scaling also makes RGB, with the matrix and range that the stream states; where it states none,
/// swscale's own (BT.601, limited), as every tool on FFmpeg does.
pub(crate) fn graph(video: &Video, cut: &Cut, wanted: &[i64]) -> String {
    let [width, height] = cut.resize.unwrap_or([video.width, video.height]);
    // Scaled as it lies, then turned: the turn is exact on RGB, whatever the pixels of the source.
    let [across, down] = video.turn.size([width, height]);
    let kernel = match cut.filter {
        Filter::Bilinear => "bilinear",
        Filter::Bicubic => "bicubic",
        Filter::Lanczos => "lanczos",
    };
    // B and C of Mitchell and Netravali's family, or the number of lobes.
    let parameters = match cut.filter {
        Filter::Bilinear => "",
        Filter::Bicubic => ":param0=0:param1=0.5",
        Filter::Lanczos => ":param0=3",
    };
    let mut graph = format!(
        "select='{}',showinfo=checksum=0,scale={across}:{down}:flags={kernel}+{EXACT}{parameters},\
         format=rgb24",
        select(video, wanted)
    );
    for filter in video.turn.filters() {
        graph.push(',');
        graph.push_str(filter);
    }
    if let Some([x, y, w, h]) = cut.crop {
        // Writing to a String does not fail.
        let _ = write!(graph, ",crop={w}:{h}:{x}:{y}:exact=1");
    }
    graph
}

/// An expression that is not zero for the frames that are wanted: ranges of neighbours, so that it
/// stays short. Of two frames with one timestamp the first is taken.
fn select(video: &Video, wanted: &[i64]) -> String {
    let mut expression = String::new();
    let mut rest = wanted;
    while let Some(&first) = rest.first() {
        let at = video.times.partition_point(|&time| time < first);
        let neighbours = rest
            .iter()
            .zip(&video.times[at..])
            .take_while(|(wanted, time)| wanted == time)
            .count()
            .max(1);
        let last = rest[neighbours - 1];
        let (variable, from, to) = if video.counted {
            let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            ("n", number(at), number(at + neighbours - 1))
        } else {
            ("pts", first, last)
        };
        let plus = if expression.is_empty() { "(" } else { "+" };
        let _ = write!(expression, "{plus}between({variable},{from},{to})");
        rest = &rest[neighbours..];
    }
    expression.push(')');
    if !video.counted {
        expression.push_str("*not(eq(pts,prev_selected_pts))");
    }
    expression
}
