//! Carries notices to their receivers beside the rounds: a slow receiver holds up neither a decision nor another receiver.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_models::incident::People;
use bellwether_models::series::Timestamp;
use reqwest::header::RETRY_AFTER;
use reqwest::{RequestBuilder, StatusCode, Url};
use tokio::task::JoinHandle;
use tracing::warn;

use super::state::{ALERTS, StateDir};
use crate::actuate::webhook::signature;
use crate::dial::{NotDialled, admit, guarded_client};
use crate::notify::{AlertStatus, AlertsConfig, Answer, Delivery, Notice, Notifier, Way};

/// Longest time a receiver may ask to be left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The notifier with the tasks that carry out what it asks for: at most one for each receiver.
pub(super) struct Outbox {
    notifier: Arc<Mutex<Notifier>>,
    keeper: Arc<Keeper>,
    wire: Arc<Wire>,
    under_way: HashMap<String, JoinHandle<()>>,
}

/// What a request is sent with.
struct Wire {
    config: AlertsConfig,
    /// For Alertmanagers, which may lie anywhere.
    plain: reqwest::Client,
    /// For all others.
    guarded: reqwest::Client,
}

/// Writes down what must outlive a restart, one writer at a time, so that nothing old replaces what is newer.
struct Keeper {
    state: Arc<StateDir>,
    turn: Mutex<()>,
}

/// Why a request was not sent or not taken.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("could not read {path}, which holds a secret of a receiver")]
    Secret { path: String, source: std::io::Error },
    #[error("the address of a receiver is none")]
    Address,
    #[error(transparent)]
    NotDialled(#[from] NotDialled),
    #[error("the receiver was not reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the receiver answered {status}: {text}")]
    Status { status: StatusCode, text: String, retry_after: Option<Duration> },
}

impl Outbox {
    pub(super) fn new(
        notifier: Notifier,
        config: &AlertsConfig,
        plain: reqwest::Client,
        state: Arc<StateDir>,
    ) -> reqwest::Result<Self> {
        let guarded = guarded_client(&config.allowed_networks)?;
        Ok(Self {
            notifier: Arc::new(Mutex::new(notifier)),
            keeper: Arc::new(Keeper { state, turn: Mutex::new(()) }),
            wire: Arc::new(Wire { config: config.clone(), plain, guarded }),
            under_way: HashMap::new(),
        })
    }

    /// Takes on another configuration. What is on its way arrives by the old one.
    pub(super) fn follow(&mut self, config: &AlertsConfig) -> reqwest::Result<()> {
        let guarded = guarded_client(&config.allowed_networks)?;
        self.wire = Arc::new(Wire { config: config.clone(), plain: self.wire.plain.clone(), guarded });
        locked(&self.notifier).follow(config.clone());
        Ok(())
    }

    /// Takes in the matters of this round, keeps what is new, and sets off what is due. Returns before it has arrived.
    pub(super) async fn round(&mut self, now: Timestamp, notices: &[Notice], people: &People) -> Vec<AlertStatus> {
        if locked(&self.notifier).on_notices(now, notices, people) {
            keep(&self.keeper, &self.notifier).await;
        }
        self.under_way.retain(|_, task| !task.is_finished());
        let waiting = locked(&self.notifier).waiting();
        for key in waiting {
            let (notifier, keeper, wire) = (self.notifier.clone(), self.keeper.clone(), self.wire.clone());
            let carry = |key: &String| tokio::spawn(carry(key.clone(), notifier, keeper, wire));
            self.under_way.entry(key).or_insert_with_key(carry);
        }
        locked(&self.notifier).status()
    }

