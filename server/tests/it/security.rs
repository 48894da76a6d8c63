//! TLS, client certificates, tokens, and their rotation, against a replica that serves meanwhile.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
};

use preheat_proto::v1::{InfoRequest, encoder_client::EncoderClient};
use rcgen::{CertificateParams, Issuer, KeyPair};
use tempfile::TempDir;
use tonic::{
    Code, Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{Ask, PATIENCE, Replica, client, eventually, soon};

/// An authority of its own.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// Certificate and key, PEM.
    fn sign(&self, name: &str) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        [certificate.pem(), key.serialize_pem()]
    }

    fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.pem))
            .domain_name("localhost")
    }
}

/// A replica's files, in a folder of their own.
struct Files(TempDir);

impl Files {
    fn new(authority: &Authority) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.certify(authority);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As a careful operator does it: written aside, then put in place.
    fn write(&self, name: &str, contents: &str) -> String {
        let aside = self.path("aside");
        fs::write(&aside, contents).unwrap();
        fs::rename(aside, self.path(name)).unwrap();
        text(&self.path(name))
    }

    fn certify(&self, authority: &Authority) {
        let [cert, key] = authority.sign("localhost");
        self.write("cert", &cert);
        self.write("key", &key);
    }

    async fn serve(&self, more: &[&str]) -> Replica {
        let [cert, key] = ["cert", "key"].map(|name| text(&self.path(name)));
        let tls = [
            "--model",
            "m=synthetic",
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
        ];
        Replica::start(&[&tls, more].concat()).await
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

async fn connect(address: SocketAddr, tls: ClientTlsConfig) -> Result<Channel, String> {
    let endpoint = Channel::from_shared(format!("https://{address}")).unwrap();
    let endpoint = endpoint.tls_config(tls).unwrap();
    soon(endpoint.connect())
        .await
        .map_err(|error| format!("{error:?}"))
}

/// One whole exchange on a new connection: with TLS 1.3 a client hears only after its handshake
/// that its certificate was refused.
async fn try_info(address: SocketAddr, tls: ClientTlsConfig) -> Result<(), String> {
    let channel = connect(address, tls).await?;
    let answer = soon(client(channel).info(InfoRequest {})).await;
    answer.map(drop).map_err(|error| format!("{error:?}"))
}

async fn info(channel: &Channel, token: Option<&str>) -> Result<(), Status> {
    let mut request = Request::new(InfoRequest {});
    if let Some(token) = token {
        request
            .metadata_mut()
            .insert("authorization", token.parse().unwrap());
    }
    soon(EncoderClient::new(channel.clone()).info(request))
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_serves_those_who_trust_it() {
    let authority = Authority::new();
    let files = Files::new(&authority);
    let replica = files.serve(&[]).await;
    let channel = connect(replica.address, authority.client()).await.unwrap();
    let reply = Ask::new(64, 64)
        .grey(255)
        .send(&mut client(channel))
        .await
        .unwrap();
    assert!((reply.latent(0)[0] - 1.0).abs() < 1e-5);
    let stranger = Authority::new();
    let error = connect(replica.address, stranger.client())
        .await
        .unwrap_err();
    assert!(
        error.contains("UnknownIssuer") || error.contains("BadSignature"),
        "{error}"
    );
    replica.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_a_certificate_where_one_is_wanted() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let files = Files::new(&authority);
    let ca = files.write("client-ca", &clients.pem);
    let replica = files.serve(&["--tls-client-ca", &ca]).await;
    let with =
        |[cert, key]: [String; 2]| authority.client().identity(Identity::from_pem(cert, key));
    try_info(replica.address, with(clients.sign("trainer")))
        .await
        .unwrap();
    // Always refused; a client that is still writing may miss the reason, but not every time.
    eventually(async || {
        let refused = try_info(replica.address, authority.client()).await;
        refused.unwrap_err().contains("CertificateRequired")
    })
    .await;
    let other = with(authority.sign("trainer"));
    assert!(try_info(replica.address, other).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_rotate_while_connections_stay() {
    let (first, second) = (Authority::new(), Authority::new());
    let files = Files::new(&first);
    let replica = files.serve(&[]).await;
    let old = connect(replica.address, first.client()).await.unwrap();
    info(&old, None).await.unwrap();

    // Not yet the key that belongs to it: the old pair stays.
    let [cert, key] = second.sign("localhost");
    files.write("cert", &cert);
    connect(replica.address, first.client()).await.unwrap();
    files.write("key", &key);
    eventually(async || connect(replica.address, second.client()).await.is_ok()).await;
    assert!(connect(replica.address, first.client()).await.is_err());
    info(&old, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_open_the_port_and_rotate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    fs::write(&path, "old-token\n").unwrap();
    let options = ["--model", "m=synthetic", "--token-file", &text(&path)];
    let replica = Replica::start(&options).await;
    let channel = &replica.channel;
    for wrong in [
        None,
        Some("Bearer new-token"),
        Some("Basic old-token"),
        Some("old-token"),
    ] {
        let status = info(channel, wrong).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(status.message().contains("authorization"), "{status}");
    }
    // A payload is not even looked at.
    let status = replica.encode(&Ask::new(8, 8).grey(1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    info(channel, Some("Bearer old-token")).await.unwrap();
    let ask = Ask::new(8, 8)
        .grey(1)
        .header("authorization", "Bearer old-token");
    replica.encode(&ask).await.unwrap();
    // Probes have no token.
    let mut health = HealthClient::new(channel.clone());
    soon(health.check(HealthCheckRequest::default()))
        .await
        .unwrap();

    fs::write(&path, "new-token\n").unwrap();
    eventually(async || info(channel, Some("Bearer new-token")).await.is_ok()).await;
    assert!(info(channel, Some("Bearer old-token")).await.is_err());
    // An empty file would lock everybody out: it is taken for a mistake.
    fs::write(&path, "").unwrap();
    info(channel, Some("Bearer new-token")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_scheme_is_closed_at_once_and_told_why() {
    let authority = Authority::new();
    let files = Files::new(&authority);
    let secure = files.serve(&[]).await;
    // Always refused; the reason may come before the call is under way, but not every time.
    eventually(async || {
        let status = info(&secure.channel, None).await.unwrap_err();
        format!("{status:?}").contains("this port speaks TLS: use https://")
    })
    .await;

    let plain = Replica::start(&["--model", "m=synthetic"]).await;
    let error = connect(plain.address, authority.client())
        .await
        .unwrap_err();
    assert!(error.contains("InvalidContentType"), "{error}");
    info(&plain.channel, None).await.unwrap();

    // A browser, and somebody who says nothing that makes sense.
    let answer = say(plain.address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 505"), "{answer}");
    assert_eq!(say(plain.address, b"\xff\xff\xff\xff"), "");
    info(&plain.channel, None).await.unwrap();
}

/// What is heard until the connection is closed.
fn say(address: SocketAddr, words: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(words).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    heard
}
