//! Speaks to InfluxDB 2.

use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bellwether_models::series::Labels;
use flate2::Compression;
use flate2::write::GzEncoder;
use influxdb2::api::buckets::ListBucketsRequest;
use influxdb2::api::write::TimestampPrecision;
use influxdb2::{Client, ClientBuilder, RequestError};
use reqwest_of_influxdb2 as reqwest_011;
use tracing::{info, warn};

use super::annotated::{self, AnswerError};
use super::{InfluxConfig, flux, line};
use crate::access;
use crate::source::secret::Secret;
use crate::store::remote::link::{Link, shown};
use crate::store::remote::{LinkError, RemoteStore, Server, WriteError, settle, unavailable};
use crate::store::{Matcher, SampleRefusal, SeriesSamples, Store, StoreError, TimeRange};

/// Below this a bucket forgets before forecasts have seen a week twice.
const SHORT_RETENTION: Duration = Duration::from_secs(14 * 86_400);

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The connection cannot be made as configured.
    #[error("could not prepare the connection to InfluxDB")]
    Link(#[from] LinkError),
    /// The client cannot be built.
    #[error("could not build the client of InfluxDB: {detail}")]
    Client {
        /// What it says.
        detail: String,
    },
    /// The server is there and the bucket is not.
    #[error(
        "InfluxDB at {url} has no bucket {bucket:?} in the organisation {org:?} that this token may see; make it, or name another in store.influx.bucket"
    )]
    NoBucket {
        /// The server.
        url: String,
        /// The organisation.
        org: String,
        /// The bucket.
        bucket: String,
    },
    /// The directory of the queue cannot be used.
    #[error("could not open the queue in {path}")]
    Queue {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// The store in a bucket of InfluxDB 2. It takes up what waits to be sent; where the server is there its bucket must be,
/// too, and where it is not yet, [`Store::check`] says when it is. Must be called inside a tokio runtime.
///
/// # Errors
/// [`OpenError`] when the bucket is missing, or a file of the configuration or the queue's directory cannot be used.
pub async fn open(config: InfluxConfig) -> Result<impl Store, OpenError> {
    let server = Influx::new(&config).await?;
    match server.bucket().await {
        Ok(Some(retention)) => tell_retention(&config.bucket, retention),
        Ok(None) => return Err(OpenError::NoBucket { url: config.url, org: config.org, bucket: config.bucket }),
        Err(_) => {} // told by whoever asks `check`
    }
    let path = config.path.join("queue");
    let opened = RemoteStore::open(server, path.clone(), &config.queue).await;
    opened.map_err(|source| OpenError::Queue { path, source })
}

fn tell_retention(bucket: &str, retention: Option<Duration>) {
    let shown = retention.map_or_else(|| "forever".to_owned(), bellwether_models::duration::format);
    if retention.is_some_and(|retention| retention < SHORT_RETENTION) {
        warn!(bucket, retention = shown, "the bucket keeps samples for less than two weeks; forecasts learn from more");
    } else {
        info!(bucket, retention = shown, "samples are kept in InfluxDB");
    }
}

struct Influx {
    org: String,
    bucket: String,
    url: String,
    request_samples: usize,
    /// Asks about health and buckets.
    asks: Arc<Client>,
    /// Writes bodies that are packed already.
    writes: Arc<Client>,
    /// Reads.
    link: Link,
}

impl Influx {
    async fn new(config: &InfluxConfig) -> Result<Self, OpenError> {
        let token =
            access::secret(config.token.as_ref(), config.token_file.as_deref()).await.map_err(LinkError::from)?;
        let token = token.unwrap_or_default();
        let link = Link::new(config.link(token.clone())).await?;
        let authorities = match &config.ca_file {
            Some(path) => Some(access::read(path).await.map_err(LinkError::from)?),
            None => None,
        };
        Ok(Self {
            org: config.org.clone(),
            bucket: config.bucket.clone(),
            url: config.url.clone(),
            request_samples: config.request_samples,
            asks: Arc::new(client(config, &token, authorities.as_deref(), false)?),
            writes: Arc::new(client(config, &token, authorities.as_deref(), true)?),
            link,
        })
    }

    /// How long the bucket keeps samples, `None` inside for ever; `None` when it is not there.
    async fn bucket(&self) -> Result<Option<Option<Duration>>, LinkError> {
        let (asks, org, name) = (self.asks.clone(), self.org.clone(), self.bucket.clone());
        let request = ListBucketsRequest { name: Some(name.clone()), org: Some(org), ..ListBucketsRequest::default() };
        let listed = self.guarded(async move { asks.list_buckets(Some(request)).await }).await;
        let listed = match listed {
            // so the server says that no bucket has the name
            Err(LinkError::Status { status: 404, .. }) => return Ok(None),
            listed => listed?,
        };
        let bucket = listed.buckets.into_iter().find(|bucket| bucket.name == name);
        Ok(bucket.map(|bucket| {
            let seconds = bucket.retention_rules.first().map_or(0, |rule| rule.every_seconds);
            u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
        }))
    }

    /// Runs a call of the crate in a task of its own: it panics on answers that it does not expect.
    async fn guarded<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, RequestError>> + Send + 'static,
    ) -> Result<T, LinkError> {
        match tokio::spawn(call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.explained(error)),
            Err(_) => Err(LinkError::Answer {
                url: self.url.clone(),
                detail: "its client could not make sense of it".to_owned(),
            }),
        }
    }

    fn explained(&self, error: RequestError) -> LinkError {
        let url = self.url.clone();
        match error {
            RequestError::Http { status, text } => {
                LinkError::Status { url, status: status.as_u16(), detail: shown(text.as_bytes()), retry_after: None }
            }
            RequestError::ReqwestProcessing { source } => {
                LinkError::Lost { url, source: Box::new(source.without_url()) }
            }
            RequestError::Serializing { source } => LinkError::Lost { url, source: Box::new(source) },
            RequestError::Deserializing { text } => LinkError::Answer { url, detail: text },
        }
    }

    async fn ask(&self, query: &str, limit: usize) -> Result<Vec<SeriesSamples>, StoreError> {
        const PATH: &str = "/api/v2/query";
        let failed = |error: LinkError| unavailable("query InfluxDB", error);
        let question = serde_json::json!({
            "query": query,
            "type": "flux",
            "dialect": { "header": true, "delimiter": ",", "annotations": ["datatype", "group", "default"] },
        });
        let request = self.link.post(PATH).await.map_err(failed)?;
        let request = request
            .query(&[("org", &self.org)])
            .header("Accept", "application/csv")
            // unpacked, so that HTTP itself tells a whole answer from one that was cut off
            .header("Accept-Encoding", "identity")
            .json(&question);
        let answer = self.link.send(PATH, request).await.map_err(failed)?;
        let framed = answer.version() > reqwest::Version::HTTP_11
            || answer.content_length().is_some()
            || answer.headers().contains_key("transfer-encoding");
        let body = self.link.body(PATH, answer).await.map_err(failed)?;
        if !framed {
            return Err(unavailable("query InfluxDB", AnswerError::CutOff { bytes: body.len() }));
        }
        annotated::read(&body, limit).map_err(|error| match error {
            AnswerError::TooLarge { limit } => StoreError::TooLarge { limit },
            error => unavailable("query InfluxDB", error),
        })
    }
}

