//! Checksums and signatures.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};

/// What stands before the 32 bytes of an Ed25519 key in its public form (RFC 8410).
const PUBLIC_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// SHA-256 in lower-case hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whose signatures are believed.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    keys: Vec<[u8; 32]>,
    required: bool,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    #[error("could not read the key {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The file is no such key.
    #[error("{} holds no Ed25519 key as PEM; make one with `openssl genpkey -algorithm ed25519`", path.display())]
    NotAKey {
        /// Which file.
        path: PathBuf,
    },
}

/// Why a signature is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// There is none, and there must be one.
    #[error("the manifest is not signed, and models.require_signature is set; sign it with --sign-key")]
    Missing,
    /// None of the keys made it over these bytes.
    #[error(
        "the signature of the manifest is by none of models.trusted_keys, or the manifest was changed after it was signed"
    )]
    NotByUs,
}

impl Trust {
    /// Believes signatures made with the keys of these files (PEM); `required` refuses what is not signed.
    ///
    /// # Errors
    /// [`KeyError`] for the first file that holds no key.
    pub fn read(files: &[PathBuf], required: bool) -> Result<Self, KeyError> {
        let keys = files.iter().map(|path| public_key(path)).collect::<Result<_, _>>()?;
        Ok(Self { keys, required })
    }

    /// Whether `signature` (base64) over `bytes` is believed. Without any key, signatures are not looked at.
    ///
    /// # Errors
    /// [`SignatureError`] when not.
    pub fn check(&self, bytes: &[u8], signature: Option<&str>) -> Result<(), SignatureError> {
        let Some(signature) = signature else {
            return if self.required { Err(SignatureError::Missing) } else { Ok(()) };
        };
        let raw = BASE64_STANDARD.decode(signature).map_err(|_| SignatureError::NotByUs)?;
        let by = |key: &[u8; 32]| UnparsedPublicKey::new(&ED25519, key).verify(bytes, &raw).is_ok();
        if self.keys.is_empty() || self.keys.iter().any(by) { Ok(()) } else { Err(SignatureError::NotByUs) }
    }
}

/// Signs `bytes` with the private key of a PEM file; base64.
///
/// # Errors
/// [`KeyError`] when the file holds no key.
pub fn sign(bytes: &[u8], key: &Path) -> Result<String, KeyError> {
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pem_of(key)?);
    let pair = pair.map_err(|_| KeyError::NotAKey { path: key.to_owned() })?;
    Ok(BASE64_STANDARD.encode(pair.sign(bytes)))
}

fn public_key(path: &Path) -> Result<[u8; 32], KeyError> {
    let bytes = pem_of(path)?;
    let key = bytes.strip_prefix(&PUBLIC_HEAD).and_then(|key| key.try_into().ok());
    key.ok_or_else(|| KeyError::NotAKey { path: path.to_owned() })
}

/// The bytes between the first two lines of dashes.
fn pem_of(path: &Path) -> Result<Vec<u8>, KeyError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })?;
    let body: String =
        text.lines().skip_while(|l| !l.starts_with("-----")).skip(1).take_while(|l| !l.starts_with("-----")).collect();
    BASE64_STANDARD.decode(body.trim()).map_err(|_| KeyError::NotAKey { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIK6LxMcY51xtq+KrdKwfRcA9/NgVqNjMxcwEetlKafZP\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAfXvo8QJt5uNia5H0TABR35KALo6bgFSUBMS1wEHh5ig=\n-----END PUBLIC KEY-----\n";
    const OTHER: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGEBhgaLxUT+5nIHOCRS7sd/K1R0fKuN693RHK7VVpuk=\n-----END PUBLIC KEY-----\n";

    fn keys() -> (tempfile::TempDir, [PathBuf; 3]) {
        let folder = tempfile::tempdir().unwrap();
        let paths = [("a.key", PRIVATE), ("a.pub", PUBLIC), ("b.pub", OTHER)].map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        });
        (folder, paths)
    }

    #[test]
    fn only_a_signature_by_a_trusted_key_over_these_bytes_is_believed() {
        let (_folder, [private, public, other]) = keys();
        let signature = sign(b"manifest", &private).unwrap();
        let trust = Trust::read(&[other.clone(), public.clone()], true).unwrap();
        assert_eq!(trust.check(b"manifest", Some(&signature)), Ok(()));
        assert_eq!(trust.check(b"manifesto", Some(&signature)), Err(SignatureError::NotByUs));
        assert_eq!(trust.check(b"manifest", Some("no base64!")), Err(SignatureError::NotByUs));
        assert_eq!(trust.check(b"manifest", None), Err(SignatureError::Missing));
        let stranger = Trust::read(&[other], false).unwrap();
        assert_eq!(stranger.check(b"manifest", Some(&signature)), Err(SignatureError::NotByUs));
        assert_eq!(stranger.check(b"manifest", None), Ok(()));
        assert!(matches!(Trust::read(&[private], true), Err(KeyError::NotAKey { .. })));
    }
}
