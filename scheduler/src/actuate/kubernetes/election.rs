//! Leadership by a Lease of Kubernetes: the shell around [`lease`](crate::lease).

use std::time::{Duration, Instant};

use bellwether_models::series::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::config::LeaseConfig;
use crate::lease::{Candidate, Record, Step};

/// Looks in the time of one lease.
const LOOKS: u32 = 4;

/// Takes part in the election until it is dropped.
#[derive(Debug)]
pub struct Election {
    until: watch::Receiver<Option<(Instant, u32)>>,
    task: JoinHandle<()>,
}

impl Election {
    /// Stands for the lease that `config` names.
    #[must_use]
    pub fn stand(client: Client, config: &LeaseConfig, identity: String) -> Self {
        let (told, until) = watch::channel(None);
        let api = Api::namespaced(client, &config.namespace);
        let candidate = Candidate::new(identity, config.duration.max(Duration::from_secs(1)));
        let stand = Stand { api, name: config.name.clone(), candidate, began: Instant::now(), told };
        Self { until, task: tokio::spawn(stand.run(config.duration / LOOKS)) }
    }

    /// Whether we may act now, and under which number. A process that slept finds its lease over.
    #[must_use]
    pub fn fence(&self) -> Option<u32> {
        let until = *self.until.borrow();
        until.filter(|(until, _)| Instant::now() < *until).map(|(_, fence)| fence)
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Stand {
    api: Api<Lease>,
    name: String,
    candidate: Candidate,
    /// The candidate's time counts from here: a clock that nobody sets.
    began: Instant,
    told: watch::Sender<Option<(Instant, u32)>>,
}

impl Stand {
    async fn run(mut self, pause: Duration) {
        loop {
            if let Err(error) = tokio::time::timeout(pause, self.look()).await.unwrap_or(Ok(())) {
                warn!(error = &error as &dyn std::error::Error, lease = %self.name, "could not read or renew the lease");
            }
            self.tell();
            tokio::time::sleep(pause).await;
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        let found = self.api.get_opt(&self.name).await?;
        let asked = self.now();
        let record = found.as_ref().map(read);
        let Step::Write(record) = self.candidate.on_seen(record.as_ref(), asked) else { return Ok(()) };
        let lease = self.written(&record, found.as_ref());
        let written = match &found {
            None => self.api.create(&PostParams::default(), &lease).await,
            Some(_) => self.api.replace(&self.name, &PostParams::default(), &lease).await,
        };
        match written {
            // As it lies there, so that the next look finds it unchanged.
            Ok(lease) => self.candidate.on_written(read(&lease), asked),
            Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// On the version that was read: whoever wrote in between wins.
    fn written(&self, record: &Record, found: Option<&Lease>) -> Lease {
        let own = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let time = |at: Option<Timestamp>| at.and_then(|at| self.wall(at)).map(MicroTime);
        let before = found.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let kept = before.acquire_time.clone().filter(|_| before.holder_identity.as_ref() == Some(&record.holder));
        let spec = LeaseSpec {
            holder_identity: Some(record.holder.clone()),
            lease_duration_seconds: i32::try_from(record.duration.as_secs()).ok(),
            renew_time: time(record.renewed),
            acquire_time: kept.or_else(|| time(record.acquired)),
            lease_transitions: i32::try_from(record.transitions).ok(),
            ..before
        };
        Lease { metadata: found.map_or(own, |lease| lease.metadata.clone()), spec: Some(spec) }
    }

    fn tell(&self) {
        let now = self.now();
        let fence = self.candidate.fence(now);
        let until = fence.map(|fence| (self.candidate.ours_until().map_or(self.began, |at| self.instant(at)), fence));
        let before = self.told.send_replace(until);
        if before.is_some() != until.is_some() {
            info!(lease = %self.name, leader = until.is_some(), "leadership changed");
        }
        metrics::gauge!("bellwether_scheduler_leader").set(f64::from(u8::from(until.is_some())));
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    fn instant(&self, at: Timestamp) -> Instant {
        self.began + at.since(Timestamp::from_millis(0))
    }

    /// For those who read the record: what our time is on the wall.
    fn wall(&self, at: Timestamp) -> Option<jiff::Timestamp> {
        let ago = self.now().since(at);
        jiff::Timestamp::now().checked_sub(jiff::SignedDuration::try_from(ago).ok()?).ok()
    }
}

fn read(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let time = |at: &Option<MicroTime>| at.as_ref().map(|at| Timestamp::from_millis(at.0.as_millisecond()));
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(spec.lease_duration_seconds.unwrap_or(0).max(0).unsigned_abs().into()),
        renewed: time(&spec.renew_time),
        acquired: time(&spec.acquire_time),
        transitions: spec.lease_transitions.unwrap_or(0).max(0).unsigned_abs(),
    }
}
