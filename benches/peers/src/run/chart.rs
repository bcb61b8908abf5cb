//! The chart beside the results: how many requests per second each stack answers under each load.

use anyhow::Result;
use charts_rs::{Align, Box, ChildChart, Color, HorizontalBarChart, MultiChart, TextConfig};

use super::loads::{IN_FLIGHT, Sizes, at, name};
use super::process::Place;
use super::report::machine;
use super::samples::Samples;
use crate::stacks::Stack;

/// Of a panel, in pixels, as all lengths here.
const WIDTH: f32 = 430.0;
const BAR: f32 = 22.0;
/// Above the bars of a panel.
const TITLE: f32 = 22.0;
/// Above the panels, and below them.
const HEAD: f32 = 28.0;
const FOOT: f32 = 36.0;
const MARGIN: f32 = 16.0;
/// Right of the longest bar, for its number: a part of the bar.
const NUMBER: f32 = 0.25;

/// On a reader's machine one of these is there; the first is what the widths are told from.
const FONT: &str = "Roboto, Helvetica, Arial, sans-serif";
const INK: &str = "#24292f";

/// An SVG with a panel for each load: one core on the left, the multi-thread runtime on the right. It
/// brings its own light ground, so that it can be read on a dark page too. `None` without any rates.
pub fn rates(samples: &Samples, sizes: &Sizes) -> Result<Option<String>> {
    let mut chart = MultiChart::new();
    chart.background_color = Some(Color::white());
    chart.font_family = FONT.to_owned();
    let row = |in_flight| {
        [(Place::OneCore, "One core"), (Place::MultiThread, "Multi-thread runtime")].map(
            |(place, on)| {
                let title = format!("{on}: {}", name(1, in_flight));
                panel(samples, &at(place, in_flight), title)
            },
        )
    };
    let many = name(1000, 4);
    let last = [panel(samples, &many, format!("One core: {many}")), None];
    let mut y = HEAD;
    for panels in IN_FLIGHT.map(row).into_iter().chain([last]) {
        // The panels of a row share their scale: they tell what the other cores bring.
        let most = panels.iter().flatten().map(|panel| panel.most).fold(0.0, f32::max);
        let height = panels.iter().flatten().map(|panel| panel.bars.height).fold(0.0, f32::max);
        for (Panel { mut bars, .. }, x) in
            panels.into_iter().zip([0.0, WIDTH]).filter_map(|(panel, x)| Some((panel?, x)))
        {
            bars.y_axis_configs[0].max = Some(most * (1.0 + NUMBER));
            chart.add(ChildChart::HorizontalBar(bars, Some((x, y))));
        }
        y += height;
    }
    if chart.charts.is_empty() {
        return Ok(None);
    }
    let mut title = text("Requests per second, longer is better", 16.0);
    title.font.weight = Some("bold".to_owned());
    title.top = Some(MARGIN / 2.0);
    let mut foot = text(&machine(&format!("medians of {} rounds", sizes.rounds)), 10.0);
    foot.bottom = Some(MARGIN / 2.0);
    chart.margin = Box { bottom: FOOT, ..Box::default() };
    chart.texts = vec![title, foot];
    Ok(Some(chart.svg()?))
}

/// One load.
struct Panel {
    /// One for each stack that was measured.
    bars: HorizontalBarChart,
    most: f32,
}

fn panel(samples: &Samples, load: &str, title: String) -> Option<Panel> {
    let rate = |stack: Stack| Some((stack, samples.median(load, stack, "rate")? as f32));
    // The chart begins at the bottom.
    let rates: Vec<(Stack, f32)> = Stack::ALL.into_iter().rev().filter_map(rate).collect();
    let most = rates.iter().map(|(_, rate)| *rate).reduce(f32::max)?;
    let names = rates.iter().map(|(stack, _)| stack.name().to_owned()).collect();
    let values: Vec<f32> = rates.iter().map(|(_, rate)| *rate).collect();
    let mut bars = HorizontalBarChart::new(vec![("", values).into()], names);
    bars.series_list[0].colors = Some(rates.iter().map(|(stack, _)| Some(color(*stack))).collect());
    bars.series_list[0].label_show = true;
    bars.series.label.formatter = "{t}".to_owned();
    bars.series.label.font.color = INK.into();
    bars.font_family = FONT.to_owned();
    bars.width = WIDTH;
    bars.height = MARGIN + TITLE + BAR * rates.len() as f32;
    bars.margin = Box { left: MARGIN, top: MARGIN, right: MARGIN, ..Box::default() };
    bars.title.text = title;
    bars.title.height = TITLE;
    bars.title.align = Align::Left;
    bars.title.font.size = 14.0;
    bars.title.font.color = INK.into();
    bars.legend.show = Some(false);
    bars.x_axis.hidden = true;
    bars.x_axis.font.color = INK.into();
    bars.x_axis.stroke_color = Color::transparent();
    bars.grid.stroke_width = 0.0;
    bars.y_axis_configs[0].min = Some(0.0);
    Some(Panel { bars, most })
}

/// This library stands out, and the floors are grey.
fn color(stack: Stack) -> Color {
    match stack {
        Stack::Seqlink => "#0969da",
        Stack::OneLoop => "#57606a",
        Stack::Floor => "#8c959f",
        Stack::Tarpc => "#bf8700",
        Stack::Jsonrpsee => "#1b7c83",
        Stack::Clusterio => "#a475f9",
    }
    .into()
}

fn text(text: &str, size: f32) -> TextConfig {
    let mut config = TextConfig { text: text.to_owned(), left: Some(MARGIN), ..Default::default() };
    config.font.color = INK.into();
    config.font.size = size;
    config
}
