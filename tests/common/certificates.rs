#![allow(unreachable_pub, reason = "shared by test files")]
//! Certificates of all kinds, made for a test.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub chain: String,
    pub key: String,
    serial: u64,
}

/// Who signs them.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    issued: std::cell::Cell<u64>,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, issued: 0.into() }
    }

    /// For these names.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.issue_for_years(names, 2020, 4000)
    }

    /// Good from one new year to another.
    pub fn issue_for_years(&self, names: &[&str], from: i32, to: i32) -> Identity {
        let serial = self.issued.get() + 1;
        self.issued.set(serial);
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { chain, key: key.serialize_pem(), serial }
    }

    /// A list of those that are revoked.
    pub fn revoke(&self, revoked: &[&Identity]) -> String {
        let entry = |identity: &&Identity| RevokedCertParams {
            serial_number: SerialNumber::from(identity.serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            // It has long passed: a list is good until it is replaced.
            next_update: date_time_ymd(2022, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}
