//! Clusterio's tokens, against a model that was written from the document.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use seqlink::tokens::ClusterioTokens;
use seqlink::transport::memory;
use seqlink::{ConnectError, Control, Master, Role, Slave};
use serde_json::{Map, Value};
use sha2::Sha256;

const KEY: &[u8] = b"a key of thirty-two bytes, or so";

/// The first byte says who registers, and whether the rest is a token or the two parts of one, in
/// lines, which are signed with the right key.
pub(crate) async fn tokens(input: &[u8]) {
    let Some((mode, input)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(input) else { return };
    let role = if mode & 1 == 1 { Role::Slave } else { Role::Control };
    let token = match text.split_once('\n').filter(|_| mode & 2 == 2) {
        Some((header, claims)) => {
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let signed = format!("{}.{}", part(header), part(claims));
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac(&signed)))
        }
        None => text.to_owned(),
    };
    let tokens = ClusterioTokens::from_key(KEY).expect("a key");
    let master = Master::builder().authenticate(tokens.authenticator()).build().expect("a master");
    let client = if role == Role::Slave { Slave::builder().id(7) } else { Control::builder() };
    let (ours, theirs) = memory::pair();
    let (theirs, ours) = tokio::join!(master.attach(theirs), client.token(&*token).attach(ours));
    let checked = match (theirs, ours) {
        (Ok(_), Ok(_)) => Ok(()),
        // A token that no handshake frame has room for.
        (_, Err(ConnectError::Config(_))) => return,
        (_, Err(ConnectError::Authentication(reason))) => Err(reason),
        other => panic!("{other:?}"),
    };
    if let Some(expected) = is_good(&token, role) {
        assert_eq!(checked.is_ok(), expected, "{checked:?} of {token}");
    }
    let _ = ClusterioTokens::from_secret(text);
}

fn mac(signed: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(KEY).expect("a key").chain_update(signed);
    mac.finalize().into_bytes().to_vec()
}

/// `None` where the clock decides within this second.
fn is_good(token: &str, role: Role) -> Option<bool> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { return Some(false) };
    let object = |part: &str| -> Option<Map<String, Value>> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let is_signed = signature == URL_SAFE_NO_PAD.encode(mac(&format!("{header}.{claims}")));
    let (Some(header), Some(claims), true) = (object(header), object(claims), is_signed) else {
        return Some(false);
    };
    let is_plain =
        header.get("alg").is_some_and(|alg| alg == "HS256") && header.get("crit").is_none();
    let (audience, whose) = match role {
        Role::Slave => ("slave", claims.get("slave").and_then(Value::as_i64) == Some(7)),
        _ => ("user", claims.get("user").and_then(Value::as_str).is_some_and(|it| !it.is_empty())),
    };
    let is_for = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(|it| it == audience),
        Some(one) => one == audience,
        None => false,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    let time = |claim: &str| claims.get(claim).map(Value::as_f64);
    let times = [time("exp"), time("nbf")];
    if times.iter().flatten().flatten().any(|time| (time - now).abs() < 5.0) {
        return None;
    }
    let is_current = match times {
        [Some(None), _] | [_, Some(None)] => false,
        [exp, nbf] => {
            exp.flatten().is_none_or(|it| it > now) && nbf.flatten().is_none_or(|it| it < now)
        }
    };
    Some(is_plain && whose && is_for && is_current)
}
