//! What a user types to say where replicas are. Pure: nothing is resolved or read here.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
};

use tonic::transport::Uri;

/// What an entry must look like, for errors.
const FORMS: &str = "must look like http://host:port, https://host:port, dns+http://host:port, \
                     dns+https://host:port or file:path";

/// A replica, or a name that stands for several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Address {
    /// Whether it is called with TLS.
    pub(super) tls: bool,
    /// Name in lower case, or address; IPv6 without brackets.
    pub(super) host: String,
    /// Where none is typed: 80, or 443 with TLS.
    pub(super) port: u16,
}

impl Address {
    /// The same with another host.
    pub(super) fn at(&self, address: IpAddr) -> Self {
        Self {
            host: address.to_string(),
            ..self.clone()
        }
    }
}

/// As a URI.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// One replica.
    One(Address),
    /// Every address of a name.
    Dns(Address),
    /// Every entry of a file.
    File(PathBuf),
}

/// As it is typed.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(address) => address.fmt(f),
            Self::Dns(address) => write!(f, "dns+{address}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// Reads one entry.
///
/// # Errors
/// What it must look like.
pub(super) fn parse(text: &str) -> Result<Entry, String> {
    if let Some(path) = text.strip_prefix("file:") {
        return match path {
            "" => Err("names no file: write file:path".to_owned()),
            path => Ok(Entry::File(path.into())),
        };
    }
    match text.strip_prefix("dns+") {
        Some(uri) => address(uri).map(Entry::Dns),
        None => address(text).map(Entry::One),
    }
}

fn address(text: &str) -> Result<Address, String> {
    let uri: Uri = text.parse().map_err(|_| FORMS.to_owned())?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(FORMS.to_owned()),
    };
    let authority = uri.authority().ok_or(FORMS)?;
    if authority.as_str().contains('@') {
        return Err("holds a user name: replicas take tokens, from `security.token_file`".into());
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(format!("goes on after the port: {FORMS}"));
    }
    let host = host(authority.host()).ok_or(FORMS)?;
    let after = authority.as_str().rsplit_once(']').map_or_else(
        || authority.as_str().split_once(':').map(|(_, port)| port),
        |(_, after)| after.strip_prefix(':'),
    );
    let port = match after {
        None => Ok(if tls { 443 } else { 80 }),
        Some(port) => port.parse(),
    };
    match port {
        Ok(port) if port > 0 => Ok(Address { tls, host, port }),
        _ => Err("has no such port: ports are 1 to 65535".to_owned()),
    }
}

/// In the one form in which it is compared.
fn host(text: &str) -> Option<String> {
    if let Some(v6) = text.strip_prefix('[') {
        let v6: Ipv6Addr = v6.strip_suffix(']')?.parse().ok()?;
        return Some(v6.to_string());
    }
    // Longer names do not exist, and would make every line of a log as long.
    (!text.is_empty() && text.len() <= 253).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        parse(text).map_or_else(|reason| reason, |entry| entry.to_string())
    }

    #[test]
    fn every_form_has_one_spelling() {
        for (typed, spelled) in [
            ("http://gpu-1:7000", "http://gpu-1:7000"),
            ("HTTP://GPU-1:7000/", "http://gpu-1:7000"),
            ("http://gpu-1", "http://gpu-1:80"),
            ("https://gpu-1", "https://gpu-1:443"),
            ("http://[::1]:7000", "http://[::1]:7000"),
            ("http://[0:0::1]", "http://[::1]:80"),
            ("dns+https://gpus.svc:7000", "dns+https://gpus.svc:7000"),
            ("dns+http://[::1]:7000", "dns+http://[::1]:7000"),
            ("file:/etc/replicas", "file:/etc/replicas"),
            ("file:a b", "file:a b"),
        ] {
            assert_eq!(shown(typed), spelled);
        }
    }

    #[test]
    fn what_is_malformed_is_answered_with_advice() {
        for text in [
            "",
            "gpu-1",
            "gpu-1:7000",
            "grpc://gpu-1:7000",
            "dns:///gpus:7000",
            "dns+gpus:7000",
            "http://",
            "http://:7000",
            "http://[::1:7000",
            "http://a b:7000",
            "http://gpu-1:7000/vae",
            "http://gpu-1:7000?a=b",
            "dns+file:a",
        ] {
            assert!(
                shown(text).contains("dns+http://host:port"),
                "{text}: {}",
                shown(text)
            );
        }
        for port in ["0", "65536", "x", "", "-1"] {
            let reason = parse(&format!("http://gpu-1:{port}")).unwrap_err();
            assert!(reason.contains("port"), "{port}: {reason}");
        }
        assert!(shown("http://me@gpu-1:7000").contains("token_file"));
        assert!(shown("file:").contains("file:path"));
        assert!(shown(&format!("http://{}:1", "a".repeat(254))).contains("must look"));
    }
}
