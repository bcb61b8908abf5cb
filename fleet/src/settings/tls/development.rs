//! A certificate that a master makes itself, for fleets on one machine or one desk.
//!
//! Its CA signs this one certificate, and the CA's key is forgotten: so nobody can sign another for those
//! who trust it. That is why neither has an end.

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use seqlink::tls::ServerTls;

use super::super::private_folder::PrivateFolder;

/// Certificate, CA and key, in this order. Nobody but the master reads it.
const FILE: &str = "tls-dev.pem";
/// The CA alone, made from the other: what clients are given holds no key.
const CA_FILE: &str = "tls-dev-ca.pem";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// The one that was made before, or else a new one; and the file with its CA.
pub(super) fn load() -> io::Result<(ServerTls, PathBuf)> {
    let path = PrivateFolder::path()?;
    let at = |path: &Path, error: &io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    let of = |name: &str, error: &io::Error| at(&path.join(name), error);
    let folder = PrivateFolder::make(&path).map_err(|error| at(&path, &error))?;
    // Of two masters that start at once the second takes what the first has made.
    folder.lock().map_err(|error| at(&path, &error))?;
    let names = names();
    let head = format!("seqlink development certificate, schema 1, for {}\n", names.join(" "));
    let kept = match folder.read(FILE) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(of(FILE, &error)),
    };
    let kept = kept.filter(|text| text.starts_with(&head));
    let kept = kept.and_then(|text| Some((ServerTls::from_pem(&text, &text).ok()?, text)));
    let (tls, text) = match kept {
        Some(kept) => kept,
        None => {
            let text = head + &make(&names).map_err(io::Error::other)?;
            let tls = ServerTls::from_pem(&text, &text).map_err(io::Error::other)?;
            folder.put(FILE, &text).map_err(|error| of(FILE, &error))?;
            (tls, text)
        }
    };
    let ca = text.rsplit_once(BEGIN).map(|(_, last)| last).unwrap_or_default();
    let end = "-----END CERTIFICATE-----\n";
    let ca = ca.split_inclusive(end).next().unwrap_or_default();
    let ca = format!("{BEGIN}{ca}");
    if folder.read(CA_FILE).ok().as_deref() != Some(&ca) {
        folder.put(CA_FILE, &ca).map_err(|error| of(CA_FILE, &error))?;
    }
    Ok((tls, path.join(CA_FILE)))
}

/// What clients may call this master: whatever they do, it is this machine.
fn names() -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let host = gethostname::gethostname().to_string_lossy().to_lowercase();
    let is_name = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'.';
    // A host may have a name that no certificate can be for.
    if !host.is_empty() && host.bytes().all(is_name) && !names.contains(&host) {
        names.push(host);
    }
    names
}

fn make(names: &[String]) -> Result<String, Error> {
    let named = |name: &str| {
        let mut dn = DistinguishedName::new();
        dn.push(DnType::CommonName, name);
        dn
    };
    let mut ca = CertificateParams::default();
    ca.distinguished_name = named("seqlink development CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_key = KeyPair::generate()?;
    let ca_pem = ca.self_signed(&ca_key)?.pem();

    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = named("seqlink development");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let pem = params.signed_by(&key, &Issuer::new(ca, ca_key))?.pem();
    Ok(format!("{pem}{ca_pem}{}", key.serialize_pem()))
}