fn client(
    config: &InfluxConfig,
    token: &Secret,
    authorities: Option<&[u8]>,
    packed: bool,
) -> Result<Client, OpenError> {
    let failed = |error: &dyn std::fmt::Display| OpenError::Client { detail: error.to_string() };
    let mut builder = reqwest_011::Client::builder().no_proxy().timeout(config.timeout);
    if let Some(pem) = authorities {
        let certificate = reqwest_011::Certificate::from_pem(pem).map_err(|error| failed(&error))?;
        builder = builder.tls_built_in_root_certs(false).add_root_certificate(certificate);
    }
    if packed {
        // the crate packs only its own stream of points, seven times slower than lines packed at once
        let gzip = (reqwest_011::header::CONTENT_ENCODING, reqwest_011::header::HeaderValue::from_static("gzip"));
        builder = builder.default_headers([gzip].into_iter().collect());
    }
    let builder = ClientBuilder::with_builder(builder, &config.url, &config.org, token.reveal());
    builder.build().map_err(|error| failed(&error))
}

#[async_trait]
impl Server for Influx {
    fn name(&self) -> &'static str {
        "influx"
    }

    async fn write(&self, batch: &[SeriesSamples]) -> Result<(), WriteError> {
        let refused =
            |detail: &str| WriteError::Refused { refusal: SampleRefusal::Unstorable, detail: detail.to_owned() };
        let lines = line::lines(batch).ok_or_else(|| refused("a series without a name, or a time it does not know"))?;
        let body = gzip(lines.as_bytes()).map_err(|error| refused(&error.to_string()))?;
        let (writes, org, bucket) = (self.writes.clone(), self.org.clone(), self.bucket.clone());
        let precision = TimestampPrecision::Milliseconds;
        let call = async move { writes.write_line_protocol_with_precision(&org, &bucket, body, precision).await };
        self.guarded(call).await.map_err(fault)
    }

    async fn read(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError> {
        let Some(query) = flux::samples(&self.bucket, matchers, range) else { return Ok(Vec::new()) };
        let found = self.ask(&query, limit).await?;
        Ok(settle::merged(matching(found, matchers), Vec::new()))
    }

    async fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError> {
        let Some(query) = flux::series(&self.bucket, matchers, range) else { return Ok(Vec::new()) };
        let found = self.ask(&query, usize::MAX).await?;
        Ok(matching(found, matchers).into_iter().map(|series| series.labels).collect())
    }

    async fn check(&self) -> Result<(), StoreError> {
        match self.bucket().await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(unavailable(
                "find the bucket",
                OpenError::NoBucket { url: self.url.clone(), org: self.org.clone(), bucket: self.bucket.clone() },
            )),
            Err(error) => Err(unavailable("reach InfluxDB", error)),
        }
    }

    fn is_same(&self, written: f64, read: f64) -> bool {
        written.to_bits() == read.to_bits()
    }

    fn request_samples(&self) -> usize {
        self.request_samples
    }
}

