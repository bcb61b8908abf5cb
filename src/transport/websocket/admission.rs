//! Decides which requests may open a WebSocket, before anything else of them is looked at.
//!
//! A browser opens a WebSocket for any page to any address that it reaches, this machine's own
//! included, without asking; only the `Origin` that it sends tells it from a program. A page whose
//! own name was made to resolve to this machine (DNS rebinding) shows in `Host`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio_tungstenite::tungstenite::http::header::{HOST, ORIGIN};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request};

use crate::error::{AcceptError, ConfigError};

/// The origins whose pages are admitted, and the names of this server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    origins: Vec<Box<str>>,
    hosts: Vec<Host>,
    /// Whether a known host is required even if no name was given.
    loopback: bool,
}

impl Admission {
    /// Admits pages of this origin, written as a browser sends it.
    pub(crate) fn allow_origin(&mut self, origin: &str) -> Result<(), ConfigError> {
        if !is_origin(origin) {
            return Err(ConfigError::Origin(origin.into()));
        }
        self.origins.push(origin.into());
        Ok(())
    }

    /// Admits requests that call this server by this name.
    pub(crate) fn allow_host(&mut self, host: &str) -> Result<(), ConfigError> {
        self.hosts.push(Host::parse(host).ok_or_else(|| ConfigError::Host(host.into()))?);
        Ok(())
    }

    /// Returns the same rules for a listener at this address.
    pub(crate) fn at(&self, address: IpAddr) -> Self {
        Self { loopback: is_loopback(address), ..self.clone() }
    }

    /// Refuses a foreign page's request, and one that calls this server by a foreign name.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), AcceptError> {
        // Word for word, and our own `Host` is no exception: with DNS rebinding a foreign page has
        // an origin that looks like it.
        let origins = || request.headers().get_all(ORIGIN).iter();
        let is_allowed = |origin: &HeaderValue| self.origins.iter().any(|known| origin == &**known);
        if origins().count() > 1 || !origins().all(is_allowed) {
            return Err(AcceptError::Origin(shown(origins())));
        }
        let hosts = || request.headers().get_all(HOST).iter();
        let is_known = |host: &HeaderValue| host.to_str().is_ok_and(|host| self.knows(host));
        // A request in the form for proxies names the host once more, and servers go by that one.
        let target = request.uri().authority();
        let are_known = hosts().count() == 1
            && hosts().all(is_known)
            && target.is_none_or(|authority| self.knows(authority.as_str()));
        // Elsewhere the names that other machines use for this one are not known unless they were
        // given; on loopback only a rebound page uses a foreign one.
        if (self.loopback || !self.hosts.is_empty()) && !are_known {
            return Err(AcceptError::Host(shown(hosts())));
        }
        Ok(())
    }

    fn knows(&self, host: &str) -> bool {
        Host::parse(host).is_some_and(|host| host.is_local() || self.hosts.contains(&host))
    }
}

/// The content of a `Host` header, without the port.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// In lower case, without a dot at the end.
    Name(String),
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        let end = if text.starts_with('[') {
            text.find(']')? + 1
        } else {
            text.find(':').unwrap_or(text.len())
        };
        let (host, port) = text.split_at(end);
        let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
            return None;
        }
        // An address may be written in several ways, so addresses are compared and not their texts.
        if let Some(bracketed) = host.strip_prefix('[') {
            let address: Ipv6Addr = bracketed.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let may_stand = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = !name.is_empty() && name.bytes().all(may_stand);
        is_name.then(|| Self::Name(name.to_ascii_lowercase()))
    }

    /// Whether it can only mean this machine, whatever name servers answer.
    fn is_local(&self) -> bool {
        match self {
            Self::Address(address) => is_loopback(*address),
            Self::Name(name) => name == "localhost",
        }
    }
}

fn is_loopback(address: IpAddr) -> bool {
    // `is_loopback` alone does not know ::ffff:127.0.0.1.
    address.to_canonical().is_loopback()
}

