//! Clusterio's own tokens: JSON Web Tokens, signed with HS256 under the master's `auth_secret`.
//!
//! ```
//! use seqlink::Master;
//! use seqlink::tokens::ClusterioTokens;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // What `clusteriomaster config show master.auth_secret` prints.
//! let secret = "c2VxbGluayBzZXFsaW5rIHNlcWxpbmsgc2VxbGluayBzZXFsaW5r";
//! let tokens = ClusterioTokens::from_secret(secret)?;
//! let for_slave_7 = tokens.slave_token(7);
//! let master = Master::builder().authenticate(tokens.authenticator()).build()?;
//! # let _ = (for_slave_7, master);
//! # Ok(()) }
//! ```

use std::fmt;
use std::future::{Ready, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::message::Role;
use crate::secret::Secret;
use crate::trust::{Claims, Registration, Verdict};

const ALGORITHM: &str = "HS256";
const SLAVE: &str = "slave";
const USER: &str = "user";

/// A shorter key could be found by trying.
const SHORTEST_KEY: usize = 16;

/// Reads what Clusterio's programs read: padding may be missing, and bits beyond the last byte say
/// nothing.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Checks and issues tokens as Clusterio's masters do from 2.0.0-alpha.9 on.
///
/// A slave's token says `{"aud":"slave","slave":ID}` and is good for that id alone; a control's
/// says `{"aud":"user","user":NAME}`. `exp` and `nbf` are honoured where a token has them. HS256 is
/// the only algorithm, whatever a token names.
///
/// A token stays good until the secret changes, unless it has an `exp`: which users there are, and
/// what they may do, is for the application to say.
#[derive(Clone)]
pub struct ClusterioTokens {
    /// Keyed, and fed nothing.
    mac: Hmac<Sha256>,
}

impl ClusterioTokens {
    /// With the secret as Clusterio's configuration holds it, which is base64; white space around
    /// it does not count.
    ///
    /// # Errors
    ///
    /// It is no base64, or it stands for less than 16 bytes.
    pub fn from_secret(auth_secret: impl AsRef<str>) -> Result<Self, SecretError> {
        let key = LENIENT.decode(auth_secret.as_ref().trim()).map_err(|_| SecretError::Base64)?;
        Self::from_key(key)
    }

    /// With the key itself.
    ///
    /// # Errors
    ///
    /// It is shorter than 16 bytes.
    pub fn from_key(key: impl AsRef<[u8]>) -> Result<Self, SecretError> {
        let key = key.as_ref();
        if key.len() < SHORTEST_KEY {
            return Err(SecretError::Short { bytes: key.len() });
        }
        // HMAC takes keys of any length.
        let mac = Hmac::new_from_slice(key).map_err(|_| SecretError::Short { bytes: key.len() });
        Ok(Self { mac: mac? })
    }

    /// For [`MasterBuilder::authenticate`](crate::MasterBuilder::authenticate): lets in a client that has a
    /// token for what it registers as, for as long as the token holds: where it has an `exp`, the link
    /// and its session end then.
    pub fn authenticator(self) -> impl Fn(Registration) -> Ready<Verdict> + Send + Sync + 'static {
        move |registration| {
            ready(match self.check_at(&registration, now()) {
                Ok(None) => Verdict::admit(Claims::default()),
                Ok(Some(end)) => Verdict::admit_until(Claims::default(), end),
                Err(error) => Verdict::Deny(error.to_string()),
            })
        }
    }

    /// Whether the token of `registration` is one for what it registers as.
    ///
    /// # Errors
    ///
    /// Why it is not, in words fit for the client: they quote nothing.
    pub fn check(&self, registration: &Registration) -> Result<(), TokenError> {
        self.check_at(registration, now()).map(drop)
    }

    /// A token for the slave with this id; it does not expire.
    pub fn slave_token(&self, id: i64) -> Secret {
        self.sign(&json!({ "aud": SLAVE, "slave": id, "iat": now() }))
    }

    /// A token for controls of this user; it does not expire.
    pub fn user_token(&self, name: impl AsRef<str>) -> Secret {
        self.sign(&json!({ "aud": USER, "user": name.as_ref(), "iat": now() }))
    }

    /// Returns when the token ends, if it does.
    fn check_at(
        &self,
        registration: &Registration,
        now: u64,
    ) -> Result<Option<SystemTime>, TokenError> {
        let token = registration.token.as_ref().ok_or(TokenError::Missing)?;
        let claims = self.verify(token.expose())?;
        let peer = &registration.peer;
        let slave = peer.role == Role::Slave;
        let wanted = if slave { SLAVE } else { USER };
        if !is_for(&claims, wanted) {
            return Err(TokenError::Audience { wanted });
        }
        if slave && (peer.id.is_none() || claims.get("slave").and_then(Value::as_i64) != peer.id) {
            return Err(TokenError::OtherSlave);
        }
        if !slave && claims.get("user").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(TokenError::NoUser);
        }
        in_time(&claims, now)?;
        let exp = claims.get("exp").and_then(Value::as_f64);
        // A time beyond what the clock can hold is as good as none.
        let left = exp.and_then(|exp| Duration::try_from_secs_f64(exp).ok());
        Ok(left.and_then(|left| UNIX_EPOCH.checked_add(left)))
    }

    /// The claims of `token`, when it is one of ours.
    fn verify(&self, token: &str) -> Result<Map<String, Value>, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        // Extensions that must be understood (`crit`) are not.
        let header = object(header)?;
        if header.get("alg") != Some(&ALGORITHM.into()) || header.contains_key("crit") {
            return Err(TokenError::Algorithm);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        let mac = self.mac.clone().chain_update(signed);
        // In a time that does not tell how much of it is right.
        mac.verify_slice(&signature).map_err(|_| TokenError::Signature)?;
        object(claims)
    }

    fn sign(&self, claims: &Value) -> Secret {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({ "alg": ALGORITHM, "typ": "JWT" });
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.mac.clone().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into()
    }
}

