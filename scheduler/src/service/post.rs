//! Posts to Alertmanager what the notifier asks for.

use std::time::Duration;

use bellwether_models::series::Timestamp;
use tokio::task::JoinSet;
use tracing::warn;

use crate::notify::{Delivery, Notifier};

/// One round: every member that is due gets its request, all at the same time.
pub(super) async fn post_alerts(notifier: &mut Notifier, client: &reqwest::Client, timeout: Duration, now: Timestamp) {
    let mut posts = JoinSet::new();
    for delivery in notifier.poll(now) {
        posts.spawn(post(client.clone(), delivery, timeout));
    }
    while let Some(done) = posts.join_next().await {
        let Ok((delivery, delivered)) = done else { continue };
        notifier.on_answer(now, &delivery, delivered);
    }
}

async fn post(client: reqwest::Client, delivery: Delivery, timeout: Duration) -> (Delivery, bool) {
    let url = format!("{}/api/v2/alerts", delivery.url);
    let answer = client.post(&url).timeout(timeout).json(&delivery.alerts).send().await;
    let delivered = match answer {
        Ok(answer) if answer.status().is_success() => true,
        Ok(answer) => {
            let status = answer.status().as_u16();
            let text: String = answer.text().await.unwrap_or_default().chars().take(300).collect();
            warn!(url, status, text, "alerts refused by alertmanager");
            false
        }
        Err(error) => {
            warn!(url, error = &error.without_url() as &dyn std::error::Error, "alertmanager not reached");
            false
        }
    };
    let outcome = if delivered { "delivered" } else { "failed" };
    metrics::counter!("bellwether_scheduler_alert_posts_total", "outcome" => outcome).increment(1);
    (delivery, delivered)
}
