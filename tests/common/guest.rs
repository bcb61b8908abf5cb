//! A client of a master by hand, after its handshake: it says and answers what no library would.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::raw::Raw;

/// The token of the masters that guests come to.
pub const TOKEN: &str = "for guests";

pub struct Guest {
    pub raw: Raw,
    /// The number of its last frame.
    seq: u64,
}

impl Guest {
    /// Registers as slave `id` with what else `register` says of it.
    pub async fn slave(address: SocketAddr, id: i64, register: Value) -> Self {
        let mut data = json!({
            "token": TOKEN, "agent": "guest", "version": "2.0.0", "id": id, "name": "guest",
        });
        for (key, value) in register.as_object().expect("an object") {
            data[key] = value.clone();
        }
        Self::register(address, "register_slave", &data).await
    }

    pub async fn control(address: SocketAddr) -> Self {
        let data = json!({"token": TOKEN, "agent": "guest", "version": "2.0.0"});
        Self::register(address, "register_control", &data).await
    }

    async fn register(address: SocketAddr, kind: &str, data: &Value) -> Self {
        let mut guest = Self { raw: Raw::open(address).await, seq: 0 };
        assert_eq!(guest.raw.json().await["type"], "hello");
        guest.say(kind, &data.to_string()).await;
        let ready = guest.raw.json().await;
        assert_eq!(ready["type"], "ready", "{ready}");
        guest
    }

    /// Sends a frame of `kind`. Returns its number.
    pub async fn say(&mut self, kind: &str, data: &str) -> u64 {
        self.seq += 1;
        let kind = Value::from(kind);
        self.raw.text(&format!(r#"{{"seq":{},"type":{kind},"data":{data}}}"#, self.seq)).await;
        self.seq
    }

    /// Asks, and gives the data of the answer. Answers everything that it is asked meanwhile.
    pub async fn ask(&mut self, name: &str, data: &str) -> Value {
        let number = self.say(&format!("{name}_request"), data).await;
        loop {
            let frame = self.raw.json().await;
            let kind = frame["type"].as_str().expect("a type").to_owned();
            if kind.ends_with("_response") && frame["data"]["seq"] == number {
                return frame["data"].clone();
            }
            if let Some(name) = kind.strip_suffix("_request") {
                self.answer(name, &frame["seq"], json!({})).await;
            }
        }
    }

    /// Waits for a request and answers it with `data`.
    pub async fn answers(&mut self, data: Value) {
        loop {
            let frame = self.raw.json().await;
            if let Some(name) = frame["type"].as_str().and_then(|it| it.strip_suffix("_request")) {
                return self.answer(name, &frame["seq"], data).await;
            }
        }
    }

    async fn answer(&mut self, name: &str, seq: &Value, mut data: Value) {
        data["seq"] = seq.clone();
        self.say(&format!("{name}_response"), &data.to_string()).await;
    }
}
