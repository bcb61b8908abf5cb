//! The address that a master listens on.

use std::net::IpAddr;

/// Checks that `text` is a host and a port, before anything is started.
pub(crate) fn host_and_port(text: &str) -> Result<String, &'static str> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("it must be a host and a port, like 127.0.0.1:8750 or [::1]:8750"),
    }
}

/// Whether other machines can reach `address`.
pub(crate) fn reachable_from_outside(address: IpAddr) -> bool {
    // ::ffff:127.0.0.1 is loopback too.
    !address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_for_this_machine_alone() {
        for (address, outside) in [
            ("127.0.0.1", false),
            ("127.3.2.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", true),
            ("::", true),
            ("192.0.2.7", true),
        ] {
            let parsed = address.parse().unwrap();
            assert_eq!(reachable_from_outside(parsed), outside, "{address}");
        }
    }

    #[test]
    fn a_host_and_a_port() {
        assert!(host_and_port("[::1]:8750").is_ok() && host_and_port("localhost:0").is_ok());
        for bad in ["8750", ":8750", "host:", "host:65536", ""] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }
}
