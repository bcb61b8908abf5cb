//! TLS of the programs, between real processes.
#![cfg(unix)]

#[path = "../../tests/common/certificates.rs"]
mod certificates;
mod programs;

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use certificates::{Ca, Identity};
use programs::{Master, Program, eventually, own_folder, run, subcommand};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

/// A folder of a test's own, for its certificates and for what programs keep.
struct Folder(PathBuf);

impl Folder {
    /// `name` is used by no other test.
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tls-{}-{name}", std::process::id()));
        own_folder(&folder);
        Self(folder)
    }

    fn put(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        // As renewals do it: nobody reads half of one.
        let new = self.0.join(format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The flags of whoever shows this.
    fn identity(&self, name: &str, identity: &Identity) -> [String; 4] {
        let cert = self.put(&format!("{name}.pem"), &identity.chain);
        let key = self.put(&format!("{name}.key"), &identity.key);
        ["--tls-cert".to_owned(), cert, "--tls-key".to_owned(), key]
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = subcommand(name, arguments);
        command.env("XDG_RUNTIME_DIR", &self.0);
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn words(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// A CA of masters, one of clients, and their files.
struct Fleet {
    folder: Folder,
    ca: Ca,
    ca_file: String,
    clients: Ca,
}

impl Fleet {
    fn new(name: &str) -> Self {
        let (folder, ca) = (Folder::new(name), Ca::new("masters"));
        let ca_file = folder.put("ca.pem", &ca.pem);
        Self { folder, ca, ca_file, clients: Ca::new("clients") }
    }

    /// A master whose certificate is `identity`.
    fn master_with(&self, name: &str, identity: &Identity, more: &[&str]) -> Master {
        let flags = self.folder.identity(name, identity);
        Master::from(self.folder.command("master", &[&words(&flags)[..], more].concat()))
    }

    fn master(&self, more: &[&str]) -> Master {
        self.master_with("master", &self.ca.issue(&["localhost", "127.0.0.1"]), more)
    }

    /// How `control slaves` ends, and what it says.
    fn control(&self, url: &str, more: &[&str]) -> (i32, String) {
        let words = [&["--master", url, "slaves"], more].concat();
        let mut control = Program::start(self.folder.command("control", &words));
        (control.end(), control.err())
    }

    fn slave(&self, url: &str, more: &[&str]) -> Program {
        let words = [&["--master", url], more].concat();
        Program::start(self.folder.command("slave", &words))
    }
}

#[test]
fn slaves_and_controls_come_by_tls_and_find_the_token() {
    let fleet = Fleet::new("both");
    let master = fleet.master(&[]);
    assert!(master.url.starts_with("wss://127.0.0.1:"), "{}", master.url);
    let ca = ["--tls-ca", &fleet.ca_file];
    fleet.slave(&master.url, &ca).says("registered");
    assert_eq!(fleet.control(&master.url, &ca), (0, String::new()));
    let https = master.url.replace("wss://", "https://").replace("/api/socket", "/");
    assert_eq!(fleet.control(&https, &ca), (0, String::new()));

    master.program.says("fingerprint=\"sha256:");
    let said = master.program.err();
    let pin = said.split('"').find(|it| it.starts_with("sha256:")).unwrap();
    assert_eq!(fleet.control(&master.url, &["--tls-pin", pin]), (0, String::new()));
    // Without a flag this machine's CAs are trusted.
    #[cfg(target_os = "linux")]
    {
        let with_roots = |roots: &str| {
            let mut control = fleet.folder.command("control", &["--master", &master.url, "slaves"]);
            control.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
            let mut control = Program::start(control);
            (control.end(), control.err())
        };
        assert_eq!(with_roots(&fleet.ca_file), (0, String::new()));
        let (code, said) = with_roots(&fleet.folder.put("other.pem", &fleet.clients.pem));
        assert!(code == 78 && said.lines().count() == 1, "it is said once: {said}");
        let (code, said) = with_roots(&fleet.folder.put("none.pem", ""));
        assert!(code == 1 && said.contains("name the master's with --tls-ca"), "{said}");
    }
    // A file has the same keys.
    let text = format!("[control]\nmaster = '{}'\ntls-ca = '{}'\n", master.url, fleet.ca_file);
    let config = fleet.folder.put("fleet.toml", &text);
    let words = ["slaves", "--config", &config];
    assert_eq!(Program::start(fleet.folder.command("control", &words)).end(), 0);
    let mut other = "00".repeat(32);
    other.insert_str(0, "sha256:");
    let (code, said) = fleet.control(&master.url, &["--tls-pin", &other]);
    assert!(code == 78 && said.contains(pin) && said.contains("--tls-pin"), "{said}");
}

#[test]
fn what_is_wrong_between_them_is_said_with_what_helps() {
    let fleet = Fleet::new("wrong");
    let ca = ["--tls-ca", fleet.ca_file.as_str()];
    let refused = |master: &Master, more: &[&str], code: i32, texts: &[&str]| {
        let (ended, said) = fleet.control(&master.url, more);
        assert_eq!(ended, code, "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        // A slave says the same when it is not to wait.
        let mut slave = fleet.slave(&master.url, &[&["--once"], more].concat());
        assert_eq!(slave.end(), code, "{}", slave.err());
        for text in texts {
            assert!(said.contains(text), "no {text:?} in {said}");
            assert!(slave.err().contains(text), "no {text:?} in {}", slave.err());
        }
        // Otherwise it tries again, and says why.
        if code == 78 {
            let slave = fleet.slave(&master.url, more);
            slave.says("trying again");
            texts.iter().for_each(|text| slave.says(text));
        }
    };
    let named = fleet.master_with("named", &fleet.ca.issue(&["fleet.test"]), &[]);
    let name = "its certificate is for fleet.test, and not for 127.0.0.1";
    refused(&named, &ca, 78, &[name, "call the master by a name of its certificate"]);

    let expired = fleet.ca.issue_for_years(&["127.0.0.1"], 2019, 2021);
    let expired = fleet.master_with("expired", &expired, &[]);
    refused(&expired, &ca, 78, &["has expired: 2021-01-01 00:00 UTC", "needs a new one"]);

    let stranger = fleet.folder.put("stranger.pem", &Ca::new("stranger").pem);
    let master = fleet.master(&[]);
    let unknown = "its certificate comes from a CA that is not trusted here";
    refused(&master, &["--tls-ca", &stranger], 78, &[unknown, "--tls-ca", "--tls-pin"]);

    // Plain on TLS, and the reverse.
    let plain = Master::from(fleet.folder.command("master", &[]));
    let secure = Master { url: plain.url.replace("ws://", "wss://"), program: plain.program };
    refused(&secure, &ca, 78, &["it does not speak TLS; ws:// is for that"]);
    secure.program.says("the client speaks TLS, and this master does not");
    let plain = Master { url: master.url.replace("wss://", "ws://"), program: master.program };
    refused(&plain, &[], 1, &["it may be a port for TLS, and its address begin with wss://"]);
    plain.program.says("does not speak TLS");
}

#[test]
fn clients_show_certificates_of_their_own_until_these_are_revoked() {
    let fleet = Fleet::new("clients");
    let ca = ["--tls-ca", fleet.ca_file.as_str()];
    let clients = fleet.folder.put("clients.pem", &fleet.clients.pem);
    let crl = fleet.folder.put("crl.pem", &fleet.clients.revoke(&[]));
    let master = fleet.master(&["--tls-client-ca", &clients, "--tls-crl", &crl, "--open"]);
    let seven = fleet.clients.issue(&["slave-7.seqlink.internal", "control.seqlink.internal"]);
    let flags = fleet.folder.identity("seven", &seven);
    let shown = [&ca[..], &words(&flags)].concat();

    let (code, said) = fleet.control(&master.url, &ca);
    assert!(code == 78 && said.contains("has shown none") && said.contains("--tls-cert"), "{said}");
    let slave = fleet.slave(&master.url, &[&shown[..], &["--id", "7"]].concat());
    slave.says("registered");
    assert_eq!(fleet.control(&master.url, &shown), (0, String::new()));
    let mut other = fleet.slave(&master.url, &[&shown[..], &["--id", "8"]].concat());
    assert_eq!(other.end(), 77);
    other.says("and not for slave-8.seqli");
    other.says("--tls-cert");
    assert!(!other.err().contains("--token"), "{}", other.err());

    fleet.folder.put("crl.pem", &fleet.clients.revoke(&[&seven]));
    master.program.signal(Signal::HUP);
    master.program.says("SIGHUP: new links are let in by");
    let (code, said) = fleet.control(&master.url, &shown);
    assert!(code == 78 && said.contains("this side's certificate has been revoked"), "{said}");
    master.program.says("no TLS with the client: its certificate has been revoked");
    assert!(!slave.err().contains("Link lost"), "{}", slave.err());
}

#[test]
fn certificates_are_reloaded_under_load_and_no_link_is_lost() {
    const ROUNDS: usize = 10;
    let fleet = Fleet::new("reload");
    let master = fleet.master(&[]);
    let (next, before) = (Ca::new("next"), fleet.ca_file.clone());
    let after = fleet.folder.put("next.pem", &next.pem);
    let both = fleet.folder.put("both.pem", &format!("{}{}", fleet.ca.pem, next.pem));
    let slave = fleet.slave(&master.url, &["--tls-ca", &both, "--id", "1"]);
    slave.says("registered");
    let follow = ["play", "--user", "5", "--game", "2", "--follow"];
    let words = [&["--master", &master.url, "--tls-ca", &both], &follow[..]].concat();
    let mut following = Program::start(fleet.folder.command("control", &words));
    following.says("playing on node 1");

    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let reloaded = |count: usize| {
            eventually("a reload", || {
                (master.program.err().matches("SIGHUP: new links").count() == count).then_some(())
            });
        };
        // Requests that are on their way over links of all ages.
        let asking = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let call = ["call", "1", "heartbeat", "{}", "--tls-ca", &both];
                let words = [&["--master", &master.url], &call[..]].concat();
                let mut control = Program::start(fleet.folder.command("control", &words));
                assert_eq!(control.end(), 0, "{}", control.err());
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 1..=ROUNDS {
            let ca = if round % 2 == 1 { &next } else { &fleet.ca };
            let identity = ca.issue(&["localhost", "127.0.0.1"]);
            // One file alone is a broken pair, and is not taken.
            fleet.folder.put("master.pem", &identity.chain);
            if round == 1 {
                master.program.signal(Signal::HUP);
                master.program.says("SIGHUP: the certificates stay as they were");
                assert!(master.program.err().contains("master.pem"), "{}", master.program.err());
                assert!(master.program.err().contains("is not that of the certificate"));
                assert_eq!(fleet.control(&master.url, &["--tls-ca", &before]).0, 0);
            }
            fleet.folder.put("master.key", &identity.key);
            let so_far = asked.load(Ordering::Relaxed);
            master.program.signal(Signal::HUP);
            reloaded(round);
            eventually("a request", || {
                let answered = asked.load(Ordering::Relaxed) > so_far;
                (answered || asking.is_finished()).then_some(())
            });
        }
        done.store(true, Ordering::Relaxed);
    });
    // The last round was the first CA's again.
    assert_eq!(fleet.control(&master.url, &["--tls-ca", &before]).0, 0);
    assert_eq!(fleet.control(&master.url, &["--tls-ca", &after]).0, 78);
    fleet.folder.put("master.pem", "no certificate");
    master.program.signal(Signal::HUP);
    master.program.says("holds no `CERTIFICATE`");
    assert_eq!(fleet.control(&master.url, &["--tls-ca", &before]).0, 0);
    assert!(!slave.err().contains("Link lost"), "{}", slave.err());
    assert_eq!(slave.err().matches("registered").count(), 1);
    assert!(!master.program.err().contains("left peer=slave"));
    // The control of the first hour hears of the game's end over the link that it has had all along.
    let stop = ["stop", "--user", "5", "--game", "2", "--tls-ca", &before];
    let words = [&["--master", &master.url], &stop[..]].concat();
    assert_eq!(Program::start(fleet.folder.command("control", &words)).end(), 0);
    assert_eq!(following.end(), 0, "{}", following.err());
}

#[test]
fn a_development_certificate_is_made_once_and_is_its_users_alone() {
    let fleet = Fleet::new("dev");
    let kept = fleet.folder.0.join("seqlink");
    let start = || {
        let master = Master::from(fleet.folder.command("master", &["--tls-dev"]));
        master.program.says("clients need --tls-ca ");
        master
    };
    let master = start();
    let said = master.program.err();
    let (_, rest) = said.split_once("clients need --tls-ca ").unwrap();
    let ca = rest.split_whitespace().next().unwrap().to_owned();
    assert_eq!(ca, kept.join("tls-dev-ca.pem").to_str().unwrap());
    for name in ["tls-dev-ca.pem", "tls-dev.pem"] {
        let mode = fs::metadata(kept.join(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
    assert!(!fs::read_to_string(&ca).unwrap().contains("KEY"), "clients get no key");
    let flags = ["--tls-ca", ca.as_str()];
    assert_eq!(fleet.control(&master.url, &flags), (0, String::new()));
    fleet.slave(&master.url, &flags).says("registered");
    // The token is found for addresses in digits only; the name is the certificate's too.
    let token = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path());
    let token = token.into_iter().find(|path| path.extension().is_some_and(|it| it == "token"));
    let token = token.unwrap();
    let host = gethostname::gethostname().to_string_lossy().to_lowercase();
    let mut names = vec!["localhost".to_owned()];
    if std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), 0))
        .is_ok_and(|mut found| found.all(|address| address.ip().is_loopback()))
    {
        names.push(host);
    }
    for name in names {
        let url = master.url.replace("127.0.0.1", &name);
        let named = [&flags[..], &["--token-file", token.to_str().unwrap()]].concat();
        let (code, said) = fleet.control(&url, &named);
        // The `Host` of another name is refused on loopback, behind a handshake that was good.
        assert!(code == 0 || said.contains("--allow-host"), "{name}: {said}");
    }
    let made = fs::read_to_string(kept.join("tls-dev.pem")).unwrap();
    assert!(
        made.starts_with("seqlink development certificate, schema 1, for localhost "),
        "{made}"
    );
    drop(master);

    let again = start();
    assert_eq!(fs::read_to_string(kept.join("tls-dev.pem")).unwrap(), made);
    assert_eq!(fleet.control(&again.url, &flags), (0, String::new()));
    drop(again);
    // One that cannot be used is made anew, and a CA's file that is gone is written again.
    fs::remove_file(&ca).unwrap();
    drop(start());
    assert!(fs::metadata(&ca).is_ok());
    let file = kept.join("tls-dev.pem");
    fs::write(&file, made.replace("schema 1", "schema 0")).unwrap();
    let master = start();
    assert_ne!(fs::read_to_string(&file).unwrap(), made);
    assert_eq!(fleet.control(&master.url, &flags), (0, String::new()));
    // What others could have read is used no more.
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let mut refused = Program::start(fleet.folder.command("master", &["--tls-dev"]));
    assert_eq!(refused.end(), 1);
    let said = refused.err();
    assert!(said.contains("tls-dev.pem: its mode lets other users in"), "{said}");
}

#[test]
fn masters_that_start_at_once_share_one_development_certificate() {
    let fleet = Fleet::new("race");
    let kept = fleet.folder.0.join("seqlink");
    own_folder(&kept);
    let lock = fs::File::open(&kept).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let masters: Vec<_> = (0..6)
        .map(|_| fleet.folder.command("master", &["--tls-dev", "--listen", "127.0.0.1:0"]))
        .map(Program::start)
        .collect();
    for master in &masters {
        master.says("waiting for another program");
    }
    assert!(!kept.join("tls-dev.pem").exists());
    drop(lock);
    let pins: std::collections::HashSet<_> = masters
        .iter()
        .map(|master| {
            master.says("=\"sha256:");
            let said = master.err();
            said.split('"').find(|it| it.starts_with("sha256:")).unwrap().to_owned()
        })
        .collect();
    assert_eq!(pins.len(), 1);
}

#[test]
fn flags_that_cannot_be_meant_are_errors() {
    let fleet = Fleet::new("flags");
    let identity = fleet.ca.issue(&["127.0.0.1"]);
    let [_, cert, _, key] = fleet.folder.identity("one", &identity);
    let other = fleet.folder.put("other.key", &fleet.ca.issue(&["127.0.0.1"]).key);
    let (ca, gone) = (fleet.ca_file.as_str(), "/nonexistent/file.pem");
    let refused = |name: &str, arguments: &[&str], code: i32, texts: &[&str]| {
        let output = run(name, arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        for text in texts {
            assert!(said.contains(text), "{arguments:?}: no {text:?} in {said}");
        }
        assert!(!said.contains("PRIVATE"), "{said}");
    };
    let master = |arguments: &[&str], code: i32, texts: &[&str]| {
        refused("master", &[&["--listen", "127.0.0.1:0"], arguments].concat(), code, texts);
    };
    master(&["--tls-cert", &cert], 2, &["--tls-cert needs", "--tls-key"]);
    master(&["--tls-key", &key], 2, &["--tls-key needs", "--tls-cert"]);
    master(&["--tls-client-ca", ca], 2, &["--tls-client-ca needs", "--tls-dev"]);
    master(&["--tls-dev", "--tls-crl", ca], 2, &["--tls-crl needs", "--tls-client-ca"]);
    master(&["--tls-dev", "--tls-cert", &cert], 2, &["cannot be used with"]);
    let pair = ["--tls-cert", cert.as_str(), "--tls-key", key.as_str()];
    master(&["--tls-cert", gone, "--tls-key", &key], 1, &["/nonexistent/file.pem: No such file"]);
    master(&["--tls-cert", &cert, "--tls-key", gone], 1, &["/nonexistent/file.pem: No such file"]);
    master(&["--tls-cert", &cert, "--tls-key", &other], 1, &[&cert, &other, "not that of"]);
    master(&["--tls-cert", &key, "--tls-key", &key], 1, &[&key, "holds no `CERTIFICATE`"]);
    master(&[&pair[..], &["--tls-client-ca", &key]].concat(), 1, &[&key, "holds no"]);
    let crl = [&pair[..], &["--tls-client-ca", ca, "--tls-crl", ca]].concat();
    master(&crl, 1, &[ca, "holds no `X509 CRL`"]);
    let config = fleet.folder.put("fleet.toml", &format!("[master]\ntls-cert = '{cert}'"));
    master(&["--config", &config], 2, &["--tls-cert needs"]);
    // One of the two may stand in the file.
    let mut half = fleet.folder.command("master", &["--config", &config, "--tls-key", &key]);
    half.args(["--listen", "127.0.0.1:0"]);
    Program::start(half).says("link wss://");
    // What the command line says shuts out what cannot stand beside it.
    let dev = ["--config", &config, "--tls-dev", "--print-config"];
    let said = String::from_utf8(run("master", &dev).stdout).unwrap();
    assert!(said.contains("tls-dev = true  # the command line"), "{said}");
    assert!(said.contains("# tls-cert: not set"), "{said}");

    let control = |arguments: &[&str], code: i32, texts: &[&str]| {
        refused("control", &[&["slaves"], arguments].concat(), code, texts);
        refused("slave", &[&["--once"], arguments].concat(), code, texts);
    };
    let wss = ["--master", "wss://127.0.0.1:1"];
    let with = |more: &[&'static str]| [&wss[..], more].concat();
    let pin = "00".repeat(32);
    for (flag, value) in [("--tls-ca", ca), ("--tls-pin", &pin)] {
        control(&[flag, value], 2, &[flag, "begins with wss://"]);
    }
    control(&pair, 2, &["--tls-cert is for a master with TLS"]);
    control(&["--tls-ca", ca, "--tls-pin", &pin], 2, &["cannot be used with"]);
    control(&["--tls-pin", "abc"], 2, &["64 hexadecimal digits"]);
    control(&[&wss[..], &["--tls-cert", &cert]].concat(), 2, &["--tls-cert needs"]);
    control(&[&wss[..], &["--tls-key", &key]].concat(), 2, &["--tls-key needs"]);
    control(&with(&["--tls-ca", "/nonexistent/file.pem"]), 1, &["file.pem: No such file"]);
    control(&[&wss[..], &["--tls-ca", &key]].concat(), 1, &[&key, "holds no"]);
    control(
        &[&wss[..], &["--tls-ca", ca, "--tls-cert", &cert, "--tls-key", &other]].concat(),
        1,
        &[&cert, &other, "not that of"],
    );
    control(&[&wss[..], &["--tls-ca", ca]].concat(), 69, &["cannot reach"]);
}

#[test]
fn a_master_beyond_loopback_wants_tls_and_tokens() {
    let fleet = Fleet::new("beyond");
    let refused = |arguments: &[&str], texts: &[&str]| {
        for listen in ["0.0.0.0:0", "[::]:0"] {
            let words = [&["--listen", listen], arguments].concat();
            let mut master = Program::start(fleet.folder.command("master", &words));
            assert_eq!(master.end(), 2, "{arguments:?}: {}", master.err());
            assert_eq!(master.out(), "", "it says no address");
            for text in [listen, "--insecure-listen"].iter().chain(texts) {
                assert!(master.err().contains(text), "no {text} in {}", master.err());
            }
        }
    };
    refused(&[], &["without TLS", "--tls-cert", "--tls-dev"]);
    refused(&["--token", "sesame"], &["without TLS"]);
    refused(&["--open"], &["open: whoever", "--tls-client-ca"]);
    refused(&["--open", "--tls-dev"], &["open: whoever"]);
    let listens = |arguments: &[&str], warning: Option<&str>| {
        let words = [&["--listen", "0.0.0.0:0"], arguments].concat();
        let master = Program::start(fleet.folder.command("master", &words));
        let scheme = if arguments.contains(&"--tls-dev") { "wss" } else { "ws" };
        master.says(&format!("link {scheme}://0.0.0.0:"));
        match warning {
            Some(text) => master.says(text),
            None => assert!(!master.err().contains("WARN"), "{}", master.err()),
        }
        let out = master.out();
        let port = out.rsplit_once("0.0.0.0:").unwrap().1.split('/').next().unwrap().to_owned();
        assert!(TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
    };
    listens(&["--tls-dev"], None);
    listens(&["--tls-dev", "--token", "sesame"], None);
    listens(&["--insecure-listen"], Some("can read the token"));
    listens(&["--insecure-listen", "--open"], Some("whoever reaches this address"));
    listens(&["--insecure-listen", "--open", "--tls-dev"], Some("whoever reaches this address"));
    // Who has to show a certificate has shown who it is.
    let clients = fleet.folder.put("clients.pem", &fleet.clients.pem);
    listens(&["--tls-dev", "--open", "--tls-client-ca", &clients], None);
    // What listens on loopback needs none of it.
    for listen in ["127.0.0.1:0", "localhost:0"] {
        let words = ["--listen", listen, "--open"];
        Program::start(fleet.folder.command("master", &words)).says("link ws://");
    }
}
