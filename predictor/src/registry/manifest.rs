//! What is written beside every model: what it is, what it was made of, and how it did.

use std::sync::Arc;

use bellwether_models::forecast::auto::Combination;
use bellwether_models::forecast::neural::{Network, NotANetwork};
use bellwether_models::forecast::{ArimaOrders, Given, Kind as Member, NotOrders};
use bellwether_models::outlook::ModelRef;
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use super::seal::{self, SignatureError, Trust};
use crate::config::ForecastConfig;

/// The form of manifests this version reads and writes.
pub const SCHEMA: u32 = 1;
/// Greatest size of weights in bytes.
pub const MOST_WEIGHTS: usize = 16 << 20;
/// Longest name of an author, and of a workload, in bytes.
const LONGEST_NAME: usize = 120;
/// Longest note in bytes.
const LONGEST_NOTE: usize = 4000;
/// Most seasons a manifest may name.
const MOST_SEASONS: usize = 8;
/// Longest of them, in steps.
const LONGEST_SEASON: usize = 1_000_000;

/// A model of one workload, without its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this manifest: [`SCHEMA`].
    #[serde(default = "schema")]
    pub schema: u32,
    /// The workload it is for.
    #[serde(default)]
    pub workload: String,
    /// Which of the workload's models: 1 for the first, one more for each that follows. 0 while it is not registered, and
    /// for the combination that comes with the program.
    #[serde(default)]
    pub version: u64,
    /// What it is.
    pub kind: Kind,
    /// How it forecasts.
    #[serde(default)]
    pub parameters: Parameters,
    /// What it was trained on.
    #[serde(default)]
    pub trained: Option<Span>,
    /// SHA-256 of the data it was trained on, in hexadecimal.
    #[serde(default)]
    pub data_sha256: Option<String>,
    /// Version of the program that trained it.
    #[serde(default)]
    pub code_version: String,
    /// Seed of the training.
    #[serde(default)]
    pub seed: Option<u64>,
    /// How it did on a stretch it had not seen.
    #[serde(default)]
    pub scores: Option<Scores>,
    /// The version it was trained from.
    #[serde(default)]
    pub parent: Option<u64>,
    /// Who made it. Required.
    #[serde(default)]
    pub author: String,
    /// A remark.
    #[serde(default)]
    pub note: String,
    /// When it was registered.
    #[serde(default = "never")]
    pub created_at: Timestamp,
    /// SHA-256 of the weights, in hexadecimal; `None` without weights.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Ed25519 signature in base64, over [`Manifest::signed_bytes`].
    #[serde(default)]
    pub signature: Option<String>,
}

/// What a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The recurrent network alone, with weights of its own.
    Lstm,
    /// ARIMA alone. Its orders are kept and its coefficients fitted to the present at every refit: coefficients age with
    /// the level and the noise of a series, orders say what kind of process it is.
    Arima,
    /// The combination of the workload's effort, less what is left out, and with weights of its own where there are some.
    Automatic,
}

impl Kind {
    /// Its name in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lstm => "lstm",
            Self::Arima => "arima",
            Self::Automatic => "automatic",
        }
    }
}

/// How a model forecasts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Periods of the seasons in steps; `None` finds them at each fit.
    pub seasons: Option<Vec<usize>>,
    /// The orders of an `arima`; `None` searches them at each fit.
    pub orders: Option<ArimaOrders>,
    /// Members that an `automatic` does without.
    pub leave_out: Vec<Member>,
}

/// A stretch of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Time of its first point.
    pub from: Timestamp,
    /// Time of its last point.
    pub to: Timestamp,
    /// Milliseconds between two points.
    pub step: i64,
}

/// How a model did at rolling origins of data it had not seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// Mean pinball loss over the standard quantiles, in units of the series.
    pub pinball: f64,
    /// Mean absolute scaled error of the median.
    pub mase: f64,
    /// Share of values at or below the 0.95 quantile.
    pub coverage_p95: f64,
    /// Origins that were scored.
    pub origins: u64,
    /// Steps ahead of each.
    pub horizon: u64,
}

