//! What to forecast with, by the name users give it.

use std::fmt;
use std::str::FromStr;

use super::auto::{Combination, Steps};
use super::{Horizon, Kind, NoSuchModel};

/// A combination, or one model by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The combination that runs live; `automatic` is another name of it.
    Combination,
    /// The combination of what is fitted in a few passes.
    Light,
    /// The combination of all there is.
    Thorough,
    /// One model.
    Only(Kind),
    /// The combination without one of its members, to see what it adds.
    Without(Kind),
    /// The combination without one of its steps, likewise.
    Simpler(&'static str, Steps),
}

/// Steps that can be left out, by the name of what is left.
const SIMPLER: [(&str, Steps); 3] = [
    ("without_settling", Steps { settling: false, ..Steps::ALL }),
    ("without_weighing", Steps { weighing: false, ..Steps::ALL }),
    ("without_widths", Steps { widths: false, ..Steps::ALL }),
];

/// The reason why a text names nothing to forecast with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; nor is it combination (or automatic), light, thorough, without_NAME of one of these, without_settling, \
     without_weighing or without_widths"
)]
pub struct NoSuchChoice(NoSuchModel);

impl FromStr for Choice {
    type Err = NoSuchChoice;
    fn from_str(name: &str) -> Result<Self, NoSuchChoice> {
        if let Some((name, steps)) = SIMPLER.into_iter().find(|(simpler, _)| *simpler == name) {
            return Ok(Self::Simpler(name, steps));
        }
        match name {
            "combination" | "automatic" => Ok(Self::Combination),
            "light" => Ok(Self::Light),
            "thorough" => Ok(Self::Thorough),
            _ => match name.strip_prefix("without_") {
                Some(member) => member.parse().map(Self::Without),
                None => name.parse().map(Self::Only),
            }
            .map_err(NoSuchChoice),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Combination => f.write_str("combination"),
            Self::Light => f.write_str("light"),
            Self::Thorough => f.write_str("thorough"),
            Self::Only(kind) => kind.fmt(f),
            Self::Without(kind) => write!(f, "without_{kind}"),
            Self::Simpler(name, _) => f.write_str(name),
        }
    }
}

impl Choice {
    /// The method, with the given periods in steps, or with periods to be found when there are none.
    #[must_use]
    pub fn method(self, horizon: Horizon, seasons: &[usize]) -> Combination {
        let whole = Combination::new(horizon);
        let method = match self {
            Self::Combination => whole,
            Self::Light => Combination::light(horizon),
            Self::Thorough => Combination::thorough(horizon),
            Self::Only(kind) => Combination::only(kind, horizon),
            Self::Without(kind) => {
                Combination { kinds: whole.kinds.iter().copied().filter(|k| *k != kind).collect(), ..whole }
            }
            Self::Simpler(_, steps) => Combination { steps, ..whole },
        };
        if seasons.is_empty() { method } else { method.with_seasons(seasons) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_choice_is_read_back() {
        for name in ["combination", "light", "thorough", "sarima", "without_lstm", "without_widths"] {
            assert_eq!(name.parse::<Choice>().unwrap().to_string(), name);
        }
        assert_eq!("automatic".parse(), Ok(Choice::Combination));
    }

    #[test]
    fn an_unknown_name_is_refused_with_what_there_is() {
        let error = "prophet".parse::<Choice>().unwrap_err().to_string();
        assert!(error.contains("sarima") && error.contains("thorough") && error.contains("without_widths"), "{error}");
        assert!("without_prophet".parse::<Choice>().is_err());
    }
}
