//! Turns windows of the store into outlooks and incidents.
//!
//! Pure parts: [`due`] says which work comes next, [`foresee`] turns windows and fitted models into forecasts or
//! reasons for silence, [`symptom`] scores streams, [`incidents`] and [`evidence`] say whose causes are sought and in
//! what. Shells beside them: [`demand`] and [`health`] read, have it computed and remember; [`service`] is the tick.

pub mod calendar;
pub mod config;
pub mod demand;
pub mod discover;
pub mod due;
pub mod evidence;
pub mod foresee;
pub mod health;
pub mod incidents;
pub mod inquiry;
pub mod pool;
pub mod publish;
pub mod read;
pub mod registry;
pub mod residual;
pub mod service;
pub mod state;
pub mod stream;
pub mod symptom;

pub use config::{Backend, CalledService, Config, ConfigError, DetectionConfig, ForecastConfig, Workload};
pub use service::Service;
