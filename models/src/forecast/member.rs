//! The models by name, and any of them fitted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::adjusted::{Adjusted, Seasonal};
use super::arima::{Arima, LONGEST_SEASON};
use super::ets::Ets;
use super::given::{ArimaOrders, Given};
use super::naive::{LastPeriod, LastValue};
#[cfg(feature = "neural")]
use super::neural::Lstm;
use super::point::Path;
use super::profile::Profile;
use super::regression::Regression;
use super::ridge::Ridge;
use super::theta::Theta;

/// Share of its weight that a cycle keeps when the next one comes.
const CYCLE_MEMORY: f64 = 1.25;
/// Most values a likelihood is maximised over.
const ARIMA_VALUES: usize = 1000;
/// Most values exponential smoothing is fitted to.
const ETS_VALUES: usize = 800;

/// A method of forecasting, by the name users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The last value for ever.
    Naive,
    /// The values one period ago; one member for each period.
    SeasonalNaive,
    /// The usual course of a cycle with a decaying departure; one member for each period.
    Profile,
    /// Seasonal adjustment, then exponential smoothing.
    Ets,
    /// Seasonal adjustment by loess, then exponential smoothing.
    Mstl,
    /// Seasonal adjustment, then the Theta method.
    Theta,
    /// Seasonal adjustment, then ARIMA with an automatic order.
    Arima,
    /// ARIMA with seasonal terms for a period of up to 24 steps; longer seasons are taken off before.
    Sarima,
    /// Direct ridge regression on recent and seasonal lags.
    Ridge,
    /// Regression of each step on the usual course and the recent past.
    Regression,
    /// A recurrent network trained on other series.
    Lstm,
}

impl Kind {
    /// All methods.
    pub const ALL: [Self; 11] = [
        Self::Naive,
        Self::SeasonalNaive,
        Self::Profile,
        Self::Ets,
        Self::Mstl,
        Self::Theta,
        Self::Arima,
        Self::Sarima,
        Self::Ridge,
        Self::Regression,
        Self::Lstm,
    ];

    /// Those the combination takes in unless told otherwise. ARIMA is left out: it costs ten times the others together
    /// and the combination is no better for it.
    pub const COMBINED: [Self; 7] =
        [Self::Naive, Self::SeasonalNaive, Self::Profile, Self::Ets, Self::Ridge, Self::Regression, Self::Lstm];

    /// Those of the combination, and ARIMA.
    pub const THOROUGH: [Self; 8] = [
        Self::Naive,
        Self::SeasonalNaive,
        Self::Profile,
        Self::Ets,
        Self::Ridge,
        Self::Regression,
        Self::Lstm,
        Self::Arima,
    ];

    /// Those that cost next to nothing.
    pub const LIGHT: [Self; 4] = [Self::Naive, Self::SeasonalNaive, Self::Profile, Self::Ets];

    /// The name users see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::SeasonalNaive => "seasonal_naive",
            Self::Profile => "profile",
            Self::Ets => "ets",
            Self::Mstl => "mstl",
            Self::Theta => "theta",
            Self::Arima => "arima",
            Self::Sarima => "sarima",
            Self::Ridge => "ridge",
            Self::Regression => "regression",
            Self::Lstm => "lstm",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The reason why a text names no method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no model; there are naive, seasonal_naive, profile, ets, mstl, theta, arima, sarima, ridge, regression and lstm"
)]
pub struct NoSuchModel(pub String);

impl FromStr for Kind {
    type Err = NoSuchModel;
    fn from_str(name: &str) -> Result<Self, NoSuchModel> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| NoSuchModel(name.to_owned()))
    }
}

/// A method and, where it stands for one period only, that period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) kind: Kind,
    pub(crate) period: Option<usize>,
}

impl Role {
    /// The roles of `kinds` on a series with these periods.
    pub(crate) fn all(kinds: &[Kind], periods: &[usize]) -> Vec<Self> {
        let of = |kind: &Kind| -> Vec<Self> {
            match kind {
                Kind::SeasonalNaive | Kind::Profile => {
                    periods.iter().map(|p| Self { kind: *kind, period: Some(*p) }).collect()
                }
                _ => vec![Self { kind: *kind, period: None }],
            }
        };
        kinds.iter().flat_map(of).collect()
    }

