//! What the terminal shows of the replay.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bellwether_models::forecast::Forecast;
use bellwether_models::outlook::{Foresight, Snapshot};
use bellwether_models::series::Timestamp;
use bellwether_scheduler::plan::{Decision, Reason};
use bellwether_scheduler::service::View;
use indicatif::{ProgressBar, ProgressStyle};

use super::recording::{Recording, TRUTH};
use super::{Fleets, SHOP, open_incident};
use crate::api::chart::{clock, short_number};
use crate::words;

/// Rounds between two looks at the forecast.
const LOOK_EVERY: Duration = Duration::from_secs(1800);
/// Causes of an incident that the terminal names.
const CAUSES: usize = 3;

/// Tells the story line by line, with a progress bar below when there is a terminal.
pub struct Story {
    page: SocketAddr,
    bar: ProgressBar,
    last_look: Option<Timestamp>,
    last_orders: Option<(u32, Option<u32>)>,
    told: BTreeMap<String, String>,
}

impl Story {
    pub(super) fn new(page: SocketAddr) -> Self {
        Self { page, bar: ProgressBar::hidden(), last_look: None, last_orders: None, told: BTreeMap::new() }
    }

    fn say(&self, text: &str) {
        // A closed standard output ends nothing: the page is still there.
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        });
    }

    fn heading(&self, text: &str) {
        self.say(&format!("\n== {text}"));
    }

    pub(super) fn opens(&self, recording: &Recording, live_from: Timestamp, last: Timestamp) {
        self.heading("Bellwether: recorded data through the whole system");
        self.say(&format!("page          http://{}", self.page));
        self.say("demand        15 days of a production service, a sample a minute (crane, Apache-2.0)");
        self.say(&format!(
            "fault         {} series of Online Boutique's ten services, one injected fault (Nezha, MIT)",
            recording.fault_series
        ));
        self.say(&format!("replay        {} to {} UTC, a minute a round", clock(live_from), clock(last)));
        self.say("simulated     only the replicas that follow the decisions: a new one takes ten minutes to serve");
    }

    pub(super) fn history_is_in(&self, samples: usize, span: Duration, took: Duration) {
        self.say(&format!(
            "history       {samples} samples over {:.0} days, remote-written and durable in {:.1} s",
            span.as_secs_f64() / 86_400.0,
            took.as_secs_f64()
        ));
    }

    pub(super) fn replay_begins(&mut self, rounds: u64) {
        self.heading("The shop's load, and the replicas it will need");
        self.say("             demand  expected   replicas ordered       because");
        self.say("   when UTC     now   in 1 h    ours    reactive");
        if std::io::stdout().is_terminal() {
            self.bar = ProgressBar::new(rounds);
            let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {eta} left  {msg}");
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
    }

    pub(super) fn round(&mut self, snapshot: &Snapshot, view: &View, fleets: &Fleets, now: Timestamp) {
        self.bar.set_message(clock(now));
        self.bar.inc(1);
        self.tell_orders(snapshot, view, fleets, now);
        self.tell_incident(snapshot);
    }

    /// A line when our order changes, and at the latest every few hours.
    fn tell_orders(&mut self, snapshot: &Snapshot, view: &View, fleets: &Fleets, now: Timestamp) {
        let Some(decision) = view.plan.of(SHOP) else { return };
        let Some(to) = decision.to else { return };
        let rises = self.last_orders.is_none_or(|(before, _)| to > before);
        let due = self.last_look.is_none_or(|last| now.since(last) >= LOOK_EVERY);
        self.last_orders = Some((to, decision.reactive));
        if !rises && !due {
            return;
        }
        self.last_look = Some(now);
        let reason = deciding(decision).map(ToString::to_string).unwrap_or_default();
        self.say(&format!(
            "{}  {:>6}   {:>6}   {to:>5}   {:>9}   {reason}",
            clock(now),
            short_number(fleets.demand),
            forecast(snapshot).and_then(|f| f.mean.last()).map_or("?".to_owned(), |v| short_number(*v)),
            decision.reactive.map_or("?".to_owned(), |n| n.to_string()),
        ));
    }

    fn tell_incident(&mut self, snapshot: &Snapshot) {
        let Some(incident) = open_incident(snapshot) else { return };
        let leader = incident.ranking.causes.first().map(|cause| cause.service.clone()).unwrap_or_default();
        if self.told.get(&incident.id) == Some(&leader) {
            return;
        }
        let news = if self.told.contains_key(&incident.id) { "The incident, seen more clearly" } else { "An incident" };
        self.heading(news);
        self.say(words::incident(incident, CAUSES).trim_end());
        self.told.insert(incident.id.clone(), leader);
    }

    pub(super) fn replay_ended(&mut self, fleets: &Fleets, injected_at: Timestamp) {
        self.bar.finish_and_clear();
        self.heading("What came of it");
        self.say(&format!(
            "incidents     {} opened; the fault was injected at {} into {TRUTH}; ranked first: {}",
            self.told.len(),
            clock(injected_at),
            self.told.values().next_back().map_or("nothing", String::as_str)
        ));
        let (ours, reactive) = (fleets.our_account, fleets.reactive_account);
        self.say("                      minutes short   replica-hours");
        self.say(&format!("  ahead of demand     {:>13.0}   {:>13.0}", ours.short_minutes, ours.replica_hours));
        self.say(&format!("  reactive            {:>13.0}   {:>13.0}", reactive.short_minutes, reactive.replica_hours));
        self.say("  Minutes short: demand above what the ready replicas serve. The reactive rule could buy fewer of");
        self.say("  them with more replicas all day; `bellwether simulate` compares policies at equal cost.");
    }

    pub(super) fn ends(&self, took: Duration) {
        self.heading("Where to go next");
        self.say(&format!("this story    took {:.0} s; nothing in it is scripted", took.as_secs_f64()));
        self.say("your metrics  write bellwether.yaml (demo/bellwether.yaml is one), then:");
        self.say("                bellwether check config && bellwether run");
        self.say("by hand       bellwether query, explain, forecast, detect, rank: each has --help");
        self.say("read on       README.md, docs/tutorial/first-hour.md");
    }

    pub(super) fn stays_up(&self) {
        self.say(&format!("\nThe page stays up at http://{} until Ctrl-C.", self.page));
    }
}

/// The forecast where it asks for more than the reactive rule, else the reactive rule's own reason.
fn deciding(decision: &Decision) -> Option<&Reason> {
    let foreseen = decision.to > decision.reactive;
    let fits = |reason: &&Reason| match reason {
        Reason::Forecast { .. } => foreseen,
        Reason::Reactive { .. } | Reason::WithinTolerance { .. } => !foreseen,
        _ => false,
    };
    decision.reasons.iter().find(fits).or(decision.reasons.first())
}

fn forecast(snapshot: &Snapshot) -> Option<&Forecast> {
    let outlook = snapshot.workloads.iter().find(|outlook| outlook.workload == SHOP)?;
    match &outlook.foresight {
        Foresight::Forecast { forecast, .. } => Some(forecast),
        Foresight::Abstained { .. } => None,
    }
}