/// Why a model is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// The manifest is of another form.
    #[error("the manifest has schema {found}, this version reads {SCHEMA}; train or export the model anew")]
    Schema {
        /// What it says.
        found: u32,
    },
    /// A field cannot be as it is.
    #[error("{field} of the manifest must be {must}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it must be.
        must: &'static str,
    },
    /// The orders cannot be fitted.
    #[error("parameters.orders of the manifest cannot be fitted")]
    Orders(#[from] NotOrders),
    /// There must be weights, or there must be none.
    #[error("a model of the kind {} {must} weights", kind.name())]
    Weights {
        /// The kind.
        kind: Kind,
        /// `needs` or `has no`.
        must: &'static str,
    },
    /// The weights are too large to be a network of this version.
    #[error("the weights have {found} bytes; more than {MOST_WEIGHTS} are never read")]
    TooLarge {
        /// How many bytes.
        found: usize,
    },
    /// The weights are not those the manifest speaks of.
    #[error(
        "the weights do not match sha256 of the manifest ({expected}, found {found}): they were cut off or changed"
    )]
    Checksum {
        /// What the manifest says.
        expected: String,
        /// What they are.
        found: String,
    },
    /// The weights could carry code.
    #[error(
        "the weights are a Python pickle or an archive of pickles, which could carry code; export them as safetensors"
    )]
    Pickle,
    /// The weights are no network of this version.
    #[error("the weights are no network that this version can run")]
    Network(#[from] NotANetwork),
    /// The signature is not believed.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// A model that was checked and can forecast.
#[derive(Clone, Debug, PartialEq)]
pub struct Artefact {
    /// What is known of it.
    pub manifest: Manifest,
    /// Its weights.
    pub network: Option<Arc<Network>>,
}

impl Manifest {
    /// The combination that comes with the program.
    #[must_use]
    pub fn built_in(workload: &str) -> Self {
        let note = "the combination that comes with the program".to_owned();
        let author = "bellwether".to_owned();
        Self { workload: workload.to_owned(), author, note, ..Self::new(Kind::Automatic) }
    }

    /// A manifest of which only the kind is known; the author is still to be named.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            schema: SCHEMA,
            workload: String::new(),
            version: 0,
            kind,
            parameters: Parameters::default(),
            trained: None,
            data_sha256: None,
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: None,
            scores: None,
            parent: None,
            author: String::new(),
            note: String::new(),
            created_at: never(),
            sha256: None,
            signature: None,
        }
    }

    /// What a signature stands for: the manifest as JSON without spaces, fields in their order, without the signature and
    /// without what the registry adds (`version` and `created_at` count as 0).
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let signed = Self { version: 0, created_at: never(), signature: None, ..self.clone() };
        serde_json::to_vec(&signed).unwrap_or_default()
    }

    /// Kind and version.
    #[must_use]
    pub fn reference(&self) -> ModelRef {
        ModelRef { kind: self.kind.name().to_owned(), version: self.version }
    }

    /// Refuses what is out of range.
    ///
    /// # Errors
    /// [`Unfit`] with the field and its range.
    pub fn check(&self) -> Result<(), Unfit> {
        if self.schema != SCHEMA {
            return Err(Unfit::Schema { found: self.schema });
        }
        let named = |name: &str| !name.trim().is_empty() && name.len() <= LONGEST_NAME;
        let hex = |sum: &Option<String>| sum.as_ref().is_none_or(|s| s.len() == 64 && s.bytes().all(is_hex));
        let seasons = self.parameters.seasons.as_deref().unwrap_or_default();
        let sound = |s: Scores| [s.pinball, s.mase, s.coverage_p95].iter().all(|v| v.is_finite() && *v >= 0.0);
        let fields = [
            (named(&self.workload), "workload", "a name of 1 to 120 bytes"),
            (named(&self.author), "author", "a name of 1 to 120 bytes"),
            (self.note.len() <= LONGEST_NOTE, "note", "at most 4000 bytes"),
            (self.code_version.len() <= LONGEST_NAME, "code_version", "at most 120 bytes"),
            (hex(&self.sha256), "sha256", "64 lower-case hexadecimal digits"),
            (hex(&self.data_sha256), "data_sha256", "64 lower-case hexadecimal digits"),
            (
                self.trained.is_none_or(|t| t.from <= t.to && t.step > 0),
                "trained",
                "a stretch that does not end before it begins, with a step above 0",
            ),
            (self.scores.is_none_or(sound), "scores", "finite and not negative"),
            (
                seasons.len() <= MOST_SEASONS && seasons.iter().all(|p| (2..=LONGEST_SEASON).contains(p)),
                "parameters.seasons",
                "at most 8 periods of 2 to 1000000 steps",
            ),
            (
                self.kind == Kind::Arima || self.parameters.orders.is_none(),
                "parameters.orders",
                "left out but for the kind arima",
            ),
            (
                self.kind == Kind::Automatic || self.parameters.leave_out.is_empty(),
                "parameters.leave_out",
                "left out but for the kind automatic",
            ),
            (
                Member::LIGHT.iter().any(|m| !self.parameters.leave_out.contains(m)),
                "parameters.leave_out",
                "such that one of naive, seasonal_naive, profile and ets stays",
            ),
        ];
        if let Some((_, field, must)) = fields.into_iter().find(|(holds, ..)| !holds) {
            return Err(Unfit::Field { field, must });
        }
        Ok(self.parameters.orders.map_or(Ok(()), |orders| orders.check())?)
    }
}

