//! Who may call: TLS, client certificates and tokens, as on the port of a replica.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, bail, ensure};
use http::{HeaderMap, header::AUTHORIZATION};
use preheat_proto::{Code, Error as CallError};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::reread::{Current, follow};

/// Bytes of one token.
const MAX_TOKEN: usize = 4096;

/// What protects the port. Without any of it, everybody who reaches the port may call.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Door {
    /// Speak TLS on the gRPC port: the chain of certificates, PEM
    #[arg(long, value_name = "FILE", env = "PREHEAT_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of the first of them, PEM
    #[arg(long, value_name = "FILE", env = "PREHEAT_TLS_KEY")]
    pub tls_key: Option<PathBuf>,

    /// Take only clients that show a certificate signed by one of these, PEM
    #[arg(long, value_name = "FILE", env = "PREHEAT_TLS_CLIENT_CA")]
    pub tls_client_ca: Option<PathBuf>,

    /// Take only calls that carry one of these tokens (`authorization: Bearer TOKEN`), one a line.
    /// They end here: replicas see the token of --upstream-token-file
    #[arg(long, value_name = "FILE", env = "PREHEAT_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

impl Door {
    /// TLS as the files say at any time; `None` without. Inside a runtime.
    ///
    /// # Errors
    /// Naming the option or the file.
    pub(super) fn tls(&self) -> anyhow::Result<Option<Current<ServerConfig>>> {
        let files = match (&self.tls_cert, &self.tls_key, &self.tls_client_ca) {
            (Some(cert), Some(key), ca) => [cert, key].into_iter().chain(ca).cloned().collect(),
            (None, None, None) => return Ok(None),
            (None, None, Some(_)) => bail!("--tls-client-ca needs --tls-cert and --tls-key"),
            _ => bail!("--tls-cert and --tls-key must be given together"),
        };
        follow("TLS", files, tls).map(Some)
    }

    /// Tokens as the file says at any time; `None` without. Inside a runtime.
    ///
    /// # Errors
    /// Naming the option or the file.
    pub(super) fn tokens(&self) -> anyhow::Result<Option<Current<Tokens>>> {
        let Some(file) = &self.token_file else {
            return Ok(None);
        };
        if self.tls_cert.is_none() {
            tracing::warn!(
                "tokens without TLS can be read by whoever sees the traffic: give --tls-cert and \
                 --tls-key, unless something in front of this balancer speaks TLS"
            );
        }
        let parse = |files: &[Vec<u8>]| Tokens::parse(&files[0]);
        follow("the list of tokens", vec![file.clone()], parse).map(Some)
    }
}

/// From the contents of the certificate, key and client CA files.
fn tls(files: &[Vec<u8>]) -> anyhow::Result<ServerConfig> {
    let chain = certificates(&files[0]).context("--tls-cert")?;
    let key = PrivateKeyDer::from_pem_slice(&files[1])
        .context("--tls-key: no private key in PEM found")?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match files.get(2) {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem).context("--tls-client-ca")? {
                roots.add(certificate).context("--tls-client-ca")?;
            }
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .context("--tls-cert and --tls-key do not go together")?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    ensure!(!all.is_empty(), "no certificate in PEM found");
    Ok(all)
}

/// The tokens that open the port, by their digests: what is not kept cannot leak.
#[derive(Debug)]
pub(super) struct Tokens(Vec<blake3::Hash>);

impl Tokens {
    fn parse(file: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(file).context("--token-file is not text")?;
        let lines = text.lines().map(str::trim);
        let tokens: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        ensure!(
            !tokens.is_empty(),
            "--token-file is empty: write one token a line"
        );
        for (index, token) in tokens.iter().enumerate() {
            ensure!(
                token.len() <= MAX_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic()),
                "--token-file: token {} is longer than {MAX_TOKEN} bytes or has characters other \
                 than visible ASCII",
                index + 1
            );
        }
        let digest = |token: &&str| blake3::hash(token.as_bytes());
        Ok(Self(tokens.iter().map(digest).collect()))
    }

    /// Lets a call pass.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`], which says nothing about the tokens.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), CallError> {
        let value = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let shown = value.and_then(|text| text.split_once(' '));
        let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let digest = shown.map(|(_, token)| blake3::hash(token.trim().as_bytes()));
        let Some(digest) = digest else {
            let message = "header authorization is missing or malformed: send `authorization: \
                           Bearer TOKEN`";
            return Err(CallError::new(Code::Unauthenticated, message));
        };
        // All of them, each in constant time: how long it takes tells nothing.
        let known = self
            .0
            .iter()
            .fold(false, |known, one| known | (*one == digest));
        if known {
            return Ok(());
        }
        let message = "the token in header authorization is none that this balancer takes: it is \
                       wrong, or was rotated";
        Err(CallError::new(Code::Unauthenticated, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_whole() {
        let tokens = Tokens::parse(b"first\n\n  second  \r\n").unwrap();
        let check = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            tokens.check(&headers)
        };
        check("Bearer first").unwrap();
        check("bearer second").unwrap();
        for bad in [
            "Bearer",
            "Bearer firs",
            "Bearer first second",
            "Basic first",
        ] {
            assert_eq!(check(bad).unwrap_err().code, Code::Unauthenticated);
        }
        assert!(tokens.check(&HeaderMap::new()).is_err());
        for (file, say) in [("", "empty"), (" \n", "empty"), ("a b", "token 1")] {
            let error = Tokens::parse(file.as_bytes()).err().unwrap();
            assert!(error.to_string().contains(say), "{error}");
        }
    }

    #[test]
    fn options_that_make_no_sense_are_named() {
        let said = |door: Door| format!("{:#}", door.tls().err().unwrap());
        let lonely = Door {
            tls_cert: Some("cert.pem".into()),
            ..Door::default()
        };
        assert!(said(lonely).contains("together"));
        let lonely = Door {
            tls_client_ca: Some("ca.pem".into()),
            ..Door::default()
        };
        assert!(said(lonely).contains("needs --tls-cert"));
        let error = tls(&[b"nothing".to_vec(), vec![]]).unwrap_err();
        assert!(format!("{error:#}").contains("--tls-cert: no certificate"));
    }
}
