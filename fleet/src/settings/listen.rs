//! The address that a master listens on, and what must protect it there.

use std::net::SocketAddr;

use super::{Failure, USAGE};

/// Checks that `text` is a host and a port, before anything is started.
pub(crate) fn host_and_port(text: &str) -> Result<String, &'static str> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("it must be a host and a port, like 127.0.0.1:8750 or [::1]:8750"),
    }
}

/// What `listen` stands for, looked up once: what is judged is what is listened on.
pub(crate) async fn resolve(listen: &str) -> Result<Vec<SocketAddr>, Failure> {
    let addresses =
        tokio::net::lookup_host(listen).await.map_err(|error| cannot(listen, &error))?;
    Ok(addresses.collect())
}

pub(crate) fn cannot(listen: &str, error: &std::io::Error) -> Failure {
    Failure::failed(format_args!("cannot listen on {listen}: {error}"))
}

/// Whether others than programs of this machine reach one of these.
pub(crate) fn is_beyond_loopback(addresses: &[SocketAddr]) -> bool {
    !addresses.iter().all(|address| address.ip().to_canonical().is_loopback())
}

/// What is dangerous about a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Danger {
    /// It asks for neither tokens nor certificates.
    Open,
    /// Others than programs of this machine reach it, without TLS.
    Readable,
}

impl Danger {
    /// What it means, for the log.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Readable => {
                "without TLS whoever is on the way to this address can read the token, and with it run \
                 commands on the slaves"
            }
            Self::Open => "open: whoever reaches this address can run commands on the slaves",
        }
    }

    /// The end of a master that is to listen on `listen` all the same.
    pub(crate) fn refusal(self, listen: &str) -> Failure {
        let help = match self {
            Self::Readable => {
                "name a certificate with --tls-cert and --tls-key, or have one made with --tls-dev"
            }
            Self::Open => {
                "have it ask for a token, by leaving out --open, or for certificates with --tls-client-ca"
            }
        };
        Failure::new(
            USAGE,
            format_args!(
                "{listen} is not for this machine alone, and {}; {help}; or say --insecure-listen",
                self.meaning()
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port() {
        assert!(host_and_port("[::1]:8750").is_ok() && host_and_port("localhost:0").is_ok());
        for bad in ["8750", ":8750", "host:", "host:65536", ""] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_others_reach_is_beyond_loopback() {
        let beyond = |texts: &[&str]| {
            let addresses: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
            is_beyond_loopback(&addresses)
        };
        assert!(!beyond(&["127.0.0.1:0", "[::1]:0", "127.9.8.7:1", "[::ffff:127.0.0.1]:1"]));
        for other in ["0.0.0.0:0", "[::]:0", "192.0.2.7:1", "[::ffff:192.0.2.7]:1", "[fe80::1]:1"] {
            assert!(beyond(&[other]) && beyond(&["127.0.0.1:0", other]), "{other}");
        }
    }
}
