//! A bucket of an S3-compatible store as the place of a registry.

use std::path::{Path as File, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig};

use super::config::S3Config;
use super::storage::{Put, Storage, StorageError};

/// Longest wait for a connection, and for an answer: forecasts wait while the registry is read.
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(10);

/// Objects of a bucket under a prefix.
#[derive(Debug)]
pub struct Bucket {
    store: AmazonS3,
    prefix: String,
}

/// Why a bucket cannot be used as configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// A file with credentials cannot be read.
    #[error("could not read models.s3's {}", path.display())]
    Credentials {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The settings do not name a bucket that can be asked.
    #[error("models.s3 names no bucket that can be asked")]
    Settings(#[from] Error),
}

impl Bucket {
    /// The bucket of these settings; it is not asked yet. What they leave out is taken from the usual `AWS_…` variables of
    /// the environment, or from the machine's role.
    ///
    /// # Errors
    /// [`BucketError`].
    pub fn open(config: &S3Config) -> Result<Self, BucketError> {
        let client = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(ANSWER);
        let retry = RetryConfig { max_retries: 1, retry_timeout: ANSWER, ..RetryConfig::default() };
        let builder = AmazonS3Builder::from_env().with_client_options(client).with_retry(retry);
        let mut builder = builder.with_bucket_name(&config.bucket);
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some(file) = &config.access_key_id_file {
            builder = builder.with_access_key_id(secret(file)?);
        }
        if let Some(file) = &config.secret_access_key_file {
            builder = builder.with_secret_access_key(secret(file)?);
        }
        let prefix = config.prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { store: builder.build()?, prefix })
    }

    fn at(&self, path: &str, action: &'static str) -> Result<Path, StorageError> {
        let whole = format!("{}{path}", self.prefix);
        Path::parse(whole.trim_end_matches('/')).map_err(|error| failed(action, path)(error.into()))
    }
}

#[async_trait]
impl Storage for Bucket {
    async fn get(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, StorageError> {
        let found = match self.store.get(&self.at(path, "read")?).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed("read", path)(error)),
        };
        if found.meta.size > most as u64 {
            return Err(StorageError::TooLarge { path: path.to_owned(), found: found.meta.size, most });
        }
        Ok(Some(found.bytes().await.map_err(failed("read", path))?.to_vec()))
    }

    async fn put(&self, path: &str, bytes: Vec<u8>, how: Put) -> Result<(), StorageError> {
        let mode = if how == Put::New { PutMode::Create } else { PutMode::Overwrite };
        let options = PutOptions { mode, ..PutOptions::default() };
        let payload = PutPayload::from(bytes);
        match self.store.put_opts(&self.at(path, "write")?, payload, options).await {
            Ok(_) => Ok(()),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Err(StorageError::Exists { path: path.to_owned() })
            }
            Err(error) => Err(failed("write", path)(error)),
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        let place = self.at(folder, "list")?;
        let found = self.store.list_with_delimiter(Some(&place)).await.map_err(failed("list", folder))?;
        let objects = found.objects.iter().map(|object| &object.location);
        let names = objects.chain(&found.common_prefixes).filter_map(|path| path.as_ref().rsplit('/').next());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }
}

fn secret(file: &File) -> Result<String, BucketError> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|source| BucketError::Credentials { path: file.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

fn failed(action: &'static str, path: &str) -> impl FnOnce(Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::Failed { action, path, source: Box::new(source) }
}
