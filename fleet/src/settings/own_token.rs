//! The token that a master makes when it is given none: in a file of its user's, named by the
//! address that the master listens on, where the user's slaves and controls find it by themselves.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use seqlink::Secret;

use super::private_folder::PrivateFolder;
use super::random;

/// A new token that is not in its file yet.
#[derive(Debug)]
pub(crate) struct OwnToken {
    pub(crate) token: Secret,
    folder: PrivateFolder,
    path: PathBuf,
}

/// A token in its file, which goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) file: PathBuf,
    token: Secret,
    folder: PrivateFolder,
    name: String,
}

impl OwnToken {
    /// 256 random bits, and a folder for them; an error says which folder it is.
    pub(crate) fn make() -> io::Result<Self> {
        let path = PrivateFolder::path()?;
        let folder = PrivateFolder::make(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        Ok(Self { token: random::hex::<32>()?.into(), folder, path })
    }

    /// Puts it into the file for `address`, on which nobody but this master listens: a file that is
    /// there is one that a master has left behind.
    pub(crate) fn publish(self, address: SocketAddr) -> io::Result<Published> {
        let Self { token, folder, path } = self;
        let name = name(address);
        let file = path.join(&name);
        folder.put(&name, &format!("{}\n", token.expose())).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", file.display()))
        })?;
        Ok(Published { file, token, folder, name })
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        // Not that of a master that has this address by now.
        if self.folder.read(&self.name).is_ok_and(|text| text.trim_end() == self.token.expose()) {
            let _ = self.folder.remove(&self.name);
        }
    }
}

/// The token of a master of this user's at `url`, where `url` names a loopback address and not a
/// name: what a name stands for, others may decide. A file that cannot be used is said in the log.
pub(crate) fn find(url: &str) -> Option<Secret> {
    let name = name(loopback(url)?);
    let path = PrivateFolder::path().ok()?;
    match PrivateFolder::open(&path).and_then(|folder| folder.read(&name)) {
        Ok(text) => Some(Secret::from(text.trim_end())).filter(|token| !token.expose().is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let file = path.join(name).display().to_string();
            tracing::warn!(file, %error, "the token there is not used");
            None
        }
    }
}

/// `127.0.0.1-8750.token`: a colon may not stand in the names of all systems.
fn name(address: SocketAddr) -> String {
    format!("{}.token", address.to_string().replace(':', "-"))
}

/// The address in `url`, if it is one of this machine's alone that stands there in digits.
fn loopback(url: &str) -> Option<SocketAddr> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let schemes = [("ws", 80), ("http", 80), ("wss", 443), ("https", 443)];
    let (_, port) = schemes.iter().find(|(known, _)| known.eq_ignore_ascii_case(scheme))?;
    let port_of_scheme = || Some(SocketAddr::new(authority.parse::<IpAddr>().ok()?, *port));
    let address = authority.parse().ok().or_else(port_of_scheme)?;
    address.ip().is_loopback().then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_in_digits_have_a_token() {
        let found = |url| loopback(url).map(name);
        for (url, name) in [
            ("ws://127.0.0.1:8750", "127.0.0.1-8750.token"),
            ("http://127.0.0.1:8750/plain/?a#b", "127.0.0.1-8750.token"),
            ("WS://127.9.8.7:1/", "127.9.8.7-1.token"),
            ("ws://127.0.0.1", "127.0.0.1-80.token"),
            ("ws://[::1]:8750/", "[--1]-8750.token"),
            ("wss://127.0.0.1:8750/", "127.0.0.1-8750.token"),
            ("HTTPS://127.0.0.1/", "127.0.0.1-443.token"),
        ] {
            assert_eq!(found(url).as_deref(), Some(name), "{url}");
        }
        for url in [
            "127.0.0.1:8750",
            "ftp://127.0.0.1:8750/",
            "wss://localhost:8750/",
            "ws://localhost:8750/",
            "ws://127.0.0.1.example.org:8750/",
            "ws://127.0.0.1:8750@example.org/",
            "ws://user@127.0.0.1:8750/",
            "ws://127.0.0.1:8750\\@example.org/",
            "ws://127.0.0.1:8750 .example.org/",
            "ws://127.1:8750/",
            "ws://2130706433:8750/",
            "ws://0.0.0.0:8750/",
            "ws://[::]:8750/",
            "ws://192.0.2.7:8750/",
            "ws://127.0.0.1:99999/",
            "ws:///127.0.0.1:8750",
        ] {
            assert_eq!(found(url), None, "{url}");
        }
    }
}
