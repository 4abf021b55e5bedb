//! Connections to servers: TCP, and TLS where the URL wants it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::config::Tls;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// A connection on which nothing is acknowledged for this long is none: a server that lost its power sends no FIN.
const SILENCE: Duration = Duration::from_secs(15);

pub(super) type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// What makes connections, once the files that the configuration names have been read.
pub(super) fn http(tls: Option<&Tls>) -> Result<Http, String> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(SILENCE / 3));
    tcp.set_keepalive_interval(Some(SILENCE / 3));
    tcp.set_keepalive_retries(Some(2));
    tcp.set_tcp_user_timeout(Some(SILENCE));
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(security(tls)?).https_or_http();
    if let Some(name) = tls.and_then(|tls| tls.server_name.clone()) {
        let name = ServerName::try_from(name).map_err(|error| format!("tls.serverName: {error}"))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let connector = builder.enable_http1().wrap_connector(tcp);
    let mut http = Client::builder(TokioExecutor::new());
    http.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(60));
    Ok(http.build(connector))
}

fn security(tls: Option<&Tls>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in tls.map_or_else(|| Ok(Vec::new()), |tls| certificates(&tls.ca_file))? {
        let file = tls.map(|tls| tls.ca_file.display().to_string()).unwrap_or_default();
        roots.add(certificate).map_err(|error| format!("{file}: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    match tls.map(|tls| (&tls.certificate_file, &tls.key_file)) {
        Some((Some(certificate), Some(key))) => {
            let chain = certificates(certificate)?;
            let secret =
                PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
            let named = |error| format!("{} with {}: {error}", certificate.display(), key.display());
            builder.with_client_auth_cert(chain, secret).map_err(named)
        }
        None | Some((None, None)) => Ok(builder.with_no_client_auth()),
        Some(_) => Err("tls.certificateFile and tls.keyFile go together".to_owned()),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = |error: rustls::pki_types::pem::Error| format!("{}: {error}", file.display());
    let found: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(named)?.collect::<Result<_, _>>().map_err(named)?;
    if found.is_empty() {
        Err(format!("{} has no certificate in it (PEM)", file.display()))
    } else {
        Ok(found)
    }
}
