//! A plot: times and traffic by the number of nodes, both logarithmic.

use std::fmt::Write;

use crate::measure::Measured;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// A line of the plot.
struct Line {
    name: &'static str,
    colour: &'static str,
    values: Vec<f64>,
}

/// Draws the times until news are everywhere.
pub fn plot(rows: &[Measured]) -> String {
    let seconds =
        |of: fn(&Measured) -> std::time::Duration| rows.iter().map(|row| of(row).as_secs_f64()).collect();
    let lines = [
        Line { name: "all started at once", colour: "#7b3294", values: seconds(|row| row.cold) },
        Line { name: "a crash is noticed", colour: "#d7191c", values: seconds(|row| row.crash) },
        Line { name: "a new node, its subnet", colour: "#2c7bb6", values: seconds(|row| row.node) },
        Line { name: "a new pod", colour: "#1a9641", values: seconds(|row| row.pod) },
    ];
    let nodes: Vec<f64> = rows.iter().map(|row| row.nodes as f64).collect();
    draw("Until everybody knows: seconds, by the number of nodes", &nodes, &lines)
}

fn draw(title: &str, at: &[f64], lines: &[Line]) -> String {
    let (low, high) = decades(lines.iter().flat_map(|line| line.values.iter().copied()));
    let (first, last) = decades(at.iter().copied());
    let x = |value: f64| LEFT + (value.log10() - first) / (last - first) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| {
        HEIGHT - BOTTOM - (value.max(1e-9).log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    for decade in low as i32..=high as i32 {
        let (value, right) = (10_f64.powi(decade), WIDTH - RIGHT);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{0:.1}\" x2=\"{right}\" y2=\"{0:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{value}</text>\n",
            y(value),
            LEFT - 8.0,
            y(value) + 4.0
        );
    }
    for value in at {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>",
            x(*value),
            HEIGHT - BOTTOM + 20.0
        );
    }
    for line in lines {
        let points: Vec<String> = at
            .iter()
            .zip(&line.values)
            .map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
            points.join(" "),
            line.colour
        );
        for (at, value) in at.iter().zip(&line.values) {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{}\"><title>{value:.2} s</title></circle>",
                x(*at),
                y(*value),
                line.colour
            );
        }
        if let Some(value) = line.values.last() {
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" fill=\"{}\">{}</text>",
                WIDTH - RIGHT + 10.0,
                y(*value) + 4.0,
                line.colour,
                line.name
            );
        }
    }
    svg + "</svg>\n"
}

/// The powers of ten between which some values are.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    let (low, high) = (low.max(1e-3).log10().floor(), high.max(1e-3).log10().ceil());
    (low, if high > low { high } else { low + 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_a_line_for_each_and_a_point_for_each_number_of_nodes() {
        let lines = [
            Line { name: "one", colour: "red", values: vec![0.02, 0.2] },
            Line { name: "other", colour: "blue", values: vec![3.0, 30.0] },
        ];
        let svg = draw("title", &[10.0, 1000.0], &lines);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 4);
        // Three decades and a half: from a hundredth to a hundred.
        assert_eq!(svg.matches("<line").count(), 5);
    }
}