impl fmt::Debug for ClusterioTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterioTokens(hidden)")
    }
}

/// Why a text cannot be the secret of [`ClusterioTokens`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It is no base64.
    #[error("the auth_secret is no base64")]
    Base64,
    /// The key is too short to be a secret.
    #[error("the auth_secret stands for {bytes} bytes; it takes {SHORTEST_KEY} at least")]
    Short {
        /// How long it is.
        bytes: usize,
    },
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The client sent none.
    #[error("a token is required")]
    Missing,
    /// It is not three parts of base64 with JSON objects in them.
    #[error("the token is no JSON Web Token")]
    Malformed,
    /// Its header names another algorithm, none, or extensions.
    #[error("the token is not a plain {ALGORITHM} one")]
    Algorithm,
    /// It was signed with another secret, or changed.
    #[error("the token's signature is wrong")]
    Signature,
    /// It is for another kind of client.
    #[error("the token's audience is not {wanted}")]
    Audience {
        /// The audience that it should have.
        wanted: &'static str,
    },
    /// It is for a slave with another id.
    #[error("the token is for another slave id")]
    OtherSlave,
    /// It names no user.
    #[error("the token names no user")]
    NoUser,
    /// Its `exp` is past, or no time.
    #[error("the token has expired")]
    Expired,
    /// Its `nbf` is still to come, or no time.
    #[error("the token is not valid yet")]
    NotYet,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

fn is_for(claims: &Map<String, Value>, wanted: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(audience)) => audience == wanted,
        Some(Value::Array(audiences)) => audiences.iter().any(|audience| audience == wanted),
        _ => false,
    }
}

