//! How to show who we are, as it is typed.

use std::path::PathBuf;

use preheat_client::Security;
use serde::{Deserialize, Serialize};

/// Certificates and tokens, by file.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
pub(crate) struct Secrets {
    /// Authorities of an https endpoint, in PEM [default: those of the system].
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Certificate to show to it, in PEM.
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// Key of that certificate, in PEM.
    #[arg(long, value_name = "FILE")]
    client_key: Option<PathBuf>,
    /// Name that its certificate must carry [default: the host of the endpoint].
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// File with the token to show.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Secrets {
    /// The same for the client.
    pub(crate) fn security(&self) -> Security {
        let Self {
            ca_file,
            client_cert,
            client_key,
            server_name,
            token_file,
        } = self.clone();
        Security {
            ca_file,
            client_cert,
            client_key,
            server_name,
            token_file,
        }
    }
}
