//! Authorities and certificates for tests of TLS, made by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority in a folder of its own.
pub struct Authority<'a> {
    folder: &'a Path,
    name: &'a str,
}

impl<'a> Authority<'a> {
    /// A new one with this name.
    pub fn make(folder: &'a Path, name: &'a str) -> Self {
        let script = format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} \
               -keyout {name}.key -out {name}.pem"
        );
        run(folder, &script);
        Self { folder, name }
    }

    /// The file of its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// A certificate for the holder `common_name`, whose other names are such as `DNS:localhost`, and its key: two files.
    pub fn sign(&self, common_name: &str, others: &str) -> (PathBuf, PathBuf) {
        let (by, file) = (self.name, format!("{common_name}-by-{}", self.name));
        let script = format!(
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={common_name} \
               -keyout {file}.key -out {file}.csr \
             && printf 'subjectAltName={others}\\nbasicConstraints=CA:FALSE\\n' >{file}.ext \
             && openssl x509 -req -in {file}.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -days 2 -extfile {file}.ext \
               -out {file}.pem"
        );
        run(self.folder, &script);
        (self.folder.join(format!("{file}.pem")), self.folder.join(format!("{file}.key")))
    }
}

fn run(folder: &Path, script: &str) {
    let made = Command::new("sh").args(["-c", script]).current_dir(folder).output().expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