fn in_time(claims: &Map<String, Value>, now: u64) -> Result<(), TokenError> {
    let now = now as f64;
    let time = |claim: &str| claims.get(claim).map(|time| time.as_f64());
    if let Some(nbf) = time("nbf")
        && !nbf.is_some_and(|nbf| nbf <= now)
    {
        return Err(TokenError::NotYet);
    }
    match time("exp") {
        Some(exp) if !exp.is_some_and(|exp| now < exp) => Err(TokenError::Expired),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use semver::Version;

    use super::*;
    use crate::message::Peer;
    use crate::trust::Connection;

    const KEY: &[u8] = b"a key of thirty-two bytes, or so";

    fn tokens() -> ClusterioTokens {
        ClusterioTokens::from_key(KEY).unwrap()
    }

    fn registration(role: Role, id: Option<i64>, token: Option<Secret>) -> Registration {
        let version = Version::new(2, 0, 0);
        let peer = Peer { role, id, name: None, agent: String::new(), version };
        Registration { peer, token, connection: Connection::default() }
    }

    fn slave(token: impl Into<Secret>) -> Result<(), TokenError> {
        tokens().check_at(&registration(Role::Slave, Some(7), Some(token.into())), 1_000).map(drop)
    }

    fn control(token: impl Into<Secret>) -> Result<(), TokenError> {
        tokens().check_at(&registration(Role::Control, None, Some(token.into())), 1_000).map(drop)
    }

    /// A token with these parts, signed with the key.
    fn signed(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let mac = tokens().mac.chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    }

    #[test]
    fn what_is_issued_is_accepted() {
        let tokens = tokens();
        assert_eq!(slave(tokens.slave_token(7)), Ok(()));
        assert_eq!(control(tokens.user_token("alice")), Ok(()));
        let negative = registration(Role::Slave, Some(-7), Some(tokens.slave_token(-7)));
        assert_eq!(tokens.check(&negative), Ok(()));
    }

    /// A session does not outlive the token that it was opened with.
    #[test]
    fn a_client_is_let_in_for_as_long_as_its_token_holds() {
        let end = |exp: Value| {
            let claims = json!({ "aud": "slave", "slave": 7, "exp": exp });
            let token = signed(&json!({ "alg": "HS256" }), &claims);
            let registration = registration(Role::Slave, Some(7), Some(token.into()));
            match tokens().authenticator()(registration).into_inner() {
                Verdict::Admit { until, .. } => until,
                refused => panic!("{refused:?}"),
            }
        };
        let later = UNIX_EPOCH + Duration::from_secs(99_999_999_999);
        assert_eq!(end(json!(99_999_999_999_u64)), Some(later));
        assert_eq!(end(json!(1e300)), None);
        let tokens = tokens();
        let registration = registration(Role::Slave, Some(7), Some(tokens.slave_token(7)));
        let verdict = tokens.authenticator()(registration).into_inner();
        assert!(matches!(verdict, Verdict::Admit { until: None, .. }));
    }

    /// Made with the `jsonwebtoken` package of Node, 8.5.1.
    #[test]
    fn what_another_implementation_issued_is_accepted() {
        let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiJzbGF2ZSIsInNsYXZlIjo3fQ.zeVbVxSIJOjyCZPaJ9fp6iX7YI1kFjClTJS99qQgZV4";
        assert_eq!(slave(token), Ok(()));
    }

    #[test]
    fn a_token_is_for_one_audience_and_one_id() {
        let tokens = tokens();
        assert_eq!(slave(tokens.slave_token(8)), Err(TokenError::OtherSlave));
        assert_eq!(slave(tokens.user_token("alice")), Err(TokenError::Audience { wanted: SLAVE }));
        assert_eq!(control(tokens.slave_token(7)), Err(TokenError::Audience { wanted: USER }));
        assert_eq!(control(tokens.user_token("")), Err(TokenError::NoUser));
        assert_eq!(tokens.check(&registration(Role::Slave, Some(7), None)), {
            Err(TokenError::Missing)
        });
        let none = registration(Role::Slave, None, Some(tokens.slave_token(7)));
        assert_eq!(tokens.check(&none), Err(TokenError::OtherSlave));

        let claims = |claims: Value| slave(signed(&json!({"alg": "HS256"}), &claims));
        assert_eq!(claims(json!({"aud": ["user", "slave"], "slave": 7})), Ok(()));
        for slave in [json!("7"), json!(null), json!(7.5), json!([7]), json!(true)] {
            let refused = claims(json!({"aud": "slave", "slave": slave}));
            assert_eq!(refused, Err(TokenError::OtherSlave), "{slave}");
        }
        for aud in [json!("slaves"), json!(null), json!([]), json!([["slave"]]), json!({})] {
            let refused = claims(json!({"aud": aud, "slave": 7}));
            assert_eq!(refused, Err(TokenError::Audience { wanted: SLAVE }), "{aud}");
        }
        assert_eq!(claims(json!(["slave"])), Err(TokenError::Malformed));
    }

    #[test]
    fn only_one_algorithm_counts() {
        let claims = json!({"aud": "slave", "slave": 7});
        for alg in [json!("none"), json!("None"), json!("hs256"), json!("HS512"), json!("RS256")] {
            let token = signed(&json!({ "alg": alg }), &claims);
            assert_eq!(slave(token.as_str()), Err(TokenError::Algorithm), "{alg}");
            let unsigned = &token[..=token.rfind('.').unwrap()];
            assert_eq!(slave(unsigned), Err(TokenError::Algorithm), "{alg}");
        }
        for header in [json!({}), json!({"alg": null}), json!({"alg": "HS256", "crit": ["b64"]})] {
            assert_eq!(slave(signed(&header, &claims)), Err(TokenError::Algorithm), "{header}");
        }
    }

    #[test]
    fn a_token_that_was_changed_or_signed_by_others_is_refused() {
        let other = ClusterioTokens::from_key([7; 32]).unwrap();
        assert_eq!(slave(other.slave_token(7)), Err(TokenError::Signature));
        let ours = tokens().slave_token(7);
        let (signed, signature) = ours.expose().rsplit_once('.').unwrap();
        let eight = other.slave_token(8);
        let claims = eight.expose().split('.').nth(1).unwrap();
        let header = signed.split_once('.').unwrap().0;
        let changed = format!("{header}.{claims}.{signature}");
        assert_eq!(slave(changed), Err(TokenError::Signature));
        assert_eq!(slave(format!("{signed}.")), Err(TokenError::Signature), "no signature");
        let part = &signature[..8];
        assert_eq!(slave(format!("{signed}.{part}")), Err(TokenError::Signature), "a part of it");
        assert_eq!(slave(format!("{signed}.{signature}=")), Err(TokenError::Malformed));
    }

    #[test]
    fn times_are_honoured() {
        let at = |times: Value| {
            let mut claims = json!({"aud": "slave", "slave": 7});
            claims.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
            slave(signed(&json!({"alg": "HS256", "typ": "JWT"}), &claims))
        };
        assert_eq!(at(json!({"iat": 5_000})), Ok(()), "when it was issued says nothing");
        assert_eq!(at(json!({"exp": 1_001, "nbf": 1_000})), Ok(()));
        assert_eq!(at(json!({"exp": 1_000.5})), Ok(()));
        for exp in [json!(1_000), json!(-1), json!(null), json!("2000"), json!({})] {
            assert_eq!(at(json!({ "exp": exp })), Err(TokenError::Expired), "{exp}");
        }
        for nbf in [json!(1_001), json!(null), json!("0")] {
            assert_eq!(at(json!({ "nbf": nbf })), Err(TokenError::NotYet), "{nbf}");
        }
    }

    #[test]
    fn secrets_are_base64_as_clusterio_writes_and_reads_it() {
        let same = |secret: &str| {
            let tokens = ClusterioTokens::from_secret(secret).unwrap();
            assert_eq!(slave(tokens.slave_token(7)), Ok(()), "{secret}");
        };
        let secret = base64::engine::general_purpose::STANDARD.encode(KEY);
        same(&secret);
        same(&format!(" {secret}\n"));
        same(secret.trim_end_matches('='));
        let refused = |secret: &str| ClusterioTokens::from_secret(secret).unwrap_err();
        for bad in ["not base64!", "AAAA-_AA", "A", "AAAA=AAA", "\u{1F980}"] {
            assert_eq!(refused(bad), SecretError::Base64, "{bad}");
        }
        assert_eq!(refused(""), SecretError::Short { bytes: 0 });
        assert_eq!(refused("AAAAAAAAAAAAAAAAAAAA"), SecretError::Short { bytes: 15 });
        let shown = format!("{:?}", tokens());
        assert_eq!(shown, "ClusterioTokens(hidden)");
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(token in any::<String>()) {
            prop_assert!(slave(token).is_err());
        }

        #[test]
        fn nothing_that_is_signed_is_too_strange(
            header in any::<Vec<u8>>(),
            claims in any::<Vec<u8>>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let good = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
            for header in [good, URL_SAFE_NO_PAD.encode(header)] {
                let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(&claims));
                let mac = tokens().mac.chain_update(&signed).finalize().into_bytes();
                let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac));
                prop_assert!(slave(token.as_str()).is_err());
                prop_assert!(control(&token[..cut.index(token.len())]).is_err());
            }
        }
    }
}