    /// `profile`, or `profile_168` where the series has several periods.
    pub(crate) fn label(&self, periods: &[usize]) -> String {
        match self.period {
            Some(period) if periods.len() > 1 => format!("{}_{period}", self.kind),
            _ => self.kind.to_string(),
        }
    }

    /// The fitted model, where `y` (finite) is enough for it.
    pub(crate) fn fit(&self, y: &[f64], periods: &[usize], horizon: usize) -> Option<Member> {
        let period = self.period.filter(|p| 2 * p <= y.len());
        Some(match self.kind {
            Kind::Naive => Member::Naive(LastValue),
            Kind::SeasonalNaive => Member::SeasonalNaive(LastPeriod { period: period? }),
            Kind::Profile => Member::Profile(Profile::fit(y, period?, horizon)?),
            Kind::Ets => Member::Ets(adjusted(y, periods, |rest| Ets::fit(newest(rest, ETS_VALUES)))),
            Kind::Mstl => {
                let (seasonal, rest) = Seasonal::split_by_loess(y, periods);
                Member::Ets(Adjusted { seasonal, model: Ets::fit(newest(&rest, ETS_VALUES)) })
            }
            Kind::Theta => Member::Theta(adjusted(y, periods, |rest| Theta::fit(newest(rest, ETS_VALUES)))),
            Kind::Arima => arima(y, periods, |rest| Arima::fit(newest(rest, ARIMA_VALUES))),
            Kind::Sarima => {
                let fit = |rest: &[f64]| match short(periods) {
                    Some(period) => Arima::seasonal(newest(rest, ARIMA_VALUES), period),
                    None => Arima::fit(newest(rest, ARIMA_VALUES)),
                };
                arima(y, &self.taken_off(periods), fit)
            }
            Kind::Regression => Member::Regression(Regression::fit(y, periods, horizon)?),
            Kind::Ridge => Member::Ridge(Ridge::fit(y, periods, horizon)?),
            #[cfg(feature = "neural")]
            Kind::Lstm => Member::Lstm(Lstm::fit(y, periods)?),
            #[cfg(not(feature = "neural"))]
            Kind::Lstm => return None,
        })
    }
}

impl Role {
    /// As [`fit`](Self::fit), with what is `given`.
    pub(crate) fn fit_as(&self, given: &Given, y: &[f64], periods: &[usize], horizon: usize) -> Option<Member> {
        let orders = given.orders.filter(|_| matches!(self.kind, Kind::Arima | Kind::Sarima));
        let Some(orders) = orders else {
            let mut member = self.fit(y, periods, horizon)?;
            member.give(given);
            return Some(member);
        };
        let (orders, differences) = orders.parts();
        let rest = self.taken_off(periods);
        let fit = |rest: &[f64]| Arima::with_orders(newest(rest, ARIMA_VALUES), orders, differences);
        Some(arima(y, &rest, fit))
    }

    /// As [`fit`](Self::fit), with what was found out on an older part of the same history and need not be sought anew.
    pub(crate) fn refit(&self, old: &Member, y: &[f64], periods: &[usize], horizon: usize) -> Option<Member> {
        match old {
            Member::Arima(old) => {
                let refit = |rest: &[f64]| old.model.refit(newest(rest, ARIMA_VALUES));
                Some(arima(y, &self.taken_off(periods), refit))
            }
            Member::Ets(old) if self.kind == Kind::Ets => {
                Some(Member::Ets(adjusted(y, periods, |rest| old.model.refit(newest(rest, ETS_VALUES)))))
            }
            #[cfg(feature = "neural")]
            Member::Lstm(old) => {
                let mut fresh = Lstm::fit(y, periods)?;
                fresh.network.clone_from(&old.network);
                Some(Member::Lstm(fresh))
            }
            _ => self.fit(y, periods, horizon),
        }
    }

