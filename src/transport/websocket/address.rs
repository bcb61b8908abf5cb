//! The address of a master.

use std::fmt;

use tokio_tungstenite::tungstenite::http::Uri;

/// The path of a master's endpoint, below the prefix of its base address, if it has one.
pub(super) const PATH: &str = "/api/socket";

/// Where a master listens.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(super) port: u16,
    pub(super) uri: Uri,
    /// It begins with `wss://`.
    pub(crate) is_secure: bool,
}

impl Address {
    /// Parses a base address, to which `api/socket` is added, or a whole one that ends in it.
    pub(crate) fn parse(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "it cannot be read")?;
        let is_secure = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => return Err("it must start with ws:// or wss://"),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("it has no host")?;
        let authority = uri.authority().map_or(host, |authority| authority.as_str());
        let authority = authority.rsplit('@').next().unwrap_or(host);
        // Not `Uri::port_u16`: that is `None` both without a port and for one such as 99999.
        let port = match authority.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
            Some(port) => port.parse().map_err(|_| "its port is not from 1 to 65535")?,
            None if is_secure => 443,
            None => 80,
        };
        let base = uri.path().trim_end_matches('/');
        let path = base.strip_suffix(PATH).unwrap_or(base);
        let scheme = if is_secure { "wss" } else { "ws" };
        let whole = format!("{scheme}://{authority}{path}{PATH}");
        Ok(Self {
            // The resolver takes an IPv6 address without its brackets.
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            uri: whole.parse().map_err(|_| "it cannot be read")?,
            is_secure,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(url: &str) -> String {
        Address::parse(url).unwrap().to_string()
    }

    #[test]
    fn a_base_address_gets_the_path_once() {
        assert_eq!(whole("ws://h:1"), "ws://h:1/api/socket");
        assert_eq!(whole("ws://h:1/"), "ws://h:1/api/socket");
        assert_eq!(whole("ws://h:1/api/socket"), "ws://h:1/api/socket");
        assert_eq!(whole("http://h/a/b/"), "ws://h/a/b/api/socket");
        assert_eq!(whole("ws://[::1]:9/plain/api/socket"), "ws://[::1]:9/plain/api/socket");
        let six = Address::parse("ws://[::1]:9/").unwrap();
        assert_eq!((six.host.as_str(), six.port), ("::1", 9));
        assert_eq!(Address::parse("ws://h").unwrap().port, 80);
        assert_eq!(whole("https://h/a"), "wss://h/a/api/socket");
        let secure = Address::parse("wss://h").unwrap();
        assert_eq!((secure.port, secure.is_secure), (443, true));
        assert_eq!(Address::parse("wss://h:80").unwrap().port, 80);
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for url in ["", "h:1", "ftp://h/", "ws://", "/api/socket", "wss://", "ws://h:99999/"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
