//! Where artefacts are kept, whom they are believed from, and when one takes another's place.

use std::path::PathBuf;
use std::time::Duration;

use bellwether_models::duration::as_text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// The registry of models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelsConfig {
    /// Folder of the registry. Default: `state/models` beside the store. A change needs a restart.
    pub directory: Option<PathBuf>,
    /// A bucket of an S3-compatible store that holds the registry in place of a folder, so that several servers share it.
    /// Default none. A change needs a restart.
    pub s3: Option<S3Config>,
    /// Files with Ed25519 public keys (PEM) whose signatures are believed. Default none. A change needs a restart.
    pub trusted_keys: Vec<PathBuf>,
    /// Whether an artefact must be signed by one of `trusted_keys`. Default false: a signature that is there must still
    /// be good where keys are named. A change needs a restart.
    pub require_signature: bool,
    /// Who makes a challenger champion. Default `manual`.
    pub promote: Promote,
    /// How much smaller the loss of a challenger must be than that of the champion to take its place, and how much greater
    /// that of a new champion than its predecessor's to be rolled back: a share, above 0 and below 1. Default 0.05.
    pub margin: f64,
    /// How long a challenger must have won, in each half of the time and over the whole. Default 24h.
    #[serde(rename = "for", with = "as_text")]
    #[schemars(with = "String")]
    pub window: Duration,
    /// Fewest forecasts whose outcome is known, before one model is set above another. Default 20.
    pub min_origins: u64,
    /// Whether a new champion that does worse than its predecessor is rolled back. Default true.
    pub roll_back: bool,
    /// Shortest time over which a new champion must have done worse. Default 1h.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub roll_back_after: Duration,
    /// How long the predecessor of a new champion goes on in its shadow, ready to come back. Default 24h.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub probation: Duration,
    /// Most challengers of one workload that forecast in shadow, the newest ones; each costs as much as the champion.
    /// Default 3; 0 turns shadows off, and with them automatic promotion.
    pub max_challengers: usize,
    /// When a new challenger is trained by the server itself.
    pub retrain: RetrainConfig,
}

/// A bucket of an S3-compatible store. What is left out is taken from the usual `AWS_…` variables of the environment, or
/// from the role of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// Its name. Required.
    pub bucket: String,
    /// What stands before every path in it. Default none.
    pub prefix: String,
    /// Where the store is, such as `https://minio.example:9000`. Default: that of AWS.
    pub endpoint: Option<String>,
    /// Its region. Default: `AWS_REGION` of the environment, or `us-east-1`.
    pub region: Option<String>,
    /// File that holds the access key's id. Default none.
    pub access_key_id_file: Option<PathBuf>,
    /// File that holds the secret access key. Default none.
    pub secret_access_key_file: Option<PathBuf>,
}

/// When the server trains a new challenger from a workload's history by itself, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrainConfig {
    /// Age of a workload's newest model at which another one is trained. Default 0s: age calls for none.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub every: Duration,
    /// By how much the champion's live loss must exceed the one it had on what training held out, as a share: 0.2 is a fifth
    /// more. At most one training an hour. Default none: a worse score calls for none.
    pub when_worse_by: Option<f64>,
    /// What is trained. Default `lstm`.
    pub kind: Trained,
}

/// A kind of model that can be trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trained {
    /// The recurrent network, fitted to the workload.
    #[default]
    Lstm,
    /// ARIMA, its orders searched.
    Arima,
}

/// Who makes a challenger champion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Promote {
    /// People.
    #[default]
    Manual,
    /// Its record on live data, as well as people.
    Automatic,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self {
            directory: None,
            s3: None,
            trusted_keys: Vec::new(),
            require_signature: false,
            promote: Promote::Manual,
            margin: 0.05,
            window: Duration::from_secs(86_400),
            min_origins: 20,
            roll_back: true,
            roll_back_after: Duration::from_secs(3600),
            probation: Duration::from_secs(86_400),
            max_challengers: 3,
            retrain: RetrainConfig::default(),
        }
    }
}

impl ModelsConfig {
    /// Whether the other settings mean the same registry, believed in the same way.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.directory == other.directory
            && self.s3 == other.s3
            && self.trusted_keys == other.trusted_keys
            && self.require_signature == other.require_signature
    }

    /// Every fault, `at` being where these settings stand.
    #[must_use]
    pub fn faults(&self, at: &str) -> Vec<ConfigError> {
        let sound = self.margin > 0.0 && self.margin < 1.0;
        let bucket = self.s3.as_ref().is_none_or(|s3| !s3.bucket.trim().is_empty());
        let retrains = !self.retrain.every.is_zero() || self.retrain.when_worse_by.is_some();
        let unsigned = self.require_signature && self.trusted_keys.is_empty();
        let checks = [
            (sound, "margin", "above 0 and below 1"),
            (self.window >= Duration::from_secs(1), "for", "at least 1s"),
            (self.min_origins > 0, "min_origins", "above zero"),
            (self.retrain.when_worse_by.is_none_or(|by| by > 0.0), "retrain.when_worse_by", "above zero"),
            (bucket, "s3.bucket", "the name of a bucket"),
            (self.s3.is_none() || self.directory.is_none(), "s3", "left out where models.directory is given"),
            (!unsigned, "require_signature", "false where no trusted_keys are named"),
            (
                !(self.require_signature && retrains),
                "retrain",
                "left out where models.require_signature is set: the server has no key to sign with",
            ),
        ];
        let fault = |(_, field, must): (bool, &str, &str)| ConfigError::OutOfRange {
            at: format!("{at}.{field}"),
            must: must.to_owned(),
        };
        checks.into_iter().filter(|(holds, ..)| !holds).map(fault).collect()
    }
}
