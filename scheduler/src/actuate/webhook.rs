//! Posts each decision as JSON to a receiver of the user's.
//!
//! With a key, the request is signed: `Bellwether-Signature: v1=<hex>` is the HMAC-SHA256 (RFC 2104) of
//! `<Bellwether-Timestamp>.<body>`, so that neither body nor time can be changed or replayed unnoticed. The
//! `Idempotency-Key` is the decision's id: it stays the same over repeated attempts.

use std::fmt::Write;

use async_trait::async_trait;
use bellwether_models::series::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use ipnet::IpNet;
use serde::Serialize;
use sha2::Sha256;

use super::{ActError, Actuator, Applied, Effect};
use crate::config::WebhookConfig;
use crate::dial::admit;
use crate::plan::Decision;

/// See the module.
pub struct Webhook {
    config: WebhookConfig,
    client: reqwest::Client,
    allowed: Vec<IpNet>,
}

/// The body of the request.
#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    workload: &'a str,
    at: Timestamp,
    replicas: u32,
    from: Option<u32>,
    reactive: Option<u32>,
    predicted: Option<u32>,
    reasons: Vec<String>,
    dry_run: bool,
}

impl Webhook {
    /// An actuator that posts with `client`, to the public internet and the networks that are `allowed`.
    #[must_use]
    pub fn new(config: WebhookConfig, client: reqwest::Client, allowed: Vec<IpNet>) -> Self {
        Self { config, client, allowed }
    }

    /// A name is looked at when it is dialled; an address as it is written, here.
    fn admit(&self, workload: &str) -> Result<(), ActError> {
        let why = match self.config.url.parse() {
            Ok(url) => admit(&url, &self.allowed).err().map(|error| error.to_string()),
            Err(_) => Some("it is no address".to_owned()),
        };
        let (workload, url) = (workload.to_owned(), self.config.url.clone());
        why.map_or(Ok(()), |why| Err(ActError::Forbidden { workload, url, why }))
    }

    async fn key(&self, workload: &str) -> Result<Option<Vec<u8>>, ActError> {
        let Some(path) = &self.config.secret_file else { return Ok(None) };
        let mut key = tokio::fs::read(path).await.map_err(|source| ActError::Key {
            workload: workload.to_owned(),
            path: path.display().to_string(),
            source,
        })?;
        while key.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
            key.pop();
        }
        Ok(Some(key))
    }

    async fn post(&self, decision: &Decision, body: String, now: Timestamp) -> Result<(), ActError> {
        let (workload, url) = (decision.workload.clone(), self.config.url.clone());
        self.admit(&workload)?;
        let stamp = now.as_millis().div_euclid(1000).to_string();
        let mut request = self
            .client
            .post(&url)
            .timeout(self.config.timeout)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", &decision.id)
            .header("Bellwether-Timestamp", &stamp);
        if let Some(key) = self.key(&workload).await? {
            request = request.header("Bellwether-Signature", format!("v1={}", signature(&key, &stamp, &body)));
        }
        match request.body(body).send().await {
            Err(source) => Err(ActError::Unreachable { workload, url, source: source.without_url() }),
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(ActError::Refused { workload, url, status: answer.status().as_u16() }),
        }
    }
}

#[async_trait]
impl Actuator for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    async fn observe(&self, _: &str) -> Result<Option<u32>, ActError> {
        Ok(None)
    }

    async fn apply(&self, decision: &Decision, effect: Effect, now: Timestamp) -> Result<Applied, ActError> {
        let Some(body) = body(decision, effect) else { return Ok(Applied::Recorded) };
        self.post(decision, body, now).await?;
        Ok(match effect {
            Effect::Real => Applied::Accepted,
            Effect::DryRun => Applied::WouldApply,
        })
    }
}

pub(super) fn body(decision: &Decision, effect: Effect) -> Option<String> {
    let body = Body {
        id: &decision.id,
        workload: &decision.workload,
        at: decision.at,
        replicas: decision.to?,
        from: decision.from,
        reactive: decision.reactive,
        predicted: decision.predicted,
        reasons: decision.reasons.iter().map(ToString::to_string).collect(),
        dry_run: effect == Effect::DryRun,
    };
    serde_json::to_string(&body).ok()
}

/// Lower-case hex of the HMAC-SHA256 of `<stamp>.<body>`.
pub(crate) fn signature(key: &[u8], stamp: &str, body: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() }; // takes keys of any length
    mac.update(stamp.as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a String does not fail
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_other_implementations_make_of_it() {
        // python3 -c 'import hmac; print(hmac.new(b"swordfish", b"1700000000.{\"replicas\":9}", "sha256").hexdigest())'
        assert_eq!(
            signature(b"swordfish", "1700000000", "{\"replicas\":9}"),
            "6d403dac0f84ebdcb11b674587874bdf1cc12e8fa9166c8fcb46d4a90363e1a6"
        );
    }
}
