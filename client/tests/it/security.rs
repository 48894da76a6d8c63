//! TLS and tokens, and what the loader says when the two sides do not fit together.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use preheat_client::{DataLoader, Error, Security, wire};
use preheat_proto::v1::InfoRequest;
use rcgen::{CertificateParams, Issuer, KeyPair};
use tonic::{
    Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

use crate::{
    photos::Photos,
    port::Port,
    stub::{Act, Stub, drain},
};

/// An authority, and what it signed: `ca`, `server.{cert,key}` and `client.{cert,key}` in a folder.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, pem: String| fs::write(folder.path().join(name), pem).unwrap();
        write("ca", params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        for (who, name) in [("server", "replica.test"), ("client", "trainer.test")] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let signed = params.signed_by(&key, &issuer).unwrap();
            write(&format!("{who}.cert"), signed.pem());
            write(&format!("{who}.key"), key.serialize_pem());
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pem(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A stub that speaks TLS.
    fn stub(&self, clients: Option<&Self>) -> Stub {
        let identity = Identity::from_pem(self.pem("server.cert"), self.pem("server.key"));
        let mut tls = ServerTlsConfig::new().identity(identity);
        if let Some(clients) = clients {
            tls = tls.client_ca_root(Certificate::from_pem(clients.pem("ca")));
        }
        let server = Server::builder().tls_config(tls).unwrap();
        Stub::start_with(Port::hold(), server, |_, _| Act::Answer)
    }
}

/// A run against this endpoint that does not wait long.
fn config(photos: &Photos, endpoint: &str) -> preheat_client::Config {
    let mut config = photos.config(endpoint);
    config.connect_timeout = Duration::from_millis(600);
    config
}

fn said(config: preheat_client::Config) -> String {
    DataLoader::new(config).err().expect("an error").to_string()
}

#[test]
fn latents_come_through_tls_on_both_sides() {
    let (photos, authority) = (Photos::new(9), Authority::new());
    let stub = authority.stub(Some(&authority));
    let mut config = photos.config(&format!("https://{}", stub.addr));
    config.security.ca_file = Some(authority.path("ca"));
    config.security.client_cert = Some(authority.path("client.cert"));
    config.security.client_key = Some(authority.path("client.key"));
    config.security.server_name = Some("replica.test".into());
    let mut loader = DataLoader::new(config).unwrap();
    assert!(!drain(&mut loader, 1).is_empty());
}

/// As for an address that a name server gave.
#[test]
fn a_certificate_is_checked_against_the_name_that_was_resolved() {
    let authority = Authority::new();
    let stub = authority.stub(None);
    let security = Security {
        ca_file: Some(authority.path("ca")),
        ..Security::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = |name: Option<&str>| {
        runtime.block_on(async {
            let uri = format!("https://{}", stub.addr);
            let endpoint = wire::endpoint_named(&uri, name, &security).unwrap();
            let info = tonic::Request::new(InfoRequest::default());
            let answer = wire::Connections::lazy(endpoint, 1).info(info).await;
            answer.map_err(|status| wire::failure(&status, true).unwrap().message)
        })
    };
    answer(Some("replica.test")).unwrap();
    for wrong in [None, Some("other.test")] {
        let said = answer(wrong).unwrap_err();
        assert!(said.contains("is for another host"), "{said}");
    }
}

#[test]
fn sides_that_do_not_fit_are_told_what_to_change() {
    let (photos, authority, other) = (Photos::new(4), Authority::new(), Authority::new());
    let (plain, secure) = (Stub::answering(), authority.stub(None));
    let picky = authority.stub(Some(&other));
    let https = |stub: &Stub| {
        let mut config = config(&photos, &format!("https://{}", stub.addr));
        config.security.ca_file = Some(authority.path("ca"));
        config.security.server_name = Some("replica.test".into());
        config
    };
    let to_plain = said(https(&plain));
    assert!(
        to_plain.contains("does not speak TLS: use http://"),
        "{to_plain}"
    );
    let to_secure = said(config(&photos, &secure.uri()));
    assert!(to_secure.contains("TLS: use https://"), "{to_secure}");
    let mut misnamed = https(&secure);
    misnamed.security.server_name = Some("elsewhere.test".into());
    let misnamed = said(misnamed);
    assert!(misnamed.contains("`security.server_name`"), "{misnamed}");
    let mut stranger = https(&secure);
    stranger.security.ca_file = Some(other.path("ca"));
    let stranger = said(stranger);
    assert!(stranger.contains("`security.ca_file`"), "{stranger}");
    let nobody = said(https(&picky));
    assert!(nobody.contains("`security.client_cert`"), "{nobody}");
}

#[test]
fn what_a_replica_says_when_it_wants_tls_reaches_the_reader() {
    // As the replica of this repository does it: SETTINGS, then GOAWAY with a reason.
    let reason = b"this port speaks TLS: use https://";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut peer, _)) = listener.accept() {
            let head = [0, 0, 8 + reason.len() as u8, 7, 0, 0, 0, 0, 0];
            let rest = [0, 0, 0, 0, 0, 0, 0, 0xc];
            let frames = [&[0, 0, 0, 4, 0, 0, 0, 0, 0], &head[..], &rest, reason].concat();
            let _ = peer.write_all(&frames);
            let _ = peer.shutdown(std::net::Shutdown::Write);
            let _ = peer.read_to_end(&mut Vec::new());
        }
    });
    let photos = Photos::new(4);
    let error = said(config(&photos, &endpoint));
    assert!(error.contains("use https://"), "{error}");
}

