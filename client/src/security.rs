//! How the loader shows who it is, and knows who answers.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, ClientTlsConfig, Identity},
};

use crate::error::Error;

/// How old a token may be before its file is read again. Files of tokens that expire are rewritten
/// minutes before.
const TOKEN_AGE: Duration = Duration::from_secs(10);

/// TLS and tokens. By default: the system's authorities for `https://` endpoints, and no token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// PEM file of the authorities that sign the replicas' certificates; `None`: those of the
    /// system.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the loader's own certificate, for replicas that want one.
    pub client_cert: Option<PathBuf>,
    /// PEM file of its private key. Both or neither.
    pub client_key: Option<PathBuf>,
    /// The name that the replica's certificate must carry; `None`: the host of the endpoint.
    pub server_name: Option<String>,
    /// File with the token that replicas want, on its first line. Read again when it changes.
    pub token_file: Option<PathBuf>,
}

impl Security {
    /// TLS for an `https://` endpoint.
    ///
    /// # Errors
    /// [`Error::Config`], naming the field and the file.
    pub(crate) fn tls(&self) -> Result<ClientTlsConfig, Error> {
        let mut tls = match &self.ca_file {
            None => ClientTlsConfig::new().with_native_roots(),
            Some(path) => {
                let pem = read("security.ca_file", path)?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
        };
        match (&self.client_cert, &self.client_key) {
            (None, None) => {}
            (Some(cert), Some(key)) => {
                let cert = read("security.client_cert", cert)?;
                let key = read("security.client_key", key)?;
                tls = tls.identity(Identity::from_pem(cert, key));
            }
            (Some(_), None) => return Err(lonely("security.client_cert", "client_key")),
            (None, Some(_)) => return Err(lonely("security.client_key", "client_cert")),
        }
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        Ok(tls)
    }

    /// Refuses what an `http://` endpoint would silently ignore.
    ///
    /// # Errors
    /// [`Error::Config`], naming the field.
    pub(crate) fn without_tls(&self) -> Result<(), Error> {
        for (field, is_set) in [
            ("security.ca_file", self.ca_file.is_some()),
            ("security.client_cert", self.client_cert.is_some()),
            ("security.client_key", self.client_key.is_some()),
            ("security.server_name", self.server_name.is_some()),
        ] {
            if is_set {
                let reason = "is set, but the endpoint begins with http://: write https://";
                return Err(Error::config(field, reason));
            }
        }
        Ok(())
    }

    /// The token, if there is one to show.
    ///
    /// # Errors
    /// [`Error::Config`], where the file cannot be read or holds none.
    pub fn bearer(&self) -> Result<Option<Bearer>, Error> {
        self.token_file.clone().map(Bearer::open).transpose()
    }
}

/// A token that follows its file.
#[derive(Clone)]
pub struct Bearer {
    path: PathBuf,
    held: Arc<Mutex<Held>>,
}

struct Held {
    value: MetadataValue<Ascii>,
    read: Instant,
}

impl Bearer {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let held = Held {
            value: token(&path)?,
            read: Instant::now(),
        };
        let held = Arc::new(Mutex::new(held));
        Ok(Self { path, held })
    }

    /// Puts the token on a request.
    pub fn sign<T>(&self, request: &mut Request<T>) {
        request.metadata_mut().insert("authorization", self.value());
    }

    /// What to show in `authorization`.
    #[cfg(feature = "relay")]
    pub(crate) fn header(&self) -> http::HeaderValue {
        let mut headers = tonic::metadata::MetadataMap::new();
        headers.insert("authorization", self.value());
        let mut headers = headers.into_headers();
        headers
            .remove("authorization")
            .expect("it was inserted two lines above")
    }

    fn value(&self) -> MetadataValue<Ascii> {
        let old = self.lock().read.elapsed() >= TOKEN_AGE;
        if old {
            self.refresh();
        }
        self.lock().value.clone()
    }

    /// Reads the file again; whether it holds another token than before. A file that cannot be
    /// read is being replaced: the old token stays.
    pub(crate) fn refresh(&self) -> bool {
        let now = token(&self.path);
        let mut held = self.lock();
        held.read = Instant::now();
        match now {
            Ok(value) if value != held.value => {
                held.value = value;
                true
            }
            _ => false,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn token(path: &Path) -> Result<MetadataValue<Ascii>, Error> {
    let field = "security.token_file";
    let bytes = read(field, path)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let value = line.and_then(|token| MetadataValue::try_from(format!("Bearer {token}")).ok());
    let mut value = value.ok_or_else(|| {
        let path = path.display();
        Error::config(
            field,
            format!("{path} holds no token: write one, on a line"),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(field: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::config(field, format!("{}: {error}", path.display())))
}

fn lonely(field: &'static str, other: &str) -> Error {
    Error::config(field, format!("is set without security.{other}: set both"))
}

/// What to do about a connection that failed for this cause. Nobody else can tell it from the
/// cause's own words: they speak of bytes.
pub(crate) fn advice(cause: &str, tls: bool) -> Option<&'static str> {
    let table: &[(&[&str], &str)] = if tls {
        &[
            (
                &["InvalidContentType", "corrupt message"],
                "the endpoint does not speak TLS: use http://, or start the replica with --tls-cert",
            ),
            (
                &["UnknownIssuer", "BadSignature"],
                "no authority in `security.ca_file` signed the replica's certificate",
            ),
            (
                &["not valid for name", "NotValidForName"],
                "the replica's certificate is for another host: correct `endpoint`, or set \
                 `security.server_name`",
            ),
            (
                &["CertificateRequired"],
                "the replica wants a certificate of the loader: set `security.client_cert` and \
                 `security.client_key`",
            ),
            (
                &[
                    "UnknownCA",
                    "BadCertificate",
                    "DecryptError",
                    "AccessDenied",
                ],
                "the replica does not take the certificate in `security.client_cert`",
            ),
        ]
    } else {
        &[
            // The first byte of TLS, read as the length of a frame.
            (
                &["frame with invalid size"],
                "it seems that the endpoint speaks TLS: use https://",
            ),
            // The same where the other side has hung up before its bytes were read; and HTTP/1.
            (
                &["bytes remaining on stream"],
                "the endpoint does not speak plain gRPC; if it speaks TLS: use https://",
            ),
        ]
    };
    let fits = |(needles, _): &&(&[&str], _)| needles.iter().any(|needle| cause.contains(needle));
    table.iter().find(fits).map(|(_, advice)| *advice)
}
