//! Draws two plots in one SVG: latency over rate (the ladder), and latency over time.

use std::fmt::Write as _;

use crate::measured::Point;
use crate::number::of_count;
use crate::report::Report;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 300.0;
/// Room for the labels, on each side.
const MARGIN: f64 = 60.0;
/// The smallest upper end of an axis, in ms.
const LEAST_MS: f64 = 0.1;

/// One curve of a plot.
struct Curve {
    name: &'static str,
    colour: &'static str,
    points: Vec<(f64, f64)>,
}

struct Plot {
    title: String,
    across: &'static str,
    curves: Vec<Curve>,
    /// A level that the curve must keep below.
    limit: Option<f64>,
}

/// An HTML page with the plots.
pub(crate) fn html(report: &Report) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Hongyan bench</title>\n<body>\n{}<pre>{}</pre>\n\
         </body></html>\n",
        svg(report),
        escaped(&report.to_string())
    )
}

/// The plots as SVG.
pub(crate) fn svg(report: &Report) -> String {
    let plots: Vec<Plot> = over_rate(report).into_iter().chain(over_time(report)).collect();
    let height = (HEIGHT + 2.0 * MARGIN) * of_count(plots.len().max(1) as u64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{height}\" viewBox=\"0 0 {0} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        WIDTH + 2.0 * MARGIN
    );
    if plots.is_empty() {
        out.push_str("<text x=\"60\" y=\"60\">nothing was measured</text>\n");
    }
    for (number, plot) in plots.iter().enumerate() {
        draw(&mut out, plot, (HEIGHT + 2.0 * MARGIN) * of_count(number as u64));
    }
    out.push_str("</svg>\n");
    out
}

fn over_rate(report: &Report) -> Option<Plot> {
    let steps: Vec<_> = report.steps().filter_map(|step| Some((of_count(step.rate?), step.all()?))).collect();
    let curve = |name, colour, of: fn(&crate::report::Latency) -> f64| Curve {
        name,
        colour,
        points: steps.iter().map(|(rate, latency)| (*rate, of(latency))).collect(),
    };
    let curves = vec![
        curve("P50", "#2a7", |latency| latency.p50),
        curve("P99", "#d62", |latency| latency.p99),
        curve("P99.9", "#849", |latency| latency.p999),
    ];
    (!steps.is_empty()).then(|| Plot {
        title: "Latency over rate".to_owned(),
        across: "requests a second",
        curves,
        limit: report.ladder_p99_ms,
    })
}

/// One plot for each load outside a ladder.
fn over_time(report: &Report) -> Vec<Plot> {
    let loads = report.loads.iter().filter(|load| !load.step);
    let plots = loads.filter_map(|load| {
        let curve = |name, colour, of: fn(&Point) -> f64| {
            let points = load.timeline.iter().filter(|point| point.answered > 0);
            Curve { name, colour, points: points.map(|point| (of_count(point.second), of(point))).collect() }
        };
        let curves = vec![
            curve("P50", "#2a7", |point| point.p50),
            curve("P99", "#d62", |point| point.p99),
            curve("max", "#849", |point| point.max),
        ];
        let loop_ = load.rate.map_or("closed loop".to_owned(), |rate| format!("{rate}/s"));
        let title = format!("Latency over time: {}, {loop_}", load.scenario.name());
        let is_empty = curves.iter().all(|curve| curve.points.is_empty());
        (!is_empty).then_some(Plot { title, across: "s", curves, limit: None })
    });
    plots.collect()
}

/// Draws a plot, `top` below the upper edge. The axis of latencies is logarithmic.
fn draw(out: &mut String, plot: &Plot, top: f64) {
    let all = || plot.curves.iter().flat_map(|curve| &curve.points);
    let right = all().map(|(x, _)| *x).fold(1.0, f64::max);
    let highest = all().map(|(_, y)| *y).chain(plot.limit).fold(LEAST_MS * 10.0, f64::max);
    let (low, high) = (LEAST_MS.log10(), highest.log10().ceil());
    let x = |value: f64| MARGIN + value / right * WIDTH;
    let y = |value: f64| top + MARGIN + HEIGHT * (1.0 - (value.max(LEAST_MS).log10() - low) / (high - low));
    let bottom = top + MARGIN + HEIGHT;
    // Writing into memory cannot fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(format!(
        "<text x=\"{MARGIN}\" y=\"{}\" font-size=\"16\">{}</text>",
        top + 30.0,
        escaped(&plot.title)
    ));
    let mut level = LEAST_MS;
    while level <= 10_f64.powf(high) * 1.01 {
        let at = y(level);
        line(format!("<path d=\"M{MARGIN} {at:.1}H{:.1}\" stroke=\"#ddd\"/>", MARGIN + WIDTH));
        let label = if level < 1.0 { format!("{level:.1}") } else { format!("{level:.0}") };
        line(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label} ms</text>",
            MARGIN - 6.0,
            at + 4.0
        ));
        level *= 10.0;
    }
    for part in 0..=4_u32 {
        let value = right * f64::from(part) / 4.0;
        line(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.0}</text>",
            x(value),
            bottom + 18.0
        ));
    }
    line(format!(
        "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        MARGIN + WIDTH,
        bottom + 36.0,
        plot.across
    ));
    if let Some(limit) = plot.limit {
        let (at, end) = (y(limit), MARGIN + WIDTH);
        line(format!("<path d=\"M{MARGIN} {at:.1}H{end}\" stroke=\"#c00\" stroke-dasharray=\"6 4\"/>"));
    }
    for (number, Curve { name, colour, points }) in plot.curves.iter().enumerate() {
        let points: Vec<String> =
            points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        line(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        ));
        for point in &points {
            let (x, y) = point.split_once(',').unwrap_or_default();
            line(format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"2.5\" fill=\"{colour}\"/>"));
        }
        let place = MARGIN + WIDTH - 180.0 + 60.0 * of_count(number as u64);
        line(format!("<text x=\"{place}\" y=\"{}\" fill=\"{colour}\">{name}</text>", top + 30.0));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_ladder_is_drawn_over_the_rate_and_a_load_over_the_time() {
        let svg = svg(&sample());

        assert_eq!(svg.matches("Latency over rate").count(), 1, "{svg}");
        assert_eq!(svg.matches("Latency over time: send, 1000/s").count(), 1, "{svg}");
        // Each plot has three curves with two points each.
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (6, 12), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_page_holds_the_plots_and_the_tables() {
        let mut report = sample();
        report.notes.push("<b>".to_owned());
        let page = html(&report);
        assert!(
            page.contains("</svg>") && page.contains("highest rate") && page.contains("&lt;b&gt;"),
            "{page}"
        );
    }

    #[test]
    fn without_a_load_the_plot_says_so() {
        let mut report = sample();
        report.loads.clear();
        assert!(svg(&report).contains("nothing was measured"));
    }
}