    /// Waits until all that was set off has been answered, for so long at most.
    pub(super) async fn settle(&mut self, within: Duration) {
        let tasks = self.under_way.drain().map(|(_, task)| task);
        let all = async {
            for task in tasks {
                let _ = task.await; // a task that broke leaves its notices due
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            warn!("stopped with notices under way; they are sent again after the start");
        }
    }
}

/// Sends to one receiver, one request after the other, until nothing is due.
async fn carry(key: String, notifier: Arc<Mutex<Notifier>>, keeper: Arc<Keeper>, wire: Arc<Wire>) {
    loop {
        let next = {
            let notifier = locked(&notifier);
            notifier.next_for(&key).map(|delivery| (delivery, notifier.now()))
        };
        let Some((delivery, now)) = next else { return };
        let answer = wire.send(&delivery, now).await;
        let news = locked(&notifier).on_answer(now, &delivery, answer);
        if news {
            keep(&keeper, &notifier).await;
        }
    }
}

async fn keep(keeper: &Arc<Keeper>, notifier: &Arc<Mutex<Notifier>>) {
    let (keeper, notifier) = (keeper.clone(), notifier.clone());
    let kept = tokio::task::spawn_blocking(move || {
        let _turn = locked(&keeper.turn);
        let memory = locked(&notifier).memory();
        keeper.state.write(ALERTS, &memory)
    });
    if let Ok(Err(error)) = kept.await {
        warn!(error = &error as &dyn std::error::Error, "alerts under way not kept");
    }
}

impl Wire {
    async fn send(&self, delivery: &Delivery, now: Timestamp) -> Answer {
        let outcome = self.post(delivery, now).await;
        let (answer, outcome) = match outcome {
            Ok(()) => (Answer::Delivered, "delivered"),
            Err(failure) => {
                let answer = failure.answer(delivery);
                warn!(receiver = %delivery.target.key, error = &failure as &dyn std::error::Error, "notice not delivered");
                (answer, if answer == Answer::Refused { "refused" } else { "failed" })
            }
        };
        let kind = delivery.target.kind();
        metrics::counter!("bellwether_scheduler_alert_posts_total", "receiver" => kind, "outcome" => outcome)
            .increment(1);
        answer
    }

    async fn post(&self, delivery: &Delivery, now: Timestamp) -> Result<(), Failure> {
        let request = self.request(delivery, now).await?.timeout(self.config.timeout);
        let answer = request.send().await.map_err(|error| Failure::Unreachable(error.without_url()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let retry_after = asked.map(|secs| Duration::from_secs(secs).min(LONGEST_PAUSE));
        let text = answer.text().await.unwrap_or_default().chars().take(300).collect();
        Err(Failure::Status { status, text, retry_after })
    }

    async fn request(&self, delivery: &Delivery, now: Timestamp) -> Result<RequestBuilder, Failure> {
        let body = delivery.body.to_string();
        match &delivery.target.way {
            Way::Alertmanager { url } => Ok(json(self.plain.post(format!("{url}/api/v2/alerts")), body)),
            Way::Webhook { url, secret_file } => {
                let stamp = now.as_millis().div_euclid(1000).to_string();
                let request = self.guarded(url)?.header("Bellwether-Timestamp", &stamp);
                let Some(path) = secret_file else { return Ok(json(request, body)) };
                let signature = signature(secret(path).await?.as_bytes(), &stamp, &body);
                Ok(json(request.header("Bellwether-Signature", format!("v1={signature}")), body))
            }
            Way::Slack { url_file } => Ok(json(self.guarded(secret(url_file).await?.trim())?, body)),
            Way::PagerDuty { url, routing_key_file } => {
                let mut event = delivery.body.clone();
                event["routing_key"] = secret(routing_key_file).await?.trim().into();
                Ok(json(self.guarded(&format!("{url}/v2/enqueue"))?, event.to_string()))
            }
        }
    }

    fn guarded(&self, url: &str) -> Result<RequestBuilder, Failure> {
        let url: Url = url.parse().map_err(|_| Failure::Address)?;
        admit(&url, &self.config.allowed_networks)?;
        Ok(self.guarded.post(url))
    }
}

impl Failure {
    /// A chat or a pager that finds fault with a request will do so again; an Alertmanager may be behind a proxy that
    /// is being set up.
    fn answer(&self, delivery: &Delivery) -> Answer {
        match self {
            Self::Status { status, retry_after, .. } => {
                let faulty = status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 404 | 408 | 425 | 429);
                let for_good = faulty && !matches!(delivery.target.way, Way::Alertmanager { .. });
                if for_good { Answer::Refused } else { Answer::Failed { retry_after: *retry_after } }
            }
            _ => Answer::Failed { retry_after: None },
        }
    }
}

fn json(request: RequestBuilder, body: String) -> RequestBuilder {
    request.header("Content-Type", "application/json").body(body)
}

/// The content of a file without trailing line breaks.
async fn secret(path: &Path) -> Result<String, Failure> {
    let read = tokio::fs::read_to_string(path).await;
    let text = read.map_err(|source| Failure::Secret { path: path.display().to_string(), source })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Whoever panicked while holding the lock left whole values behind.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