impl Artefact {
    /// The combination that comes with the program.
    #[must_use]
    pub fn built_in(workload: &str) -> Self {
        Self { manifest: Manifest::built_in(workload), network: None }
    }

    /// Checks everything about a model: fields, signature, size, checksum, format, shapes and values of the weights.
    ///
    /// # Errors
    /// [`Unfit`] with the first thing that is wrong.
    pub fn read(manifest: Manifest, weights: Option<&[u8]>, trust: &Trust) -> Result<Self, Unfit> {
        manifest.check()?;
        trust.check(&manifest.signed_bytes(), manifest.signature.as_deref())?;
        let network = weights.map(|bytes| network(&manifest, bytes)).transpose()?;
        let must = match (manifest.kind, network.is_some()) {
            (Kind::Lstm, false) => Some("needs"),
            (Kind::Arima, true) => Some("has no"),
            _ if manifest.sha256.is_some() && network.is_none() => Some("with a sha256 needs"),
            _ => None,
        };
        match must {
            Some(must) => Err(Unfit::Weights { kind: manifest.kind, must }),
            None => Ok(Self { manifest, network: network.map(Arc::new) }),
        }
    }

    /// The method it stands for, for a workload forecast in this way.
    #[must_use]
    pub fn method(&self, forecast: &ForecastConfig) -> Combination {
        let Parameters { seasons, orders, leave_out } = &self.manifest.parameters;
        let horizon = forecast.horizon_steps();
        let mut method = match self.manifest.kind {
            Kind::Lstm => Combination::only(Member::Lstm, horizon),
            Kind::Arima if orders.is_some_and(|o| o.period > 1) => Combination::only(Member::Sarima, horizon),
            Kind::Arima => Combination::only(Member::Arima, horizon),
            Kind::Automatic => forecast.effort.method(horizon),
        };
        method.kinds.retain(|member| !leave_out.contains(member));
        method.seasons.clone_from(seasons);
        method.given = self.given();
        method
    }

    /// What its members are given.
    #[must_use]
    pub fn given(&self) -> Given {
        Given { network: self.network.clone(), orders: self.manifest.parameters.orders }
    }
}

fn network(manifest: &Manifest, bytes: &[u8]) -> Result<Network, Unfit> {
    if bytes.len() > MOST_WEIGHTS {
        return Err(Unfit::TooLarge { found: bytes.len() });
    }
    if bytes.starts_with(&[0x80, 2])
        || bytes.starts_with(&[0x80, 3])
        || bytes.starts_with(&[0x80, 4])
        || bytes.starts_with(&[0x80, 5])
        || bytes.starts_with(b"PK\x03\x04")
    {
        return Err(Unfit::Pickle);
    }
    let found = seal::sha256(bytes);
    match &manifest.sha256 {
        Some(expected) if *expected != found => Err(Unfit::Checksum { expected: expected.clone(), found }),
        _ => Ok(Network::from_bytes(bytes)?),
    }
}

fn schema() -> u32 {
    SCHEMA
}

fn never() -> Timestamp {
    Timestamp::from_secs(0)
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