#[test]
fn mistakes_in_the_config_are_found_before_anything_is_sent() {
    let (photos, authority) = (Photos::new(4), Authority::new());
    let mut ignored = config(&photos, "http://[::1]:1");
    ignored.security.ca_file = Some(authority.path("ca"));
    assert!(said(ignored).contains("`security.ca_file` is set, but"));
    let mut lonely = config(&photos, "https://[::1]:1");
    lonely.security.ca_file = Some(authority.path("ca"));
    lonely.security.client_cert = Some(authority.path("client.cert"));
    assert!(said(lonely).contains("security.client_key"));
    for (file, say) in [("missing", "missing"), ("empty", "holds no token")] {
        fs::write(authority.path("empty"), "\n").unwrap();
        let mut config = config(&photos, "http://[::1]:1");
        config.security.token_file = Some(authority.path(file));
        let error = said(config);
        assert!(
            error.contains("security.token_file") && error.contains(say),
            "{error}"
        );
    }
}

#[test]
fn a_token_is_shown_and_follows_its_file() {
    let photos = Photos::new(40);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "old\n").unwrap();
    let rotate = path.clone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&seen);
    let stub = Stub::start(move |call, _| {
        calls.lock().unwrap().push(call);
        match call {
            3 => {
                fs::write(&rotate, "new\n").unwrap();
                Act::Fail(Status::unauthenticated("this token was rotated"))
            }
            _ => Act::Answer,
        }
    });
    let mut config = photos.config(&stub.uri());
    config.security.token_file = Some(path);
    config.max_batches_ahead = 1;
    let mut loader = DataLoader::new(config).unwrap();
    drain(&mut loader, 1);
    assert!(seen.lock().unwrap().len() > 4);
    assert_eq!(*stub.counts.authorization.lock().unwrap(), "Bearer new");
    assert_eq!(loader.stats().retries, 1);
}

#[test]
fn a_token_that_stays_wrong_ends_the_run() {
    let photos = Photos::new(4);
    let stub = Stub::start(|_, _| Act::Fail(Status::unauthenticated("no such token")));
    let mut loader = DataLoader::new(photos.config(&stub.uri())).unwrap();
    let error = loader.next_batch().unwrap_err();
    assert!(matches!(error, Error::Call { .. }), "{error}");
    assert!(
        error.to_string().contains("set `security.token_file`"),
        "{error}"
    );
}
