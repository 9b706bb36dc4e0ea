//! How far loads have come: bars on a terminal, log lines elsewhere.
//!
//! Comes in: the board. Goes out: bars or lines on stderr, until stopped. A load that is over says so once; a quiet
//! pipeline says nothing.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::status::{Board, ObjectReport, Phase};

const BAR_INTERVAL: Duration = Duration::from_millis(200);
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows loads until `stop`.
pub(super) async fn show(board: Arc<Board>, bars: MultiProgress, stop: CancellationToken) {
    let terminal = std::io::stderr().is_terminal();
    let mut view = View { bars, terminal, loads: HashMap::new(), over: HashSet::new() };
    let mut ticks = tokio::time::interval(BAR_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = board.subscribe();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        if changes.has_changed().unwrap_or(false) {
            changes.borrow_and_update();
            view.update(&board);
        }
    }
    view.update(&board);
    view.clear();
}

struct View {
    bars: MultiProgress,
    terminal: bool,
    loads: HashMap<String, Load>,
    /// Objects whose load was said to be complete.
    over: HashSet<String>,
}

struct Load {
    bar: Option<ProgressBar>,
    line_due: Instant,
}

impl View {
    fn update(&mut self, board: &Board) {
        for object in board.snapshot().objects {
            match object.phase {
                Phase::Loading => self.loading(&object),
                Phase::Live | Phase::Failed | Phase::Paused => self.not_loading(&object),
                Phase::Waiting => {}
            }
        }
    }

    fn loading(&mut self, object: &ObjectReport) {
        self.over.remove(&object.object);
        let (bars, terminal) = (&self.bars, self.terminal);
        let load = self.loads.entry(object.object.clone()).or_insert_with(|| Load {
            bar: terminal.then(|| bars.add(new_bar(&object.object))),
            line_due: Instant::now() + LINE_INTERVAL,
        });
        match &load.bar {
            Some(bar) => {
                // An estimate that was too low must not show more than all.
                bar.set_length(object.rows_expected.unwrap_or(0).max(object.rows_loaded));
                bar.set_position(object.rows_loaded);
            }
            None if Instant::now() >= load.line_due => {
                load.line_due = Instant::now() + LINE_INTERVAL;
                let (rows, expected) = (object.rows_loaded, object.rows_expected);
                tracing::info!(object = %object.object, rows, expected, "loading");
            }
            None => {}
        }
    }

    fn not_loading(&mut self, object: &ObjectReport) {
        if let Some(load) = self.loads.remove(&object.object)
            && let Some(bar) = load.bar
        {
            bar.finish_and_clear();
        }
        // A load may be over before anybody looked; one of an earlier run is no news.
        let loaded = object.phase == Phase::Live && object.published.refreshed > 0;
        if loaded && self.over.insert(object.object.clone()) {
            tracing::info!(object = %object.object, rows = object.rows_loaded, "full load complete");
            if let Some(why) = &object.not_followed {
                tracing::info!(object = %object.object, why, "its changes are not followed");
            }
        }
    }

    fn clear(&mut self) {
        for (_, load) in self.loads.drain() {
            if let Some(bar) = load.bar {
                bar.abandon();
            }
        }
    }
}

fn new_bar(object: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:<32} {bar:32} {human_pos:>11} of {human_len:<11} {rate:>12} {eta:>4}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
        let _ = write!(text, "{:.0}/s", state.per_sec());
    });
    ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_prefix(object.to_owned())
}