/// The filter of the query lets more through than the matchers do.
fn matching(mut found: Vec<SeriesSamples>, matchers: &[Matcher]) -> Vec<SeriesSamples> {
    found.retain(|series| matchers.iter().all(|matcher| matcher.matches(&series.labels)));
    found
}

/// What a failed write means. InfluxDB writes the good lines of a request that it refuses in part.
fn fault(error: LinkError) -> WriteError {
    match error {
        LinkError::Status { status: 400 | 413 | 422, detail, .. } => {
            let old = detail.contains("beyond retention policy") || detail.contains("outside retention policy");
            let refusal = if old { SampleRefusal::TooOld } else { SampleRefusal::Unstorable };
            WriteError::Refused { refusal, detail }
        }
        error => WriteError::Unavailable { retry_after: None, source: Box::new(error) },
    }
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(bytes)?;
    packer.finish()
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use influxdb2::models::Query;

    use super::*;

    /// What the crate makes of an answer: the values it gives; `None` when it fails, or panics.
    async fn read_by_the_crate(answer: &'static [u8]) -> Option<Vec<String>> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/api/v2/query", post(async move || answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let builder = ClientBuilder::with_builder(reqwest_011::Client::builder().no_proxy(), url, "o", "t");
        let client = builder.build().unwrap();
        let records = tokio::spawn(async move { client.query_raw(Some(Query::new("q".to_owned()))).await }).await;
        let value = |record: influxdb2::api::query::FluxRecord| format!("{:?}", record.values["_value"]);
        Some(records.ok()?.ok()?.into_iter().map(value).collect())
    }

    const HEAD: &str = "#datatype,string,long,dateTime:RFC3339,string,string,double\r\n#group,false,false,false,true,true,false\r\n\
        #default,_result,,,,,\r\n,result,table,_time,_field,_measurement,_value\r\n,,0,2023-11-14T22:13:20Z,value,up,";

    fn answer(end: &[u8]) -> &'static [u8] {
        [HEAD.as_bytes(), end].concat().leak()
    }

    /// Why answers are read here. When this fails a better release of the crate may read them instead.
    #[tokio::test]
    async fn the_crate_reads_what_our_reader_refuses_and_panics_where_ours_goes_on() {
        let (whole, cut, null) = (answer(b"1.25\r\n"), answer(b"1.2"), answer(b"\r\n"));
        assert_eq!(read_by_the_crate(whole).await, Some(vec!["Double(OrderedFloat(1.25))".to_owned()]));
        assert_eq!(read_by_the_crate(cut).await, Some(vec!["Double(OrderedFloat(1.2))".to_owned()]));
        assert_eq!(annotated::read(cut, 10), Err(AnswerError::CutOff { bytes: cut.len() }));
        assert_eq!(read_by_the_crate(null).await, None);
        assert_eq!(annotated::read(null, 10), Ok(Vec::new()));
        let text = [HEAD.replace(",up,", ",u\u{1}p,").into_bytes(), b"1.5\r\n".to_vec()].concat();
        let broken: &'static [u8] = text.iter().map(|b| if *b == 1 { 0xff } else { *b }).collect::<Vec<u8>>().leak();
        assert_eq!(read_by_the_crate(broken).await.map(|values| values.len()), Some(1));
        assert!(matches!(annotated::read(broken, 10), Err(AnswerError::Row { .. })));
    }
}
