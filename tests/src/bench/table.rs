//! The figures as a table in Markdown, so that nobody copies them by hand.

use std::fmt::Write;

use super::Figure;
use super::server::Kind;

/// One row for each measure, in the order in which they were taken, with the ratio to Postfix where both were measured.
pub fn markdown(figures: &[Figure]) -> String {
    let mut out = String::from("| | mta | Postfix | ratio |\n| --- | --- | --- | --- |\n");
    let mut told: Vec<&str> = Vec::new();
    for figure in figures {
        if told.contains(&figure.measure.as_str()) {
            continue;
        }
        told.push(&figure.measure);
        let of = |kind: Kind| {
            figures
                .iter()
                .find(|other| other.server == kind && other.measure == figure.measure)
                .map(|f| f.value)
        };
        let (mta, postfix) = (of(Kind::Mta), of(Kind::Postfix));
        let cell = |value: Option<f64>| value.map(number).unwrap_or_default();
        let ratio =
            mta.zip(postfix).filter(|(_, postfix)| *postfix > 0.0).map(|(mta, postfix)| mta / postfix);
        let (mta, postfix, ratio) = (cell(mta), cell(postfix), cell(ratio));
        let _ = writeln!(out, "| {}, {} | {mta} | {postfix} | {ratio} |", figure.measure, figure.unit);
    }
    let probes: Vec<f64> = figures.iter().map(|figure| figure.sync_probe_per_second).collect();
    let (least, most) = probes.iter().fold((f64::INFINITY, 0.0_f64), |(a, b), p| (a.min(*p), b.max(*p)));
    if !probes.is_empty() {
        let _ = writeln!(out, "\nThe disk took {least:.0} to {most:.0} syncs a second meanwhile.");
    }
    out
}

/// As many digits as mean something.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_is_a_row_and_both_servers_are_compared() {
        let figure = |server, measure: &str, value| Figure {
            server,
            measure: measure.into(),
            value,
            unit: "msg/s",
            sync_probe_per_second: 1_000.0 + value,
        };
        let figures = [
            figure(Kind::Postfix, "accept", 500.0),
            figure(Kind::Mta, "accept", 1_250.4),
            figure(Kind::Mta, "alone", 3.456),
        ];
        assert_eq!(
            markdown(&figures),
            "| | mta | Postfix | ratio |\n| --- | --- | --- | --- |\n\
             | accept, msg/s | 1250 | 500 | 2.50 |\n| alone, msg/s | 3.46 |  |  |\n\n\
             The disk took 1003 to 2250 syncs a second meanwhile.\n"
        );
    }
}