    /// The seasons an ARIMA does not see.
    fn taken_off(&self, periods: &[usize]) -> Vec<usize> {
        let seen = short(periods).filter(|_| self.kind == Kind::Sarima);
        periods.iter().copied().filter(|p| Some(*p) != seen).collect()
    }
}

/// The period that seasonal terms describe.
fn short(periods: &[usize]) -> Option<usize> {
    periods.iter().copied().find(|p| *p <= LONGEST_SEASON)
}

fn newest(values: &[f64], count: usize) -> &[f64] {
    &values[values.len().saturating_sub(count)..]
}

fn adjusted<M>(y: &[f64], periods: &[usize], fit: impl Fn(&[f64]) -> M) -> Adjusted<M> {
    let (seasonal, rest) = Seasonal::split(y, periods, CYCLE_MEMORY);
    Adjusted { seasonal, model: fit(&rest) }
}

fn arima(y: &[f64], periods: &[usize], fit: impl Fn(&[f64]) -> Arima) -> Member {
    Member::Arima(Box::new(adjusted(y, periods, fit)))
}

/// A fitted model of any kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Member {
    Naive(LastValue),
    SeasonalNaive(LastPeriod),
    Profile(Profile),
    Ets(Adjusted<Ets>),
    Theta(Adjusted<Theta>),
    /// Apart, as it is far larger than the others.
    Arima(Box<Adjusted<Arima>>),
    Ridge(Ridge),
    Regression(Regression),
    #[cfg(feature = "neural")]
    Lstm(Lstm),
}

impl Member {
    /// Takes what is not kept with a model.
    pub(crate) fn give(&mut self, given: &Given) {
        #[cfg(feature = "neural")]
        if let Self::Lstm(lstm) = self {
            lstm.network.clone_from(&given.network);
        }
        #[cfg(not(feature = "neural"))]
        let _ = given;
    }

    /// The orders of an ARIMA.
    pub(crate) fn arima_orders(&self) -> Option<ArimaOrders> {
        match self {
            Self::Arima(arima) => Some(ArimaOrders::of(arima.model.shape())),
            _ => None,
        }
    }

    fn model(&self) -> &dyn Path {
        match self {
            Self::Naive(model) => model,
            Self::SeasonalNaive(model) => model,
            Self::Profile(model) => model,
            Self::Ets(model) => model,
            Self::Theta(model) => model,
            Self::Arima(model) => model.as_ref(),
            Self::Ridge(model) => model,
            Self::Regression(model) => model,
            #[cfg(feature = "neural")]
            Self::Lstm(model) => model,
        }
    }
}

impl Path for Member {
    fn path(&self, past: &[f64], horizon: usize) -> Vec<f64> {
        self.model().path(past, horizon)
    }

    fn reach(&self) -> usize {
        self.model().reach()
    }

    fn is_dear(&self) -> bool {
        self.model().is_dear()
    }

    fn observe(&mut self, past: &[f64]) {
        match self {
            Self::Naive(model) => model.observe(past),
            Self::SeasonalNaive(model) => model.observe(past),
            Self::Profile(model) => model.observe(past),
            Self::Ets(model) => model.observe(past),
            Self::Theta(model) => model.observe(past),
            Self::Arima(model) => model.observe(past),
            Self::Ridge(model) => model.observe(past),
            Self::Regression(model) => model.observe(past),
            #[cfg(feature = "neural")]
            Self::Lstm(model) => model.observe(past),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name_and_others_are_refused_with_the_list() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert!(NoSuchModel(String::new()).to_string().contains(kind.name()));
        }
        assert!("prophet".parse::<Kind>().is_err());
    }

    #[test]
    fn a_member_is_labelled_with_its_period_only_where_there_are_several() {
        let roles = Role::all(&[Kind::Profile, Kind::Ets], &[24, 168]);
        let labels: Vec<String> = roles.iter().map(|r| r.label(&[24, 168])).collect();
        assert_eq!(labels, ["profile_24", "profile_168", "ets"]);
        assert_eq!(roles[0].label(&[24]), "profile");
    }
}
