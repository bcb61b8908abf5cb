//! The address that a master listens on.

/// Checks that `text` is a host and a port, before anything is started.
pub(crate) fn host_and_port(text: &str) -> Result<String, &'static str> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("it must be a host and a port, like 127.0.0.1:8750 or [::1]:8750"),
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
}
