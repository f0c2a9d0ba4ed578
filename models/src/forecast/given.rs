//! What a combination is given that its members would otherwise find or bring themselves.

#[cfg(feature = "neural")]
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::arima::{Differences, LONGEST_SEASON, MAX_ORDER, Orders};
#[cfg(feature = "neural")]
use super::neural::Network;

/// What a combination is given. Empty, members find everything themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// The weights of the member `lstm`; without them those that come with the program, or were installed. They are not
    /// kept with a model: who reads a model back gives them [again](super::auto::Live::give).
    #[cfg(feature = "neural")]
    #[serde(skip)]
    pub network: Option<Arc<Network>>,
    /// The orders of `arima` and `sarima`; without them they are searched at each fit. Coefficients are always fitted to
    /// the history at hand.
    #[serde(default)]
    pub orders: Option<ArimaOrders>,
}

/// How many terms of each kind an ARIMA has: `(p,d,q)(P,D,Q)` with seasons of `period` steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArimaOrders {
    /// `p`, at most 3.
    pub ar: usize,
    /// `d`, at most 1.
    pub difference: usize,
    /// `q`, at most 3.
    pub ma: usize,
    /// `P`, at most 1.
    pub seasonal_ar: usize,
    /// `D`, at most 1.
    pub seasonal_difference: usize,
    /// `Q`, at most 1.
    pub seasonal_ma: usize,
    /// Length of a season in steps, 2 to 24; 0 or 1 where there are no seasonal terms.
    pub period: usize,
    /// Whether there is a mean, or a drift of a differenced series.
    pub constant: bool,
}

/// Why orders are none that can be fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {found}, at most {most} can be fitted")]
pub struct NotOrders {
    /// Which.
    pub name: &'static str,
    /// What it is.
    pub found: usize,
    /// The greatest that can be fitted.
    pub most: usize,
}

impl ArimaOrders {
    /// Refuses what cannot be fitted.
    ///
    /// # Errors
    /// [`NotOrders`] for the first order that is too great, or for seasonal terms without a season.
    pub fn check(&self) -> Result<(), NotOrders> {
        let seasonal = if self.period > 1 { 1 } else { 0 };
        let bounds = [
            ("ar", self.ar, MAX_ORDER),
            ("difference", self.difference, 1),
            ("ma", self.ma, MAX_ORDER),
            ("seasonal_ar", self.seasonal_ar, seasonal),
            ("seasonal_difference", self.seasonal_difference, seasonal),
            ("seasonal_ma", self.seasonal_ma, seasonal),
            ("period", self.period, LONGEST_SEASON),
        ];
        let beyond = bounds.into_iter().find(|(_, found, most)| found > most);
        beyond.map_or(Ok(()), |(name, found, most)| Err(NotOrders { name, found, most }))
    }

    pub(crate) fn parts(self) -> (Orders, Differences) {
        let Self { ar, ma, seasonal_ar, seasonal_ma, constant, .. } = self;
        let differences =
            Differences { ordinary: self.difference, seasonal: self.seasonal_difference, period: self.period.max(1) };
        (Orders { ar, ma, seasonal_ar, seasonal_ma, constant }, differences)
    }

    pub(crate) fn of((orders, differences): (Orders, Differences)) -> Self {
        let Orders { ar, ma, seasonal_ar, seasonal_ma, constant } = orders;
        let Differences { ordinary: difference, seasonal: seasonal_difference, period } = differences;
        Self { ar, difference, ma, seasonal_ar, seasonal_difference, seasonal_ma, period, constant }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::auto::Combination;
    use crate::forecast::{Fitted, Forecaster, Horizon, Kind, Quantile};
    use crate::laws::noise;
    use crate::series::{Step, Timestamp, Window};

    fn wave() -> Window {
        let value = |i: usize| 50.0 + 10.0 * (i as f64 / 12.0 * std::f64::consts::TAU).sin() + 2.0 * noise(i);
        Window { start: Timestamp::from_secs(0), step: Step::from_secs(3600), values: (0..400).map(value).collect() }
    }

    fn horizon() -> Horizon {
        Horizon::new(6).expect("six steps")
    }

    #[test]
    fn the_orders_that_were_found_give_the_same_forecast_when_they_are_given() {
        for kind in [Kind::Arima, Kind::Sarima] {
            let found = Combination::only(kind, horizon()).fit(&wave()).expect("a fit");
            let orders = found.arima_orders().expect("an ARIMA");
            assert_eq!(orders.check(), Ok(()));
            let method = Combination {
                given: Given { orders: Some(orders), ..Given::default() },
                ..Combination::only(kind, horizon())
            };
            let again = method.fit(&wave()).expect("a fit");
            let [a, b] = [found, again].map(|live| live.forecast(horizon(), &Quantile::STANDARD));
            assert!(
                a.mean.iter().zip(&b.mean).all(|(a, b)| (a - b).abs() < 0.05),
                "{kind} {orders:?}: {:?} {:?}",
                a.mean,
                b.mean
            );
        }
    }

    #[test]
    fn orders_that_cannot_be_fitted_are_refused_by_name() {
        let refused = ArimaOrders { ar: 4, ..ArimaOrders::default() }.check().unwrap_err();
        assert_eq!(refused.to_string(), "ar is 4, at most 3 can be fitted");
        assert_eq!(ArimaOrders { seasonal_ma: 1, ..ArimaOrders::default() }.check().unwrap_err().name, "seasonal_ma");
        assert_eq!(ArimaOrders { period: 1440, ..ArimaOrders::default() }.check().unwrap_err().name, "period");
    }

    #[cfg(feature = "neural")]
    #[test]
    fn a_network_that_is_given_serves_this_model_alone_through_fits_and_reading_back() {
        use crate::forecast::neural::{Network, Training, train};
        let training = Training { batches: 2, batch: 4, seed: 3 };
        let other = train(&[vec![wave()]], &training, None, |_, _| {}).expect("weights");
        let given = Given { network: Some(Arc::new(Network::from_bytes(&other).expect("a network"))), orders: None };
        let plain = Combination::only(Kind::Lstm, horizon());
        let own = Combination { given: given.clone(), ..plain.clone() };
        let path = |live: &super::super::auto::Live| live.forecast(horizon(), &Quantile::STANDARD).mean;
        let (usual, own) = (plain.fit(&wave()).expect("a fit"), own.fit(&wave()).expect("a fit"));
        assert_ne!(path(&usual), path(&own));
        assert_eq!(path(&usual), path(&plain.fit(&wave()).expect("a fit")));
        let text = serde_json::to_string(&own).expect("json");
        let mut back: super::super::auto::Live = serde_json::from_str(&text).expect("a model");
        back.give(&given);
        assert_eq!(path(&own), path(&back));
    }
}