/// Whether a browser can send this as the origin of one site's pages: `scheme://host[:port]` in
/// lower case, without the scheme's default port. `null`, which any page can have, is none.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let may_stand = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    let is_implied =
        |port: &str| matches!((scheme, port), ("http", "80") | ("https", "443") | (_, ""));
    !scheme.is_empty()
        && scheme.bytes().all(|byte| may_stand(byte) || b"+-.".contains(&byte))
        && !authority.is_empty()
        && authority.bytes().all(|byte| may_stand(byte) || b"-._:[]".contains(&byte))
        && !authority.rsplit_once(':').is_some_and(|(_, port)| is_implied(port))
}

/// The most bytes of a peer's header that are shown.
const SHOWN: usize = 100;

/// Returns a peer's headers in readable form: quoted, escaped, and cut if they are long.
fn shown<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Box<str> {
    let quoted = values.take(2).map(|value| {
        let bytes = value.as_bytes();
        let (start, more) = bytes.split_at(SHOWN.min(bytes.len()));
        format!("\"{}\"{}", start.escape_ascii(), if more.is_empty() { "" } else { "…" })
    });
    let quoted = quoted.collect::<Vec<_>>().join(" and ");
    if quoted.is_empty() { "none".into() } else { quoted.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri("/api/socket");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn admission(origins: &[&str], hosts: &[&str]) -> Admission {
        let mut admission = Admission::default();
        origins.iter().for_each(|origin| admission.allow_origin(origin).unwrap());
        hosts.iter().for_each(|host| admission.allow_host(host).unwrap());
        admission
    }

    #[test]
    fn an_origin_is_let_in_as_it_was_allowed_and_no_other() {
        let admission = admission(&["https://a.test", "http://[::1]:8080"], &[]);
        let check = |origins: &[&str]| {
            let headers: Vec<_> = origins.iter().map(|origin| ("origin", *origin)).collect();
            admission.check(&request(&headers)).is_ok()
        };
        assert!(check(&[]) && check(&["https://a.test"]) && check(&["http://[::1]:8080"]));
        for origin in [
            "null",
            "",
            "https://a.test:443",
            "https://a.test:8443",
            "https://a.test/",
            "https://a.test.",
            "https://A.test",
            "http://a.test",
            "https://b.a.test",
            "https://a.test.evil.test",
            "https://a.test, https://a.test",
            "http://127.0.0.1",
            "http://localhost",
        ] {
            assert!(!check(&[origin]), "{origin}");
        }
        for two in [
            ["https://a.test"; 2],
            ["https://a.test", "https://b.test"],
            ["null", "https://a.test"],
        ] {
            assert!(!check(&two), "{two:?}");
        }
    }

    #[test]
    fn only_what_a_browser_sends_can_be_allowed() {
        for origin in
            ["http://a.test", "https://a.test:80", "http://a.test:443", "moz-extension://0f"]
        {
            assert!(is_origin(origin), "{origin}");
        }
        for origin in [
            "",
            "*",
            "null",
            "a.test",
            "http://",
            "://a.test",
            "http://a.test/",
            "http://A.test",
            "HTTP://a.test",
            "http://a.test:80",
            "https://a.test:443",
            "http://a@b.test",
            "http://*.a.test",
            "http://ä.test",
            "http://a.test:",
            "moz-extension://0f:",
            "http://a.test\r\n",
        ] {
            assert!(!is_origin(origin), "{origin}");
        }
    }

    #[test]
    fn a_host_is_compared_without_port_case_and_the_last_dot() {
        let named = admission(&[], &["A.test.", "192.0.2.7:99", "[2001:DB8::1]"]);
        let check =
            |admission: &Admission, host| admission.check(&request(&[("host", host)])).is_ok();
        for host in [
            "a.test",
            "a.test:1",
            "A.TEST.",
            "a.Test.:80",
            "192.0.2.7",
            "192.0.2.7.:1",
            "[2001:db8:0::1]:8",
            "localhost",
            "LocalHost.:8750",
            "127.0.0.1",
            "127.3.2.1:8750",
            "127.0.0.1.",
            "[::1]",
            "[::1]:8750",
            "[::ffff:127.0.0.1]",
            "a.test:",
        ] {
            assert!(check(&named, host), "{host}");
        }
        for host in [
            "",
            ":80",
            ".",
            "b.test",
            "b.a.test",
            "a.test..",
            "a.test:b",
            "a.test:1:2",
            "a@localhost",
            "evil@a.test",
            "localhost@evil.test",
            "localhost.evil.test",
            "evil.localhost",
            "127.0.0.1.evil.test",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0.0.0.0",
            "192.0.2.8",
            "::1",
            "[::1",
            "[::1].",
            "[::1]8750",
            "[::2]",
            "[::]",
            "[::1%lo]",
            "[127.0.0.1]",
            "localhost, a.test",
            "localhost a.test",
        ] {
            assert!(!check(&named, host), "{host}");
        }
    }

    #[test]
    fn the_host_is_asked_where_names_were_given_or_the_listener_is_loopback() {
        let foreign = request(&[("host", "evil.test")]);
        let any = Admission::default();
        assert!(any.check(&foreign).is_ok() && any.check(&request(&[])).is_ok());
        for (address, is_asked) in [
            ("127.0.0.1", true),
            ("127.3.2.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("192.0.2.7", false),
        ] {
            let there = any.at(address.parse().unwrap());
            assert_eq!(there.check(&foreign).is_err(), is_asked, "{address}");
            let named = admission(&[], &["a.test"]).at(address.parse().unwrap());
            assert!(named.check(&foreign).is_err(), "{address}");
            assert!(named.check(&request(&[("host", "a.test")])).is_ok(), "{address}");
        }
    }

    #[test]
    fn there_is_one_host_and_the_target_has_no_other() {
        let named = admission(&[], &["a.test"]);
        for hosts in [
            &[][..],
            &[("host", "a.test"), ("host", "a.test")],
            &[("host", "a.test"), ("host", "b.test")],
        ] {
            assert!(named.check(&request(hosts)).is_err(), "{hosts:?}");
        }
        for (target, is_let_in) in
            [("http://a.test:1/api/socket", true), ("http://evil.test/api/socket", false)]
        {
            let mut request = request(&[("host", "a.test")]);
            *request.uri_mut() = target.parse().unwrap();
            assert_eq!(named.check(&request).is_ok(), is_let_in, "{target}");
        }
    }

    #[test]
    fn what_is_no_host_cannot_be_allowed() {
        for host in ["", "*", "a b", "http://a.test", "a.test/", "::1", "ä.test", "*.a.test"] {
            let error = Admission::default().allow_host(host).unwrap_err();
            assert_eq!(error, ConfigError::Host(host.into()));
        }
    }

    #[test]
    fn a_peers_text_is_shown_escaped_and_short() {
        let mut request = request(&[]);
        let values = [b"\xff\"\t\\".to_vec(), vec![b'x'; 5000], b"third".to_vec()];
        for value in &values {
            request.headers_mut().append(ORIGIN, HeaderValue::from_bytes(value).unwrap());
        }
        let error = Admission::default().check(&request).unwrap_err();
        let long = "x".repeat(100);
        let AcceptError::Origin(origin) = error else { panic!("{error}") };
        assert_eq!(*origin, *format!(r#""\xff\"\t\\" and "{long}"…"#));
        let loopback = Admission::default().at([127, 0, 0, 1].into());
        let nameless = loopback.check(&Request::new(())).unwrap_err();
        assert!(nameless.to_string().contains("Host none"), "{nameless}");
    }
}
